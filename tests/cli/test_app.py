from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
from command_line import read_misuse, run, run_python

import vocalsep
from vocalsep.cli import common, train
from vocalsep.datasets import check
from vocalsep.datasets.layouts import LAYOUTS
from vocalsep.evaluation import songs
from vocalsep.extraction import MASK_SOURCES, inversion
from vocalsep.training import recipes


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sing"], "No such command 'sing'"),
        (["models", "show"], "Missing argument 'NAME'"),
    ],
    ids=" ".join,
)
def test_misuse_has_status_2(arguments: list[str], expected: str) -> None:
    assert expected in read_misuse(run(*arguments))


def test_version_prints_name_and_number() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"vocalsep {vocalsep.__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_option(option: str) -> None:
    assert "extract" in run(option).stdout
    text = run("extract", option).stdout
    for name in (
        "--output",
        "--model",
        "--accompaniment",
        "--inversion",
        "--subtype",
        "--clip",
        "--gate",
        "--labels",
        "--device",
        "--overwrite",
        "--skip-existing",
        "--format",
        "--threads",
        "--recursive",
        "--from-file",
        "--jobs",
        "--dry-run",
        "--progress",
        "--json",
        "--quiet",
    ):
        assert name in text


def test_neither_import_nor_help_nor_version_loads_torch() -> None:
    code = """
import sys
import vocalsep
from vocalsep.cli import app
helps = [f"{command} --help" for command in ("", "extract", "serve", "eval", "models", "data check", "train", "doctor")]
for line in ["--version", *helps]:
    try:
        app(line.split())
    except SystemExit as end:
        assert not end.code, end.code
heavy = {"torch", "librosa", "matplotlib", "numba", "scipy", "soundfile", "av", "mutagen", "starlette", "uvicorn"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = run_python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage" in done.stdout


def test_waiting_threads_sleep_and_commands_share_the_cores_themselves() -> None:
    code = """
import os, sys
names = ("OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
for name in names[:-1]:
    os.environ.pop(name, None)
os.environ["OPENBLAS_NUM_THREADS"] = "3"  # the user's own settings stay
import vocalsep
assert "numpy" not in sys.modules
from vocalsep.cli import app
for command in ("train", "models"):
    app([command, "--help"], standalone_mode=False)
    sys.stderr.write(" ".join(os.environ.get(name, "-") for name in names) + "; ")
"""
    assert run_python("-c", code).stderr == "PASSIVE 4 - 3; PASSIVE 4 1 3; "


def test_the_choices_of_options_are_those_of_the_library() -> None:
    assert set(get_args(common.Dataset)) == songs.SPLITS.keys() == check.SPLITS.keys()
    assert set(get_args(train.Material)) == {*get_args(common.Dataset), "teacher"} <= LAYOUTS.keys()
    assert set(get_args(get_type_hints(recipes.PoolOptions)["layout"])) == LAYOUTS.keys()
    assert train.Precision == recipes.Precision
    assert set(get_args(common.Inversion)) == inversion.INVERSIONS.keys()
    assert get_args(common.MasksFrom) == MASK_SOURCES
