"""Runs graphs of other programs with ONNX Runtime on a CPU, within a limit on memory.

What a graph computes on the way may be far larger than the graph itself. So each graph gets an allocator of its own
that refuses to hand out more than a limit. ONNX Runtime also computes constants while it loads a graph, beyond the
reach of that allocator; for foreign graphs it does so only when the graph runs.
"""

from __future__ import annotations

import re
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from vocalsep.backends.onnx import make_session_options
from vocalsep.errors import ModelError

if TYPE_CHECKING:
    from vocalsep.shapes import Array

_MEMORY = 2**32  # bytes up to which a graph may run in several threads at once
_MOST_RUNS = 4  # at once: as many as an estimator looks ahead
_LEAST = 2**28  # bytes for any graph
_WEIGHTS = 4  # ONNX Runtime keeps weights in up to this many forms

_registering = threading.Lock()  # an allocator is registered for the process, and the next session takes it


class ForeignGraph:
    """A graph with one input and one output of interest. Several threads may run it at the same time.

    Args:
        name: Name of the model, for messages.
        path: The ONNX file, checked by `vocalsep.interchange.inspection`.
        output: Name of the output.
        weights: Size of its weights in bytes.
        run: Bytes that one run may take. Large graphs do not run in all threads at once.

    Raises:
        ModelError: If ONNX Runtime cannot load the file.
    """

    device = "cpu"

    def __init__(self, name: str, path: Path, *, output: str, weights: int, run: int) -> None:
        self._name, self._output = name, output
        runs = min(_MOST_RUNS, max(1, _MEMORY // max(1, run)))
        self._runs = threading.Semaphore(runs)
        self._memory = _LEAST + _WEIGHTS * weights + runs * run
        options = make_session_options()
        options.add_session_config_entry("session.use_env_allocators", "1")
        info = onnxruntime.OrtMemoryInfo(
            "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
        )
        arena = onnxruntime.OrtArenaCfg(
            {"max_mem": self._memory, "arena_extend_strategy": 1}
        )  # 1: no more than is asked for
        try:
            with _registering:
                onnxruntime.create_and_register_allocator(info, arena)
                self._session = onnxruntime.InferenceSession(
                    str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
                )
        except Exception as error:  # ONNX Runtime's errors share no class
            raise self._explain("ONNX Runtime cannot load it", error) from error
        self._input = self._session.get_inputs()[0]
        self._half = self._input.type == "tensor(float16)"

    def run(self, values: Array) -> Array:
        """Compute the output.

        Args:
            values: The input, float32.

        Returns:
            The output, float32.

        Raises:
            ModelError: If the graph fails, or needs more memory than it may take.
        """
        values = np.ascontiguousarray(values, np.float16 if self._half else np.float32)
        try:
            with self._runs:
                (answer,) = self._session.run([self._output], {self._input.name: values})
        except Exception as error:  # as above
            raise self._explain("it fails", error) from error
        return np.asarray(answer, np.float32)

    def _explain(self, what: str, error: Exception) -> ModelError:
        text = str(error)
        if "Available memory of" in text:
            return ModelError(f"model {self._name}: it needs more than {self._memory >> 20} MiB of memory; not run")
        reason = re.sub(r"/\S*/onnxruntime/\S*|\[ONNXRuntimeError\] : \d+ : ", "", text)  # paths of its own source code
        return ModelError(f"model {self._name}: {what} ({textwrap.shorten(reason, 200, placeholder=' ...')})")
