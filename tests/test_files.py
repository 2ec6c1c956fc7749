from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
from platformdirs.api import PlatformDirsABC
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from platformdirs.windows import Windows

import vocalsep
from vocalsep import files
from vocalsep.files import find_cache_folder

WRITE_AND_SLEEP = """
import sys, time
from pathlib import Path
from vocalsep import files
with files.write_atomically(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(temporary.name, flush=True)
    time.sleep(600)
"""
needs_locks = pytest.mark.skipif(files.fcntl is None, reason="no locks here, so nothing is deleted")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that stays in the middle of writing ``x.txt``, with its temporary file in place."""
    environment = os.environ | {"PYTHONPATH": str(Path(vocalsep.__file__).parents[1])}
    command = [sys.executable, "-c", WRITE_AND_SLEEP, str(tmp_path / "x.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        assert running.stdout.readline().endswith(".part\n")
        yield running
        running.kill()


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    with pytest.raises(NotADirectoryError), files.write_atomically(path) as temporary:
        (temporary / "half").touch()
    assert list_names(tmp_path) == []
    with files.write_atomically(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == tmp_path
        assert not path.exists()
    assert (list_names(tmp_path), path.read_text()) == (["x.txt"], "whole")


@needs_locks
def test_leftovers_of_a_killed_process_are_deleted_when_the_file_is_written_again(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(list_names(tmp_path)) == 1
    files.write_text(tmp_path / "y.txt", "")  # writing another file leaves them alone
    assert len(list_names(tmp_path)) == 2
    files.write_text(tmp_path / "x.txt", "")
    assert list_names(tmp_path) == ["x.txt", "y.txt"]


def test_the_temporary_file_of_a_running_process_is_left_alone(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    (temporary,) = list_names(tmp_path)
    files.write_text(tmp_path / "x.txt", "")
    assert list_names(tmp_path) == sorted([temporary, "x.txt"])
    assert (tmp_path / temporary).read_text() == "half"


def test_files_with_other_names_are_never_deleted(tmp_path: Path) -> None:
    others = [".x.part", ".x.abc.part", ".x.abcdefgh.part.wav", "x.abcdefgh.part", ".x.y.abcdefgh.part"]
    for name in others:
        (tmp_path / name).touch()
    files.remove_leftovers(tmp_path / "x.txt")
    assert list_names(tmp_path) == sorted(others)
    files.remove_leftovers(tmp_path / "no folder" / "x.txt")


def test_without_locks_nothing_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    (tmp_path / ".x.abcdefgh.part").touch()
    files.write_text(tmp_path / "x.txt", "whole")
    assert list_names(tmp_path) == [".x.abcdefgh.part", "x.txt"]


@needs_locks
def test_a_temporary_file_that_is_deleted_before_it_is_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = files.fcntl.flock, []

    def delete_first(handle: int, how: int) -> None:
        if not calls:
            (left,) = tmp_path.iterdir()
            left.unlink()
        calls.append(how)
        lock(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", delete_first)
    files.write_text(tmp_path / "x.txt", "whole")
    assert (tmp_path / "x.txt").read_text() == "whole"
    assert len(calls) == 2


@pytest.mark.skipif(os.name == "nt", reason="links need special rights on Windows")
def test_folders_are_visited_once_in_order_of_names_and_links_are_followed(tmp_path: Path) -> None:
    for name in ("root/b/2.txt", "root/b/1.txt", "root/.hidden/x.txt", "root/0.txt", "elsewhere/c/3.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path / "root"
    (root / "a").symlink_to(tmp_path / "elsewhere")
    (root / "b" / "ring").symlink_to(root)
    (root / "a b").symlink_to(root / "b")  # comes first, but b is visited in its own place
    walked = [(folder.relative_to(root).as_posix(), found) for folder, found in files.walk(root)]
    assert walked == [(".", ["0.txt"]), ("a", []), ("a/c", ["3.txt"]), ("b", ["1.txt", "2.txt"])]
    assert list(files.walk(root, recursive=False)) == [(root, ["0.txt"])]


def test_json_keeps_letters_and_escapes_invalid_unicode() -> None:
    assert files.dump_json({"Café": [1, None]}) == '{"Café": [1, null]}'
    name = os.fsdecode(b"Caf\xe9")
    text = files.dump_json({"name": name}, indent=1)
    text.encode()
    assert json.loads(text) == {"name": name}
    with pytest.raises(ValueError, match="JSON"):
        files.dump_json(float("nan"))


def test_the_environment_can_name_the_cache(cache: Path) -> None:
    assert find_cache_folder() == cache


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home folder; the environment names no cache."""
    for variable in ("VOCALSEP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "home"
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(folder))
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="caches lie elsewhere on other systems")
def test_the_cache_lies_in_the_cache_folder_of_the_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_cache_folder() == home / ".cache" / "vocalsep"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
    assert find_cache_folder() == home / "elsewhere" / "vocalsep"


@pytest.mark.parametrize("system", [Unix, MacOS, Windows])
def test_every_system_has_its_own_place_and_still_finds_an_earlier_cache(
    home: Path, monkeypatch: pytest.MonkeyPatch, system: type[PlatformDirsABC]
) -> None:
    usual = home / "where caches belong"
    monkeypatch.setattr(system, "user_cache_dir", property(lambda _: str(usual)))
    monkeypatch.setattr(platformdirs, "PlatformDirs", system)
    assert find_cache_folder() == usual
    usual.mkdir(parents=True)
    earlier = home / ".cache" / "vocalsep"
    earlier.mkdir(parents=True)
    assert find_cache_folder() == earlier
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
    assert find_cache_folder() == usual
    (home / "elsewhere" / "vocalsep").mkdir(parents=True)
    assert find_cache_folder() == home / "elsewhere" / "vocalsep"
    monkeypatch.setenv("VOCALSEP_CACHE", str(home / "named"))
    assert find_cache_folder() == home / "named"
