"""Means of several models: their vocals are averaged, sample by sample.

A mean is written as the names of its models, ``A+B``, or as a TOML file with them and their weights:

    models = ["uhnet-hd", "spleeter"]
    weights = [0.4, 0.6]
    led_by_first = true

With ``led_by_first``, the other models fade out where the first one finds no voice.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from vocalsep import config, files, library, runs
from vocalsep.errors import ConfigError, ModelError, VocalsepError, describe_error

SUFFIX = ".toml"
SEPARATOR = "+"
_MOST = 32  # models of a mean


class Member(Protocol):
    """A model of a mean, which may be a mean itself."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is known about it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which models a mean is of.

    Attributes:
        models: Their names, or paths of model files.
        weights: A weight for each, above 0; equal ones if empty. Only their proportions count.
        led_by_first: Whether the other models fade out where the first one finds no voice.

    Raises:
        ConfigError: If there are less than two models, one occurs twice, or the weights do not fit.
    """

    models: tuple[str, ...]
    weights: tuple[float, ...] = ()
    led_by_first: bool = False

    def __post_init__(self) -> None:
        if not 2 <= len(self.models) <= _MOST:
            raise ConfigError(f"{len(self.models)} models; a mean is of 2 to {_MOST}")
        for name in self.models:
            if self.models.count(name) > 1:
                raise ConfigError(f"model {name} is named twice; give it a larger weight instead")
        normalise(self.weights, len(self.models))


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean of models, ready for use.

    Attributes:
        name: Its name.
        models: Its models.
        weights: A weight for each; they add up to 1.
        led_by_first: See `Settings`.
    """

    name: str
    models: tuple[Any, ...]
    weights: tuple[float, ...]
    led_by_first: bool = False

    @classmethod
    def of(
        cls, models: Sequence[Member], weights: Sequence[float] = (), name: str = "", *, led_by_first: bool = False
    ) -> Mean:
        """Make a mean of models.

        Args:
            models: The models.
            weights: See `Settings`.
            name: Its name; by default those of its models.
            led_by_first: See `Settings`.

        Raises:
            ConfigError: As `Settings`.
        """
        if not 2 <= len(models) <= _MOST:
            raise ConfigError(f"{len(models)} models; a mean is of 2 to {_MOST}")
        name = name or SEPARATOR.join(model.name for model in models)
        shares = normalise(weights, len(models))
        return cls(name=name, models=tuple(models), weights=shares, led_by_first=led_by_first)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is known about it. It was trained on all that its models were trained on."""
        heard: dict[str, list[str]] = {}
        for model in self.models:
            for what, names in model.metadata.get("heard", {}).items():
                heard[what] = sorted({*heard.get(what, ()), *names})
        return {"heard": heard} if heard else {}


def combine(models: Sequence[Any], weights: Sequence[float] = ()) -> Any:
    """Return the mean of models; one model alone is returned as it is.

    Args:
        models: The models.
        weights: See `Settings`.

    Raises:
        ConfigError: If the weights do not fit.
    """
    if len(models) == 1:
        normalise(weights, 1)
        return models[0]
    return Mean.of(models, weights)


def normalise(weights: Sequence[float], count: int) -> tuple[float, ...]:
    """Return weights that add up to 1; equal ones if there are none.

    Args:
        weights: One for each model, or none.
        count: Number of models.

    Raises:
        ConfigError: If their number differs from that of the models, or one is not above 0.
    """
    if not weights:
        return (1 / count,) * count
    if len(weights) != count:
        raise ConfigError(f"{len(weights)} weights for {count} models; give one for each model")
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(f"a weight of {weight:g}; expected numbers above 0")
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def read(path: Path) -> Settings:
    """Read the TOML file of a mean.

    Raises:
        ModelError: If it cannot be read, or does not describe a mean.
    """
    try:
        return config.build(Settings, config.read_toml(path))
    except ConfigError as error:
        raise ModelError(f"{path}: not a mean of models ({error})") from error


def write(path: Path, settings: Settings) -> None:
    """Write the TOML file of a mean. It appears complete or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    files.write_text(path, config.dump_toml({key: value for key, value in config.to_dict(settings).items() if value}))


def split(name: str, folder: Path | None = None) -> list[str]:
    """Return the models that "+" joins in a name, whose mean is meant; the name alone if a model or a file has it.

    Args:
        name: Name or file of a model, or several joined by "+".
        folder: The only folder to look for names in; see `library.find_models`.
    """
    is_one = SEPARATOR not in name or name in library.find_models(folder) or os.path.lexists(name)
    return [name] if is_one else name.split(SEPARATOR)


def load(name: str, load_model: Callable[[str], Any], folder: Path | None = None) -> Mean:
    """Load a mean.

    Args:
        name: Names or files of models, joined by "+", or the path of a TOML file.
        load_model: Loads one of its models.
        folder: See `split`.

    Raises:
        ModelError: If the file cannot be read, or a model cannot be loaded.
    """
    try:
        parts, path = split(name, folder), Path(name)
        is_joined = len(parts) > 1
        settings, title = (Settings(models=tuple(parts)), "") if is_joined else (_read_beside(path), path.stem)
        models = [load_model(part) for part in settings.models]
        return Mean.of(models, settings.weights, title, led_by_first=settings.led_by_first)
    except RecursionError as error:
        raise ModelError(f"{name}: is a mean of itself") from error
    except ConfigError as error:
        raise ModelError(f"{name}: {error}") from error


def label(name: str) -> str:
    """Return what to call a model that `weights.load` would load: its name, or that of its file; joined if several."""
    parts = [name] if files.is_file(name) else name.split(SEPARATOR)
    return SEPARATOR.join(Path(part).stem if part.endswith(library.SUFFIXES) else part for part in parts)


def name_model(model: str) -> str:
    """Return the name that ``{model}`` stands for in templates. That of a run is in its weights."""
    if not (model.endswith(runs.SUFFIX) or files.is_folder(model)):
        return label(model)
    try:
        return runs.read_name(runs.find_weights(Path(model)))
    except VocalsepError:  # reported later, when the first song needs the model
        return Path(model).stem


def hash_models(models: Sequence[str], weights: Sequence[float] = ()) -> str:
    """Return the SHA-256 of what `weights.load` would load, without loading it.

    That of one file is that of its bytes. That of a mean is the SHA-256 of a text with a line for each of its files:
    its share of the mean, a space, and its SHA-256. Means within a mean are taken apart. Where a mean is led by its
    first model, the text has "led by the first" and then a line for each of its models, with what this returns for it.

    Args:
        models: Names or files; their vocals are averaged if there are several.
        weights: See `Settings`.

    Raises:
        ModelError: If a model does not exist, or the file of a mean cannot be read.
    """
    try:
        shares = normalise(weights, len(models))
        digests = [pair for name, share in zip(models, shares, strict=True) for pair in _hash_files(name, share)]
    except (ConfigError, RecursionError) as error:
        raise ModelError(f"{SEPARATOR.join(models)}: not a mean of models ({error})") from error
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot be read ({describe_error(error)})") from error
    return digests[0][1] if len(digests) == 1 else _hash_lines(digests)


def list_files(name: str) -> list[Path]:
    """Return the files of a model: one, or those of a mean's models.

    Args:
        name: Name or file of a model, several joined by "+", or a mean's own file.

    Raises:
        ModelError: If a model does not exist, or the file of a mean cannot be read, or it is a mean of itself.
    """
    try:
        found = _find_members(name)
        return [found] if isinstance(found, Path) else [path for part in found.models for path in list_files(part)]
    except RecursionError as error:
        raise ModelError(f"{name}: is a mean of itself") from error
    except ConfigError as error:
        raise ModelError(f"{name}: {error}") from error


def _hash_files(name: str, share: float) -> list[tuple[float, str]]:
    """Return the shares and SHA-256 of a model's files, for `hash_models`."""
    found = _find_members(name)
    if isinstance(found, Path):
        return [(share, files.hash_file(found))]
    members = list(zip(found.models, normalise(found.weights, len(found.models)), strict=True))
    if found.led_by_first:
        lines = [(weight, hash_models([part])) for part, weight in members]
        return [(share, _hash_lines(lines, "led by the first\n"))]
    return [pair for part, weight in members for pair in _hash_files(part, share * weight)]


def _hash_lines(digests: Sequence[tuple[float, str]], start: str = "") -> str:
    text = start + "".join(f"{share!r} {digest}\n" for share, digest in digests)
    return hashlib.sha256(text.encode()).hexdigest()


def _find_members(name: str) -> Path | Settings:
    """Return the file of a model, or what a mean is of: names, or files that lie beside its own."""
    if len(parts := split(name)) > 1:
        return Settings(models=tuple(parts))
    path = library.find_file(name)
    return _read_beside(path) if path.suffix == SUFFIX else path


def _read_beside(path: Path) -> Settings:
    """Read the TOML file of a mean. Files that lie beside it are named by their paths."""
    settings = read(path)
    return replace(settings, models=tuple(_find_beside(part, path) for part in settings.models))


def _find_beside(name: str, path: Path) -> str:
    """Return the path of a model file beside a mean's own file, or the name itself if there is none."""
    beside = path.parent / name
    return str(beside) if Path(name).suffix and files.is_file(beside) else name
