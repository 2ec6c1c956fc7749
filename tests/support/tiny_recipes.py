"""Recipes that train in a second, and trainers for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vocalsep.features import LogMel
from vocalsep.training.excerpts.sampler import ExcerptOptions
from vocalsep.training.material import Material
from vocalsep.training.recipes import FitOptions, PoolOptions, Recipe
from vocalsep.training.team import Team
from vocalsep.training.trainer import Trainer

CPU = torch.device("cpu")
FIT = FitOptions(
    batch_size=2,
    steps=4,
    learning_rate=5e-3,
    warmup_steps=2,
    validate_minutes=0.0,  # after every step
    validate_excerpts=2,
    checkpoint_minutes=0.0,
    precision="fp32",
)
SONGS_ONLY = ExcerptOptions(voices=0.0)
SMALL = LogMel(bands=64, frames=32)  # an eighth of the usual work


def make_recipe(root: Path, hold_out: int = 3, **fit_options: Any) -> Recipe:
    """Make the recipe of a tiny run on a folder laid out like DSD100."""
    return Recipe(
        net="unet",
        options={"width": 4},
        front_end=SMALL,
        excerpts=SONGS_ONLY,
        training=replace(FIT, **fit_options),
        pools=(PoolOptions(layout="dsd100", root=str(root), hold_out=hold_out),),
        licence="none",
    )


def make_trainer(material: Material, root: Path, **fit_options: Any) -> Trainer:
    """Make a trainer that uses `material` with the recipe of `make_recipe`. It does not open the folder `root`."""
    return Trainer(make_recipe(root, **fit_options), material, Team(device=CPU))
