from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic_songs
from command_line import read_error, read_misuse, run


def test_data_check_prints_a_row_for_each_split(no_roots: None, mir1k_root: Path) -> None:
    result = run("data", "check", "--dataset", "mir1k", "--root", mir1k_root)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("train", "test")] == ["train", "test"]
    assert "4 of 175" in result.stdout
    assert all(" ± " in line for line in result.stdout.splitlines() if line.startswith(("train", "test")))
    assert "note: train: 4 of the 175 tracks" in result.stdout
    assert result.stdout.endswith("\nno problems\n")


def test_data_check_names_problems_literally_and_takes_the_root_from_the_environment(
    no_roots: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic_songs.write(tmp_path / "Band - [bold] song" / "vocals.wav", np.full(800, 0.1), 8_000)
    monkeypatch.setenv("VOCALSEP_STEMS", str(tmp_path))
    result = run("data", "check", "--dataset", "stems")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "problem: Band - [bold] song: vocals, but neither accompaniment, mixture nor other stems in" in result.stdout
    printed = json.loads(run("data", "check", "--dataset", "stems", "--json").stdout)
    assert printed["root"] == str(tmp_path)
    assert [problem["name"] for problem in printed["problems"]] == ["Band - [bold] song"]
    assert {"dataset", "totals", "tracks", "notes"} <= set(printed)


def test_files_of_stems_with_other_names_are_named_with_the_right_one(no_roots: None, tmp_path: Path) -> None:
    for name in ("vox.wav", "inst.wav"):
        synthetic_songs.write(tmp_path / "Band - Song" / name, np.full(800, 0.1), 8_000)
    hint = "inst.wav: did you mean accompaniment.wav?; vox.wav: did you mean vocals.wav?"
    assert f"problem: Band - Song: {hint}" in run("data", "check", "--dataset", "stems", "--root", tmp_path).stdout
    assert hint in read_error(run("train", "--dataset", "stems", "--root", tmp_path, "--out", tmp_path / "run"))


@pytest.mark.parametrize("command", [["data", "check"], ["train"]])
def test_a_data_set_without_a_folder_is_one_line(no_roots: None, command: list[str]) -> None:
    line = read_error(run(*command, "--dataset", "dsd100"))
    assert line == "dsd100: which folder? Give --root DIR, or set VOCALSEP_DSD100"


def test_a_data_set_of_another_layout_is_one_line(mir1k_root: Path) -> None:
    line = read_error(run("data", "check", "--dataset", "dsd100", "--root", mir1k_root))
    assert "expected the layout of DSD100" in line


def test_misuse_has_status_2() -> None:
    assert "'musdb' is not one of" in read_misuse(run("data", "check", "--dataset", "musdb"))
