"""Write the tables of rates and channels in docs/formats.md, by trying each cell.

    python tests/bench/formats.py docs/formats.md

The tables stand between ``<!-- begin cells -->`` and ``<!-- end cells -->``. tests/audio/test_format_matrix.py compares
them with what it finds.
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
        ("read, kHz", format_matrix.READ, format_matrix.try_reading),
        ("written, kHz", format_matrix.WRITTEN, format_matrix.try_writing),
    ):
        found = []
        for name, row in rows.items():
            with tempfile.TemporaryDirectory() as folder:
                found.append((name, format_matrix.try_row(Path(folder), row.kinds, attempt), row.limits))
            print(found[-1], flush=True)
        tables.append("\n".join(format_matrix.render_table(heading, found)))
    begin, end = "<!-- begin cells -->\n", "<!-- end cells -->\n"
    before, _, rest = options.page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    if not rest.count(end):
        parser.error(f"{options.page} lacks the lines {begin.strip()} and {end.strip()}")
    text = before + begin + "\n" + "\n\n".join(tables) + "\n\n" + end + after
    options.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
