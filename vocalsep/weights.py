"""Models: weights, config and card. Finding, verifying, loading and saving them.

A model is one safetensors file whose metadata says everything that is needed to use it: net, options, front end,
what it was trained on and under which licence. Nothing is unpickled. Published models lie in the folder ``models``,
each beside its card ``<model>.md``, whose list of facts carries the file's SHA-256; a published file is verified
against it each time it is loaded. Any other file is verified against the SHA-256 of its tensors in its own metadata,
which finds damage, not malice; files of versions that did not write it are taken as they are.
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
        name: Its name, or the file it came from.
        net: The net, in evaluation mode.
        front_end: What the net looks at.
        metadata: The rest of the metadata: training data, licence, metrics, version.
    """

    name: str
    net: nets.Net
    front_end: FrontEnd
    metadata: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Card:
    """The card of a published model.

    Attributes:
        name: The model.
        text: The card, Markdown.
        facts: Its list of facts (lines ``- **Key**: value``), keys in lower case.
    """

    name: str
    text: str
    facts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One published model in a list of all.

    Attributes:
        name: The name that `load` takes.
        description: What the model is, in a sentence.
        purpose: What to use it for.
        scores: How well it separates, with the metric and the data set.
        data: What it was trained on.
        licence: Terms of its weights.
        size_mb: Size of its weights file in MB.
        is_default: Whether vocalsep takes it when no model is named.
    """

    name: str
    description: str
    purpose: str
    scores: str
    data: str
    licence: str
    size_mb: float
    is_default: bool


def find_models_folder() -> Path:
    """Where the published models lie: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def find_models(folder: Path | None = None) -> dict[str, Path]:
    """Find the published models: their names and weights files."""
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
                data=facts.get("data", ""),
                licence=facts.get("licence", ""),
                size_mb=round(path.stat().st_size / 1e6, 1),
                is_default=name == DEFAULT_MODEL,
            )
        )
    return sorted(models, key=lambda model: not model.is_default)


def read_card(name: str, folder: Path | None = None) -> Card:
    """Reads the card of a published model.

    Raises:
        ModelError: If there is no such model or it has no card.
    """
    path = _published_path(name, folder).with_suffix(".md")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"model {name!r} has no card {path.name}") from error
    facts = {key.lower(): value for key, value in re.findall(r"^- \*\*(.+?)\*\*: (.+)$", text, re.MULTILINE)}
    return Card(name=name, text=text, facts=facts)


def _published_path(name: str, folder: Path | None) -> Path:
    known = find_models(folder)
    if name not in known:
        raise ModelError(describe_unknown("model", name, known))
    return known[name]


def load(name: str = DEFAULT_MODEL, folder: Path | None = None) -> Model:
    """Loads a model.

    Args:
        name: A published model, or the path of a weights file (anything that ends in ``.safetensors``).
        folder: Where published models are looked for; `find_models_folder` by default.

    Raises:
        ModelError: If it is unknown, damaged, does not match its card, or does not fit this version.
    """
    if name.endswith(SUFFIX):
        path = Path(name)
        if not path.is_file():
            raise ModelError(f"{path}: no such weights file")
    else:
        path = _published_path(name, folder)
        stated = read_card(name, folder).facts.get("sha-256", "").strip("`")
        if hash_file(path) != stated:
            raise ModelError(f"model {name!r}: the file does not match its card's SHA-256; install vocalsep again")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["vocalsep"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if not isinstance(about, dict):
            raise ValueError("its metadata is not a table")
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ModelError(f"{path}: not a vocalsep weights file ({_line(error)})") from error
    if about.get("tensors") not in (None, _hash_tensors(state)):
        raise ModelError(f"{path}: is damaged: the weights do not match the SHA-256 in its metadata; get it anew")
    return _assemble(path.stem if path.suffix == SUFFIX else name, about, state)


def _assemble(name: str, about: dict[str, Any], state: dict[str, Tensor]) -> Model:
    if about.get("format") != _FORMAT:
        raise ModelError(
            f"model {name!r}: format {about.get('format')!r}, this version reads {_FORMAT}; update vocalsep"
        )
    try:
        net = nets.build(about["net"], about["options"])
        kind = FRONT_ENDS[about["front_end_kind"]]
        front_end = config.build(kind, about["front_end"], "front_end")
        net.load_state_dict({key: _single(tensor) for key, tensor in state.items()})
    except (ConfigError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(f"model {name!r}: does not fit this version of vocalsep ({_line(error)})") from error
    used = ("format", "net", "options", "front_end_kind", "front_end", "tensors")
    rest = {key: value for key, value in about.items() if key not in used}
    return Model(name=name, net=net.eval().requires_grad_(False), front_end=front_end, metadata=rest)


def _line(error: Exception) -> str:
    return textwrap.shorten(str(error), 200, placeholder=" ...")


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def save(
    path: Path,
    net: nets.Net,
    front_end: FrontEnd,
    about: Mapping[str, Any],
    *,
    half: bool = True,
) -> None:
    """Writes a model's weights file; the file appears whole or not at all.

    Args:
        path: The file to be; its folder must exist.
        net: The net.
        front_end: Its front end.
        about: What else to say: training data, licence, metrics, version.
        half: Whether matrices and kernels are kept as float16; vectors, which are few and may be large, never are.
    """
    net_names = {kind: name for name, kind in nets.NETS.items()}
    front_end_settings = config.to_dict(front_end)
    state = {
        key: (tensor.half() if half and tensor.is_floating_point() and tensor.ndim > 1 else tensor).cpu().contiguous()
        for key, tensor in net.state_dict().items()
    }
    metadata = {
        **about,
        "format": _FORMAT,
        "net": net_names[type(net)],
        "options": config.to_dict(net.options),
        "front_end_kind": front_end_settings.pop("kind"),
        "front_end": front_end_settings,
        "tensors": _hash_tensors(state),
    }
    content = serialise(state, metadata={"vocalsep": json.dumps(metadata, sort_keys=True)})
    with files.write_atomically(path) as temporary:
        temporary.write_bytes(content)


def _hash_tensors(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors, by their names, shapes, types and bytes."""
    found = hashlib.sha256()
    for key, tensor in sorted(state.items()):
        found.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def choose_device(wanted: str = "auto") -> torch.device:
    """The device to compute on.

    Args:
        wanted: "auto" (CUDA if there is one, else the CPU), "cpu" or "cuda".

    Raises:
        ConfigError: If CUDA is asked for and missing.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("device cuda: this machine or this build of torch has none; use --device cpu")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")
