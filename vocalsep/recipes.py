"""Recipes: all that decides a training run, as one TOML file; presets are recipes that come with the package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vocalsep import config
from vocalsep.datasets.excerpts import ExcerptOptions
from vocalsep.errors import ConfigError, unknown
from vocalsep.features import Linear, LogMel


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """Recordings of one kind to train on.

    Attributes:
        layout: How the folder is laid out: "dsd100", "mir1k" or "stems" for songs with stems, "voices" or
            "instrumentals" for folders of lone ones.
        root: The folder; ``$NAME`` stands for an environment variable.
        weight: How often it is drawn from, against the other pools of its kind.
        hold_out: Every so-many-th artist is kept for validation; 0 keeps none.
        split: For "mir1k" also "drnn", which has validation clips of its own; empty for the layout's usual split.

    Raises:
        ConfigError: For values out of range.
    """

    layout: Literal["dsd100", "mir1k", "stems", "voices", "instrumentals"]
    root: str
    weight: float = 1.0
    hold_out: int = 0
    split: str = ""

    def __post_init__(self) -> None:
        if self.weight <= 0 or self.hold_out < 0:
            raise ConfigError(f"pool {self.layout}: weight must be above 0, hold_out not below")
        if self.hold_out and self.layout in ("voices", "instrumentals"):
            raise ConfigError(f"pool {self.layout}: nothing to hold out; validation needs songs with both stems")


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The loop's settings.

    Attributes:
        batch_size: Excerpts to a step.
        steps: Steps in all; 0 means that `minutes` decides.
        minutes: Minutes of training in all (validation not counted); 0 means that `steps` decides.
        learning_rate: Its peak, after the warm-up; from there it falls to 0 along a cosine.
        warmup_steps: Steps over which it rises from 0.
        weight_decay: AdamW's, on matrices and kernels only.
        clip: The gradient's norm is cut to this.
        ema: Decay of the running mean of the weights, which is what is validated and kept.
        validate_minutes: Minutes between validations.
        validate_excerpts: Excerpts to a validation.
        checkpoint_minutes: Minutes between checkpoints.
        seed: Decides the first weights, the excerpts and the dropout.
        skip_bad: Whether to train without recordings that are bad, rather than not at all.

    Raises:
        ConfigError: If neither or both of `steps` and `minutes` are given, or a value is out of range.
    """

    batch_size: int = 16
    steps: int = 0
    minutes: float = 0.0
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-2
    clip: float = 5.0
    ema: float = 0.999
    validate_minutes: float = 5.0
    validate_excerpts: int = 96
    checkpoint_minutes: float = 2.0
    seed: int = 0
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.minutes > 0):
            raise ConfigError("training.steps or training.minutes: exactly one of them must be above 0")
        if self.batch_size < 1 or self.learning_rate <= 0 or not 0 <= self.ema < 1 or self.clip <= 0:
            raise ConfigError("training needs batch_size >= 1, learning_rate > 0, clip > 0 and ema in [0, 1)")
        if self.validate_excerpts < 1:
            raise ConfigError("training.validate_excerpts must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides a training run: one TOML file.

    Attributes:
        net: A key of `nets.NETS`.
        options: The net's options.
        front_end: What it looks at; its key `kind` says whether the other keys are those of `LogMel` or of `Linear`.
        excerpts: What it is shown.
        training: The loop.
        pools: Where the recordings lie.
        licence: Of the weights to be, as follows from the recordings.
    """

    net: str
    options: dict[str, Any] = field(default_factory=dict)
    front_end: LogMel | Linear = field(default_factory=LogMel)
    excerpts: ExcerptOptions = field(default_factory=ExcerptOptions)
    training: FitOptions
    pools: tuple[PoolOptions, ...]
    licence: str = "not stated"


def presets() -> dict[str, Path]:
    """Names and files of the recipes that come with the package."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.toml"))}


def read_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a preset, or a TOML file, and applies overrides.

    Raises:
        ConfigError: If there is no such preset, or a setting is unknown or wrong.
    """
    known = presets()
    if name not in known and not name.endswith(".toml"):
        raise ConfigError(unknown("preset", name, known))
    return config.build(Recipe, config.override(config.read_toml(known.get(name, Path(name))), overrides))


def single_pool(dataset: str, root: Path, split: str = "") -> list[str]:
    """Overrides that make a recipe train on one data set alone, with every sixth artist held out.

    Args:
        dataset: "dsd100", "mir1k" or "stems".
        root: Its folder.
        split: As in `PoolOptions`.
    """
    pool = {"layout": dataset, "root": str(root.absolute()), "hold_out": 6, "split": split}
    inline = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in pool.items())
    return [f"pools=[{{{inline}}}]", "excerpts.voices=0"]
