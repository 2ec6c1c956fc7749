"""Find, verify, load and save models. A model is weights, configuration and a card.

A model is one safetensors file. Its metadata holds everything needed to use it: net, options, front end, training data
and licence. Nothing is unpickled.

Published models are in the folder ``models``, each beside its card ``<model>.md``. The card's list of facts holds the
file's SHA-256, and loading verifies the file against it. Any other file is verified against the SHA-256 of its tensors
in its own metadata, which detects damage but not tampering. Older files without that SHA-256 load unverified.
"""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from vocalsep import config, files, nets
from vocalsep.errors import ConfigError, ModelError, describe_unknown
from vocalsep.features import FRONT_ENDS, FrontEnd
from vocalsep.release import DEFAULT_MODEL as DEFAULT_MODEL

SUFFIX = ".safetensors"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Model:
    """A net with its weights, ready for use.

    Attributes:
        name: Name of the published model, or of the weights file without its extension.
        net: The net, in evaluation mode.
        front_end: The front end that computes the net's features.
        metadata: The rest of the file's metadata: training data, licence, metrics, version.
    """

    name: str
    net: nets.Net
    front_end: FrontEnd
    metadata: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Card:
    """The card of a published model.

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
    """A published model, as `list_models` describes it.

    Attributes:
        name: The name that `load` takes.
        description: What the model is, in one sentence.
        purpose: What to use it for.
        scores: Its scores, with metric and data set.
        speed: Its speed relative to real time, with the processor.
        data: The data that it was trained on.
        licence: Licence of its weights.
        size_mb: Size of its weights file in MB.
        is_default: Whether it is the default model.
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


def find_models_folder() -> Path:
    """Return the folder of the published models: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def find_models(folder: Path | None = None) -> dict[str, Path]:
    """Find the published models. Return their weights files by name."""
    return {path.stem: path for path in sorted((folder or find_models_folder()).glob(f"*{SUFFIX}"))}


def list_models(folder: Path | None = None) -> list[ModelInfo]:
    """List the published models with the facts on their cards, the default model first.

    Raises:
        ModelError: If a model has no card.
    """
    models = []
    for name, path in find_models(folder).items():
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
                size_mb=round(path.stat().st_size / 1e6, 1),
                is_default=name == DEFAULT_MODEL,
            )
        )
    return sorted(models, key=lambda model: not model.is_default)


def read_card(name: str, folder: Path | None = None) -> Card:
    """Read the card of a published model.

    Args:
        name: Name of the model.
        folder: Folder of the published models; `find_models_folder` by default.

    Raises:
        ModelError: If the model is unknown or has no card.
    """
    path = _find_weights_file(name, folder).with_suffix(".md")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"model {name!r} has no card {path.name}; reinstall vocalsep") from error
    facts = {key.lower(): value for key, value in re.findall(r"^- \*\*(.+?)\*\*: (.+)$", text, re.MULTILINE)}
    return Card(name=name, text=text, facts=facts)


def _find_weights_file(name: str, folder: Path | None) -> Path:
    known = find_models(folder)
    if name not in known:
        raise ModelError(describe_unknown("model", name, known))
    return known[name]


def load(name: str = DEFAULT_MODEL, folder: Path | None = None) -> Model:
    """Load a model.

    Args:
        name: Name of a published model, or the path of a weights file, which must end in ``.safetensors``.
        folder: Folder of the published models; `find_models_folder` by default.

    Raises:
        ModelError: If the model is unknown, damaged, does not match its card, or is not compatible with
            this version.
    """
    if name.endswith(SUFFIX):
        path = Path(name)
        if not path.is_file():
            raise ModelError(f"{path}: no such weights file")
    else:
        path = _find_weights_file(name, folder)
        stated = read_card(name, folder).facts.get("sha-256", "").strip("`")
        if hash_file(path) != stated:
            raise ModelError(f"model {name!r}: the weights file does not match its card's SHA-256; reinstall vocalsep")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["vocalsep"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if not isinstance(metadata, dict):
            raise ValueError("the metadata is not a table")
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ModelError(f"{path}: not a vocalsep weights file ({_shorten(error)})") from error
    if metadata.get("tensors") not in (None, _hash_tensors(state)):
        raise ModelError(
            f"{path}: is damaged: the weights do not match the SHA-256 in its metadata; download the file again"
        )
    return _build_model(path.stem if path.suffix == SUFFIX else name, metadata, state)


def _build_model(name: str, metadata: dict[str, Any], state: dict[str, Tensor]) -> Model:
    if metadata.get("format") != _FORMAT:
        raise ModelError(
            f"model {name!r}: has format {metadata.get('format')!r}, but this version reads {_FORMAT}; update vocalsep"
        )
    try:
        net = nets.build(metadata["net"], metadata["options"])
        kind = FRONT_ENDS[metadata["front_end_kind"]]
        front_end = config.build(kind, metadata["front_end"], "front_end")
        net.load_state_dict({key: _widen(tensor) for key, tensor in state.items()})
    except (ConfigError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(
            f"model {name!r}: is not compatible with this version of vocalsep ({_shorten(error)})"
        ) from error
    consumed = ("format", "net", "options", "front_end_kind", "front_end", "tensors")
    rest = {key: value for key, value in metadata.items() if key not in consumed}
    return Model(name=name, net=net.eval().requires_grad_(False), front_end=front_end, metadata=rest)


def _shorten(error: Exception) -> str:
    return textwrap.shorten(str(error), 200, placeholder=" ...")


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def save(
    path: Path,
    net: nets.Net,
    front_end: FrontEnd,
    metadata: Mapping[str, Any],
    *,
    half: bool = True,
) -> None:
    """Write a model's weights file. The file appears complete or not at all.

    Args:
        path: The weights file. Its folder must exist.
        net: The net.
        front_end: The net's front end.
        metadata: Further metadata: training data, licence, metrics, version.
        half: Whether to store matrices and kernels as float16. Vectors stay in float32: they are small, and their
            values may be too large for float16.
    """
    net_names = {kind: name for name, kind in nets.NETS.items()}
    front_end_settings = config.to_dict(front_end)
    state = {
        key: (tensor.half() if half and tensor.is_floating_point() and tensor.ndim > 1 else tensor).cpu().contiguous()
        for key, tensor in net.state_dict().items()
    }
    complete = {
        **metadata,
        "format": _FORMAT,
        "net": net_names[type(net)],
        "options": config.to_dict(net.options),
        "front_end_kind": front_end_settings.pop("kind"),
        "front_end": front_end_settings,
        "tensors": _hash_tensors(state),
    }
    content = serialise(state, metadata={"vocalsep": json.dumps(complete, sort_keys=True)})
    with files.write_atomically(path) as temporary:
        temporary.write_bytes(content)


def _hash_tensors(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors: of their names, shapes, types and bytes."""
    sha256 = hashlib.sha256()
    for key, tensor in sorted(state.items()):
        sha256.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        sha256.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def choose_device(wanted: str = "auto") -> torch.device:
    """Choose the device to run on.

    Args:
        wanted: "auto" (CUDA when available, otherwise the CPU), "cpu" or "cuda".

    Raises:
        ConfigError: If `wanted` is "cuda" and CUDA is not available.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("device cuda: no CUDA device found, or torch was built without CUDA; use --device cpu")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")
