"""Find, verify, load and save models. A model is weights, configuration and a card.

A model is one safetensors file. Its metadata holds everything needed to use it: net, options, front end, training data
and licence. Nothing is unpickled.

Published models are in the folder ``models``, each beside its card ``<model>.md``. The card's list of facts holds the
file's SHA-256, and loading verifies the file against it. Any other file is verified against the SHA-256 of its tensors
in its own metadata, which detects damage but not tampering. Older files without that SHA-256 load unverified.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from vocalsep import backends, config, files, published
from vocalsep.backends import graphs
from vocalsep.backends.graphs import Graph, RunSettings
from vocalsep.errors import ConfigError, ModelError, describe_unknown
from vocalsep.published import SUFFIX as SUFFIX
from vocalsep.published import find_models_folder as find_models_folder
from vocalsep.release import DEFAULT_MODEL as DEFAULT_MODEL

if TYPE_CHECKING:
    from vocalsep.features import FrontEnd
    from vocalsep.nets import Net
    from vocalsep.shapes import Array

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model, ready for use.

    Attributes:
        name: Name of the published model, or of the weights file without its extension.
        front_end: The front end that computes the net's features.
        metadata: The rest of the file's metadata: training data, licence, metrics, version.
        run: How its net is run on songs.
        graphs: The net's graphs without weights, by method; see `vocalsep.backends.graphs`. Empty if there are none.
        tensors: The weights by name, as stored: some in float16.
        build_net: Builds `net`.
    """

    name: str
    front_end: FrontEnd
    metadata: Mapping[str, Any]
    run: RunSettings
    graphs: Mapping[str, Graph]
    tensors: Mapping[str, Array]
    build_net: Callable[[], Net]

    @functools.cached_property
    def net(self) -> Net:
        """The net with its weights, in evaluation mode. It is built on first use, and needs torch.

        Raises:
            ModelError: If torch is not installed, or the weights do not fit the net.
        """
        return self.build_net()

    @classmethod
    def from_net(cls, name: str, net: Net, front_end: FrontEnd, metadata: Mapping[str, Any] | None = None) -> Model:
        """Make a model of a net in memory. It has no graph, so it runs in torch.

        Args:
            name: Name of the model.
            net: The net, in evaluation mode.
            front_end: The net's front end.
            metadata: See `Model`.
        """
        return cls(
            name=name,
            front_end=front_end,
            metadata=metadata or {},
            run=backends.get_run_settings(net),
            graphs={},
            tensors={},
            build_net=lambda: net,
        )


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


def find_models(folder: Path | None = None) -> dict[str, Path]:
    """Find the published models. Return their weights files by name."""
    return published.find_models(folder or find_models_folder())


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

    An older file, or one from a machine without onnx, holds no graph for ONNX Runtime. The graph is then made once and
    kept in the cache. Without onnx, the model runs in torch.

    Args:
        name: Name of a published model, or the path of a weights file, which must end in ``.safetensors``.
        folder: Folder of the published models; `find_models_folder` by default.

    Raises:
        ModelError: If the model is unknown, damaged, does not match its card, is not compatible with this version,
            or has no graph where torch is not installed.
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
    metadata, tensors = _read(path)
    return _build_model(path, path.stem if path.suffix == SUFFIX else name, metadata, tensors)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read and verify a weights file. Return its metadata and its tensors, as stored."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = json.loads((file.metadata() or {})["vocalsep"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if not isinstance(metadata, dict):
            raise ValueError("the metadata is not a table")
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"{path}: not a vocalsep weights file ({_shorten(error)})") from error
    if metadata.get("tensors") not in (None, _hash_tensors(tensors)):
        raise ModelError(
            f"{path}: is damaged: the weights do not match the SHA-256 in its metadata; download the file again"
        )
    return metadata, tensors


def _build_model(path: Path, name: str, metadata: dict[str, Any], tensors: dict[str, Array]) -> Model:
    if metadata.get("format") != _FORMAT:
        raise ModelError(
            f"model {name!r}: has format {metadata.get('format')!r}, but this version reads {_FORMAT}; update vocalsep"
        )
    from vocalsep.features import FRONT_ENDS  # imports scipy, which takes time

    try:
        kind = FRONT_ENDS[metadata["front_end_kind"]]
        front_end = config.build(kind, metadata["front_end"], "front_end")
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise _refuse(name, error) from error
    build_net = functools.partial(_build_net, name, metadata, tensors)
    try:
        stored = graphs.decode(metadata) if metadata.get("graphs") else None
    except ModelError as error:
        raise ModelError(f"{path}: is damaged: {error}; download the file again") from error
    decoded, run = stored or _make_graphs(path, front_end, build_net)
    consumed = ("format", "net", "options", "front_end_kind", "front_end", "tensors", "graphs", "run")
    return Model(
        name=name,
        front_end=front_end,
        metadata={key: value for key, value in metadata.items() if key not in consumed},
        run=run,
        graphs=decoded,
        tensors=tensors,
        build_net=build_net,
    )


def _make_graphs(path: Path, front_end: FrontEnd, build_net: Callable[[], Net]) -> tuple[dict[str, Graph], RunSettings]:
    """Make the graphs that a file lacks, or take them from the cache. Without onnx there are none."""
    key = hash_file(path)
    kept = graphs.read_cache(key)
    if kept:
        return kept
    made = backends.describe_net(build_net(), front_end.input_shape)
    if made["graphs"]:
        graphs.write_cache(key, made)
    return graphs.decode(made)


def _build_net(name: str, metadata: Mapping[str, Any], tensors: Mapping[str, Array]) -> Net:
    try:
        import torch

        from vocalsep import nets
    except ImportError as error:
        raise ModelError(
            f"model {name!r}: needs torch to be trained, to run on CUDA, or to run without a graph; "
            'run: pip install "vocalsep[train]"'
        ) from error
    try:
        net = nets.build(metadata["net"], metadata["options"])
        state = {key: torch.from_numpy(tensor) for key, tensor in tensors.items()}
        net.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        )
    except (ConfigError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise _refuse(name, error) from error
    return net.eval().requires_grad_(False)


def _refuse(name: str, error: Exception) -> ModelError:
    return ModelError(f"model {name!r}: is not compatible with this version of vocalsep ({_shorten(error)})")


def _shorten(error: Exception) -> str:
    return textwrap.shorten(str(error), 200, placeholder=" ...")


def save(
    path: Path,
    net: Net,
    front_end: FrontEnd,
    metadata: Mapping[str, Any],
    *,
    half: bool = True,
) -> None:
    """Write a model's weights file. The file appears complete or not at all.

    The net's graph for ONNX Runtime is part of the file if onnx is installed.

    Args:
        path: The weights file. Its folder must exist.
        net: The net.
        front_end: The net's front end.
        metadata: Further metadata: training data, licence, metrics, version.
        half: Whether to store matrices and kernels as float16. Vectors stay in float32: they are small, and their
            values may be too large for float16.
    """
    from vocalsep import nets

    net_names = {kind: name for name, kind in nets.NETS.items()}
    front_end_settings = config.to_dict(front_end)
    tensors = {
        key: (tensor.half() if half and tensor.is_floating_point() and tensor.ndim > 1 else tensor)
        .cpu()
        .contiguous()
        .numpy()
        for key, tensor in net.state_dict().items()
    }
    complete = {
        **metadata,
        "format": _FORMAT,
        "net": net_names[type(net)],
        "options": config.to_dict(net.options),
        "front_end_kind": front_end_settings.pop("kind"),
        "front_end": front_end_settings,
        **backends.describe_net(net, front_end.input_shape),
    }
    _write(path, complete, tensors)


def add_graphs(path: Path) -> None:
    """Add the net's graphs for ONNX Runtime to a weights file, or make them anew. No tensor changes.

    Args:
        path: The weights file.

    Raises:
        ModelError: If the file is damaged, or its net cannot be exported.
        ImportError: If torch or onnx is missing.
    """
    metadata, tensors = _read(path)
    model = _build_model(path, path.stem, metadata, tensors)
    _write(path, metadata | backends.describe_net(model.net, model.front_end.input_shape, required=True), tensors)


def _write(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    complete = {**metadata, "tensors": _hash_tensors(tensors)}
    content = serialise(dict(tensors), metadata={"vocalsep": json.dumps(complete, sort_keys=True)})
    with files.write_atomically(path) as temporary:
        temporary.write_bytes(content)


def _hash_tensors(tensors: Mapping[str, Array]) -> str:
    """Return the SHA-256 of tensors: of their names, shapes, types and bytes."""
    sha256 = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        sha256.update(f"{key} {tensor.shape} torch.{tensor.dtype}\n".encode())  # files have always named torch's types
        sha256.update(tensor.tobytes())
    return sha256.hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
