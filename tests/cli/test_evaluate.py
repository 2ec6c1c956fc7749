from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_songs
from command_line import run, run_python
from typer.testing import Result

from vocalsep import audio

pytestmark = pytest.mark.usefixtures("no_pictures")
CLIPS = ["bobon_3_01", "bobon_3_02", "davidson_4_01", "davidson_4_02"]  # in the test split of the fixture
FILES = ["boxes.png", "scores.csv", "setup.json", "songs.png", "summary.json", "summary.md", "tracks.jsonl"]


def evaluate(*arguments: str | Path) -> Result:
    """Run ``vocalsep eval`` in this process."""
    return run("eval", *arguments, "--jobs", "1")


def read_lines(out: Path) -> dict[tuple[str, str], Any]:
    text = (out / "tracks.jsonl").read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines()]
    return {(line["row"], line["track"]): line for line in found}


def test_a_model_is_scored_between_the_mixture_and_ideal_masks(dsd100_root: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    result = evaluate("--dataset", "dsd100", "--root", dsd100_root, "-m", model, "--out", out, "--limit", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == str(out)
    assert result.stdout.count("narrow") >= 8
    assert sorted(path.name for path in out.iterdir()) == FILES
    rows = ["mixture", "narrow", "IBM, linear", "IRM, grid of narrow", "IRM, linear"]
    assert list(read_lines(out)) == [(row, "001 - Artist 1 - Song 1") for row in rows]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    sdr = [
        summary["rows"][row]["vocals"]["v4_sdr"]["median"] for row in ("mixture", "IRM, grid of narrow", "IRM, linear")
    ]
    assert sdr == sorted(sdr)
    assert "| IRM, linear |" in (out / "summary.md").read_text(encoding="utf-8")


def test_a_run_is_compared_with_a_model_by_the_name_of_its_folder(
    mir1k_root: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_folder = tmp_path / "runs" / "tiny"
    run_folder.mkdir(parents=True)
    shutil.copy(model, run_folder / "unet.safetensors")
    (run_folder / "recipe.toml").touch()
    given = ["--dataset", "mir1k", "--root", mir1k_root, "--out", tmp_path / "scores", "--limit", "1"]
    result = evaluate(*given, "-m", model, "-m", "runs/tiny")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = read_lines(tmp_path / "scores")
    assert [row for row, _ in lines][:3] == ["mixture", "narrow", "tiny"]
    assert lines["tiny", CLIPS[0]]["vocals"] == lines["narrow", CLIPS[0]]["vocals"]


def test_gate_scores_each_model_twice(mir1k_root: Path, model: Path, tmp_path: Path) -> None:
    given = ["--dataset", "mir1k", "--root", mir1k_root, "--out", tmp_path, "--limit", "1"]
    assert evaluate(*given, "-m", model, "--gate").exit_code == 0
    assert [row for row, _ in read_lines(tmp_path)][:3] == ["mixture", "narrow", "narrow, gate"]


def test_json_is_one_object_that_says_what_each_score_is(mir1k_root: Path, model: Path, tmp_path: Path) -> None:
    given = ["--dataset", "mir1k", "--root", mir1k_root, "--out", tmp_path, "--json", "--limit", "2"]
    result = evaluate(*given, "-m", model, "--snr", "-5", "--inversion", "phase", "--inversion", "griffin-lim")
    assert (result.exit_code, result.stderr) == (0, "")
    printed = json.loads(result.stdout)
    assert (printed["dataset"], printed["split"], printed["snr_db"]) == ("mir1k", "test", -5.0)
    assert list(printed["rows"])[:3] == ["mixture", "narrow", "narrow, griffin-lim"]
    assert "v4 (images, 1-s frames, as museval)" in printed["scores"]["v4_sdr"]
    mixture = printed["rows"]["mixture"]["vocals"]
    assert mixture["gain_nsdr"]["weighted"] == 0
    assert mixture["song_sdr"]["mean"] == pytest.approx(-5, abs=1e-3)
    assert mixture["song_sdr"]["tracks"] == 2
    assert printed == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))


def test_the_data_set_names_the_default_folder_and_the_environment_its_root(
    mir1k_root: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOCALSEP_MIR1K", str(mir1k_root))
    result = evaluate("--dataset", "mir1k", "-m", model, "--limit", "1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(Path("scores") / "mir1k-test")
    assert sorted(path.name for path in Path("scores/mir1k-test").iterdir()) == FILES


def test_estimates_of_other_separators_are_scored_the_same_way(mir1k_root: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "theirs", tmp_path / "run"
    for clip in CLIPS[1:]:
        samples, rate = audio.read(mir1k_root / "Wavfile" / f"{clip}.wav")
        right = samples[1] if clip != CLIPS[2] else samples[1, 1:]
        synthetic_songs.write(folder / f"{clip}.vocals.wav", right, rate)
    synthetic_songs.write(folder / "stranger.wav", np.zeros(9), 16_000)
    result = evaluate("--dataset", "mir1k", "--root", mir1k_root, "--estimates", folder, "--out", out, "--json")
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert list(printed["rows"]) == ["mixture", "theirs", "IBM, linear", "IRM, linear"]
    scored = printed["rows"]["theirs"]["vocals"]["song_sdr"]
    assert (scored["tracks"], scored["median"]) == (2, 300.0)
    assert printed["rows"]["mixture"]["vocals"]["song_sdr"]["tracks"] == 4
    errors = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in errors] == ["theirs", f"{CLIPS[0]}, theirs", f"{CLIPS[2]}, theirs"]
    assert "stranger.wav: belongs to no track of the data set" in errors[0]
    assert f"expected {CLIPS[0]}/vocals.wav or {CLIPS[0]}.vocals.wav" in errors[1]
    assert "47999 samples; expected 48000" in errors[2]
    assert [problem["name"] for problem in printed["problems"]] == [
        "theirs: stranger.wav",
        f"{CLIPS[0]}, theirs",
        f"{CLIPS[2]}, theirs",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "mir1k", "--root", "nowhere"], "no such folder: nowhere"),
        (["--dataset", "mir1k", "--root", "."], "expected the layout of MIR-1K"),
        (["--dataset", "dsd100", "--root", ".", "--snr", "5"], "only mir1k can be mixed at a chosen level"),
        (
            ["--dataset", "dsd100", "--root", ".", "--split", "tset"],
            "no split 'tset' to score on; expected test or dev",
        ),
        (["--dataset", "dsd100", "--root", ".", "-m", "nothing"], "unknown model 'nothing'"),
        (["--dataset", "dsd100", "--root", ".", "--estimates", "nowhere"], "nowhere: no such folder of estimates"),
    ],
)
def test_an_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = evaluate(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert not list(tmp_path.glob("scores/*/*.png"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--dataset", "musdb"],
        [],
        ["--dataset", "dsd100", "--limit", "0"],
        ["--dataset", "dsd100", "--inversion", "magic"],
    ],
)
def test_misuse_has_status_2(arguments: list[str]) -> None:
    assert evaluate(*arguments).exit_code == 2


KILLED = """
import os, signal
from vocalsep.cli import main
from vocalsep.evaluation import runs
left, score_track = 2, runs.score_track
def score(task):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return score_track(task)
runs.score_track = score
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_run_continues(mir1k_root: Path, model: Path, tmp_path: Path) -> None:
    given = ["eval", "--dataset", "mir1k", "--root", str(mir1k_root), "-m", str(model), "--jobs", "1", "--out"]
    killed = run_python("-c", KILLED, *given, tmp_path / "killed")
    assert killed.returncode == -signal.SIGKILL
    before = read_lines(tmp_path / "killed")
    assert {track for _, track in before} == set(CLIPS[:2])
    assert evaluate(*given[1:-3], "--out", tmp_path / "killed").exit_code == 0
    assert evaluate(*given[1:-3], "--out", tmp_path / "whole").exit_code == 0
    after = read_lines(tmp_path / "killed")
    assert len(after) == 20
    assert {key: after[key] for key in before} == before
    for name in ("summary.json", "scores.csv"):
        texts = [(tmp_path / run_ / name).read_text(encoding="utf-8") for run_ in ("killed", "whole")]
        assert len(texts[0].splitlines()) == len(texts[1].splitlines())


@pytest.mark.slow
def test_several_jobs_give_the_same_scores_as_one(mir1k_root: Path, model: Path, tmp_path: Path) -> None:
    given = ["--dataset", "mir1k", "--root", mir1k_root, "-m", model, "--limit", "2", "--out"]
    assert evaluate(*given, tmp_path / "one").exit_code == 0
    done = run_python("-m", "vocalsep", "eval", *given, tmp_path / "two", "--jobs", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    one, two = read_lines(tmp_path / "one"), read_lines(tmp_path / "two")
    assert set(one) == set(two)
    for key, line in one.items():
        if key[0] != "mixture":  # its artifacts are nothing but rounding
            assert two[key]["vocals"] == pytest.approx(line["vocals"], abs=1e-3)
