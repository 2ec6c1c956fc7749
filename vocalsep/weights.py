"""Find, verify, load and save models. A model is weights, configuration and a card.

A model is one safetensors file. Its metadata holds everything needed to use it: net, options, front end, training data
and licence. Nothing is unpickled.

Models that have a name (`vocalsep.library`) lie beside their card ``<model>.md``. The card's list of facts holds the
file's SHA-256, and loading verifies the file against it. Any other file is verified against the SHA-256 of its tensors
in its own metadata, which detects damage but not tampering. Older files without that SHA-256 load unverified.
"""

from __future__ import annotations

import functools
import hashlib
import json
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from vocalsep import backends, config, files, interchange, library, means, runs
from vocalsep.backends import graphs
from vocalsep.backends.graphs import Graph, RunSettings
from vocalsep.errors import ConfigError, ModelError, describe_value
from vocalsep.files import hash_file as hash_file
from vocalsep.interchange import ForeignModel
from vocalsep.library import ModelInfo as ModelInfo
from vocalsep.library import find_file as find_file
from vocalsep.library import find_models as find_models
from vocalsep.library import list_models as list_models
from vocalsep.library import read_card as read_card
from vocalsep.means import Mean
from vocalsep.release import DEFAULT_MODEL as DEFAULT_MODEL
from vocalsep.runs import SUFFIX as SUFFIX

if TYPE_CHECKING:
    from vocalsep.features import FrontEnd
    from vocalsep.nets import Net
    from vocalsep.shapes import Array

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model, ready for use.

    Attributes:
        name: Name of the model in the library, of the training run, or of the weights file; see `runs.name_model`.
        front_end: The front end that computes the net's features.
        metadata: The rest of the file's metadata: training data, licence, metrics, version.
        run: How its net is run on songs.
        graphs: The net's graphs without weights, by method; see `vocalsep.backends.graphs`. Empty if there are none.
        tensors: The weights by name, as stored: some in float16.
        build_net: Builds `net`.
        path: The weights file, if there is one.
    """

    name: str
    front_end: FrontEnd
    metadata: Mapping[str, Any]
    run: RunSettings
    graphs: Mapping[str, Graph]
    tensors: Mapping[str, Array]
    build_net: Callable[[], Net]
    path: Path | None = None

    def __repr__(self) -> str:
        return f"Model({self.name!r})"

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


AnyModel = Model | ForeignModel | Mean
"""What `load` returns: a model of ours, of another program, or a mean of several."""


def load(name: str | Path = DEFAULT_MODEL, folder: Path | None = None, *, data: str | None = None) -> AnyModel:
    """Load a model.

    A file without a graph for ONNX Runtime gets one, which is kept in the cache. Without onnx, it runs in torch.

    Args:
        name: Name of a model, folder of a training run, or path of a file: weights (``.safetensors``), a model of
            another program (``.onnx``), or a mean of models (``.toml``). Names joined by "+" are a mean with equal
            weights.
        folder: The only folder to look for names in; see `library.find_models`.
        data: What the file of another program lacks; see `interchange.load`.

    Raises:
        ModelError: If the model is unknown, damaged, does not match its card, is not compatible with this version,
            or has no graph where torch is not installed.
    """
    load_part = functools.partial(load, folder=folder, data=data)
    if len(means.split(str(name), folder)) > 1:
        return means.load(str(name), load_part, folder)
    path = find_file(name, folder)
    if has_name := str(name) in find_models(folder):
        _verify(str(name), path, folder)
    if path.suffix == means.SUFFIX:
        return means.load(str(path), load_part)
    if path.suffix == interchange.SUFFIX:
        return interchange.load(path, data)
    metadata, tensors = _read(path)
    return _build_model(path, path.stem if has_name else runs.name_model(path, metadata), metadata, tensors)


def _verify(name: str, path: Path, folder: Path | None) -> None:
    """Verify a model's file against its card. One of the user's own may have no card."""
    is_published = bool(folder) or library.is_published(name)
    stated = read_card(name, folder).facts.get("sha-256", "").strip("`")
    if (is_published or stated) and hash_file(path) != stated:
        remedy = "reinstall vocalsep" if is_published else "import it again"
        raise ModelError(f"model {name!r}: the weights file does not match its card's SHA-256; {remedy}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read and verify a weights file. Return its metadata and its tensors, as stored."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = files.parse_json((file.metadata() or {})["vocalsep"])
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
        found = describe_value(metadata.get("format"))
        raise ModelError(f"model {name!r} has format {found}, but this version reads {_FORMAT}; update vocalsep")
    from vocalsep.features import FRONT_ENDS  # imports numpy, which takes time

    try:
        kind = FRONT_ENDS[metadata["front_end_kind"]]
        front_end = config.build(kind, metadata["front_end"], "front_end")
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise _refuse(name, error) from error
    build_net = functools.partial(_build_net, name, metadata, tensors)
    try:
        stored = graphs.decode(metadata) if metadata.get("graphs") else None
        for graph in stored[0].values() if stored else ():
            interchange.inspect_own(graph.onnx, {key: tensor.size for key, tensor in tensors.items()})
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
        path=path,
    )


def _make_graphs(path: Path, front_end: FrontEnd, build_net: Callable[[], Net]) -> tuple[dict[str, Graph], RunSettings]:
    """Make the graphs that a file lacks, or take them from the cache. Without onnx there are none."""
    key = files.hash_file(path)
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
            f"model {name!r} needs torch to be trained, to run on CUDA, or to run without a graph; "
            'run: pip install "vocalsep[train]"'
        ) from error
    try:
        with torch.device("meta"):  # takes no memory
            made = nets.build(metadata["net"], metadata["options"]).state_dict()
        shapes = {key: tensor.shape for key, tensor in tensors.items()}
        if {key: tuple(value.shape) for key, value in made.items()} != shapes:
            raise ConfigError("its weights belong to another net or to other options")
        net = nets.build(metadata["net"], metadata["options"])
        state = {key: torch.from_numpy(tensor) for key, tensor in tensors.items()}
        net.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        )
    except (ConfigError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise _refuse(name, error) from error
    return net.eval().requires_grad_(False)


def _refuse(name: str, error: Exception) -> ModelError:
    return ModelError(f"model {name!r} is not compatible with this version of vocalsep ({_shorten(error)})")


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
    content = pack(metadata, tensors)
    with files.write_atomically(path) as temporary:
        temporary.write_bytes(content)


def pack(metadata: Mapping[str, Any], tensors: Mapping[str, Array]) -> bytes:
    """Return the content of a weights file.

    Args:
        metadata: All of its metadata: net, options, front end, graphs and what is known about the model.
        tensors: The weights by name.
    """
    complete = {**metadata, "tensors": _hash_tensors(tensors)}
    return serialise(dict(tensors), metadata={"vocalsep": json.dumps(complete, sort_keys=True)})


def _hash_tensors(tensors: Mapping[str, Array]) -> str:
    """Return the SHA-256 of the names, shapes, types and bytes of tensors."""
    sha256 = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        sha256.update(f"{key} {tensor.shape} torch.{tensor.dtype}\n".encode())  # files have always named torch's types
        sha256.update(tensor.tobytes())
    return sha256.hexdigest()
