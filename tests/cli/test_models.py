from __future__ import annotations

import json
from pathlib import Path

import fake_nets
import numpy as np
import pytest
import synthetic_songs
from command_line import list_files, read_error, read_misuse, run

from vocalsep import weights


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A short stereo song, alone in its folder."""
    samples = np.clip(fake_nets.noise(2, 6_000, 0), -0.99, 0.99).T
    return synthetic_songs.write(tmp_path / "songs" / "song.wav", samples, 8_000)


@pytest.fixture
def published(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder that holds the default model and another one, ``wide``."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("uhnet-hd", "wide"):
        (folder / f"{name}.safetensors").write_bytes(model.read_bytes())
        facts = {
            "What": f"a {name} net",
            "Use it for": f"`{name}` songs",
            "Scores": "3.21 dB",
            "Speed": "7 times real time on some machine",
            "Licence": "CC0",
            "SHA-256": f"`{weights.hash_file(model)}`",
        }
        card = "".join(f"- **{key}**: {value}\n" for key, value in facts.items())
        (folder / f"{name}.md").write_text(f"# {name}\n\n{card}", encoding="utf-8")
    monkeypatch.setattr(weights, "find_models_folder", lambda: folder)
    monkeypatch.setattr("vocalsep.published.find_models_folder", lambda: folder)  # where options are checked
    return folder


def test_the_list_says_what_each_model_is_for(published: Path) -> None:
    result = run("models")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = result.stdout.splitlines()
    assert [row.split()[0] for row in rows if row.startswith(("uhnet-hd", "wide"))] == ["uhnet-hd", "wide"]
    for fact in ("uhnet-hd songs", "wide songs", "3.21 dB", " 7x ", "CC0", "(default)"):
        assert fact in result.stdout


def test_a_card_that_says_no_purpose_is_listed_by_what_the_model_is(published: Path) -> None:
    card = f"- **What**: a wide net\n- **SHA-256**: `{weights.hash_file(published / 'wide.safetensors')}`\n"
    (published / "wide.md").write_text(card, encoding="utf-8")
    assert "a wide net" in run("models").stdout


def test_show_prints_the_card_unchanged(published: Path) -> None:
    result = run("models", "show", "wide")
    assert result.exit_code == 0
    assert result.stdout == (published / "wide.md").read_text(encoding="utf-8")


def test_an_unknown_model_is_one_line_that_names_the_nearest(published: Path, song: Path) -> None:
    assert read_error(run("models", "show", "wied")) == "unknown model 'wied'; did you mean 'wide'?"
    expected = "unknown model 'uhnet-h'; did you mean 'uhnet-hd'?"
    assert expected in read_misuse(run("extract", song, "-m", "uhnet-h"))
    assert list_files(song.parent) == ["song.wav"]


def test_without_m_the_default_model_is_used(published: Path, song: Path) -> None:
    result = run("extract", song, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["model"] == weights.DEFAULT_MODEL == "uhnet-hd"


def test_a_model_that_differs_from_its_card_is_refused(published: Path, song: Path) -> None:
    path = published / "wide.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert "does not match its card's SHA-256" in read_error(run("extract", song, "-m", "wide"))
    (published / "wide.md").unlink()
    assert "has no card wide.md" in read_error(run("extract", song, "-m", "wide"))
    assert list_files(song.parent) == ["song.wav"]
