#!/usr/bin/env python3
"""Compare short runs by their training losses on the same excerpts.

    screen.py train (what `vocalsep train` takes)
    screen.py compare KEY RUN RUN ... [--steps 50]

`train` is `vocalsep train` for a `uhnet-hd`. Its log also has the vocals' log error, `log_error_vocals`, whatever the
loss is: the mean over excerpts of the decimal logarithm of the error's energy, relative to the mixture's. 0.1 less is 1
dB better. It has no gradient.

Runs with the same seed and the same recordings see the same excerpts in each step. `compare` prints the mean of a
logged value over blocks of steps, the mean difference from the first run, and its standard error over steps. Such a
difference shows how fast a net learns, not how well it does on other songs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vocalsep.cli import main as run_vocalsep
from vocalsep.nets import Batch, losses
from vocalsep.nets.uhnet_hd import UHNetHD
from vocalsep.shapes import Array


def train(arguments: list[str]) -> None:
    compute = UHNetHD._compute_terms

    def compute_with_log_error(net: UHNetHD, output: object, batch: Batch) -> dict[str, Tensor]:
        terms = compute(net, output, batch)
        rows = batch.features.shape[-2]
        stems = [losses.split_parts(stem[..., :rows, :]) for stem in (batch.vocals, batch.mixture)]
        powers = (stems[1].square().sum(0), (stems[1] * stems[0]).sum(0), stems[0].square().sum(0))
        mask = torch.sigmoid(output.vocals.detach())
        return terms | {"log_error_vocals": losses.masked_log_error(mask, *powers)}

    UHNetHD._compute_terms = compute_with_log_error
    sys.argv = ["vocalsep", "train", *arguments]
    run_vocalsep()


def read_log(run: Path, key: str) -> Array:
    return np.array([json.loads(line)[key] for line in (run / "log.jsonl").read_text().splitlines()])


def compare(key: str, runs: list[Path], steps: int) -> None:
    values = [read_log(run, key) for run in runs]
    print("| steps | " + " | ".join(run.name for run in runs) + " |")
    print("|---" * (1 + len(runs)) + "|")
    for start in range(0, min(map(len, values)) - steps + 1, steps):
        first, *others = (one[start : start + steps] for one in values)
        cells = [f"{first.mean():.4f}"]
        for other in others:
            difference = other - first
            cells.append(f"{difference.mean():+.4f} ± {difference.std(ddof=1) / np.sqrt(steps):.4f}")
        print(f"| {start} to {start + steps} | " + " | ".join(cells) + " |")


def main() -> None:
    if sys.argv[1:2] == ["train"]:
        train(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train", help="train, and log the vocals' log error")
    comparing = commands.add_parser("compare", help="compare logs")
    comparing.add_argument("key")
    comparing.add_argument("runs", nargs="+", type=Path)
    comparing.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    compare(options.key, options.runs, options.steps)


if __name__ == "__main__":
    main()
