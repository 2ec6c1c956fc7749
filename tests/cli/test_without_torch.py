"""What works in the plain install: every command but ``train``. Python cannot import what only training needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import synthetic_songs
from command_line import SOURCE, run_python
from fake_checkpoint import DATA, INDEX, make_spleeter_variables, write_checkpoint

from vocalsep import audio, weights
from vocalsep.evaluation.songs import load, set_up

WITHOUT_TORCH = """
import sys
from importlib.machinery import PathFinder
class WithoutTorch(PathFinder):
    @classmethod
    def find_spec(cls, name, *arguments):
        missing = name.partition(".")[0] in ("torch", "onnx", "librosa", "numba")
        return None if missing else super().find_spec(name, *arguments)
sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTorch
"""


@pytest.fixture(autouse=True)
def _without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process that a test starts, nor any that those start, finds the packages of the extra `train`."""
    folder = tmp_path / "customize"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WITHOUT_TORCH, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(SOURCE)]))


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "vocalsep", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def check(*arguments: str | Path) -> str:
    """Run a command that has to work, and return what it prints."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


@pytest.mark.slow
def test_doctor_finds_everything_to_work() -> None:
    assert check("doctor").endswith("\nEverything works.\n")


@pytest.mark.slow
def test_help_and_models_are_shown() -> None:
    assert "--threads" in check("extract", "--help")
    assert weights.DEFAULT_MODEL in check("models")
    assert "SHA-256" in check("models", "show", weights.DEFAULT_MODEL)


def test_data_sets_are_checked(mir1k_root: Path) -> None:
    assert "CUDA" not in run("data", "check", "mir1k", "--root", mir1k_root).stderr


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_estimates_models_and_ideal_masks_are_scored(mir1k_root: Path, tmp_path: Path, jobs: str) -> None:
    setup = set_up("mir1k", mir1k_root)
    for track in setup.list_tracks().tracks:
        vocals = load(track, setup).vocals
        synthetic_songs.write(tmp_path / "theirs" / f"{track.name}.wav", vocals.T, audio.read(track.vocals[0].path)[1])
    given = ["--dataset", "mir1k", "--root", mir1k_root, "--limit", jobs, "--jobs", jobs]
    estimates, model = ["--estimates", tmp_path / "theirs"], ["--model", weights.DEFAULT_MODEL]
    assert "300" in check("eval", *given, *estimates, *model, "--out", tmp_path / "run")


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], *(pytest.param(each, marks=pytest.mark.slow) for each in ([], ["--minutes", "1", "--epochs", "1"]))],
)
def test_training_names_the_command_that_brings_torch(arguments: list[str]) -> None:
    done = run("train", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "vocalsep: training needs torch; run: pip install 'vocalsep[train]'\n"


def test_torch_is_not_imported_where_it_is_installed() -> None:
    code = """
import sys
from vocalsep.cli import app
from vocalsep.evaluation import estimators, report, runs, songs, summary
from vocalsep.datasets import cache, check, layouts, screening, splits
for command in ("models", "extract --help"):
    app(command.split(), standalone_mode=False)
assert "torch" not in sys.modules
"""
    done = run_python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow  # the model is as large as Spleeter's
def test_spleeter_is_imported_and_used(tmp_path: Path) -> None:
    index, data = write_checkpoint(make_spleeter_variables((16, 32, 64, 128, 256, 512)))
    (tmp_path / INDEX).write_bytes(index)
    (tmp_path / DATA).write_bytes(data)
    run("models", "import", "spleeter", tmp_path)
    assert "spleeter (yours)" in check("models")
    song = synthetic_songs.write(tmp_path / "song.wav", np.random.default_rng(0).normal(0, 0.1, (30_000, 2)), 44_100)
    check("extract", song, "-m", "spleeter", "-o", tmp_path / "vocals.wav", "--quiet")
    samples, _ = audio.read(tmp_path / "vocals.wav")
    assert samples.shape == (2, 30_000)
    assert np.abs(samples).max() > 0
    assert "needs torch" in run("export", "spleeter", "-o", tmp_path / "out").stderr
