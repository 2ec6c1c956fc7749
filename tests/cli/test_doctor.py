from __future__ import annotations

import json
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import fake_nets
import pytest
import torch
from typer.testing import CliRunner, Result

from vocalsep import audio, weights
from vocalsep.cli import app, doctor

ROOT = Path(__file__).parents[2]


@pytest.fixture
def published(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of published models with a small one, the default."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / f"{weights.DEFAULT_MODEL}.safetensors").write_bytes(model.read_bytes())
    (folder / f"{weights.DEFAULT_MODEL}.md").write_text(f"- **SHA-256**: `{weights.digest(model)}`\n", encoding="utf-8")
    monkeypatch.setattr(weights, "models_folder", lambda: folder)
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def findings(result: Result) -> dict[tuple[str, str], Any]:
    told = json.loads(result.stdout)
    assert told["ok"] == (result.exit_code == 0)
    return {(each["group"], each["name"]): each for each in told["findings"]}


def broken(result: Result) -> list[tuple[str, str]]:
    assert (result.exit_code, result.stderr) == (1, "")
    return [name for name, each in findings(result).items() if not each["ok"]]


def test_a_sound_installation_is_found_sound(published: Path) -> None:
    result = run("--json")
    found = findings(result)
    assert (result.exit_code, result.stderr) == (0, ""), [each for each in found.values() if not each["ok"]]
    for group, name in (("versions", "FFmpeg"), ("versions", "libsndfile"), ("devices", "cuda"), ("devices", "cpu")):
        assert found[group, name]["detail"]
    assert found["versions", "torch"]["detail"] == torch.__version__
    assert found["read and write", ".opus"]["detail"] == "FFmpeg"
    assert found["read and write", ".flac"]["detail"] == "libsndfile"
    assert "SHA-256 matches" in found["models", weights.DEFAULT_MODEL]["detail"]
    assert re.search(r"[\d.]+ GiB free", found["temporary folder", tempfile.gettempdir()]["detail"])
    text = run()
    assert text.exit_code == 0
    for _, name in found:
        assert name[:20] in text.stdout
    assert "broken" not in text.stdout


def test_everything_that_is_needed_and_written_is_looked_at(published: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split("[<>=]", line)[0] for line in project["dependencies"]}
    found = findings(run("--json"))
    assert needed <= {name for group, name in found if group == "versions"}
    assert {name for group, name in found if group == "read and write"} == {f".{ending}" for ending in audio.FORMATS}


def test_damaged_and_missing_models_are_found(published: Path) -> None:
    path = published / f"{weights.DEFAULT_MODEL}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert broken(run("--json")) == [("models", weights.DEFAULT_MODEL)]
    assert "does not match its card's SHA-256" in " ".join(run().stdout.replace("│", " ").split())
    path.unlink()
    assert broken(run("--json")) == [("models", weights.DEFAULT_MODEL)]


def test_a_model_whose_answers_are_none_is_found(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "load", lambda *_: fake_nets.constant(torch.nan))
    result = run("--json")
    assert broken(result) == [("models", weights.DEFAULT_MODEL)]
    assert "its vocals are none" in findings(result)["models", weights.DEFAULT_MODEL]["detail"]


def test_a_format_that_fails_or_comes_back_otherwise_is_found(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = audio.Writer.write

    def spoilt(self: audio.Writer, block: torch.Tensor) -> None:
        if self.path.suffix == ".flac":
            raise OSError(5, "no encoder")
        write(self, torch.randn_like(block) if self.path.suffix == ".mp3" else block)

    monkeypatch.setattr(audio.Writer, "write", spoilt)
    result = run("--json")
    assert broken(result) == [("read and write", ".flac"), ("read and write", ".mp3")]
    assert "no encoder" in findings(result)["read and write", ".flac"]["detail"]
    assert "another sound came back" in findings(result)["read and write", ".mp3"]["detail"]


def test_a_library_that_is_missing_is_found(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_NEEDED", ("torch", "no-such-library"))
    assert broken(run("--json")) == [("versions", "no-such-library")]


def test_a_temporary_folder_without_room_is_found(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ROOM", 2**80)
    result = run("--json")
    assert broken(result) == [("temporary folder", tempfile.gettempdir())]
    assert "set TMPDIR" in findings(result)["temporary folder", tempfile.gettempdir()]["detail"]
