from __future__ import annotations

import json
import os
from pathlib import Path

import fake_nets
import numpy as np
import pytest
import synthetic_songs
from command_line import list_files, read_error, read_misuse, read_objects, run

from vocalsep import library, means, weights
from vocalsep.cli.common import complete_models, complete_presets


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
    for name in (weights.DEFAULT_MODEL, "wide"):
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
    monkeypatch.setattr(library, "find_models_folder", lambda: folder)
    return folder


def test_the_list_says_what_each_model_is_for(published: Path) -> None:
    result = run("models")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = result.stdout.splitlines()
    assert [row.split()[0] for row in rows if row.startswith((weights.DEFAULT_MODEL, "wide"))] == [
        weights.DEFAULT_MODEL,
        "wide",
    ]
    for fact in (f"{weights.DEFAULT_MODEL} songs", "wide songs", " 3.21 ", " 7x ", "CC0", "(default)"):
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
    expected = "unknown model 'wid'; did you mean 'wide'?"
    assert expected in read_misuse(run("extract", song, "-m", "wid"))
    assert list_files(song.parent) == ["song.wav"]


def test_without_m_the_default_model_is_used(published: Path, song: Path) -> None:
    result = run("extract", song, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["model"] == weights.DEFAULT_MODEL


def test_a_model_that_differs_from_its_card_is_refused(published: Path, song: Path) -> None:
    path = published / "wide.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert "does not match its card's SHA-256" in read_error(run("extract", song, "-m", "wide"))
    (published / "wide.md").unlink()
    assert "has no card wide.md" in read_error(run("extract", song, "-m", "wide"))
    assert list_files(song.parent) == ["song.wav"]


# Models of the user's own


def test_an_imported_model_is_used_by_its_name_everywhere(model: Path, song: Path, own_models: Path) -> None:
    result = run("models", "import", model, "--name", "mine")
    assert (result.exit_code, result.stdout) == (0, "")
    assert list_files(own_models) == ["mine.md", "mine.safetensors"]
    assert weights.hash_file(model) in run("models", "show", "mine").stdout
    assert json.loads(run("extract", song, "-m", "mine", "--json").stdout)["model"] == "mine"
    assert weights.load("mine").name == "mine"
    assert "mine (yours)" in run("models", "list").stdout
    listed = {row["name"]: row for row in read_objects(run("models", "--json").stdout)}
    assert next(iter(listed)) == weights.DEFAULT_MODEL
    assert (listed["mine"]["is_own"], listed["mine"]["licence"]) == (True, "none")
    assert "mine" in complete_models("mi")
    assert "unknown model 'mien'; did you mean 'mine'?" in read_misuse(run("extract", song, "-m", "mien"))


def test_nothing_is_replaced_unless_told(model: Path, own_models: Path) -> None:
    assert run("models", "import", model).exit_code == 0
    before = (own_models / "narrow.safetensors").stat().st_mtime_ns
    assert "there is a model 'narrow' already" in read_error(run("models", "import", model))
    assert (own_models / "narrow.safetensors").stat().st_mtime_ns == before
    assert run("models", "import", model, "--overwrite").exit_code == 0
    line = read_error(run("models", "import", model, "--name", "unet", "--overwrite"))
    assert line == "model 'unet' comes with vocalsep; choose another name with --name"
    for name in ("../x", "a/b", ".x", "x.onnx", "x\n"):
        assert "cannot be the name of a model" in read_error(run("models", "import", model, "--name", name))


def test_only_models_of_ones_own_can_be_removed(model: Path, own_models: Path) -> None:
    run("models", "import", model)
    assert run("models", "remove", "narrow").exit_code == 0
    assert list_files(own_models) == []
    assert "did you mean" in read_error(run("models", "remove", "uhne"))
    assert "comes with vocalsep" in read_error(run("models", "remove", "unet"))
    assert "unet" in weights.find_models()


def test_a_changed_model_of_ones_own_is_refused(model: Path, song: Path, own_models: Path) -> None:
    run("models", "import", model)
    path = own_models / "narrow.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    line = read_error(run("extract", song, "-m", "narrow"))
    assert line == "model 'narrow': the weights file does not match its card's SHA-256; import it again"


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path, own_models: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"words")
    for source in (["x.safetensors"], ["missing.onnx"], ["spleeter"], ["spleeter", "missing"]):
        paths = [part if part == "spleeter" else tmp_path / part for part in source]
        assert "\n" not in read_error(run("models", "import", *paths))
    assert "expected one file" in read_misuse(run("models", "import", tmp_path, tmp_path))
    assert not own_models.exists()


def test_folders_of_the_environment_are_searched_too(
    model: Path, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file alone is enough there; its card is what it says about itself."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "found.safetensors").write_bytes(model.read_bytes())
    (tmp_path / "b" / "unet.safetensors").write_bytes(b"not that one")
    monkeypatch.setenv("VOCALSEP_MODELS", os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b")]))
    assert weights.find_models()["found"] == tmp_path / "a" / "found.safetensors"
    assert "- **Licence**: none" in run("models", "show", "found").stdout
    assert run("extract", song, "-m", "found").exit_code == 0
    assert library.is_published("unet")
    assert weights.find_models()["unet"].parent == library.find_models_folder()


def test_what_a_foreign_file_says_reaches_no_terminal_as_it_is(tmp_path: Path, own_models: Path) -> None:
    made = fake_nets.random_unet()
    weights.save(tmp_path / "evil.safetensors", made.net, made.front_end, {"licence": "\x1b]0;title\x07 none"})
    assert run("models", "import", tmp_path / "evil.safetensors").exit_code == 0
    for arguments in (["show", "evil"], []):
        printed = run("models", *arguments).stdout
        assert "\\x1b]0;title\\x07 none" in printed
        assert "\x1b" not in printed


def test_a_mean_gets_a_name(model: Path, song: Path, own_models: Path) -> None:
    for name in ("a", "b"):
        run("models", "import", model, "--name", name)
    command = ("models", "combine", "a", "b", "--weights", "1,3", "--led-by-first", "--name", "best")
    assert run(*command).exit_code == 0
    assert "the mean of a x 1 and b x 3, led by the first" in run("models", "show", "best").stdout
    assert means.read(own_models / "best.toml").led_by_first
    assert json.loads(run("extract", song, "-m", "best", "--json").stdout)["model"] == "best"
    assert "did you mean 'a'" in read_error(run("models", "combine", "a", "aa", "--name", "c"))
    assert "a mean is of 2 to" in read_misuse(run("models", "combine", "a", "--name", "c"))
    assert "give one for each model" in read_misuse(run("models", "combine", "a", "b", "--weights", "1", "--name", "c"))
    assert "best.toml" in list_files(own_models)
    assert "c.toml" not in list_files(own_models)
    mean = own_models / "best.toml"
    assert run("models", "import", mean, "--name", "copy").exit_code == 0
    assert (own_models / "copy.toml").read_text() == mean.read_text()


def test_presets_are_completed() -> None:
    assert "unet-tiny" in complete_presets("unet")
    assert "dpcl" not in complete_presets("unet")
