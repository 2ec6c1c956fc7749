"""Adds the graph for ONNX Runtime to weights files that have none, and updates the SHA-256 on their cards.

    python tests/support/add_graphs.py models/*.safetensors

Files that training writes have a graph already. No tensor changes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vocalsep import weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    for path in parser.parse_args().paths:
        before, size = weights.hash_file(path), path.stat().st_size
        weights.add_graphs(path)
        card = path.with_suffix(".md")
        if card.is_file():
            text = card.read_text(encoding="utf-8").replace(before, weights.hash_file(path))
            card.write_text(text, encoding="utf-8")
        print(f"{path}: {path.stat().st_size - size:+,} bytes")


if __name__ == "__main__":
    main()
