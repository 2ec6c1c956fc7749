"""The tables of rates and channels in docs/formats.md match what trying every cell finds."""

from __future__ import annotations

from pathlib import Path

import format_matrix
import pytest
from format_matrix import Attempt, Row

TABLES = {
    "read, kHz": (format_matrix.READ, format_matrix.try_reading),
    "written, kHz": (format_matrix.WRITTEN, format_matrix.try_writing),
}
ROWS = pytest.mark.parametrize(
    ("heading", "name", "row", "attempt"),
    [
        pytest.param(heading, name, row, attempt, id=f"{name}, {heading.removesuffix(', kHz')}")
        for heading, (rows, attempt) in TABLES.items()
        for name, row in rows.items()
    ],
)


@pytest.mark.slow
@ROWS
def test_each_format_works_at_the_rates_and_channels_on_the_page(
    tmp_path: Path, heading: str, name: str, row: Row, attempt: Attempt
) -> None:
    cells = format_matrix.try_row(tmp_path, row.kinds, attempt)
    assert (*cells, row.limits) == format_matrix.read_table(heading)[name]


@ROWS
def test_one_cell_of_each_format_is_as_on_the_page(
    tmp_path: Path, heading: str, name: str, row: Row, attempt: Attempt
) -> None:
    *cells, _ = format_matrix.read_table(heading)[name]
    rate, channels = 48_000, 6
    works = attempt(tmp_path, row.kinds[0], rate, channels)
    assert works == (str(channels) in cells[format_matrix.RATES.index(rate)].split())


def test_the_page_has_exactly_these_rows_and_a_limit_for_each_missing_count() -> None:
    for heading, (rows, _) in TABLES.items():
        assert f"{format_matrix.render_table(heading, [])[0]}\n" in format_matrix.PAGE.read_text(encoding="utf-8")
        found = format_matrix.read_table(heading)
        assert list(found) == list(rows)
        for *cells, limits in found.values():
            assert limits or all(cell == "1 2 6" for cell in cells)
