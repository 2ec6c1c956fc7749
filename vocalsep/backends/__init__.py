"""Backends run a model's net on songs: `onnx` on a CPU, without torch, and `torch` on CUDA.

Nets are written and trained in torch. For a CPU, each net is exported once as a graph (`export`), and ONNX Runtime runs
the graph with the weights of the model's file. The rest of the engine sees a `Backend` and does not know which it is.

The functions here import torch and ONNX Runtime only when they are called.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from vocalsep.backends import graphs
from vocalsep.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from vocalsep.nets import Net
    from vocalsep.shapes import Array

Kind = Literal["auto", "onnx", "torch"]


class Backend(Protocol):
    """Runs a net. Several threads may call one backend at the same time."""

    device: str
    """Where the net runs, "cpu" or "cuda"."""

    def place(self, array: Array) -> Any:
        """Put a numpy array where the net runs: a tensor on CUDA, the array itself on a CPU. `to_numpy` undoes it."""

    def run(self, features: Array) -> Array:
        """Estimate the vocals' mask.

        Args:
            features: ``(batch, channel, row, frame)``, float32, any batch size.

        Returns:
            ``(batch, channel or 1, row, frame)``, in [0, 1].
        """

    def embed(self, features: Array) -> tuple[Array, Array]:
        """Compute embeddings and the mask that `run` returns. Only clustering nets can.

        Args:
            features: ``(batch, 1, row, frame)``, float32, any batch size.

        Returns:
            The embeddings, ``(batch, dimension, row, frame)``, and the mask, ``(batch, 1, row, frame)``.

        Raises:
            ConfigError: If the net does not cluster.
        """


class Runnable(Protocol):
    """What a backend needs of a model; see `vocalsep.weights.Model`."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def graphs(self) -> Mapping[str, graphs.Graph]:
        """The net's graphs without weights, by the net's method; see `vocalsep.backends.graphs`."""

    @property
    def tensors(self) -> Mapping[str, Array]:
        """The weights by name, as stored."""

    @property
    def net(self) -> Net:
        """The net in torch."""


def open_backend(model: Runnable, device: str = "auto", kind: Kind = "auto") -> Backend:
    """Get a model ready to run.

    Args:
        model: The model.
        device: "auto" (CUDA when available, otherwise the CPU), "cpu" or "cuda".
        kind: "onnx" for ONNX Runtime, "torch" for torch. "auto" takes ONNX Runtime on a CPU if the model has a graph.

    Raises:
        ConfigError: If the device is not available.
        ModelError: If the model has no graph or a damaged one, or needs torch where it is not installed.
    """
    chosen = choose_device(device if kind != "onnx" else "cpu")
    if kind == "onnx" or (kind == "auto" and chosen == "cpu" and model.graphs):
        from vocalsep.backends.onnx import OnnxBackend

        if not model.graphs:
            raise ModelError(f"model {model.name} has no graph for ONNX Runtime; run it with torch")
        return OnnxBackend(model.name, model.graphs, model.tensors)
    net = model.net  # without torch, this raises an error that says what to install
    from vocalsep.backends.torch import TorchBackend

    return TorchBackend(net, chosen)


def to_numpy(array: Any) -> Any:
    """Return an array, or a tensor on any device, as a numpy array."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def describe_net(net: Net, shape: tuple[int, int, int], *, required: bool = False) -> dict[str, Any]:
    """Return the metadata needed to run a net without torch: its graphs and its run settings.

    Weights without a graph are still worth saving. A missing onnx or a failed export is an error only if `required` is
    true.

    Args:
        net: The net.
        shape: Channels, rows and frames of the features.
        required: Whether there must be a graph.

    Raises:
        ImportError: If a graph is required and onnx is not installed.
        ModelError: If a graph is required and the net cannot be exported.
    """
    from vocalsep.backends import export

    run = export.get_run_settings(net)
    try:
        return graphs.encode(export.export_graphs(net, shape), run)
    except (ImportError, ModelError):
        if required:
            raise
        return graphs.encode({}, run)


def get_run_settings(net: Net) -> graphs.RunSettings:
    """Return how a net is run on songs."""
    from vocalsep.backends import export

    return export.get_run_settings(net)


def choose_device(wanted: str = "auto") -> str:
    """Choose the device to run on, "cpu" or "cuda".

    Args:
        wanted: "auto" (CUDA when available, otherwise the CPU), "cpu" or "cuda".

    Raises:
        ConfigError: If `wanted` is "cuda" and CUDA is not available.
    """
    if wanted == "cpu":
        return "cpu"
    available = _has_cuda()
    if wanted == "cuda" and not available:
        raise ConfigError(
            "device cuda: no CUDA device found, or torch is missing or built without CUDA; use --device cpu"
        )
    return "cuda" if available else "cpu"


def _has_cuda() -> bool:
    if "torch" not in sys.modules and not _has_nvidia_driver():
        return False  # importing torch takes seconds
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def _has_nvidia_driver() -> bool:
    import ctypes

    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
