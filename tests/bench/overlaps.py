"""Prints what the overlap of chunks is worth to a model, on songs of DSD100 Dev that it has not heard.

    python tests/bench/overlaps.py DSD100 [--model uhnet-hd] [--overlaps 0.125 0.25 0.5 0.75]

The figures are means over the songs: SDR of whole excerpts, and median SDR of frames of 1 s; and the processor time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from vocalsep import metrics, weights
from vocalsep.datasets import splits
from vocalsep.evaluation import songs
from vocalsep.extraction import Extractor


def unheard(root: Path, model: weights.Model) -> list[songs.Song]:
    setup = songs.set_up("dsd100", root, "dev")
    heard = model.about["heard"]
    return [songs.load(track, setup) for track in setup.find().tracks if not splits.knows_song(heard, track)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", default=weights.DEFAULT_MODEL)
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0.125, 0.25, 0.5, 0.75])
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = weights.load(options.model)
    held_out = unheard(options.root, model)
    print(f"{options.model}, {len(held_out)} songs\n")
    print("| overlap | whole excerpts, dB | median of frames, dB | processor time, s |")
    print("|---|---|---|---|")
    for overlap in options.overlaps:
        type(model.net).overlap = overlap
        extractor, started, scores = Extractor(model), time.process_time(), []
        for song in held_out:
            vocals = extractor(song.mixture, song.rate).vocals
            frames = metrics.framewise_sdr(song.vocals, vocals, song.rate)
            scores.append((float(metrics.sdr(song.vocals, vocals)), float(np.nanmedian(frames))))
        whole, median = np.mean(scores, axis=0)
        print(f"| {overlap:g} | {whole:.3f} | {median:.3f} | {time.process_time() - started:.1f} |", flush=True)


if __name__ == "__main__":
    main()
