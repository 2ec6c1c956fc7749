from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_songs
from typer.testing import CliRunner, Result

import vocalsep
from vocalsep import audio
from vocalsep.cli import app

CLIPS = ["bobon_3_01", "bobon_3_02", "davidson_4_01", "davidson_4_02"]  # that the fixture has in its test part
FILES = ["boxes.png", "scores.csv", "setup.json", "songs.png", "summary.json", "summary.md", "tracks.jsonl"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments), "--jobs", "1"])


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs Python as a user does."""
    paths = os.pathsep.join([str(Path(vocalsep.__file__).parents[1]), str(Path(__file__).parent)])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, check=False)


def lines(out: Path) -> dict[tuple[str, str], Any]:
    text = (out / "tracks.jsonl").read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines()]
    return {(line["row"], line["track"]): line for line in found}


def test_a_model_is_scored_between_floor_and_ceilings(dsd100_root: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    result = run("--dataset", "dsd100", "--root", dsd100_root, "-m", model, "--out", out, "--limit", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == str(out)
    assert result.stdout.count("narrow") >= 8
    assert sorted(path.name for path in out.iterdir()) == FILES
    rows = ["mixture", "narrow", "IBM, linear", "IRM, grid of narrow", "IRM, linear"]
    assert list(lines(out)) == [(row, "001 - Artist 1 - Song 1") for row in rows]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    sdr = [
        summary["rows"][row]["vocals"]["v4_sdr"]["median"] for row in ("mixture", "IRM, grid of narrow", "IRM, linear")
    ]
    assert sdr == sorted(sdr)
    assert "| IRM, linear |" in (out / "summary.md").read_text(encoding="utf-8")


def test_models_are_scored_with_the_gate_too(mir1k_root: Path, model: Path, tmp_path: Path) -> None:
    given = ["--dataset", "mir1k", "--root", mir1k_root, "--out", tmp_path, "--limit", "1"]
    assert run(*given, "-m", model, "--gate").exit_code == 0
    assert [row for row, _ in lines(tmp_path)][:3] == ["mixture", "narrow", "narrow, gate"]


def test_json_is_one_object_that_says_what_each_score_is(mir1k_root: Path, model: Path, tmp_path: Path) -> None:
    given = ["--dataset", "mir1k", "--root", mir1k_root, "--out", tmp_path, "--json"]
    result = run(*given, "-m", model, "--snr", "-5", "--inversion", "phase", "--inversion", "griffin-lim")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert (told["dataset"], told["split"], told["snr_db"]) == ("mir1k", "test", -5.0)
    assert list(told["rows"])[:3] == ["mixture", "narrow", "narrow, griffin-lim"]
    assert "v4 (images, 1-s frames, as museval)" in told["scores"]["v4_sdr"]
    mixture = told["rows"]["mixture"]["vocals"]
    assert mixture["gain_nsdr"]["weighted"] == 0
    assert mixture["song_sdr"]["mean"] == pytest.approx(-5, abs=1e-3)
    assert mixture["song_sdr"]["tracks"] == 4
    assert told == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))


def test_the_default_folder_and_root_are_told_by_data_set_and_environment(
    stems_root: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOCALSEP_STEMS", str(stems_root))
    result = run("--dataset", "stems", "-m", model, "--limit", "1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(Path("scores") / "stems-all")
    assert sorted(path.name for path in Path("scores/stems-all").iterdir()) == FILES


def test_what_other_separators_wrote_is_scored_with_the_same_ruler(mir1k_root: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "theirs", tmp_path / "run"
    for clip in CLIPS[1:]:
        samples, rate = audio.read(mir1k_root / "Wavfile" / f"{clip}.wav")
        right = samples[1].numpy() if clip != CLIPS[2] else samples[1, 1:].numpy()
        synthetic_songs.write(folder / f"{clip}.vocals.wav", right, rate)
    synthetic_songs.write(folder / "stranger.wav", np.zeros(9), 16_000)
    result = run("--dataset", "mir1k", "--root", mir1k_root, "--estimates", folder, "--out", out, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert list(told["rows"]) == ["mixture", "theirs", "IBM, linear", "IRM, linear"]
    scored = told["rows"]["theirs"]["vocals"]["song_sdr"]
    assert (scored["tracks"], scored["median"]) == (2, 300.0)
    assert told["rows"]["mixture"]["vocals"]["song_sdr"]["tracks"] == 4
    complaints = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in complaints] == ["theirs", f"{CLIPS[0]}, theirs", f"{CLIPS[2]}, theirs"]
    assert "stranger.wav: belongs to no track of the data set" in complaints[0]
    assert f"expected {CLIPS[0]}/vocals.wav or {CLIPS[0]}.vocals.wav" in complaints[1]
    assert "47999 samples; expected 48000" in complaints[2]
    assert [problem["name"] for problem in told["problems"]] == [
        "theirs: stranger.wav",
        f"{CLIPS[0]}, theirs",
        f"{CLIPS[2]}, theirs",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "mir1k", "--root", "nowhere"], "no folder nowhere"),
        (["--dataset", "mir1k", "--root", "."], "expected the layout of MIR-1K"),
        (["--dataset", "dsd100", "--root", ".", "--snr", "5"], "only mir1k is mixed at a chosen one"),
        (
            ["--dataset", "dsd100", "--root", ".", "--split", "tset"],
            "no split 'tset' to score on; expected test or dev",
        ),
        (["--dataset", "dsd100", "--root", ".", "-m", "nothing"], "unknown model 'nothing'"),
        (["--dataset", "dsd100", "--root", ".", "--estimates", "nowhere"], "nowhere: no such folder of estimates"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert not list(tmp_path.glob("scores/*/*.png"))


@pytest.mark.parametrize("arguments", [["--dataset", "musdb"], [], ["--dataset", "dsd100", "--limit", "0"]])
def test_misuse_is_told_as_such(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


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


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_run_that_was_killed_goes_on(mir1k_root: Path, model: Path, tmp_path: Path) -> None:
    given = ["eval", "--dataset", "mir1k", "--root", str(mir1k_root), "-m", str(model), "--jobs", "1", "--out"]
    killed = process("-c", KILLED, *given, tmp_path / "killed")
    assert killed.returncode == -signal.SIGKILL
    before = lines(tmp_path / "killed")
    assert {track for _, track in before} == set(CLIPS[:2])
    assert run(*given[1:-3], "--out", tmp_path / "killed").exit_code == 0
    assert run(*given[1:-3], "--out", tmp_path / "whole").exit_code == 0
    after = lines(tmp_path / "killed")
    assert len(after) == 20
    assert {key: after[key] for key in before} == before
    for name in ("summary.json", "scores.csv"):
        texts = [(tmp_path / run_ / name).read_text(encoding="utf-8") for run_ in ("killed", "whole")]
        assert len(texts[0].splitlines()) == len(texts[1].splitlines())


def test_several_jobs_give_the_scores_of_one(mir1k_root: Path, model: Path, tmp_path: Path) -> None:
    given = ["--dataset", "mir1k", "--root", mir1k_root, "-m", model, "--limit", "2", "--out"]
    assert run(*given, tmp_path / "one").exit_code == 0
    done = process("-m", "vocalsep", "eval", *given, tmp_path / "two", "--jobs", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert set(one) == set(two)
    for key, line in one.items():
        if key[0] != "mixture":  # its artifacts are nothing but rounding
            assert two[key]["vocals"] == pytest.approx(line["vocals"], abs=1e-3)
