"""Models of other programs, as ONNX files: find out what they are and how they are run.

The shape of a graph's input says what kind of model it is. What the graph does not say is taken from, in this order:
what the caller says, a TOML file of the same name beside the model, a JSON file of UVR's that knows the model, and the
graph's own metadata.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocalsep import config, files
from vocalsep.errors import ConfigError, ModelError, describe_value
from vocalsep.interchange import mdx, waveform
from vocalsep.interchange.inspection import Inspected, inspect

SUFFIX = ".onnx"

Settings = mdx.Settings | waveform.Settings
"""How a foreign model is run."""


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A model of another program.

    Attributes:
        name: Name of the file without its extension.
        path: The ONNX file.
        graph: What the file declares.
        settings: How it is run.
        metadata: What is known about it: nothing about its training, so it counts as trained on no known song.
    """

    name: str
    path: Path
    graph: Inspected
    settings: Settings
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def compute_fingerprint(self) -> str:
        """Return a hash of the file and of its settings."""
        with self.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256")
        sha256.update(json.dumps(config.to_dict(self.settings), sort_keys=True).encode())
        return sha256.hexdigest()


def load(path: Path, data: str | None = None) -> ForeignModel:
    """Read what an ONNX file declares, and find out how it is run. The file is not loaded.

    Args:
        path: The file.
        data: Parameters that the file lacks: the path of a JSON file of UVR's or of a TOML file with the fields of
            `Settings`, or the fields themselves, as in ``n_fft=6144,primary_stem=vocals``.

    Raises:
        ModelError: If there is no such file, it is damaged or unsafe to run (see `interchange.inspection`), it is not
            of a known kind, or parameters are missing.
    """
    if not files.is_file(path):
        raise ModelError(f"{path}: no such model")
    graph = inspect(path)
    shape = graph.input.shape
    if len(shape) == 4 and shape[1] == 4:
        settings: Settings = _settle_mdx(path, graph, data)
    elif len(shape) == 3 and shape[1] == 2:
        settings = _settle_waveform(path, graph, data)
    else:
        raise ModelError(
            f"{path}: takes an input of shape {_describe(shape)}; expected (batch, 4, dim_f, dim_t), as MDX-Net models "
            "take, or (1, 2, samples)"
        )
    return ForeignModel(name=path.stem, path=path, graph=graph, settings=settings)


def _settle_mdx(path: Path, graph: Inspected, data: str | None) -> mdx.Settings:
    md5 = mdx.compute_md5(path)
    _, _, rows, frames = graph.input.shape
    try:
        found = mdx.read_properties(graph.properties)
        found |= mdx.translate(mdx.find_entry(path, md5))
        found |= _read_beside(path) | _read_data(data, md5)
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error
    for key, size in (("dim_f", rows), ("dim_t", frames)):
        if size is not None and found.setdefault(key, size) != size:
            raise ModelError(f"{path}: {key} is {describe_value(found[key])} in its parameters, but {size} in the file")
    missing = [key for key in ("n_fft", "dim_f", "dim_t", "primary_stem") if key not in found]
    if missing:
        raise ModelError(
            f"{path}: {_join(missing)} {'is' if len(missing) == 1 else 'are'} not known. Give UVR's or "
            "audio-separator's mdx_model_data.json, with --model-data or beside the model, if it lists the MD5 "
            f"{md5}; or the values, as in --model-data n_fft=6144,primary_stem=vocals"
        )
    settings: mdx.Settings = _build(path, mdx.Settings, found)
    _check_output(path, graph, (None, 4, settings.dim_f, settings.dim_t))
    return settings


def _settle_waveform(path: Path, graph: Inspected, data: str | None) -> waveform.Settings:
    samples, output = graph.input.shape[2], graph.output.shape
    try:
        lists_mdx = bool(data) and str(data).lower().endswith(".json")  # that of other models of the same call
        found = _read_beside(path) | _read_data(None if lists_mdx else data, None)
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error
    if samples is not None and found.setdefault("samples", samples) != samples:
        raise ModelError(
            f"{path}: samples is {describe_value(found['samples'])} in its parameters, but {samples} in the file"
        )
    count = output[1] if len(output) == 4 else None
    stems = waveform.STEMS.get(4 if count is None else count)  # if there are not four, running the graph will show it
    if stems:
        found.setdefault("stems", stems)
    missing = [key for key in ("samples", "stems") if key not in found]
    if missing:
        raise ModelError(
            f"{path}: {_join(missing)} {'is' if len(missing) == 1 else 'are'} not known; write them into "
            f'{path.with_suffix(".toml").name} beside the model, as in stems = ["drums", "bass", "other", "vocals"]'
        )
    settings: waveform.Settings = _build(path, waveform.Settings, found)
    _check_output(path, graph, (1, len(settings.stems), 2, settings.samples))
    return settings


def _check_output(path: Path, graph: Inspected, expected: tuple[int | None, ...]) -> None:
    """Check the output's shape, as far as the file states it. When the graph runs, it is checked again."""
    shape = graph.output.shape
    fits = len(shape) == len(expected) and all(None in (a, b) or a == b for a, b in zip(shape, expected, strict=True))
    if shape and not fits:
        raise ModelError(f"{path}: gives an output of shape {_describe(shape)}; expected {_describe(expected)}")


def _build(path: Path, kind: Any, found: Mapping[str, Any]) -> Any:
    try:
        return config.build(kind, found)
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error


def _read_beside(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".toml")
    return config.read_toml(beside) if beside.is_file() else {}


def _read_data(data: str | None, md5: str | None) -> dict[str, Any]:
    """Read the parameters that the caller gives."""
    if not data:
        return {}
    if "=" in data and not os.path.lexists(data):
        return dict(_read_field(field) for field in re.split(r",(?![^\[]*\])", data))
    if Path(data).suffix.lower() == ".toml":
        return config.read_toml(Path(data))
    content = mdx.read_json(Path(data))
    entry = content.get(md5, content) if md5 else content
    if not isinstance(entry, dict) or not (found := mdx.translate(entry)):
        raise ConfigError(f"{data} does not list this model, whose MD5 is {md5}")
    return found


def _read_field(field: str) -> tuple[str, Any]:
    key, equals, text = (part.strip() for part in field.partition("="))
    if not equals:
        raise ConfigError(f"{field!r}: expected key=value")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return key, text.lower() if key == "primary_stem" else text


def _describe(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"


def _join(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
