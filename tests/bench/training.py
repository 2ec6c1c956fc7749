"""Print the tables of docs/train.md: how fast presets train, and what drawing their excerpts costs.

    python tests/bench/training.py [--preset unet unet-tiny ...] [--precision fp32] [--seconds 10] [--threads N]

The recordings are noise, so no data set is needed; a step takes the same time with music. The peak is measured by
multiplying two float32 matrices of 2048 x 2048, best of ten. "GFLOP/s" counts the multiplications and additions of
forward and backward pass. "drawing" is the time in which one core draws the excerpts of a step. In training, this
happens in parallel with the previous step.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from vocalsep import nets
from vocalsep.datasets.cache import DecodedTrack
from vocalsep.datasets.tracks import Source, Track
from vocalsep.training import recipes
from vocalsep.training.excerpts.sampler import ExcerptOptions, ExcerptSampler, Pool
from vocalsep.training.material import Material
from vocalsep.training.recipes import Recipe
from vocalsep.training.team import Team
from vocalsep.training.trainer import Trainer

ONE = (Source(Path("noise")),)
AUGMENTATIONS = ("pitch", "tempo", "speed", "compressor", "double", "echo", "reverb", "eq", "limiter", "band_limit")


def make_noise(recipe: Recipe, options: ExcerptOptions) -> ExcerptSampler:
    """Make a sampler that draws noise for any recipe."""
    rng = np.random.default_rng(0)
    stems = [rng.standard_normal((2, 30 * recipe.front_end.rate)).astype(np.float16) for _ in range(2)]
    names = ("vocals", "accompaniment")
    tracks = [
        DecodedTrack(
            track=Track(name="noise", group="noise", **dict.fromkeys(kept, ONE)),
            stems={name: stem for name, stem in zip(names, stems, strict=True) if name in kept},
        )
        for kept in (names, names[:1], names[1:])
    ]
    songs, voices, instrumentals = ([Pool([track])] for track in tracks)
    return ExcerptSampler(
        songs=songs,
        voices=voices,
        instrumentals=instrumentals,
        samples=nets.count_excerpt_samples(recipe.front_end),
        rate=recipe.front_end.rate,
        options=options,
    )


def time_work(work: Callable[[], object], seconds: float) -> float:
    """Return the median time of the work, repeated for some seconds after one warm-up."""
    work()
    times: list[float] = []
    started = time.perf_counter()
    while not times or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return float(np.median(times))


def measure_peak() -> float:
    """Measure the FLOP/s of a large float32 matrix product."""
    a, b = torch.randn(2, 2048, 2048)
    seconds = []
    for _ in range(10):
        before = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - before)
    return 2 * 2048**3 / min(seconds)


def print_presets(names: list[str], precision: str, seconds: float) -> None:
    most = measure_peak()
    print(f"matrix product: {most / 1e9:.0f} GFLOP/s\n")
    print("| preset | parameters | batch | s per step | s of sound per s | GFLOP/s | share of peak | drawing, s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        recipe = recipes.read_recipe(name)
        recipe = replace(recipe, training=replace(recipe.training, precision=precision))  # type: ignore[arg-type]
        material = Material(training=make_noise(recipe, recipe.excerpts), validation=None, names={}, heard={})
        trainer = Trainer(recipe, material, Team(device=torch.device("cpu")))
        excerpts, size = trainer.draw_batch(0), recipe.training.batch_size
        counter = FlopCounterMode(display=False)
        with counter:
            trainer.update(excerpts)
        step = time_work(lambda trainer=trainer, excerpts=excerpts: trainer.update(excerpts), seconds)
        draw = time_work(lambda trainer=trainer: trainer.draw_batch(1), seconds / 5)
        sound = recipe.front_end.chunk_samples / recipe.front_end.rate
        speed = counter.get_total_flops() / step
        print(
            f"| `{name}` | {trainer.net.parameter_count:,} | {size} x {sound:.2f} s | {step:.2f} "
            f"| {size * sound / step:.1f} | {speed / 1e9:.0f} | {100 * speed / most:.0f} % | {draw:.3f} |",
            flush=True,
        )


def print_changes(seconds: float) -> None:
    recipe = recipes.read_recipe("unet")
    print("\n| excerpts with | ms for a true pair | ms for a remix | ms for a lone voice |")
    print("|---|---|---|---|")
    for name in ("none", *AUGMENTATIONS, "in_key"):
        cells = []
        for kind in ("pairs", "remixes", "voices"):
            options = ExcerptOptions(**{"pairs": 0.0, "remixes": 0.0, "voices": 0.0, kind: 1.0})
            if name in AUGMENTATIONS:
                options = replace(options, augment=replace(options.augment, **{name: 1.0}))
            elif name == "in_key":
                options = replace(options, in_key=1.0)
            excerpts = make_noise(recipe, options)
            cells.append(1e3 * time_work(lambda excerpts=excerpts: excerpts.draw_batch(0, 4), seconds) / 4)
        print(f"| {name} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=sorted(recipes.list_presets()))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{os.cpu_count()} cores, {platform.machine()}, {options.threads} threads, {options.precision}, ", end="")
    print_presets(options.preset, options.precision, options.seconds)
    print_changes(options.seconds / 5)


if __name__ == "__main__":
    main()
