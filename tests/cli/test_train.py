from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import read_error, read_misuse, read_objects, run
from rich.console import Console

from vocalsep.cli import training_display

pytestmark = pytest.mark.usefixtures("few_norm_batches", "no_pictures")
SMALL = ("options.width=2", "front_end.bands=32", "front_end.frames=16", "training.batch_size=1")
ONE_STEP = [part for setting in (*SMALL, "training.minutes=0", "training.steps=1") for part in ("--set", setting)]


@pytest.fixture(autouse=True)
def cache() -> None:
    """Share the session's cache of decoded songs."""


@pytest.fixture
def tiny_run(no_roots: None, dsd100_root: Path, tmp_path: Path) -> list[str | Path]:
    """The command of a run of two steps, without progress options."""
    steps = ("training.minutes=0", "training.steps=2", "training.validate_steps=1", "training.validate_excerpts=1")
    settings = [part for setting in (*SMALL, *steps) for part in ("--set", setting)]
    given = ["train", "unet-tiny", "--dataset", "dsd100", "--root", dsd100_root, "--precision", "fp32"]
    return [*given, "--out", tmp_path / "run", *settings]


def test_progress_is_a_bar_with_loss_snr_and_time_left(tiny_run: list[str | Path], tmp_path: Path) -> None:
    result = run(*tiny_run, "--progress", "bar")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'run' / 'unet.safetensors'}\n"), result.stderr
    assert re.search(r"step 2, loss \d\.\d+, SNR -?\d+\.\d dB", result.stderr)
    assert "0 s left" in result.stderr
    assert "100%" in result.stderr


def test_progress_is_json_with_one_object_per_line(tiny_run: list[str | Path], tmp_path: Path) -> None:
    result = run(*tiny_run, "--progress", "json")
    events = read_objects(result.stderr)
    steps = [event for event in events if event["event"] == "step"]
    assert [(event["step"], event["share"]) for event in steps] == [(1, 0.5), (2, 1.0)]
    assert steps[0].keys() == {"event", "step", "loss", "snr_db", "share", "left_seconds"}
    end = {"event": "end", "weights": str(tmp_path / "run" / "unet.safetensors"), "stopped": False}
    assert events[-1] == end
    assert any("2 steps to go" in event.get("message", "") for event in events)
    result = run(*tiny_run, "--progress", "json")  # the folder now holds a run
    assert (result.exit_code, result.stdout) == (1, "")
    (event,) = read_objects(result.stderr)
    assert (event["event"], "already holds a run" in event["message"]) == ("error", True)


@pytest.mark.parametrize("options", [["--progress", "none"], ["-q"]])
def test_progress_can_be_hidden(tiny_run: list[str | Path], tmp_path: Path, options: list[str]) -> None:
    result = run(*tiny_run, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "cannot be combined" in read_misuse(run(*tiny_run, "--progress", "bar", "-q"))


def test_a_terminal_gets_a_bar_and_a_file_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(training_display.choose("auto")) is training_display.Lines
    monkeypatch.setattr(training_display, "stderr", Console(stderr=True, force_terminal=True))
    assert type(training_display.choose("auto")) is training_display.Bar


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s left"), (59.4, "59 s left"), (61, "1 min 01 s left"), (7500, "2 h 05 min left")]
)
def test_the_time_left_is_readable(seconds: float, text: str) -> None:
    assert training_display.describe_time_left(seconds) == text


def test_misuse_has_status_2(tmp_path: Path) -> None:
    assert "--root and --split need --dataset" in read_misuse(run("train", "--root", tmp_path))
    assert "add only --minutes, --epochs or --device" in read_misuse(run("train", "--resume", tmp_path, "--skip-bad"))
    assert "--vocals needs --dataset teacher" in read_misuse(run("train", "--vocals", tmp_path))
    assert "give only one" in read_misuse(run("train", "--minutes", "1", "--epochs", "1"))


@pytest.mark.slow
def test_a_run_has_epochs_and_a_precision_and_can_be_extended(
    no_roots: None, dsd100_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = ["train", "unet-tiny", "--dataset", "dsd100", "--root", dsd100_root, "--out", folder, *settings]
    result = run(*command, "--epochs", "0.1", "--precision", "bf16")
    assert (result.exit_code, result.stdout) == (0, f"{folder / 'unet.safetensors'}\n"), result.stderr
    assert "bf16" in result.stderr
    done = len((folder / "log.jsonl").read_text().splitlines())
    assert run("train", "--resume", folder).exit_code == 0
    assert len((folder / "log.jsonl").read_text().splitlines()) == done
    assert run("train", "--resume", folder, "--epochs", "0.2").exit_code == 0
    assert len((folder / "log.jsonl").read_text().splitlines()) == pytest.approx(2 * done, abs=1)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="this system has no SIGINT to send")
def test_ctrl_c_stops_after_the_current_step_and_resume_continues(dsd100_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "vocalsep", "train", "unet-tiny", "--dataset", "dsd100"]
    command += ["--root", str(dsd100_root), "--out", str(folder), "--minutes", "60", "--precision", "fp32"]
    command += [part for setting in SMALL for part in ("--set", setting)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert any("steps to go" in line for line in running.stderr)
        running.send_signal(signal.SIGINT)
        _, printed = running.communicate()
    assert running.returncode == 130, printed
    assert f"continue with: vocalsep train --resume {folder}\n" in printed
    assert (folder / "checkpoint.pt").exists()
    assert run("train", "--resume", folder, "--minutes", "0.01").exit_code == 0


def test_a_teacher_replaces_stems(no_roots: None, dsd100_root: Path, tmp_path: Path) -> None:
    songs, found = tmp_path / "songs", tmp_path / "found"
    for folder in (songs, found):
        folder.mkdir()
    for number, song in enumerate(sorted((dsd100_root / "Sources" / "Dev").iterdir())[:2]):
        shutil.copy(dsd100_root / "Mixtures" / "Dev" / song.name / "mixture.wav", songs / f"song {number}.wav")
        shutil.copy(song / "vocals.wav", found / f"song {number}.vocals.wav")
    command = ["train", "unet-tiny", "--dataset", "teacher", "--root", songs, "--out", tmp_path / "run", *ONE_STEP]
    assert "song 0.vocals.*" in read_error(run(*command))
    result = run(*command, "--vocals", found)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'run' / 'unet.safetensors'}\n"), result.stderr
    assert "teacher: 2 tracks to train on" in result.stderr


def test_bad_songs_are_named_and_can_be_skipped(
    no_roots: None, dsd100_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "DSD100"
    shutil.copytree(dsd100_root / "Sources", root / "Sources")
    song = sorted((root / "Sources" / "Dev").iterdir())[0]
    (song / "bass.wav").unlink()
    monkeypatch.setenv("VOCALSEP_DSD100", str(root))
    command = ["train", "unet", "--dataset", "dsd100", "--out", tmp_path / "run", *ONE_STEP]
    assert song.name in read_error(run(*command))
    assert not (tmp_path / "run").exists()
    result = run(*command, "--skip-bad")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'run' / 'unet.safetensors'}\n")
    assert f"skipped 1 bad track: dsd100/{song.name}: missing stems: bass" in result.stderr
