"""Stop calls in the middle: no unfinished file and no process stays, and another call completes the work."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fake_nets
import numpy as np
import pytest
import soundfile
import synthetic_songs
from command_line import make_environment, receiving_ctrl_c, run

from vocalsep import files
from vocalsep.cli import signals

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes where Linux lists them"),
]

SONGS = ("a.wav", "b.wav", "c.wav")
OPTIONS = ("-o", "out", "--accompaniment", "--progress", "json")


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short song and two long ones; the current folder is the one that holds ``music``."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(SONGS):
        seconds = 120 if seed else 1
        synthetic_songs.write(
            tmp_path / "music" / name, np.clip(fake_nets.noise(1, seconds * 8_000, seed), -0.9, 0.9).T, 8_000
        )
    return tmp_path / "music"


@contextmanager
def at_work(model: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a session of its own; yield when one song is done and another has started."""
    command = [sys.executable, "-m", "vocalsep", "extract", "music", "-m", str(model), *OPTIONS, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": make_environment()}
    with receiving_ctrl_c():
        started = subprocess.Popen(command, start_new_session=True, **pipes)  # type: ignore[call-overload]
    with started as running:
        try:
            assert running.stderr is not None
            done: set[str] = set()
            moving: set[str] = set()
            while not (done and moving - done):
                event = json.loads(running.stderr.readline())
                if event["event"] in ("done", "progress"):
                    {"done": done, "progress": moving}[event["event"]].add(event["song"])
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)


def session(leader: int) -> list[int]:
    """Return the processes that are alive in a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal():
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(of) == leader and state != "Z":
                    found.append(int(entry.name))
    return found


def session_ends(leader: int) -> bool:
    """Return whether all processes of a session end, within a time that is long even on a busy machine."""
    for _ in range(600):
        if not session(leader):
            return True
        time.sleep(0.05)
    return False


def parts(folder: Path) -> list[str]:
    """Return what only a process at work may have there: unfinished files and claims."""
    return sorted(path.name for path in folder.iterdir() if path.name.endswith((".part", ".claim")))


def whole(music: Path) -> list[Path]:
    """Return the outputs, after checking that each is as long as its song."""
    found = [path for path in (music.parent / "out").iterdir() if not path.name.startswith(".")]
    for path in found:
        song = music / f"{path.name.split('.')[0]}.wav"
        assert soundfile.info(path).frames == soundfile.info(song).frames
    return found


def test_a_stopped_call_leaves_no_page_and_none_of_its_parts(
    music: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = music.parent / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with at_work(model, "--page", "--jobs", "2") as running:
        assert list(folder.glob("vocalsep-*"))
        os.kill(running.pid, signal.SIGINT)
        assert running.wait(60) == 130
    assert not list(folder.glob("vocalsep-*"))
    assert not (music.parent / "out" / "songs.html").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("to_all", [False, True], ids=["to one", "to all"])
def test_a_signal_leaves_no_unfinished_file_and_no_process(
    music: Path, model: Path, number: signal.Signals, status: int, jobs: str, to_all: bool
) -> None:
    if to_all and (jobs == "1" or number == signal.SIGTERM):
        pytest.skip("a terminal sends only Ctrl-C to all processes, and there are several only with --jobs")
    with at_work(model, "--jobs", jobs) as running:
        assert parts(music.parent / "out")
        if to_all:
            os.killpg(running.pid, number)
        else:
            running.send_signal(number)
        results, events = running.communicate()
        assert running.returncode == status
        assert session_ends(running.pid)
    assert parts(music.parent / "out") == []
    done = {path.name for path in whole(music)}
    assert 2 <= len(done) < 6
    assert {Path(line).name for line in results.splitlines()} <= done
    assert {json.loads(line)["event"] for line in events.splitlines()} <= {"song", "progress", "done"}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_says_how_far_the_call_came_and_how_to_go_on(music: Path, model: Path, jobs: str) -> None:
    command = [sys.executable, "-m", "vocalsep", "music", "-m", str(model), "-o", "out", "--jobs", jobs]
    with receiving_ctrl_c():
        running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                                   env=make_environment(), start_new_session=True)  # fmt: skip
    with running:
        assert running.stderr is not None
        assert running.stderr.readline().startswith("out/a.vocals.wav: ")
        os.killpg(running.pid, signal.SIGINT)
        rest = running.stderr.read()
    assert running.returncode == 130
    hint = "to go on, repeat the command with --skip-existing"
    assert rest == f"vocalsep: stopped after 1 of 3 songs; {hint}\n"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_next_call_completes_one_that_was_killed(music: Path, model: Path, jobs: str) -> None:
    out = music.parent / "out"
    with at_work(model, "--jobs", jobs) as running:
        running.kill()
        assert session_ends(running.pid)
    before = {path: path.stat().st_mtime_ns for path in whole(music)}
    assert 2 <= len(before) < 6
    assert parts(out) or jobs == "2"  # worker processes clean up when their parent dies
    result = run("extract", "music", "-m", model, *OPTIONS, "--skip-existing")
    assert result.exit_code == 0, result.output
    for song in SONGS:
        pair = [out / song.replace(".wav", f".{stem}.wav") for stem in ("vocals", "accompaniment")]
        assert all(before.get(path) == path.stat().st_mtime_ns for path in pair) == all(path in before for path in pair)
    assert len(whole(music)) == 6
    completed = {path.name: path.read_bytes() for path in out.iterdir()}
    if files.fcntl:
        assert len(completed) == 6, sorted(completed)  # the leftovers of the killed call are gone
    assert run("extract", "music", "-m", model, *OPTIONS, "--overwrite").exit_code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == completed


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_that_a_callback_from_c_drops_is_raised_again_and_not_reported(
    number: signal.Signals, expected: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(*_: object) -> int:
        signal.raise_signal(number)
        return 0

    def fail(*_: object) -> int:
        raise ValueError("of another kind")

    def sort(comparison: Callable[..., int]) -> None:
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        ctypes.CDLL(None).qsort(ctypes.create_string_buffer(2), 2, 1, kind(comparison))

    reported: list[object] = []

    def hook(what: sys.UnraisableHookArgs) -> None:
        reported.append(what.exc_value)

    monkeypatch.setattr(sys, "unraisablehook", hook)
    with signals.raise_on_signal(signal.SIGINT, signal.SIGTERM) as check_signals:
        check_signals()
        sort(compare)
        assert reported == []
        with pytest.raises(expected):
            check_signals()
        sort(fail)
        assert [type(error) for error in reported] == [ValueError]
    assert sys.unraisablehook is hook


def test_a_process_that_does_not_stop_is_killed_and_its_files_are_removed(music: Path, model: Path) -> None:
    with at_work(model, "--jobs", "2") as running:
        workers = [number for number in session(running.pid) if number != running.pid]
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)  # as if it ran C code that cannot be interrupted
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
        for worker in workers:  # one of them is multiprocessing's resource tracker
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)
        assert session_ends(running.pid)
    assert parts(music.parent / "out") == []
