"""Print the table of docs/evaluate.md that compares the speed of BSS Eval with museval's.

    OPENBLAS_NUM_THREADS=1 python tests/bench/bsseval.py [--seconds 10 30 60 240] [--museval-up-to 60]

Songs are stereo noise at 44.1 kHz with two sources; frames are 1 s long, filters have 512 taps. "Wall" is elapsed time
and "CPU" the time of all threads, for one estimate of both sources. "Next" is the CPU time of a further estimate of the
same song. The last column is the largest difference between any two scores. Imports are not counted.
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

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import reference_bsseval

from vocalsep.evaluation.bsseval import BssEval

RATE = 44_100


def measure(work: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    return done, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 30, 60, 240])
    parser.add_argument("--museval-up-to", type=int, default=60)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start\n")
    print("| song | wall | CPU | next, CPU | museval, wall | museval, CPU | largest difference |")
    print("|---|---|---|---|---|---|---|")
    warm_up = np.random.default_rng(0).standard_normal((2, 2, RATE))
    BssEval(warm_up, RATE)(warm_up)
    for seconds in options.seconds:
        rng = np.random.default_rng(seconds)
        references = 0.1 * rng.standard_normal((2, 2, seconds * RATE), np.float32)
        estimates = references + 0.3 * references[::-1] + 0.03 * rng.standard_normal(references.shape, np.float32)
        (scorer, (ours, _)), wall, cpu = measure(
            lambda r=references, e=estimates: (scorer := BssEval(r, RATE), scorer(e))
        )
        _, _, further = measure(lambda scorer=scorer, e=estimates: scorer(e))
        row = f"| {seconds} s | {wall:.1f} s | {cpu:.1f} s | {further:.1f} s |"
        if seconds <= options.museval_up_to:
            museval, wall, cpu = measure(
                lambda r=references, e=estimates: reference_bsseval.score_version_4(r, e, RATE)
            )
            apart = max(float(np.abs(a - b).max()) for a, b in zip(ours, museval, strict=True))
            row += f" {wall:.1f} s | {cpu:.1f} s | {apart:.0e} dB |"
        else:
            row += " - | - | - |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
