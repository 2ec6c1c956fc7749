"""Write the tables of rates and channels in docs/formats.md, by trying each cell.

    python docs/scripts/make_format_tables.py

The tables stand between ``<!-- begin cells -->`` and ``<!-- end cells -->``. tests/audio/test_format_matrix.py compares
them with what it finds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))

import format_matrix

BEGIN, END = "<!-- begin cells -->\n", "<!-- end cells -->\n"


def main() -> None:
    """Try every format and replace the tables of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=format_matrix.PAGE)
    options = parser.parse_args()
    before, begin, rest = options.page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        parser.error(f"{options.page} lacks the lines {BEGIN.strip()} and {END.strip()}")
    tables = []
    for heading, rows, attempt in (
        ("read, kHz", format_matrix.READ, format_matrix.try_reading),
        ("written, kHz", format_matrix.WRITTEN, format_matrix.try_writing),
    ):
        found = []
        for name, row in rows.items():
            with tempfile.TemporaryDirectory() as folder:
                found.append((name, format_matrix.try_row(Path(folder), row.kinds, attempt), row.limits))
            sys.stderr.write(f"{name}: {' | '.join(found[-1][1])}\n")
        tables.append("\n".join(format_matrix.render_table(heading, found)))
    options.page.write_text(before + begin + "\n" + "\n\n".join(tables) + "\n\n" + end + after, encoding="utf-8")


if __name__ == "__main__":
    main()
