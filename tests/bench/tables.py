"""Puts the tables of runs of `vocalsep eval` into a page.

    python tests/bench/tables.py docs/evaluation.md RUN...

RUN is a run's folder; its ``summary.md`` replaces what the page has between ``<!-- begin NAME -->`` and ``<!-- end NAME
-->``, where NAME is the folder's name.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    text = options.page.read_text(encoding="utf-8")
    for run in options.runs:
        begin, end = (f"<!-- {word} {run.resolve().name} -->\n" for word in ("begin", "end"))
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        if not after:
            parser.error(f"{options.page} has no place {begin.strip()} ... {end.strip()}")
        summary = (run / "summary.md").read_text(encoding="utf-8")
        text = f"{before}{begin}\n{summary}\n{end}{after}"
    options.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
