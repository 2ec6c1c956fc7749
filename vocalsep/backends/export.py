"""Exports nets as ONNX graphs without weights. Needs torch and onnx, as training does."""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vocalsep.backends.graphs import INPUT, OUTPUTS, Graph, RunSettings
from vocalsep.errors import ModelError
from vocalsep.nets import ClusteringNet, Net

_OPSET = 18  # ONNX Runtime 1.14 and later read it
_FREE = {0: "batch"}


def get_run_settings(net: Net) -> RunSettings:
    """Return how a net is run on songs."""
    embeds = isinstance(net, ClusteringNet)
    return RunSettings(
        overlap=net.overlap,
        chunks=net.chunks,
        embeds=embeds,
        clusters_by_default=isinstance(net, ClusteringNet) and net.clusters_by_default,
        original_lead=net.original_lead,
        frame_step=net.frame_step,
    )


def export_graphs(net: Net, shape: tuple[int, int, int]) -> dict[str, Graph]:
    """Export a net's graphs, by method. They depend on its class and options, not on its weights.

    The first export takes seconds. Further ones of the same class, options and shape cost nothing.

    Args:
        net: The net, built as ``Net(options)``.
        shape: Channels, rows and frames of the features.

    Raises:
        ImportError: If onnx is not installed.
        ModelError: If the net cannot be exported.
    """
    methods = ["forward", "embed"] if isinstance(net, ClusteringNet) else ["forward"]
    return {method: _export(type(net), net.options, shape, method) for method in methods}


@functools.lru_cache(maxsize=16)
def _export(kind: type[Net], options: Any, shape: tuple[int, int, int], method: str) -> Graph:
    net = _build_with_distinct_weights(kind, options)
    net.forward = getattr(net, method)  # type: ignore[method-assign] # the exporter calls no other method
    free = {0: "batch", 3: "frame"} if net.frame_step else _FREE
    return _detach_weights(trace(net, shape, INPUT, OUTPUTS[method], free=free, fold=False), net.state_dict())


def trace(
    net: nn.Module,
    shape: tuple[int, int, int],
    source: str,
    outputs: list[str],
    *,
    free: Mapping[int, str] = _FREE,
    fold: bool = True,
) -> Any:
    """Return the ONNX model of a net in evaluation mode.

    Args:
        net: The net.
        shape: Shape of its input, without the batch.
        source: Name of the input.
        outputs: Names of the outputs.
        free: Axes of any size, of input and outputs, and their names.
        fold: Whether to fold constants, batch norms among them. Without that, all weights keep their names.

    Raises:
        ImportError: If onnx is not installed.
        ModelError: If the net cannot be exported.
    """
    import onnx

    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            path = Path(folder) / "net.onnx"
            warnings.simplefilter("ignore")  # it is deprecated, and treats shapes as fixed
            torch.onnx.export(
                net,
                (torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)),),
                path,
                input_names=[source],
                output_names=outputs,
                dynamic_axes={name: dict(free) for name in (source, *outputs)},
                opset_version=_OPSET,
                dynamo=False,  # the other exporter needs onnxscript as well
                training=torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=fold,  # ONNX Runtime does it too, when it loads the graph
            )
            return onnx.load_model(path)
    except Exception as error:  # the exporter's errors share no class
        raise ModelError(f"this net cannot be exported for ONNX Runtime ({' '.join(str(error).split())})") from error


def _build_with_distinct_weights(kind: type[Net], options: Any) -> Net:
    """Build a net for export. No two of its weights are equal, because the exporter merges those that are."""
    with torch.random.fork_rng(devices=[]):
        net = kind(options).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=generator)
    return net


def _detach_weights(model: Any, state: dict[str, Tensor]) -> Graph:
    """Remove the values of all weights from an ONNX model. What remains are their names, types and shapes."""
    unused = {name for name, tensor in state.items() if tensor.is_floating_point()}
    for initialiser in model.graph.initializer:
        if initialiser.name in state:
            unused.remove(initialiser.name)
            initialiser.ClearField("raw_data")
            initialiser.data_location = type(initialiser).EXTERNAL
            initialiser.external_data.add(key="location", value="weights")  # required, but nothing is read from there
    return Graph(onnx=model.SerializeToString(deterministic=True), unused=tuple(sorted(unused)))
