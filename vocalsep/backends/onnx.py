"""Runs nets with ONNX Runtime on a CPU: NumPy in, NumPy out, without torch."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from vocalsep.backends.graphs import INPUT, OUTPUTS, Graph
from vocalsep.errors import ConfigError, ModelError, describe_error, is_about_memory

if TYPE_CHECKING:
    from vocalsep.shapes import Array

_LARGE_BYTES = 2**26  # weights beyond this size are not reordered
_SILENT = 4  # log severity: only fatal errors; ONNX Runtime raises all others anyway


class OnnxBackend:
    """Runs a net's graphs. Several threads may call it at the same time, and each computes in its own thread.

    A graph is loaded when it is first needed, because a song rarely needs both.

    Args:
        name: Name of the model, for messages.
        graphs: The net's graphs without weights, by method.
        tensors: The weights by name. Those in half precision are widened to float32.
    """

    device = "cpu"

    def __init__(self, name: str, graphs: Mapping[str, Graph], tensors: Mapping[str, Array]) -> None:
        self._name, self._graphs = name, graphs
        self._tensors = {  # ONNX Runtime reads them where they are
            key: np.ascontiguousarray(tensor, np.float32)
            for key, tensor in tensors.items()
            if np.issubdtype(tensor.dtype, np.floating)
        }
        self._values = {key: onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for key, tensor in self._tensors.items()}
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._lock = threading.Lock()

    def place(self, array: Array) -> Array:
        """See `Backend.place`."""
        return array

    def run(self, features: Array) -> Array:
        """See `Backend.run`.

        Raises:
            ModelError: If the graph is damaged, or the features or weights do not fit it.
        """
        (mask,) = self._compute("forward", features)
        return mask

    def embed(self, features: Array) -> tuple[Array, Array]:
        """See `Backend.embed`.

        Raises:
            ConfigError: If the net does not cluster.
            ModelError: As `run`.
        """
        if "embed" not in self._graphs:
            raise ConfigError(f"model {self._name} does not cluster; use the net's own masks")
        embedding, mask = self._compute("embed", features)
        return embedding, mask

    def _compute(self, method: str, features: Array) -> list[Array]:
        session = self._open(method)
        try:
            answers: list[Array] = session.run(OUTPUTS[method], {INPUT: np.ascontiguousarray(features)})
        except Exception as error:  # ONNX Runtime's errors share no class
            raise self._explain("its net fails", error) from error
        return answers

    def _open(self, method: str) -> onnxruntime.InferenceSession:
        with self._lock:
            if method not in self._sessions:
                graph = self._graphs[method]
                values = {key: value for key, value in self._values.items() if key not in graph.unused}
                options = make_session_options()
                options.add_external_initializers(list(values), list(values.values()))
                if sum(tensor.nbytes for tensor in self._tensors.values()) > _LARGE_BYTES:
                    # Reordering maps and kernels takes a second copy of the weights, and is no faster for such nets.
                    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
                try:
                    session = onnxruntime.InferenceSession(graph.onnx, options, providers=["CPUExecutionProvider"])
                    if [output.name for output in session.get_outputs()] != OUTPUTS[method]:
                        raise ValueError("it has other outputs")
                except Exception as error:  # as above
                    raise self._explain("the net's graph is damaged or does not fit the weights", error) from error
                self._sessions[method] = session
            return self._sessions[method]

    def _explain(self, what: str, error: Exception) -> ModelError:
        if is_about_memory(error):
            return ModelError(f"model {self._name}: {describe_error(error)}")
        return ModelError(f"model {self._name}: {what} ({textwrap.shorten(str(error), 200, placeholder=' ...')})")


def make_session_options() -> onnxruntime.SessionOptions:
    """Return the options of all sessions.

    A call computes in one thread, because the extractor runs batches side by side. No thread spins while it waits, and
    the same input gives the same bits.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.use_deterministic_compute = True
    options.enable_mem_pattern = False  # it would hold one block for all of a call's maps beside those it has already
    options.log_severity_level = _SILENT
    return options
