from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import fake_nets
import pytest
import synthetic_songs
from command_line import run

import vocalsep
from vocalsep import extraction
from vocalsep.datasets.layouts import LAYOUTS

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = Path(vocalsep.__file__).parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = DOCS / "scripts" / "make_cli_reference.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes(script: ModuleType) -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert page == script.make_reference(), "run: python docs/scripts/make_cli_reference.py"


def test_every_environment_variable_is_on_the_page(script: ModuleType) -> None:
    texts = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*") if path.suffix in (".py", ".toml")]
    found = {name for text in texts for name in re.findall(r"VOCALSEP_[A-Z0-9]+", text)}
    assert found | {f"VOCALSEP_{layout.upper()}" for layout in LAYOUTS} == set(script.ENVIRONMENT)


def test_every_json_field_of_a_song_is_on_the_page(script: ModuleType) -> None:
    fields = {field.name for field in dataclasses.fields(extraction.Report)}
    assert fields - {"vocals", "accompaniment", "labels", "picture"} | {"outputs"} == set(script.REPORT)


def test_every_progress_event_is_on_the_page(script: ModuleType, model: Path, tmp_path: Path) -> None:
    song = synthetic_songs.write(tmp_path / "song.wav", fake_nets.noise(2, 6_000, 0).T / 4, 8_000)
    arguments = [song, tmp_path / "missing.wav", tmp_path / "none*.wav", "-o", tmp_path / "out", "-m", model]
    lines = run("extract", *arguments, "--progress", "json").stderr.splitlines()
    seen = set()
    for event in map(json.loads, lines):
        name = event.pop("event")
        assert set(event) <= set(script.EVENTS[name][0]), name
        seen.add(name)
    assert script.EVENTS.keys() - seen <= {"warning", "progress"}


def test_options_variables_and_quoted_commands_are_set_as_code(script: ModuleType) -> None:
    plain = "Files that exist - see 'vocalsep extract -h' and -o - stay, unless a model's --skip-x says VOCALSEP_X."
    code = (
        "Files that exist - see `vocalsep extract -h` and `-o` - stay, unless a model's `--skip-x` says `VOCALSEP_X`."
    )
    assert script.format_text(plain) == code
    assert script.format_text("a|b <c *d") == r"a\|b \<c \*d"
