from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from vocalsep import audio, library, weights
from vocalsep.cli import app, doctor
from vocalsep.shapes import Waveform

ROOT = Path(__file__).parents[2]


@pytest.fixture
def published(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder that holds one small model, under the default name."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / f"{weights.DEFAULT_MODEL}.safetensors").write_bytes(model.read_bytes())
    card = f"- **SHA-256**: `{weights.hash_file(model)}`\n"
    (folder / f"{weights.DEFAULT_MODEL}.md").write_text(card, encoding="utf-8")
    monkeypatch.setattr(library, "find_models_folder", lambda: folder)
    return folder


@pytest.fixture
def no_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctor skips the audio formats, which take most of its time."""
    monkeypatch.setattr(doctor, "_list_written_formats", dict)
    monkeypatch.setattr(doctor, "_list_read_formats", dict)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def findings(result: Result) -> dict[tuple[str, str], Any]:
    printed = json.loads(result.stdout)
    assert printed["ok"] == (result.exit_code == 0)
    return {(each["group"], each["name"]): each for each in printed["findings"]}


def broken(result: Result) -> list[tuple[str, str]]:
    assert (result.exit_code, result.stderr) == (1, "")
    return [name for name, each in findings(result).items() if not each["ok"]]


def test_a_working_installation_passes_all_checks(published: Path) -> None:
    result = run("--json")
    found = findings(result)
    assert (result.exit_code, result.stderr) == (0, ""), [each for each in found.values() if not each["ok"]]
    for group, name in (("versions", "FFmpeg"), ("versions", "libsndfile"), ("devices", "cuda"), ("devices", "cpu")):
        assert found[group, name]["detail"]
    assert found["versions", "torch"]["detail"] == importlib.metadata.version("torch")
    assert re.match(r"[\d.e+-]+ times the speed of float32", found["devices", "bfloat16"]["detail"])
    assert found["read and write", ".opus"]["detail"] == "FFmpeg"
    assert found["read and write", ".flac"]["detail"] == "libsndfile"
    assert "SHA-256 matches" in found["models", weights.DEFAULT_MODEL]["detail"]
    assert re.search(r"[\d.]+ GiB free", found["temporary folder", tempfile.gettempdir()]["detail"])
    text = run()
    assert text.exit_code == 0
    for _, name in found:
        assert name[:20] in text.stdout
    assert "broken" not in text.stdout
    assert text.stdout.endswith("\nEverything works.\n")


def test_every_required_package_and_written_format_is_checked(published: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.split("[<>=]", line)[0] for line in project["dependencies"]}
    found = findings(run("--json"))
    versions = {name for group, name in found if group == "versions"}
    assert required <= versions, "vocalsep was installed before its dependencies changed; install it again"
    assert {name for group, name in found if group == "read and write"} == {f".{ending}" for ending in audio.FORMATS}


def test_damaged_and_missing_models_are_reported(published: Path, no_formats: None) -> None:
    path = published / f"{weights.DEFAULT_MODEL}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert broken(run("--json")) == [("models", weights.DEFAULT_MODEL)]
    assert "does not match its card's SHA-256" in " ".join(run().stdout.replace("│", " ").split())
    assert re.search(r"\n1 of \d+ checks failed\.\n$", run().stdout)
    path.unlink()
    assert broken(run("--json")) == [("models", weights.DEFAULT_MODEL)]


def test_a_model_that_answers_nan_is_reported(
    published: Path, no_formats: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "load", lambda *_, **_options: fake_nets.constant(np.nan))
    result = run("--json")
    assert broken(result) == [("models", weights.DEFAULT_MODEL)]
    assert "its vocals contain NaN" in findings(result)["models", weights.DEFAULT_MODEL]["detail"]


def test_a_format_that_fails_or_changes_the_sound_is_reported(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = audio.Writer.write

    def write_badly(self: audio.Writer, block: Waveform) -> None:
        if self.path.suffix == ".flac":
            raise OSError(5, "no encoder")
        write(self, fake_nets.noise(*block.shape) if self.path.suffix == ".mp3" else block)

    monkeypatch.setattr(audio.Writer, "write", write_badly)
    result = run("--json")
    assert broken(result) == [("read and write", ".flac"), ("read and write", ".mp3")]
    assert "no encoder" in findings(result)["read and write", ".flac"]["detail"]
    assert "the sound read differs from the sound written" in findings(result)["read and write", ".mp3"]["detail"]


def test_missing_and_outdated_packages_are_reported(
    published: Path, no_formats: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["torch>=2", "no-such-library>=1", "numpy>=99", "no-such-tool; extra == 'dev'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: lines)
    result = run("--json")
    assert broken(result) == [("versions", "no-such-library"), ("versions", "numpy")]
    assert "vocalsep needs >=99" in findings(result)["versions", "numpy"]["detail"]
    assert findings(result)["versions", "torch"]["ok"]


def test_packages_for_training_may_be_missing_but_not_outdated(
    published: Path, no_formats: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["no-such-library>=1; extra == 'train'", "torch>=99; extra == 'train'", "pytest>=99; extra == 'dev'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: lines)
    result = run("--json")
    assert broken(result) == [("versions", "torch")]
    assert "pip install 'vocalsep[train]'" in findings(result)["versions", "no-such-library"]["detail"]
    assert ("versions", "pytest") not in findings(result)


def test_without_torch_nothing_is_said_of_bfloat16(
    published: Path, no_formats: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = findings(run("--json"))
    assert ("devices", "bfloat16") not in found
    assert found["devices", "cpu"]["ok"]


def test_bfloat16_that_torch_cannot_compute_is_reported(
    published: Path, no_formats: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(torch, "ones", fail)
    result = run("--json")
    assert broken(result) == [("devices", "bfloat16")]
    assert "no such kernel" in findings(result)["devices", "bfloat16"]["detail"]


def test_a_package_without_metadata_is_reported(
    published: Path, no_formats: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "requires", fail)
    assert broken(run("--json")) == [("versions", "packages")]


def test_a_full_temporary_folder_is_reported(
    published: Path, no_formats: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_MIN_FREE", 2**80)
    result = run("--json")
    assert broken(result) == [("temporary folder", tempfile.gettempdir())]
    assert "set TMPDIR" in findings(result)["temporary folder", tempfile.gettempdir()]["detail"]


def test_the_cache_folder_is_shown_and_checked(
    published: Path, no_formats: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "cache"
    monkeypatch.setenv("VOCALSEP_CACHE", str(folder))
    assert findings(run("--json"))["cache folder", str(folder)]["detail"].startswith("not used yet, ")
    assert not folder.exists()
    folder.mkdir(parents=True)
    assert findings(run("--json"))["cache folder", str(folder)]["detail"].startswith("writable, ")
    folder.rmdir()
    folder.write_text("a file")
    result = run("--json")
    assert broken(result) == [("cache folder", str(folder))]
    assert "set VOCALSEP_CACHE" in findings(result)["cache folder", str(folder)]["detail"]
