from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import synthetic_songs
from command_line import run
from typer.testing import Result

from vocalsep import audio
from vocalsep.evaluation.estimators import Estimator

pytestmark = pytest.mark.usefixtures("no_pictures")


def evaluate(*arguments: str | Path) -> Result:
    """Run ``vocalsep eval`` in this process."""
    return run("eval", *arguments, "--jobs", "1")


def read_run(page: Path) -> Any:
    found = re.search(r'id="run">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1])


def read_song(page: Path, number: int = 0) -> Any:
    found = re.search(f'id="{number}/song.json">(.*?)</div>', page.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(base64.b64decode(found[1]))


def forbid_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("an estimate was made again")

    monkeypatch.setattr(Estimator, "estimate", fail)


@pytest.mark.slow
def test_a_page_goes_into_the_folder_of_the_run(stems_root: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = evaluate("--dataset", "stems", "--root", stems_root, "-m", model, "--out", out, "--page", "--limit", "1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == [str(out), str(out / "page.html")]
    assert re.fullmatch(rf"{re.escape(str(out / 'page.html'))}: \d+\.\d MB\n", result.stderr)
    shown = read_run(out / "page.html")
    assert [song["heard"] for song in shown["songs"]] == [True]
    assert shown["command"].startswith("vocalsep eval --dataset stems --root ")
    lines = [json.loads(line) for line in (out / "tracks.jsonl").read_text(encoding="utf-8").splitlines()]
    scores = {(line["track"], line["row"]): line["vocals"]["v4_sdr"] for line in lines}
    for song in shown["songs"]:
        for row, values in zip(shown["rows"], song["scores"], strict=True):
            assert values[0][0] == scores[song["name"], row["name"]]


def test_a_run_with_scores_gets_a_page_without_scoring_again(
    mir1k_root: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--dataset", "mir1k", "--root", mir1k_root, "-m", model, "--out", tmp_path, "--limit", "2"]
    assert evaluate(*given).exit_code == 0
    scores = (tmp_path / "tracks.jsonl").read_bytes()
    assert not (tmp_path / "passages").exists()
    page = tmp_path / "new" / "page.html"
    assert evaluate(*given, "--page", page).exit_code == 0
    assert (tmp_path / "tracks.jsonl").read_bytes() == scores
    first = page.read_bytes()
    forbid_estimates(monkeypatch)
    assert evaluate(*given, "--page", page).exit_code == 0
    assert page.read_bytes() == first


@pytest.mark.slow
def test_models_folders_and_gates_are_heard_side_by_side(dsd100_root: Path, model: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    track = "001 - Artist 1 - Song 1"
    samples, rate = audio.read(dsd100_root / "Sources" / "Test" / track / "vocals.wav")
    synthetic_songs.write(theirs / f"{track}.vocals.wav", samples.T / 2, rate)
    given = ["--dataset", "dsd100", "--root", dsd100_root, "--limit", "1", "--out", tmp_path / "run"]
    assert evaluate(*given, "-m", model, "--gate", "--estimates", theirs, "--page").exit_code == 0
    page = tmp_path / "run" / "page.html"
    rows = [row["name"] for row in read_run(page)["rows"]]
    assert rows[1:4] == ["narrow", "narrow, gate", "theirs"]
    song = read_song(page)
    assert [source["row"] for source in song["sources"] if source["kind"] == "estimate"] == [1, 2, 3]
    assert song["sources"][6]["sdr"] == [pytest.approx(6.02, abs=0.02)]
    assert song["passages"] == [{"kind": "whole", "from": 0, "to": pytest.approx(3)}]


@pytest.mark.slow
def test_another_model_adds_its_passages_and_keeps_the_rest(
    stems_root: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--dataset", "stems", "--root", stems_root, "--limit", "1", "--out", tmp_path, "-m", model]
    assert evaluate(*given, "--page").exit_code == 0
    made = []
    estimate = Estimator.estimate
    monkeypatch.setattr(Estimator, "estimate", lambda self, *rest: made.append(self.name) or estimate(self, *rest))
    assert evaluate(*given, "--inversion", "phase", "--inversion", "griffin-lim", "--page").exit_code == 0
    assert made == ["narrow, griffin-lim"]
    assert len(read_song(tmp_path / "page.html")["sources"]) == 6


@pytest.mark.slow
def test_a_song_whose_estimate_is_missing_is_heard_without_it(stems_root: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    given = ["--dataset", "stems", "--root", stems_root, "--limit", "1", "--out", tmp_path / "run", "--page"]
    result = evaluate(*given, "--estimates", tmp_path / "theirs", "-m", model)
    assert result.exit_code == 1
    song = read_song(tmp_path / "run" / "page.html")
    assert [source["kind"] for source in song["sources"]] == ["mixture", "reference", "estimate", "error"]


@pytest.mark.parametrize("place", ["page.txt", "-", "{song}.html"])
def test_a_page_that_cannot_be_is_misuse(
    stems_root: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = evaluate("--dataset", "stems", "--root", stems_root, "-m", model, "--page", place)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--page" in result.stderr
    assert not list(tmp_path.glob("*"))


def test_another_file_is_never_replaced(stems_root: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text("<p>mine", encoding="utf-8")
    out = tmp_path / "run"
    result = evaluate("--dataset", "stems", "--root", stems_root, "-m", model, "--out", out, "--page", page)
    assert result.exit_code == 1
    assert "is not a page of 'vocalsep eval'" in result.stderr
    assert page.read_text(encoding="utf-8") == "<p>mine"
    assert not out.exists()


@pytest.mark.slow
def test_json_stays_one_object(stems_root: Path, model: Path, tmp_path: Path) -> None:
    given = ["--dataset", "stems", "--root", stems_root, "-m", model, "--out", tmp_path, "--limit", "1", "-q"]
    result = evaluate(*given, "--json", "--page", tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["dataset"] == "stems"
    assert (tmp_path / "page.html").exists()
