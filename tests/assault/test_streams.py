"""Full disks, closed streams and readers that go away stop nothing but themselves, and are told in one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic_songs
from assault import check_clean, check_ended, list_unfinished, run
from command_line import make_environment
from tiny_recipes import make_recipe

from vocalsep import config
from vocalsep.training.record import read_log

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full"),
    pytest.mark.slow,
]

SONGS = 5


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Songs of a second; the current folder holds their folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(SONGS):
        samples = np.random.default_rng(number).normal(0, 0.1, 8_000)
        synthetic_songs.write(tmp_path / "music" / f"{number}.wav", samples, 8_000)
    return Path("music")


def count_whole(folder: Path) -> int:
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    assert all(soundfile.info(path).frames == 8_000 for path in found)
    return len(found)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_batch_is_done_even_if_standard_output_is_full(jobs: str, music: Path, model: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = run("extract", music, "-o", "out", "-m", model, "-q", "--jobs", jobs, stdout=full)
    assert check_ended(ended, 1) == "vocalsep: standard output: cannot be written (No space left on device)"
    assert count_whole(Path("out")) == SONGS


@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["models", "show", "unet"], ["--version"]])
def test_a_list_that_nobody_can_write_is_told(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        assert "No space left on device" in check_ended(run(*arguments, stdout=full), 1)
    assert "it is closed" in check_ended(run(*arguments, close=(1,)), 1)


@pytest.mark.parametrize("close", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_closed_streams_do_not_stop_a_batch(close: tuple[int, ...], music: Path, model: Path) -> None:
    ended = run("extract", music, "-o", "out", "-m", model, "-q", close=close)
    assert ended.status == (1 if 1 in close else 0)
    check_clean(ended.stderr)
    assert count_whole(Path("out")) == SONGS


def test_sound_from_and_to_closed_streams_is_told(music: Path, model: Path) -> None:
    ended = run("extract", music / "0.wav", "-o", "-", "-m", model, "-q", close=(1,))
    assert "standard output: cannot be written (it is closed)" in check_ended(ended, 1)
    assert "standard input" in check_ended(run("extract", "-", "-o", "a.wav", "-m", model, "-q", close=(0,)), 1)
    assert not Path("a.wav").exists()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("more", [["--json"], ["--progress", "json"]])
def test_a_reader_that_goes_away_changes_nothing(stream: str, more: list[str], music: Path, model: Path) -> None:
    command = [sys.executable, "-m", "vocalsep", "extract", "music", "-o", "out", "-m", str(model), *more]
    pipes = {name: subprocess.PIPE if name == stream else subprocess.DEVNULL for name in ("stdout", "stderr")}
    with subprocess.Popen(command, env=make_environment(), **pipes) as running:
        getattr(running, stream).readline()
        getattr(running, stream).close()
    assert running.returncode == 0
    assert count_whole(Path("out")) == SONGS


def test_a_disk_that_is_full_fails_each_song_in_words_and_leaves_nothing(music: Path, model: Path) -> None:
    ended = run("extract", music, "-o", "out", "-m", model, "-q", file_size=10_000)
    check_ended(ended, 1, lines=SONGS)
    assert all(line.endswith("cannot be written (File too large)") for line in ended.lines), ended.stderr
    assert not list(Path("out").iterdir())
    for extension in ("flac", "mp3", "ogg", "m4a", "opus", "aiff"):
        ended = run("extract", music / "0.wav", "-o", f"a.{extension}", "-m", model, "-q", file_size=1_000)
        message = check_ended(ended, 1)
        assert message.startswith(f"vocalsep: a.{extension}: cannot be written ("), message
        assert not list(Path().glob("*a.*"))


@pytest.mark.parametrize("memory_mb", [250, 400, 600])
def test_too_little_memory_is_told_in_words(memory_mb: int, music: Path, model: Path, tmp_path: Path) -> None:
    # Python's compiler does not always say that memory is short, so the modules are compiled before.
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    check_ended(run("extract", music / "0.wav", "-o", "first.wav", "-m", model, "-q", **compiled), 0, lines=0)
    ended = run("extract", music / "0.wav", "-o", "a.wav", "-m", model, "-q", memory=memory_mb << 20, **compiled)
    # Where ONNX Runtime runs out of memory, glibc may have none left to unwind with, and then ends the process itself.
    natively = {-signal.SIGABRT, -signal.SIGSEGV, 127}
    assert ended.status in {0, 1} | (natively if memory_mb < 600 else set())
    check_clean(ended.stdout + ended.stderr)
    assert (ended.status == 0) == Path("a.wav").exists()
    # There may have been no memory to remove the temporary file with. The next call does that.
    check_ended(run("extract", music / "0.wav", "-o", "a.wav", "-m", model, "-q", "--overwrite"), 0, lines=0)
    assert not list_unfinished(Path())


@pytest.mark.parametrize("limit", [2_000, 60_000, 150_000])
def test_a_training_on_a_full_disk_stops_in_a_line_and_goes_on(limit: int, dsd100_root: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(config.dump_toml(config.to_dict(make_recipe(dsd100_root, steps=6))))
    cache = {"VOCALSEP_CACHE": str(tmp_path / "cache")}
    whole = run("train", recipe, "--out", tmp_path / "whole", "-q", **cache)
    check_ended(whole, 0, lines=0)
    folder = tmp_path / "run"
    ended = run("train", recipe, "--out", folder, "-q", file_size=limit, **cache)
    assert "File too large" in check_ended(ended, 1)
    assert not list_unfinished(folder)
    again = ["--resume", folder] if (folder / "checkpoint.pt").exists() else [recipe, "--out", folder]
    check_ended(run("train", *again, "-q", **cache), 0, lines=0)
    logs = [[entry["loss"] for entry in read_log(each / "log.jsonl")] for each in (tmp_path / "whole", folder)]
    assert logs[0] == logs[1]


def test_a_small_disk_that_is_full_is_told(music: Path, model: Path) -> None:
    """The same on a real file system, where the machine lets one be mounted."""
    disk = Path("disk").absolute()
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        ended = run("extract", music, "-o", disk, "-m", model, "-q", "--json")
        check_ended(ended, 1, lines=SONGS - 2)
        assert all(line.endswith("(No space left on device)") for line in ended.lines), ended.stderr
        assert count_whole(disk) == 2 == len(ended.stdout.splitlines())
        assert {json.loads(line)["input"] for line in ended.stdout.splitlines()} == {"music/0.wav", "music/1.wav"}
    finally:
        with contextlib.suppress(OSError):
            os.sync()
        subprocess.run(["umount", "-l", disk], check=True)
