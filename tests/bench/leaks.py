"""Measure how much of songs without a singer ends up in the vocals.

    python tests/bench/leaks.py INSTRUMENTALS [--model unet ...] [--masks clusters] [--no-head]

INSTRUMENTALS is a folder whose subfolders hold recordings without a voice. The table has the level of the extracted
vocals relative to the song in dB, over the first 12 s of the first two recordings in each subfolder. With `--no-head`,
the net's voice-activity head does not gate the mask.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from vocalsep import audio, extraction, weights

SECONDS, SONGS = 12, 2


def measure_leaks(root: Path, extractor: extraction.Extractor) -> list[float]:
    levels = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        for mixture, rate in map(audio.read, sorted(folder.iterdir())[:SONGS]):
            start = mixture[:, : SECONDS * rate]
            vocals = extractor(start, rate).vocals
            levels.append(10 * np.log10(np.square(vocals).sum() / np.square(start).sum() + 1e-12))
    return levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", nargs="+", default=[weights.DEFAULT_MODEL])
    parser.add_argument("--masks", default="auto", help="as in `vocalsep extract --masks`")
    parser.add_argument("--no-head", action="store_true")
    options = parser.parse_args()
    print("| model | songs | mean, dB | median, dB |")
    print("|---|---|---|---|")
    for name in options.model:
        model = weights.load(name)
        if options.no_head:
            model.net.options = dataclasses.replace(model.net.options, gate=0.0)
        levels = measure_leaks(options.root, extraction.Extractor(model, masks_from=options.masks))
        print(f"| {name} | {len(levels)} | {np.mean(levels):.1f} | {np.median(levels):.1f} |", flush=True)


if __name__ == "__main__":
    main()
