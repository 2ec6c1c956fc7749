"""The tables of rates, channels and formats in docs/usage.md are what is found by trying."""

from __future__ import annotations

import itertools
from pathlib import Path

import format_matrix
import pytest

USAGE = Path(__file__).parents[2] / "docs" / "usage.md"


def page(heading: str) -> dict[str, list[str]]:
    """Rows of the table whose first column is called so."""
    lines = iter(USAGE.read_text(encoding="utf-8").splitlines())
    head = next(line for line in lines if line.startswith(f"| {heading} |"))
    assert head == format_matrix.lines(heading, [])[0]
    next(lines)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in itertools.takewhile(str.strip, lines)]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("name", format_matrix.IN)
def test_each_cell_of_what_is_read_is_as_the_page_says(tmp_path: Path, name: str) -> None:
    row = format_matrix.IN[name]
    assert [*format_matrix.row(tmp_path, row.kinds, format_matrix.read), row.why] == page("read, kHz")[name]


@pytest.mark.parametrize("name", format_matrix.OUT)
def test_each_cell_of_what_is_written_is_as_the_page_says(tmp_path: Path, name: str) -> None:
    row = format_matrix.OUT[name]
    assert [*format_matrix.row(tmp_path, row.kinds, format_matrix.write), row.why] == page("written, kHz")[name]


def test_the_page_has_no_other_rows_and_no_empty_cell_without_a_reason() -> None:
    for heading, rows in (("read, kHz", format_matrix.IN), ("written, kHz", format_matrix.OUT)):
        found = page(heading)
        assert list(found) == list(rows)
        for *held, why in found.values():
            assert why or all(cell == "1 2 6" for cell in held)
