"""Runs every example of docs/python.md and compares what it prints with the page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import soundfile

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = DOCS / "python.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$(?:\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
EXAMPLES = [(match[1], match[2]) for match in EXAMPLE.finditer(GUIDE.read_text(encoding="utf-8"))]


@pytest.fixture
def _songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with the demo song, and a folder of two short songs."""
    demo = DOCS / "demo" / "orphanage.ogg"
    shutil.copy(demo, tmp_path / "orphanage.ogg")
    (tmp_path / "songs").mkdir()
    samples, rate = soundfile.read(demo, frames=44_100)
    for name in ("one", "two"):
        soundfile.write(tmp_path / "songs" / f"{name}.ogg", samples, rate)
    monkeypatch.chdir(tmp_path)


def title(example: str) -> str:
    calls = re.findall(r"(?:vocalsep|extractor|separator)\.(\w+)\(", example)
    return "-".join(dict.fromkeys(calls))


@pytest.mark.usefixtures("_songs")
@pytest.mark.parametrize(("code", "printed"), EXAMPLES, ids=[title(code) for code, _ in EXAMPLES])
def test_the_example_prints_what_the_guide_shows(
    code: str, printed: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(code, str(GUIDE), "exec"), {"__name__": "example"})
    if printed is not None:
        assert capsys.readouterr().out.strip() == printed.strip()


def test_the_guide_has_examples_with_results() -> None:
    assert len(EXAMPLES) >= 8
    assert sum(printed is not None for _, printed in EXAMPLES) >= 6
