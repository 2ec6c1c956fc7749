"""Recipes: all that decides a training run, as one TOML file; presets are recipes that come with the package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vocalsep import config
from vocalsep.errors import ConfigError, describe_unknown
from vocalsep.features import MFCC, Linear, LogMel
from vocalsep.training.excerpts.sampler import ExcerptOptions

_LENGTHS = ("steps", "minutes", "epochs")
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """Recordings of one kind to train on.

    Attributes:
        layout: How the folder is laid out: "dsd100", "mir1k" or "stems" for songs with stems, "teacher" for songs with
            the vocals that another separator has found, "voices" or "instrumentals" for folders of lone ones.
        root: The folder; ``$NAME`` stands for an environment variable.
        weight: How often it is drawn from, against the other pools of its kind.
        balanced: Whether all artists or singers are drawn equally often, however much there is of each.
        remixed: Whether stems of its songs are drawn apart from each other and changed apart; else they make pairs
            alone, and what is done to one stem is done to the other. What a separator has found has traces of the
            accompaniment, which are no singing beside another one.
        hold_out: Every so-many-th artist is kept for validation, of fewer artists every so-many-th song; 0 keeps none.
        split: For "mir1k" also "drnn", which has validation clips of its own; empty for the layout's usual split.
        vocals: For "teacher", the folder of the vocals found, ``$NAME`` as above; empty if they lie beside the songs.

    Raises:
        ConfigError: For values out of range.
    """

    layout: Literal["dsd100", "mir1k", "stems", "teacher", "voices", "instrumentals"]
    root: str
    weight: float = 1.0
    balanced: bool = False
    remixed: bool = True
    hold_out: int = 0
    split: str = ""
    vocals: str = ""

    def __post_init__(self) -> None:
        if self.weight <= 0 or self.hold_out < 0:
            raise ConfigError(f"pool {self.layout}: weight must be above 0, hold_out not below")
        if self.hold_out and self.layout in ("teacher", "voices", "instrumentals"):
            raise ConfigError(f"pool {self.layout}: nothing to hold out; validation needs songs with their true stems")
        if self.vocals and self.layout != "teacher":
            raise ConfigError(f"pool {self.layout}: only the layout teacher has a folder of vocals")


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The loop's settings.

    Attributes:
        batch_size: Excerpts to a step, over all processes.
        steps: Steps in all. Exactly one of `steps`, `minutes` and `epochs` is above 0, and decides how long.
        minutes: Minutes of training in all; validation is not counted.
        epochs: Epochs in all: an epoch is as much sound as the songs to train on have.
        init: A published model or weights file to start from, of the same net; empty for random weights.
        parts: Published models or weights files to start parts of the net from, by the part's name.
        optimiser: "adamw", "adam" or "rmsprop".
        learning_rate: Its peak, after the warm-up.
        schedule: "cosine" lets it fall to 0 along a cosine; "plateau" cuts it whenever validation stops getting better.
        warmup_steps: Steps over which it rises from 0.
        plateau_validations: So many validations without a better one are a plateau.
        plateau_factor: What a plateau leaves of the learning rate.
        stop_validations: Ends the run after so many validations without a better one; 0 never does.
        weight_decay: On matrices and kernels only.
        clip: The gradient's norm is cut to this; 0 leaves it as it is.
        ema: Decay of the running mean of the weights, which is what is validated and kept.
        precision: Of the net's forward and backward pass: "fp32", or "bf16" or "fp16" by autocast; "auto" measures
            which is fastest on this device.
        validate_minutes: Minutes between validations.
        validate_steps: Steps between validations; above 0 it counts in place of `validate_minutes`, and a run with
            plateaus or early stopping can be repeated exactly.
        validate_epochs: Epochs between validations; above 0 it counts in place of `validate_minutes`, too.
        validate_excerpts: Excerpts to a validation, rounded up to whole batches.
        checkpoint_minutes: Minutes between checkpoints.
        tensorboard: Whether to write the log for TensorBoard, too.
        seed: Decides the first weights, the excerpts and the dropout.
        skip_bad: Whether to train without recordings that are bad, rather than not at all.

    Raises:
        ConfigError: If the length of the run is not given once, or a value is out of range.
    """

    batch_size: int = 16
    steps: int = 0
    minutes: float = 0.0
    epochs: float = 0.0
    init: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    optimiser: Literal["adamw", "adam", "rmsprop"] = "adamw"
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup_steps: int = 200
    plateau_validations: int = 3
    plateau_factor: float = 0.5
    stop_validations: int = 0
    weight_decay: float = 1e-2
    clip: float = 5.0
    ema: float = 0.999
    precision: Precision = "auto"
    validate_minutes: float = 5.0
    validate_steps: int = 0
    validate_epochs: float = 0.0
    validate_excerpts: int = 96
    checkpoint_minutes: float = 2.0
    tensorboard: bool = False
    seed: int = 0
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if sum(getattr(self, length) > 0 for length in _LENGTHS) != 1:
            raise ConfigError("training.steps, training.minutes or training.epochs: exactly one must be above 0")
        if self.batch_size < 1 or self.learning_rate <= 0 or not 0 <= self.ema < 1 or self.clip < 0:
            raise ConfigError("training needs batch_size >= 1, learning_rate > 0, clip >= 0 and ema in [0, 1)")
        if self.validate_steps and self.validate_epochs:
            raise ConfigError("training.validate_steps or training.validate_epochs: at most one may be above 0")
        if self.validate_excerpts < 1:
            raise ConfigError("training.validate_excerpts must be at least 1")
        if self.plateau_validations < 1 or not 0 < self.plateau_factor < 1:
            raise ConfigError("training needs plateau_validations >= 1 and plateau_factor in (0, 1)")
        for name in (
            "stop_validations",
            "validate_steps",
            "validate_epochs",
            "validate_minutes",
            "checkpoint_minutes",
            "warmup_steps",
            "weight_decay",
            "seed",
            *_LENGTHS,
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"training.{name} must not be below 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides a training run: one TOML file.

    Attributes:
        net: A key of `nets.NETS`.
        options: The net's options.
        front_end: What it looks at; its key `kind` says whether the other keys are those of `LogMel`, of `Linear`
            or of `MFCC`.
        excerpts: What it is shown.
        training: The loop.
        pools: Where the recordings lie.
        licence: Of the weights to be, as follows from the recordings.
    """

    net: str
    options: dict[str, Any] = field(default_factory=dict)
    front_end: LogMel | Linear | MFCC = field(default_factory=LogMel)
    excerpts: ExcerptOptions = field(default_factory=ExcerptOptions)
    training: FitOptions
    pools: tuple[PoolOptions, ...]
    licence: str = "not stated"


def presets() -> dict[str, Path]:
    """Names and files of the recipes that come with the package."""
    return {path.stem: path for path in sorted((Path(__file__).parents[1] / "presets").glob("*.toml"))}


def read_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a preset, or a TOML file, and applies overrides.

    Raises:
        ConfigError: If there is no such preset, or a setting is unknown or wrong.
    """
    known = presets()
    if name not in known and not name.endswith(".toml"):
        raise ConfigError(describe_unknown("preset", name, known))
    values = config.override(config.read_toml(known.get(name, Path(name))), overrides)
    changed = {setting.partition("=")[0].strip() for setting in overrides}
    given = {length for length in _LENGTHS if f"training.{length}" in changed}
    if given:  # how long is said anew: what the recipe says of it no longer counts
        for length in set(_LENGTHS) - given:
            values["training"].pop(length, None)
    return config.build(Recipe, values)


def single_pool(dataset: str, root: Path, split: str = "", vocals: Path | None = None) -> list[str]:
    """Overrides that make a recipe train on one data set alone; of true songs every sixth artist is held out.

    Args:
        dataset: "dsd100", "mir1k", "stems" or "teacher".
        root: Its folder.
        split: As in `PoolOptions`.
        vocals: For "teacher", the folder of its vocals.
    """
    held = 0 if dataset == "teacher" else 6
    pool = {"layout": dataset, "root": str(root.absolute()), "hold_out": held, "split": split}
    if vocals:
        pool["vocals"] = str(vocals.absolute())
    inline = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in pool.items())
    return [f"pools=[{{{inline}}}]", "excerpts.voices=0", 'licence="as the recordings it is trained on"']
