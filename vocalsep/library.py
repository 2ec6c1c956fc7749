"""The models that have a name: those that come with vocalsep, and the user's own.

Published models are in the folder ``models`` of the package. The user's own are in ``models`` in the user's data
folder, where `add` puts them, and in the folders that VOCALSEP_MODELS lists. All are used alike. A published model
keeps its name, whatever the user's folders hold; among these, the first folder counts.

A model is a file, beside its card ``<model>.md``: weights (``.safetensors``), a graph of another program (``.onnx``),
or a mean of other models (``.toml``). The user's own need no card.

This module loads no library that takes time, so that the command line can check and complete names at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocalsep import files, runs
from vocalsep.errors import ModelError, describe_error, describe_unknown
from vocalsep.files import hash_file
from vocalsep.release import DEFAULT_MODEL
from vocalsep.runs import SUFFIX as SUFFIX

SUFFIXES = (SUFFIX, ".onnx", ".toml")
"""Extensions of models. Where a folder has several files of one name, the first extension counts."""

_NAME = re.compile(r"[\w][\w. -]*")


@dataclass(frozen=True, kw_only=True)
class Card:
    """The card of a model.

    Attributes:
        name: Name of the model.
        text: The card as Markdown.
        facts: Facts from the card's list (lines ``- **Key**: value``), with keys in lower case.
    """

    name: str
    text: str
    facts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model with a name, as `list_models` describes it.

    Attributes:
        name: The name that `vocalsep.load_model` takes.
        description: What the model is, in one sentence.
        purpose: What to use it for.
        scores: Its scores, with metric and data set.
        speed: Its speed relative to real time, with the processor.
        data: The data that it was trained on.
        licence: Licence of its weights.
        size_mb: Size of its file in MB; for a mean, with those of its models.
        is_default: Whether it is the default model.
        is_own: Whether it is one of the user's own, not one that comes with vocalsep.
    """

    name: str
    description: str
    purpose: str
    scores: str
    speed: str
    data: str
    licence: str
    size_mb: float
    is_default: bool
    is_own: bool = False

    def __repr__(self) -> str:
        return f"ModelInfo({self.name!r}{', default' if self.is_default else ''})"


def find_models_folder() -> Path:
    """Return the folder of the published models: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def find_own_folder() -> Path:
    """Return the folder of the user's own models. It may not exist yet."""
    return files.find_data_folder() / "models"


def find_models(folder: Path | None = None) -> dict[str, Path]:
    """Find the models that have a name. Return their files by name, the published ones first.

    Args:
        folder: The only folder to look in; by default those in the module's docstring.
    """
    listed = [Path(part) for part in os.environ.get("VOCALSEP_MODELS", "").split(os.pathsep) if part]
    folders = [folder] if folder else [find_models_folder(), find_own_folder(), *listed]
    found: dict[str, Path] = {}
    for place in folders:
        for suffix in SUFFIXES:
            with contextlib.suppress(OSError):
                for path in sorted(place.glob(f"*{suffix}")):
                    found.setdefault(path.stem, path)
    return found


def is_published(name: str) -> bool:
    """Return whether a model of this name comes with vocalsep."""
    return name in find_models(find_models_folder())


def find_file(name: str | Path, folder: Path | None = None) -> Path:
    """Find the file of a model.

    Args:
        name: Name of a model, path of a model's file, or folder of a training run.
        folder: The only folder to look for names in.

    Raises:
        TypeError: If `name` is neither a string nor a path.
        ModelError: If there is no such model.
    """
    if not isinstance(name, str | Path):
        raise TypeError(f"a model must be a name or a path, not {type(name).__name__}")
    path = Path(name)
    known = find_models(folder)
    if str(name) in known:
        return known[str(name)]
    if path.suffix in SUFFIXES and path.suffix != SUFFIX:
        if not files.is_file(path):
            raise ModelError(f"{path}: no such model")
        return path
    if path.suffix == SUFFIX or files.is_folder(path) or len(path.parts) > 1:
        return runs.find_weights(path)
    raise ModelError(describe_unknown("model", str(name), known))


def read_card(name: str, folder: Path | None = None) -> Card:
    """Read the card of a model. One of the user's own that has no card is described by what its file says.

    Args:
        name: Name of the model.
        folder: The only folder to look in.

    Raises:
        ModelError: If the model is unknown, or a published one has no card.
    """
    known = find_models(folder)
    if name not in known:
        raise ModelError(describe_unknown("model", name, known))
    path = known[name]
    try:
        text = path.with_suffix(".md").read_text(encoding="utf-8")
    except OSError as error:
        if folder or is_published(name):
            raise ModelError(f"model {name!r} has no card {name}.md; reinstall vocalsep") from error
        text = _describe(name, path, path.suffix)
    facts = {key.lower(): value for key, value in re.findall(r"^- \*\*(.+?)\*\*: (.+)$", text, re.MULTILINE)}
    return Card(name=name, text=text, facts=facts)


def list_models(folder: Path | None = None) -> list[ModelInfo]:
    """List the models that have a name with the facts on their cards, the default model first.

    Args:
        folder: The only folder to look in.

    Raises:
        ModelError: If a published model has no card.
    """
    published = find_models(folder or find_models_folder())
    models = []
    known = find_models(folder)
    for name, path in known.items():
        facts = read_card(name, folder).facts
        models.append(
            ModelInfo(
                name=name,
                description=facts.get("what", ""),
                purpose=facts.get("use it for", facts.get("what", "")),
                scores=facts.get("scores", ""),
                speed=facts.get("speed", ""),
                data=facts.get("data", ""),
                licence=facts.get("licence", ""),
                size_mb=round(_measure_size(path, known) / 1e6, 1),
                is_default=name == DEFAULT_MODEL,
                is_own=name not in published,
            )
        )
    return sorted(models, key=lambda model: not model.is_default)


def _measure_size(path: Path, known: Mapping[str, Path]) -> int:
    """Return the bytes of a model's file, and for a mean those of the files that it names."""
    paths = {path}
    if path.suffix == ".toml":
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            names = tomllib.loads(path.read_text(encoding="utf-8"))["models"]
            paths.update(known.get(name) or path.parent / name for name in names)
    return sum(each.stat().st_size for each in paths if files.is_file(each))


def _describe(name: str, path: Path, suffix: str, digest: str = "") -> str:
    """Write a card from what a model's file says about itself.

    Args:
        name: Name of the model.
        path: The file: weights, a graph or a mean.
        suffix: Its extension, which says which of these it is.
        digest: SHA-256 of the file, to be recorded on the card.
    """
    facts = _read_facts(path, suffix)
    facts |= {"SHA-256": f"`{digest}`"} if digest else {}
    return f"# {name}\n\n" + "".join(f"- **{key}**: {value}\n" for key, value in facts.items() if value)


def _read_facts(path: Path, suffix: str) -> dict[str, str]:
    if suffix == ".toml":
        with contextlib.suppress(OSError, ValueError, TypeError):
            mean = tomllib.loads(path.read_text(encoding="utf-8"))
            weights = [f" x {weight:g}" for weight in mean.get("weights", [])] or [""] * len(mean["models"])
            parts = [f"{model}{weight}" for model, weight in zip(mean["models"], weights, strict=False)]
            led = ", led by the first" if mean.get("led_by_first") is True else ""
            return {"What": f"the mean of {' and '.join(parts)}{led}"}
    if suffix != SUFFIX:
        return {"What": "a model of another program"}
    metadata = runs.read_metadata(path)
    data = metadata.get("data", "")
    return {
        "What": f"{metadata.get('net', 'a net')}, from {metadata.get('source') or 'vocalsep train'}",
        "Data": _flatten(", ".join(map(str, data)) if isinstance(data, list) else data),
        "Licence": _flatten(metadata.get("licence", "")),
    }


def _flatten(value: Any) -> str:
    return " ".join(str(value).split())


def check_name(name: str, *, overwrite: bool = False) -> Path:
    """Check whether one of the user's own models may get a name. Return its file in the user's folder, without suffix.

    Args:
        name: The name.
        overwrite: Whether it may replace a model of the user's.

    Raises:
        ModelError: If the name is not a plain one, a published model has it, or a model of the user's has it already.
    """
    if not _NAME.fullmatch(name) or name.endswith(SUFFIXES):
        raise ModelError(f"{name!r} cannot be the name of a model; use letters, digits, dots, dashes and spaces")
    if is_published(name):
        raise ModelError(f"model {name!r} comes with vocalsep; choose another name with --name")
    if name in find_models() and not overwrite:
        raise ModelError(f"there is a model {name!r} already; choose another name with --name, or add --overwrite")
    return find_own_folder() / name


def add(name: str, suffix: str, write: Callable[[Path], object], card: str = "", *, overwrite: bool = False) -> Path:
    """Put a model into the user's folder, and record its SHA-256 on its card.

    Args:
        name: Name of the new model.
        suffix: Extension of its file, one of `SUFFIXES`.
        write: Writes the file, to the path that it is given.
        card: Its card, with ``{name}`` and ``{digest}`` to be filled in; by default what the file says about itself.
        overwrite: Whether it may replace a model of the user's.

    Returns:
        The file.

    Raises:
        ModelError: As `check_name`, or if the folder cannot be written to.
    """
    path = check_name(name, overwrite=overwrite)
    path = path.with_name(path.name + suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.write_atomically(path) as temporary:
            write(temporary)
            digest = hash_file(temporary)
            text = card.format(name=name, digest=digest) if card else _describe(name, temporary, suffix, digest)
        for other in SUFFIXES:
            if other != suffix:
                path.with_name(name + other).unlink(missing_ok=True)
        files.write_text(path.with_name(f"{name}.md"), text)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({describe_error(error)})") from error
    return path


def copy(source: Path) -> Callable[[Path], object]:
    """Return a function for `add` that copies a file."""
    return lambda path: shutil.copyfile(source, path)


def remove(name: str) -> Path:
    """Remove one of the user's own models, with its card. Return the file that was removed.

    Raises:
        ModelError: If there is no such model, it comes with vocalsep, or it cannot be removed.
    """
    known = find_models()
    if name not in known:
        raise ModelError(describe_unknown("model", name, known))
    if is_published(name):
        raise ModelError(f"model {name!r} comes with vocalsep; only models of your own can be removed")
    path = known[name]
    try:
        for suffix in (*SUFFIXES, ".md"):
            path.with_name(name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be removed ({describe_error(error)})") from error
    return path
