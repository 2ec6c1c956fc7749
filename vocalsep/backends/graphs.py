"""What a weights file says about running its net without torch: the net's graphs, and how songs are cut for it.

A graph is an ONNX model without weights, for one method of the net: "forward" computes the mask, "embed" the embedding
and the mask. The weights are the file's own tensors. The graph refers to them by name, so there is no second copy that
could differ.
"""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocalsep import config, files
from vocalsep.errors import ConfigError, ModelError

OUTPUTS = {"forward": ["mask"], "embed": ["embedding", "mask"]}
"""Names of each graph's outputs, by the method of the net that it computes."""

INPUT = "features"
"""Name of the graphs' only input."""

_MAX_OVERLAP, _MOST = 0.95, 256  # beyond these, a song would take hours or gigabytes
_MAX_BYTES = 2**24  # of a decompressed graph; they take a few hundred kB


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An ONNX model without weights.

    Attributes:
        onnx: The model, whose initialisers are external: the net's weights, under their names in torch.
        unused: Names of weights that the graph does not need.
    """

    onnx: bytes
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a net is run on songs.

    Attributes:
        overlap: Share of each chunk of a song that the next chunk covers again.
        chunks: Number of chunks that the net runs on at once.
        embeds: Whether the net computes embeddings, so that a song's bins can be clustered.
        clusters_by_default: Whether extraction uses clusters by default instead of the net's own mask.
        original_lead: For a net of another program: the number of frames of silence that it puts before a song. It
            cuts the song without overlap.
        frame_step: Chunks may have any multiple of this number of frames; None if they must be as long as in training.

    Raises:
        ConfigError: For values out of range.
    """

    overlap: float
    chunks: int
    embeds: bool = False
    clusters_by_default: bool = False
    original_lead: int | None = None
    frame_step: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= _MAX_OVERLAP:
            raise ConfigError(f"running a net needs overlap from 0 to {_MAX_OVERLAP}, not {self.overlap}")
        for name, value, least in (
            ("chunks", self.chunks, 1),
            ("original_lead", self.original_lead or 0, 0),
            ("frame_step", self.frame_step or 1, 1),
        ):
            if not least <= value <= _MOST:
                raise ConfigError(f"running a net needs {name} from {least} to {_MOST}, not {value}")


def encode(graphs: Mapping[str, Graph], run: RunSettings) -> dict[str, Any]:
    """Return the metadata of graphs and run settings. `decode` reads them."""
    entries = {
        method: {"onnx": base64.b64encode(zlib.compress(graph.onnx, 9)).decode(), "unused": list(graph.unused)}
        for method, graph in graphs.items()
    }
    return {"graphs": entries, "run": config.to_dict(run)}


def decode(metadata: Mapping[str, Any]) -> tuple[dict[str, Graph], RunSettings]:
    """Read the graphs by method, and the run settings, from metadata.

    Raises:
        ModelError: If they are missing, damaged or do not fit each other.
    """
    try:
        graphs = {
            method: Graph(
                onnx=_decompress(base64.b64decode(entry["onnx"], validate=True)), unused=tuple(entry["unused"])
            )
            for method, entry in metadata["graphs"].items()
        }
        run = config.build(RunSettings, metadata["run"], "run")
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        raise ModelError(f"the net's graph is damaged ({error})") from error
    expected = {"forward", "embed"} if run.embeds else {"forward"}
    if graphs and graphs.keys() != expected:
        raise ModelError(f"graphs of {sorted(graphs)} where {sorted(expected)} are needed")
    return graphs, run


def read_cache(key: str) -> tuple[dict[str, Graph], RunSettings] | None:
    """Return the graphs and run settings that `write_cache` kept, or None.

    Args:
        key: SHA-256 of the weights file.
    """
    try:
        return decode(files.parse_json(_find_cached(key).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, ModelError):
        return None


def write_cache(key: str, metadata: Mapping[str, Any]) -> None:
    """Keep graphs for a weights file that has none. If that fails, they are only made again next time.

    Args:
        key: SHA-256 of the weights file.
        metadata: Result of `encode`.
    """
    path = _find_cached(key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps(metadata))


def _find_cached(key: str) -> Path:
    return files.find_cache_folder() / "graphs" / f"{key}.json"


def _decompress(content: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    graph = decompressor.decompress(content, _MAX_BYTES)  # a few bytes could claim gigabytes
    if not decompressor.eof:
        raise ValueError("it ends too early or is too large")
    return graph
