"""Recipes that train in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vocalsep.features import LogMel
from vocalsep.training.excerpts.sampler import ExcerptOptions
from vocalsep.training.recipes import FitOptions, PoolOptions, Recipe

CPU = torch.device("cpu")
FIT = FitOptions(
    batch_size=2,
    steps=4,
    learning_rate=5e-3,
    warmup_steps=2,
    validate_minutes=0.0,  # at each step
    validate_excerpts=2,
    checkpoint_minutes=0.0,
    precision="fp32",
)
SONGS = ExcerptOptions(voices=0.0)
SMALL = LogMel(bands=64, frames=32)  # an eighth of the usual work


def recipe(root: Path, hold_out: int = 3, **fit_options: Any) -> Recipe:
    """A tiny run on a tree laid out as DSD100."""
    return Recipe(
        net="unet",
        options={"width": 4},
        front_end=SMALL,
        excerpts=SONGS,
        training=replace(FIT, **fit_options),
        pools=(PoolOptions(layout="dsd100", root=str(root), hold_out=hold_out),),
        licence="none",
    )
