"""Writes the tables of rates, channels and formats in docs/usage.md, by trying each cell.

    python tests/bench/formats.py docs/usage.md

They stand between ``<!-- begin cells -->`` and ``<!-- end cells -->``; tests/test_cells.py finds where they are wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import format_matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    options = parser.parse_args()
    tables = []
    for heading, rows, attempt in (
        ("read, kHz", format_matrix.IN, format_matrix.read),
        ("written, kHz", format_matrix.OUT, format_matrix.write),
    ):
        found = []
        for name, row in rows.items():
            with tempfile.TemporaryDirectory() as folder:
                found.append((name, format_matrix.row(Path(folder), row.kinds, attempt), row.why))
            print(found[-1], flush=True)
        tables.append("\n".join(format_matrix.lines(heading, found)))
    begin, end = "<!-- begin cells -->\n", "<!-- end cells -->\n"
    before, _, rest = options.page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        parser.error(f"{options.page} has no place {begin.strip()} ... {end.strip()}")
    text = before + begin + "\n" + "\n\n".join(tables) + "\n\n" + end + after
    options.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
