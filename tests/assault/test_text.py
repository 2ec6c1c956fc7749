"""What comes from outside reaches no terminal as it is, wherever it is printed."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
import synthetic_songs
from assault import check_clean
from command_line import read_misuse, run
from hypothesis import given
from hypothesis import strategies as st

from vocalsep import files, text, weights
from vocalsep.evaluation import report, songs, summary
from vocalsep.evaluation.scores import SCORES, TARGETS

EVIL = "\x1b]0;owned\x07 \x9b31m\x7f\u202e"


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A song whose name a terminal would obey, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return synthetic_songs.write_constant(Path(f"{EVIL}.wav"), 0.1, 0.5)


@given(st.text())
def test_an_escaped_text_is_one_line_without_controls_and_stays_the_same(given: str) -> None:
    shown = text.escape(given)
    check_clean(shown.replace("\n", ""))
    assert len(f"{shown}x".splitlines()) == 1
    assert text.escape(shown) == shown


@given(st.dictionaries(st.text(), st.text()))
def test_json_is_safe_to_show_and_says_the_same(values: dict[str, str]) -> None:
    line = files.dump_json(values)
    assert json.loads(line) == values
    assert text.escape(line) == line


def test_letters_of_all_languages_and_emoji_stay() -> None:
    name = "Ünïcode 中文 עברית 👩‍🎤 \u200f"
    assert text.escape(name) == name


def test_names_of_outputs_are_escaped_for_people_and_exact_in_json(evil: Path, model: Path) -> None:
    plain = run("extract", evil, "-m", model)
    check_clean(plain.output)
    assert "\\x1b]0;owned\\x07" in plain.stdout
    exact = run("extract", evil, "-m", model, "--json", "--progress", "json", "--overwrite")
    check_clean(exact.output)
    assert json.loads(exact.stdout)["input"] == str(evil)
    check_clean(run("extract", evil, "-m", model, "--dry-run", "--overwrite").output)
    check_clean(run("extract", evil, "-m", model, "--dry-run", "--json").output)


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.wav", "-o", "{oops}" + EVIL],
        ["a.wav", "-o", EVIL + ".xyz"],
        ["a.wav", "--accompaniment", EVIL + ".wav", "-o", EVIL + ".wav"],
        ["a.wav", "-m", EVIL],
        ["a.wav", "--page", EVIL],
        ["a.wav", "--bitrate", EVIL],
        ["a.wav", "--raw", EVIL],
        ["a.wav", "--clip", EVIL],
        ["a.wav", "--jobs", EVIL],
        [f"--{EVIL}"],
        ["http://x/" + EVIL],
        ["a.wav", EVIL + ".wav"],
    ],
)
def test_misuse_is_told_without_controls(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    synthetic_songs.write_constant(Path("a.wav"), 0.1, 0.5)
    result = run("extract", *arguments)
    check_clean(result.output)
    assert result.exit_code in (1, 2)


def test_an_unknown_command_is_told_without_controls() -> None:
    result = run(EVIL.replace("/", ""))
    check_clean(result.output)
    assert "\\x1b" in read_misuse(result)


def test_data_check_and_train_tell_of_bad_tracks_without_controls(stems_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "stems"
    for folder in stems_root.iterdir():
        (root / f"{folder.name}{EVIL}").mkdir(parents=True)
        for path in folder.iterdir():
            os.link(path, root / f"{folder.name}{EVIL}" / path.name)
    broken = root / f"broken{EVIL}"
    broken.mkdir()
    (broken / "vocals.wav").write_bytes(b"no sound")
    checked = run("data", "check", "--dataset", "stems", "--root", root)
    assert checked.exit_code == 1
    assert "broken\\x1b" in checked.stdout
    check_clean(checked.output)
    check_clean(run("data", "check", "--dataset", "stems", "--root", root, "--json").output)
    for more in ([], ["--progress", "json"]):
        trained = run("train", "unet-tiny", "--dataset", "stems", "--root", root, "--out", tmp_path / "run", *more)
        assert trained.exit_code == 1
        check_clean(trained.output)


def test_tables_and_files_of_scores_hold_no_controls(tmp_path: Path) -> None:
    scores = {target: dict.fromkeys(SCORES, 1.0) for target in TARGETS}
    name = f"a|b{EVIL}"
    lines = [{"track": name, "song": name, "row": name, "fingerprint": "f", "seconds": 1.0, **scores}]
    setup = songs.Setup(dataset="stems", root=tmp_path, split="test", snr_db=None)
    found = summary.summarise(lines, [name])
    report.write_files(tmp_path, setup, lines, found, None, report.make_json(setup, found, None, [], "0"))
    for path in (tmp_path / "summary.md", tmp_path / "scores.csv", tmp_path / "summary.json"):
        check_clean(path.read_text(encoding="utf-8"))
    assert "a\\|b" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["track"] == text.escape(name)


def test_errors_of_models_hold_no_controls(tmp_path: Path) -> None:
    path = tmp_path / f"{EVIL}.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(weights.ModelError) as caught:
        weights.load(path)
    check_clean(text.escape(caught.value))
    check_clean(run("models", "import", path).output)
