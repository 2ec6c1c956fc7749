"""Remote songs and outputs, through the command: an S3 server, a web server, and fsspec's memory and local files."""

from __future__ import annotations

import functools
import json
import logging
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_line
import fake_nets
import numpy as np
import pytest
import servers
import synthetic_songs
from command_line import make_environment, read_misuse

from vocalsep import claims, extraction, manifests, remote
from vocalsep.remote import addresses

fsspec = pytest.importorskip("fsspec")
registry = pytest.importorskip("fsspec.registry")  # `fsspec.registry` is its dictionary

run = functools.partial(command_line.run, "extract")
pytestmark = pytest.mark.filterwarnings("default")  # aiohttp and moto have their own


@pytest.fixture(autouse=True)
def workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files, which every test leaves empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(addresses, "_PAUSE_SECONDS", 0.0)
    yield folder
    assert list(folder.glob("vocalsep-*")) == []  # moto has a file of its own there


@pytest.fixture
def song(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "song.wav")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with servers.run_s3_server() as address:
        yield address


@pytest.fixture
def s3(server: str, song: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A file system with a new bucket ``songs-N``, which holds ``in/a.wav``, ``in/cd/b.wav`` and ``in/bad.wav``."""
    s3fs = pytest.importorskip("s3fs")
    for name, value in (servers.VARIABLES | {"AWS_ENDPOINT_URL": server}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    if system.exists("songs"):
        system.rm("songs", recursive=True)
    system.mkdir("songs")
    for name in ("a.wav", "cd/b.wav"):
        system.put_file(str(song), f"songs/in/{name}")
    system.pipe_file("songs/in/bad.wav", b"hello")
    return system


@pytest.fixture
def memory(song: Path) -> Any:
    system = fsspec.filesystem("memory")
    for path in system.find("/"):
        system.rm(path)
    system.pipe_file("/in/a.wav", song.read_bytes())
    return system


def write(path: Path, *, samples: int = 4_000) -> Path:
    return synthetic_songs.write(path, np.clip(fake_nets.noise(1, samples), -0.99, 0.99).T, 8_000)


def test_songs_in_a_bucket_give_the_same_bytes_as_files(s3: Any, song: Path, model: Path) -> None:
    run(song, "-m", model, "-o", "local.wav")
    command = ("s3://songs/in", "-r", "-m", model, "-o", "s3://songs/out/{folder}/{song}.wav", "--manifest", "m.jsonl")
    result = run(*command, "--accompaniment", "s3://songs/out/{folder}/{song}.rest.wav")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"s3://songs/out/{name}{rest}.wav" for name in ("a", "cd/b") for rest in ("", ".rest")
    ]
    assert "vocalsep: s3://songs/in/bad.wav: not an audio file, or damaged" in result.stderr
    written = [f"songs/out/{name}" for name in ("a.rest.wav", "a.wav", "cd/b.rest.wav", "cd/b.wav")]
    assert s3.find("songs/out", refresh=True) == written
    assert s3.cat_file("songs/out/cd/b.wav") == Path("local.wav").read_bytes()
    done = manifests.read(Path("m.jsonl"))["cd/b.wav"]
    assert (done.input, done.outputs["vocals"]) == ("s3://songs/in/cd/b.wav", "s3://songs/out/cd/b.wav")
    assert done.input_sha256 is not None
    before = s3.info("songs/out/a.wav", refresh=True)
    again = run(*command, "--accompaniment", "s3://songs/out/{folder}/{song}.rest.wav")
    assert (again.exit_code, again.stdout) == (0, "")
    assert s3.info("songs/out/a.wav", refresh=True) == before
    refused = run("s3://songs/in/a.wav", "-m", model, "-o", "s3://songs/out/a.wav")
    assert "s3://songs/out/a.wav: already exists" in refused.stderr


def test_remote_songs_come_from_lists_patterns_and_folders(s3: Any, song: Path, model: Path) -> None:
    Path("list.txt").write_text("s3://songs/in/a.wav\nsong.wav\ns3://songs/in/cd/\n")
    listed = run("--from-file", "list.txt", "-m", model, "-o", "out")
    assert sorted(listed.stdout.splitlines()) == ["out/a.vocals.wav", "out/b.vocals.wav", "out/song.vocals.wav"]
    assert run("s3://songs/in/**/*.wav", "-o", "o2", "--dry-run").stdout.count("\n") == 3
    assert run("s3://songs/in/[ab].wav", "-o", "o2", "--dry-run").stdout == "s3://songs/in/a.wav -> o2/a.vocals.wav\n"
    found = run("s3://songs/in/", "-r", "-o", "o2/{folder}/{song}.wav", "--dry-run", "--shard", "1/1").stdout
    assert "s3://songs/in/cd/b.wav -> o2/cd" in found
    assert run("s3://songs/in/a.wav", "-m", model).stdout == "s3://songs/in/a.vocals.wav\n"  # beside the song
    beside = run("s3://songs/in/", "--dry-run")
    assert beside.stdout == "s3://songs/in/bad.wav -> s3://songs/in/bad.vocals.wav\n"
    assert "s3://songs/in/a.vocals.wav: already exists" in beside.stderr


def test_what_is_wrong_with_a_bucket_is_one_line_and_the_rest_is_done(s3: Any, song: Path, model: Path) -> None:
    result = run("s3://none/in/", "s3://none/a.wav", "s3://songs/", "s3://songs/x.wav", song, "-m", model, "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "out/song.vocals.wav\n")
    lines = result.stderr.splitlines()
    assert len(lines) == 6
    assert [line.removeprefix("vocalsep: ") for line in lines if "s3://" in line] == [
        "s3://songs/: no recordings in this folder; add -r to search its subfolders too",
        "s3://none/in/: no such file, folder or bucket",
        "s3://none/a.wav: no such file, folder or bucket",
        "s3://songs/x.wav: no such file, folder or bucket",
    ]
    assert "-o s3://none: no such file, folder or bucket" in read_misuse(run(song, "-o", "s3://none/out/"))


def test_missing_credentials_are_one_line(s3: Any, song: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nonexistent")
    type(s3).clear_instance_cache()
    result = run("s3://songs/in/a.wav", song, "-m", model, "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "out/song.vocals.wav\n")
    (line,) = [line for line in result.stderr.splitlines() if "s3://" in line]
    assert line.endswith("; check your credentials")
    assert "check your credentials" in read_misuse(run(song, "-m", model, "-o", "s3://songs/out/"))


def test_wrong_credentials_are_one_line(s3: Any, server: str, song: Path, model: Path) -> None:
    import requests

    requests.post(f"{server}/moto-api/reset-auth", data=b"0", timeout=10)  # from now on, moto checks them
    try:
        result = run("s3://songs/in/a.wav", "s3://songs/in/", song, "-m", model, "-o", "out")
    finally:
        requests.post(f"{server}/moto-api/reset-auth", data=b"inf", timeout=10)
    assert (result.exit_code, result.stdout) == (1, "out/song.vocals.wav\n")
    lines = [line for line in result.stderr.splitlines() if "s3://" in line]
    assert len(lines) == 2
    assert all(line.endswith("check your credentials") for line in lines)


def test_a_remote_song_that_another_call_is_working_on_is_skipped(memory: Any, song: Path, model: Path) -> None:
    command = ("memory://in/a.wav", "-m", model, "-o", "memory://out/a.wav")
    with claims.claim([remote.Remote("memory://out/a.wav")]):
        result = run(*command)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "skipped; another call is working on it" in result.stderr
    assert memory.find("/") == ["/in/a.wav"]
    assert run(*command).stdout == "memory://out/a.wav\n"
    assert memory.find("/") == ["/in/a.wav", "/out/a.wav"]


@pytest.mark.parametrize(
    ("machine", "age", "counts"), [(None, 0, False), ("another", 0, True), ("another", 1e4, False)]
)
def test_a_remote_claim_counts_as_long_as_its_process_is_alive(
    memory: Any, song: Path, model: Path, machine: str | None, age: float, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; from vocalsep import claims; sys.stdout.write(claims.Claim()._content.decode())"
    content = json.loads(command_line.run_python("-c", code).stdout)  # of a process that has ended
    content |= {"machine": machine} if machine else {}
    name = claims._name_claim(remote.Remote("memory://out/a.wav"))
    memory.pipe_file(str(name).removeprefix("memory:/"), json.dumps(content).encode())
    read = remote.Remote.read
    monkeypatch.setattr(remote.Remote, "read", lambda each: (read(each)[0], read(each)[1] + age))
    result = run("memory://in/a.wav", "-m", model, "-o", "memory://out/a.wav")
    assert result.stdout == ("" if counts else "memory://out/a.wav\n")
    assert len(memory.find("/")) == 2


def test_local_addresses_work_like_paths(song: Path, model: Path, tmp_path: Path) -> None:
    result = run(f"file://{song}", "-m", model, "-o", f"file://{tmp_path}/new folder/", "--labels")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in Path("new folder").iterdir()) == ["song.labels.txt", "song.vocals.wav"]
    assert run(song, "-m", model, "-o", "x.wav").exit_code == 0
    assert Path("x.wav").read_bytes() == Path("new folder/song.vocals.wav").read_bytes()


def test_web_songs_are_written_to_the_current_folder(song: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "www" / "album").mkdir(parents=True)
    song.rename(tmp_path / "www" / "album" / "My Söng.wav")
    (tmp_path / "www" / "page").write_text("<!doctype html><p>a page")
    with servers.run_web_server(tmp_path / "www") as address:
        url = f"{address}/album/My%20S%C3%B6ng.wav?token=a*b"
        result = run(url.replace("*", ""), f"{address}/page", f"{address}/none.mp3", "-m", model)
        assert (result.exit_code, result.stdout) == (1, "My Söng.vocals.wav\n")
        assert "(it is a web page); to download songs from video sites, use yt-dlp -x" in result.stderr
        assert f"{address}/none.mp3: no such file" in result.stderr
        assert run(f"{address}/album/", "-m", model, "-o", "out", "--dry-run").stdout.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["https://a/..", "https://a/%2e%2e", "https://a/x%2F..%2Fy.wav", "https://a", "https://a/%00"]
)
def test_no_web_address_leads_out_of_a_folder(name: str) -> None:
    assert not {"/", "\\", "\0"} & set(remote.Remote(name).name)
    assert remote.Remote(name).name not in ("", ".", "..")


class FlakySystem:
    """fsspec's memory, except that each of the first calls fails."""

    def __init__(self, system: Any, failures: int) -> None:
        self.system, self.failures = system, failures

    def __getattr__(self, name: str) -> Any:
        def act(*arguments: Any, **options: Any) -> Any:
            if name in ("open", "put_file") and self.failures:
                self.failures -= 1
                raise TimeoutError("the network is slow")
            return getattr(self.system, name)(*arguments, **options)

        return act


@pytest.mark.parametrize(("failures", "works"), [(0, True), (3, True), (4, False)])
def test_transfers_are_tried_again(
    memory: Any, model: Path, failures: int, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = FlakySystem(memory, failures)
    real = addresses._open_system
    monkeypatch.setattr(addresses, "_open_system", lambda place: (flaky, real(place)[1]))
    result = run("memory://in/a.wav", "-m", model, "-o", "out/x.wav")
    assert (result.exit_code == 0) == works
    assert ("memory://in/a.wav: cannot be reached (the network is slow)" in result.stderr) != works


def test_a_failed_upload_leaves_nothing(memory: Any, song: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = fsspec.filesystem("file")
    monkeypatch.setattr(type(local), "mv", lambda *_, **__: (_ for _ in ()).throw(TimeoutError("slow")))
    Path("there").mkdir()
    result = run(song, "-m", model, "-o", f"file://{Path.cwd()}/there/x.wav")
    assert result.exit_code == 1
    assert f"file://{Path.cwd()}/there/x.wav: cannot be reached (slow)" in result.stderr
    assert list(Path("there").iterdir()) == []


def test_a_song_that_fails_is_not_uploaded(memory: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(extraction, "extract", fail)
    assert run("memory://in/a.wav", "-m", model, "-o", "memory://out/").exit_code == 1
    assert memory.find("/") == ["/in/a.wav"]


def test_without_fsspec_one_line_says_what_to_install(song: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    result = run("s3://songs/a.wav", song, "-m", model, "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "out/song.vocals.wav\n")
    assert "vocalsep: s3://songs/a.wav: needs fsspec; run: pip install 'vocalsep[remote]'" in result.stderr
    assert "needs fsspec" in read_misuse(run(song, "-m", model, "-o", "s3://songs/"))


@pytest.mark.parametrize(
    ("scheme", "package"), [("gs", "gcsfs"), ("hf", "huggingface_hub"), ("sftp", "paramiko"), ("abfs", "adlfs")]
)
def test_without_the_package_of_a_service_one_line_says_what_to_install(
    song: Path, model: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(registry._registry, scheme, raising=False)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
    addresses._find_class.cache_clear()
    result = run(f"{scheme}://songs/in/a.wav", song, "-m", model, "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "out/song.vocals.wav\n")
    (line,) = [line for line in result.stderr.splitlines() if "://" in line]
    expected = f"{scheme}:// needs another package; run: pip install {package}"
    assert line == f"vocalsep: {scheme}://songs/in/a.wav: {expected}"
    assert expected in read_misuse(run(song, "-m", model, "-o", f"{scheme}://songs/"))


def test_what_a_package_logs_is_not_printed(
    memory: Any, song: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Chatty(type(memory)):  # type: ignore[misc]
        protocol = "chatty"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return path.replace("chatty:/", "")

        def open(self, *arguments: Any, **options: Any) -> Any:
            logging.getLogger("chatty.core").warning("a note of the package")
            return super().open(*arguments, **options)

    Chatty.__module__ = "chatty.core"
    monkeypatch.setitem(registry._registry, "chatty", Chatty)
    monkeypatch.setattr(logging.root, "handlers", [])  # those of pytest
    logging.getLogger("chatty.core").warning("before")
    assert capfd.readouterr().err == "before\n"
    result = run("chatty://in/a.wav", "-m", model, "-o", "out/", "-q")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_scheme_that_nobody_knows_is_one_line(song: Path, model: Path) -> None:
    result = run("foo://x/a.wav", song, "-m", model, "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "out/song.vocals.wav\n")
    assert "vocalsep: foo://x/a.wav: cannot be reached (Protocol not known: foo" in result.stderr


def test_a_remote_page_and_a_remote_manifest_are_refused(song: Path, model: Path) -> None:
    assert "local" in read_misuse(run(song, "-m", model, "--manifest", "memory://m.jsonl"))
    assert "local" in read_misuse(run(song, "-m", model, "--page", "memory://page.html"))


DOWNLOAD_AND_SLEEP = """
import sys, time
from vocalsep import remote
from vocalsep.cli import signals
with signals.end_on_signal(), remote.Workspace() as workspace:
    workspace.download(remote.Remote(sys.argv[1]))
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_leaves_temporary_files_only_until_the_next_one(
    song: Path, workspaces: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", DOWNLOAD_AND_SLEEP, f"file://{song}"]
    with subprocess.Popen(command, env=make_environment(), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        with remote.Workspace():
            assert len(list(workspaces.iterdir())) == 2
        running.send_signal(number)
    assert bool(list(workspaces.iterdir())) == (number == signal.SIGKILL)
    with remote.Workspace():
        assert len(list(workspaces.iterdir())) == 1
    assert list(workspaces.iterdir()) == []
