"""Read recipes: TOML files with every setting of a training run. Presets are recipes that come with the package.

A recipe may extend another one, with the key `extends`: it inherits all settings that it does not give itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vocalsep import config
from vocalsep.errors import ConfigError, describe_unknown, describe_value
from vocalsep.features import MFCC, Linear, LogMel
from vocalsep.training.excerpts.sampler import ExcerptOptions

_PRESETS = Path(__file__).parents[1] / "presets"
_LENGTHS = ("steps", "minutes", "epochs")
_LARGEST = 2**40  # of any number in a recipe; steps beyond it have another use
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """Recordings of one kind to train on.

    Attributes:
        layout: How the folder is organised: "dsd100", "mir1k" or "stems" for songs with stems; "teacher" for songs with
            vocals that another separator has extracted; "voices" or "instrumentals" for recordings of one or the other.
        root: The folder. ``$NAME`` stands for an environment variable.
        weight: How often this pool is drawn from, relative to other pools of its kind.
        balanced: Whether all artists or singers are drawn equally often, however long their recordings are.
        remixed: Whether the stems of a song may be drawn and changed independently. Otherwise songs only make true
            pairs, and both stems get the same changes. Extracted vocals contain traces of their accompaniment, which
            would be wrong in a mix with another one.
        hold_out: Hold out every Nth artist for validation, or every Nth song if there are fewer than N artists; 0 holds
            out nothing.
        split: Name of the split; empty for the usual one. "mir1k" also has "drnn", with validation clips of its own.
        vocals: For "teacher", the folder of the extracted vocals, with ``$NAME`` as above. Empty if they are in the
            same folder as the songs.

    Raises:
        ConfigError: If a value is out of range or does not fit the layout.
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
            raise ConfigError(f"pool {self.layout}: weight must be above 0, and hold_out must not be negative")
        if self.hold_out and self.layout in ("teacher", "voices", "instrumentals"):
            raise ConfigError(f"pool {self.layout}: hold_out must be 0, because validation needs songs with true stems")
        if self.vocals and self.layout != "teacher":
            raise ConfigError(f"pool {self.layout}: vocals can only be set for the layout teacher")


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Settings of the training loop.

    Attributes:
        batch_size: Excerpts per step, over all processes.
        steps: Length of the training in steps. Exactly one of `steps`, `minutes` and `epochs` must be above 0.
        minutes: Length of the training in minutes, with validations, but without decoding recordings for the cache.
        epochs: Length of the training in epochs. In an epoch, the excerpts are as long in total as the training songs.
        init: Name of a model, weights file or run to start from, of the same net; empty for random weights.
        parts: Names of models, weights files or runs to start parts of the net from, by the name of the part.
        optimiser: "adamw", "adam", "rmsprop" or "muon".
        learning_rate: Peak of the learning rate, after the warm-up.
        schedule: "cosine" lowers the learning rate to 0 along a cosine; "steady" keeps it until the end is near, so
            that a run can be made longer at any time; "plateau" lowers it when validation stalls.
        decay: Share of the training at the end, over which "steady" lowers the learning rate to 0 along a line.
        warmup_steps: Steps over which the learning rate rises from 0.
        plateau_validations: Validations without improvement that make a plateau.
        plateau_factor: Factor on the learning rate at each plateau.
        stop_validations: Validations without improvement that end the run; 0 turns early stopping off.
        weight_decay: Weight decay, on matrices and kernels only.
        clip: Largest norm of the gradient; 0 does not clip.
        ema: Decay of the moving average of the weights. The average is what is validated and saved.
        precision: Precision of the forward and backward pass: "fp32", or "bf16" or "fp16" by autocast. "auto" measures
            which is fastest on this device.
        validate_minutes: Minutes between validations.
        validate_steps: Steps between validations; if above 0, it replaces `validate_minutes`. Runs with plateaus or
            early stopping are then reproducible.
        validate_epochs: Epochs between validations; if above 0, it replaces `validate_minutes` as well.
        validate_excerpts: Excerpts per validation, rounded up to whole batches.
        checkpoint_minutes: Minutes between checkpoints.
        tensorboard: Whether to write events for TensorBoard too.
        seed: Seed of the first weights, the excerpts and the dropout.
        skip_bad: Whether to leave out bad recordings instead of refusing to start.

    Raises:
        ConfigError: If the length of the run is not given exactly once, or a value is out of range.
    """

    batch_size: int = 16
    steps: int = 0
    minutes: float = 0.0
    epochs: float = 0.0
    init: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    optimiser: Literal["adamw", "adam", "rmsprop", "muon"] = "adamw"
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "steady", "plateau"] = "cosine"
    decay: float = 0.2
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
            raise ConfigError("exactly one of training.steps, training.minutes and training.epochs must be above 0")
        if self.batch_size < 1 or self.learning_rate <= 0 or not 0 <= self.ema < 1 or self.clip < 0:
            raise ConfigError("training needs batch_size >= 1, learning_rate > 0, clip >= 0 and ema in [0, 1)")
        if self.validate_steps and self.validate_epochs:
            raise ConfigError("at most one of training.validate_steps and training.validate_epochs may be above 0")
        if self.validate_excerpts < 1:
            raise ConfigError("training.validate_excerpts must be at least 1")
        if not 0 < self.decay <= 1:
            raise ConfigError("training.decay must be above 0 and at most 1")
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
                raise ConfigError(f"training.{name} must not be negative")
            if getattr(self, name) > _LARGEST:
                raise ConfigError(f"training.{name} must be at most {_LARGEST}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a training run.

    Attributes:
        net: A key of `nets.NETS`.
        options: The net's options.
        front_end: The front end of the model. Its key `kind` selects the class: "log-mel" for `LogMel`, "linear" for
            `Linear`, "mfcc" for `MFCC`.
        excerpts: How excerpts are made.
        training: Settings of the loop.
        pools: The recordings.
        licence: Licence of the resulting weights, which depends on the recordings.
    """

    net: str
    options: dict[str, Any] = field(default_factory=dict)
    front_end: LogMel | Linear | MFCC = field(default_factory=LogMel)
    excerpts: ExcerptOptions = field(default_factory=ExcerptOptions)
    training: FitOptions
    pools: tuple[PoolOptions, ...]
    licence: str = "not stated"


def list_presets() -> dict[str, Path]:
    """Return the names and files of the recipes that come with the package."""
    return _list_recipes(_PRESETS)


def _list_recipes(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a preset or a TOML file, and apply overrides.

    Args:
        name: Name of a preset, or path of a TOML file.
        overrides: Settings as ``key=value``. A new length (steps, minutes or epochs) replaces the one in the recipe.

    Raises:
        ConfigError: If there is no such preset or file, or a setting is unknown or invalid.
    """
    known = list_presets()
    if name not in known and not name.endswith(".toml"):
        raise ConfigError(describe_unknown("preset", name, known))
    values = config.override(_read_values(known.get(name, Path(name))), overrides)
    changed = {setting.partition("=")[0].strip() for setting in overrides}
    _keep_lengths(values, [length for length in _LENGTHS if f"training.{length}" in changed])
    return config.build(Recipe, values)


def _read_values(path: Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read the file of a recipe, and the files that it extends.

    Args:
        path: The file.
        extending: The files that extend it.
    """
    values = config.read_toml(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends = {describe_value(base)}: expected the name of a preset, or a file")
    if path.resolve() in extending:
        raise ConfigError(f"{path}: extends itself")
    known = _list_recipes(_PRESETS / "bases") | list_presets()
    if base not in known and not base.endswith(".toml"):
        raise ConfigError(f"{path}: {describe_unknown('preset', base, known)}")
    below = _read_values(known.get(base, path.parent / base), (*extending, path.resolve()))
    own = values.get("training")
    _keep_lengths(below, [length for length in _LENGTHS if length in own] if isinstance(own, dict) else [])
    return config.merge(below, values)


def _keep_lengths(values: dict[str, Any], given: Sequence[str]) -> None:
    """Drop all lengths but those given, if any: a recipe has exactly one, so a new one replaces it."""
    training = values.get("training")
    if given and isinstance(training, dict):
        for length in set(_LENGTHS) - set(given):
            training.pop(length, None)


def override_pools(dataset: str, root: Path, split: str = "", vocals: Path | None = None) -> list[str]:
    """Return overrides that make a recipe train on one data set alone.

    They hold out every sixth artist, except for "teacher", whose vocals are not true stems.

    Args:
        dataset: "dsd100", "mir1k", "stems" or "teacher".
        root: Its folder.
        split: As in `PoolOptions`.
        vocals: For "teacher", the folder of the extracted vocals.
    """
    held = 0 if dataset == "teacher" else 6
    pool = {"layout": dataset, "root": str(root.absolute()), "hold_out": held, "split": split}
    if vocals:
        pool["vocals"] = str(vocals.absolute())
    inline = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in pool.items())
    return [f"pools=[{{{inline}}}]", "excerpts.voices=0", 'licence="that of the recordings it was trained on"']
