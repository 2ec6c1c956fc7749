from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vocalsep
from vocalsep import files

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
