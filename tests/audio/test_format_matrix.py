"""The tables of rates and channels in docs/formats.md match what trying every cell finds."""

from __future__ import annotations

from pathlib import Path

import format_matrix
import pytest

READ, WRITTEN = "read, kHz", "written, kHz"


@pytest.mark.slow
@pytest.mark.parametrize("name", format_matrix.READ)
def test_each_format_is_read_at_the_rates_and_channels_on_the_page(tmp_path: Path, name: str) -> None:
    row = format_matrix.READ[name]
    found = format_matrix.try_row(tmp_path, row.kinds, format_matrix.try_reading)
    assert (*found, row.limits) == format_matrix.read_table(READ)[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", format_matrix.WRITTEN)
def test_each_format_is_written_at_the_rates_and_channels_on_the_page(tmp_path: Path, name: str) -> None:
    row = format_matrix.WRITTEN[name]
    found = format_matrix.try_row(tmp_path, row.kinds, format_matrix.try_writing)
    assert (*found, row.limits) == format_matrix.read_table(WRITTEN)[name]


CELLS = [
    (table, heading, name, attempt)
    for table, heading, attempt in (
        (format_matrix.READ, READ, format_matrix.try_reading),
        (format_matrix.WRITTEN, WRITTEN, format_matrix.try_writing),
    )
    for name in table
]


@pytest.mark.parametrize(("table", "heading", "name", "attempt"), CELLS, ids=[f"{c[1][:7]}-{c[2]}" for c in CELLS])
def test_the_first_kind_of_each_format_agrees_with_the_page_in_one_cell(
    tmp_path: Path, table: dict[str, format_matrix.Row], heading: str, name: str, attempt: format_matrix.Attempt
) -> None:
    cells = dict(zip(format_matrix.RATES, format_matrix.read_table(heading)[name][:-1], strict=True))
    rate, channels = (48_000, 6)
    assert attempt(tmp_path, table[name].kinds[0], rate, channels) == (str(channels) in cells[rate].split())


def test_the_page_has_these_rows_alone_and_a_reason_for_each_missing_count() -> None:
    for heading, rows in ((READ, format_matrix.READ), (WRITTEN, format_matrix.WRITTEN)):
        assert f"{format_matrix.render_table(heading, [])[0]}\n" in format_matrix.PAGE.read_text(encoding="utf-8")
        found = format_matrix.read_table(heading)
        assert list(found) == list(rows)
        for *cells, limits in found.values():
            assert limits or all(cell == "1 2 6" for cell in cells)
