"""Prints the table of docs/evaluation.md that compares the time of BSS Eval v4 with museval's.

    python tests/bench/bsseval.py [--seconds 10 30 60 240] [--museval-up-to 60] [--threads 2]

Stereo noise at 44.1 kHz, two sources, frames of 1 s, filters of 512 taps. "Wall" is elapsed time, "CPU" that of all
threads together, both for one estimate of both sources; "next" is the CPU time of a further estimate of the same song.
The last column is the largest difference of any score. Importing is not counted. museval gets the shorter songs only.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import reference_bsseval

from vocalsep.evaluation.bsseval import BssEval

RATE = 44_100


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    return done, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 30, 60, 240])
    parser.add_argument("--museval-up-to", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{os.cpu_count()} cores, {options.threads} threads, load {os.getloadavg()[0]:.1f} before it started\n")
    print("| song | wall | CPU | next, CPU | museval, wall | museval, CPU | largest difference |")
    print("|---|---|---|---|---|---|---|")
    BssEval(torch.randn(2, 2, RATE), RATE)(torch.randn(2, 2, RATE))  # what is only done once
    for seconds in options.seconds:
        generator = torch.Generator().manual_seed(seconds)
        references = 0.1 * torch.randn(2, 2, seconds * RATE, generator=generator)
        estimates = references + 0.3 * references.flip(0) + 0.03 * torch.randn(references.shape, generator=generator)
        (ruler, (ours, _)), wall, cpu = timed(lambda r=references, e=estimates: (ruler := BssEval(r, RATE), ruler(e)))
        _, _, further = timed(lambda ruler=ruler, e=estimates: ruler(e))
        row = f"| {seconds} s | {wall:.1f} s | {cpu:.1f} s | {further:.1f} s |"
        if seconds <= options.museval_up_to:
            museval, wall, cpu = timed(lambda r=references, e=estimates: reference_bsseval.version_4(r, e, RATE))
            apart = max(float(np.abs(a.numpy() - b).max()) for a, b in zip(ours, museval, strict=True))
            row += f" {wall:.1f} s | {cpu:.1f} s | {apart:.0e} dB |"
        else:
            row += " - | - | - |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
