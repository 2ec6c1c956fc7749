"""Commands that are stopped or killed at random moments leave nothing half-written, and the next call completes them.

VOCALSEP_KILLS sets how often each is killed; VOCALSEP_ASSAULT_SEED chooses other moments.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic_songs
from assault import Ended, check_clean, check_ended, is_pythons_own, list_unfinished, make_seed, run, wait_for_group
from tiny_recipes import make_recipe

from vocalsep import config
from vocalsep.training.record import read_log

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes where Linux lists them"),
    pytest.mark.slow,
]

KILLS = int(os.environ.get("VOCALSEP_KILLS", "5"))
SLACK_SECONDS = 1.0  # of a busy machine, beyond the two in which a signal ends a command


class Stop:
    """Sends a signal to a process after some seconds. Remembers the process, and when it did."""

    def __init__(self, after: float, number: signal.Signals) -> None:
        self._after, self._number = after, number
        self.leader, self.sent = 0, 0.0

    def __call__(self, process: subprocess.Popen[bytes]) -> None:
        self.leader = process.pid
        time.sleep(self._after)
        self.sent = time.monotonic()
        os.kill(process.pid, self._number)  # Popen would first ask whether it has ended, and take what it used


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def rng() -> random.Random:
    return make_seed()


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        samples = np.random.default_rng(number).normal(0, 0.1, 160_000)
        synthetic_songs.write(tmp_path / "music" / f"{number}.wav", samples, 8_000)
    return Path("music")


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_killed_batches_leave_only_whole_files_and_are_completed(
    jobs: str, music: Path, model: Path, rng: random.Random
) -> None:
    command = ["extract", music, "-m", model, "-q", "--jobs", jobs, "--accompaniment"]
    started = time.monotonic()
    check_ended(run(*command, "-o", "whole"), 0, lines=0)
    taken = time.monotonic() - started
    expected = read_files(Path("whole"))
    for _ in range(KILLS):
        stop = Stop(rng.uniform(0, taken), signal.SIGKILL)
        ended = run(*command, "-o", "out", "--skip-existing", after=stop)
        wait_for_group(stop.leader)  # until then, the songs of its jobs are claimed
        assert ended.status in (0, -signal.SIGKILL)
        check_clean(ended.stderr)
        for path in Path("out").glob("[!.]*"):
            assert path.read_bytes() == expected[path.name]
        if rng.random() < 0.5:
            shutil.rmtree("out", ignore_errors=True)
        else:
            check_ended(run(*command, "-o", "out", "--skip-existing"), 0, lines=0)
            assert read_files(Path("out")) == expected
            shutil.rmtree("out")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["at the start", "at any time"])
@pytest.mark.parametrize("command", ["extract", "batch", "doctor", "models", "data", "eval", "train"])
def test_a_signal_ends_every_command_within_two_seconds(
    command: str, when: str, number: signal.Signals, music: Path, model: Path, stems_root: Path, rng: random.Random
) -> None:
    arguments = {
        "extract": ["extract", music / "0.wav", "-o", "one.wav", "-m", model, "--overwrite"],
        "batch": ["extract", music, "-o", "out", "-m", model, "--jobs", "2", "--overwrite"],
        "doctor": ["doctor"],
        "models": ["models"],
        "data": ["data", "check", "--dataset", "stems", "--root", stems_root],
        "eval": ["eval", "--dataset", "stems", "--root", stems_root, "-m", model, "--out", "scores", "--jobs", "2"],
        "train": ["train", "unet", "--dataset", "stems", "--root", stems_root, "--out", "run", "--minutes", "9"],
    }[command]
    for _ in range(max(1, KILLS // 3)):
        moment = rng.uniform(0.02, 0.2) if when == "at the start" else rng.uniform(0.2, 6)
        stop = Stop(moment, number)
        ended = run(*arguments, after=stop, VOCALSEP_CACHE=str(Path("cache").absolute()))
        taken = time.monotonic() - stop.sent
        by_plan = 130 if command == "train" else 128 + number  # `train` saves a checkpoint and exits with 130
        assert ended.status in (0, by_plan, 128 + number, -number), ended.stderr
        check_stopped(ended, early=when == "at the start")
        assert taken < 2 + SLACK_SECONDS
        assert not list_unfinished(Path())
        wait_for_group(stop.leader)


def check_stopped(ended: Ended, *, early: bool) -> None:
    """Check what a stopped command has printed."""
    if not (early and is_pythons_own(ended.stderr)):
        check_clean("".join(ended.stderr.split("\x1b[?25h")).replace("\x1b[2K", "").replace("\r", ""))


def test_killed_trainings_go_on_to_the_same_losses(dsd100_root: Path, tmp_path: Path, rng: random.Random) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(config.dump_toml(config.to_dict(make_recipe(dsd100_root, steps=12))))
    cache = {"VOCALSEP_CACHE": str(tmp_path / "cache")}
    started = time.monotonic()
    check_ended(run("train", recipe, "--out", tmp_path / "whole", "-q", **cache), 0, lines=0)
    taken = time.monotonic() - started
    expected = [entry["loss"] for entry in read_log(tmp_path / "whole" / "log.jsonl")]
    folder, kills = tmp_path / "run", 0
    while kills < KILLS:
        again = ["--resume", folder] if (folder / "checkpoint.pt").exists() else [recipe, "--out", folder]
        ended = run("train", *again, "-q", after=Stop(rng.uniform(0, taken), signal.SIGKILL), **cache)
        assert ended.status in (0, -signal.SIGKILL), ended.stderr
        kills += ended.status != 0
        if ended.status == 0:
            assert [entry["loss"] for entry in read_log(folder / "log.jsonl")] == expected
            shutil.rmtree(folder)
    again = ["--resume", folder] if (folder / "checkpoint.pt").exists() else [recipe, "--out", folder]
    check_ended(run("train", *again, "-q", **cache), 0, lines=0)
    assert [entry["loss"] for entry in read_log(folder / "log.jsonl")] == expected


def test_killed_evaluations_go_on_to_the_same_scores(
    stems_root: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: random.Random
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["eval", "--dataset", "stems", "--root", stems_root, "-m", model, "-q", "--jobs", "1"]
    started = time.monotonic()
    check_ended(run(*command, "--out", "whole"), 0, lines=0)
    taken = time.monotonic() - started
    expected = Path("whole/scores.csv").read_bytes()
    for _ in range(KILLS):
        ended = run(*command, "--out", "scores", after=Stop(rng.uniform(0, taken), signal.SIGKILL))
        assert ended.status in (0, -signal.SIGKILL), ended.stderr
        if ended.status == 0:
            assert Path("scores/scores.csv").read_bytes() == expected
            shutil.rmtree("scores")
    check_ended(run(*command, "--out", "scores"), 0, lines=0)
    assert Path("scores/scores.csv").read_bytes() == expected
    assert not list_unfinished(Path("scores"))


def test_songs_of_a_killed_extraction_are_whole_or_missing(music: Path, model: Path, rng: random.Random) -> None:
    frames = soundfile.info(music / "0.wav").frames
    for extension in ("wav", "flac", "mp3", "m4a"):
        for _ in range(max(1, KILLS // 4)):
            path = Path(f"one.{extension}")
            after = Stop(rng.uniform(0.3, 4), signal.SIGKILL)
            ended = run("extract", music / "0.wav", "-o", path, "-m", model, "-q", "--overwrite", after=after)
            assert ended.status in (0, -signal.SIGKILL), ended.stderr
            if path.exists() and extension in ("wav", "flac"):
                assert soundfile.info(path).frames == frames
            path.unlink(missing_ok=True)
