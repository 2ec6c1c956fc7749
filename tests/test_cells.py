"""The tables of rates, channels and formats in docs/usage.md are what is found by trying."""

from __future__ import annotations

import itertools
from pathlib import Path

import cells
import pytest

USAGE = Path(__file__).parents[1] / "docs" / "usage.md"


def page(heading: str) -> dict[str, list[str]]:
    """Rows of the table whose first column is called so."""
    lines = iter(USAGE.read_text(encoding="utf-8").splitlines())
    head = next(line for line in lines if line.startswith(f"| {heading} |"))
    assert head == cells.lines(heading, [])[0]
    next(lines)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in itertools.takewhile(str.strip, lines)]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("name", cells.IN)
def test_each_cell_of_what_is_read_is_as_the_page_says(tmp_path: Path, name: str) -> None:
    row = cells.IN[name]
    assert [*cells.row(tmp_path, row.kinds, cells.read), row.why] == page("read, kHz")[name]


@pytest.mark.parametrize("name", cells.OUT)
def test_each_cell_of_what_is_written_is_as_the_page_says(tmp_path: Path, name: str) -> None:
    row = cells.OUT[name]
    assert [*cells.row(tmp_path, row.kinds, cells.write), row.why] == page("written, kHz")[name]


def test_the_page_has_no_other_rows_and_no_empty_cell_without_a_reason() -> None:
    for heading, rows in (("read, kHz", cells.IN), ("written, kHz", cells.OUT)):
        found = page(heading)
        assert list(found) == list(rows)
        for *held, why in found.values():
            assert why or all(cell == "1 2 6" for cell in held)
