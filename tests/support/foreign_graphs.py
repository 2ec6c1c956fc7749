"""ONNX files like those of other programs, small enough for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vocalsep.interchange import mdx

N_FFT, ROWS, FRAMES = 4_096, 1_024, 16  # of MDX-Net models here: chunks of a third of a second
SAMPLES = 6_000  # of models from waveform to waveform


def write_model(
    path: Path,
    nodes: Sequence[Any],
    shapes: tuple[Sequence[Any], Sequence[Any]],
    *,
    tensors: dict[str, np.ndarray] | None = None,
    names: tuple[str, str] = ("input", "output"),
    kind: int = TensorProto.FLOAT,
    properties: dict[str, str] | None = None,
    opsets: Sequence[tuple[str, int]] = (("", 17),),
) -> Path:
    """Write a graph with one input and one output."""
    ends = [helper.make_tensor_value_info(name, kind, shape) for name, shape in zip(names, shapes, strict=True)]
    initialisers = [numpy_helper.from_array(value, name) for name, value in (tensors or {}).items()]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets], ir_version=9)
    helper.set_model_props(model, properties or {})
    path.write_bytes(model.SerializeToString())
    return path


def write_mdx(
    path: Path,
    *,
    gain: float = 0.5,
    stem: str = "Vocals",
    compensate: float = 1.0,
    mixes: bool = False,
    n_fft: int = N_FFT,
    frames: int = FRAMES,
) -> Path:
    """Write an MDX-Net model and the JSON file that knows it.

    Args:
        path: The ONNX file.
        gain: What comes out is the mixture times this.
        stem: Name of what comes out.
        compensate: UVR's gain.
        mixes: Whether each bin also depends on its neighbours in time, nonlinearly, and on where it lies in the chunk.
        n_fft: FFT size.
        frames: Frames per chunk.
    """
    shape = ["batch", 4, ROWS, frames]
    tensors = {"gain": np.float32(gain)}
    nodes = [helper.make_node("Mul", ["input", "gain"], ["scaled" if mixes else "output"])]
    if mixes:
        kernel = 0.2 * np.random.RandomState(0).standard_normal((4, 4, 1, 3)).astype(np.float32)
        tensors |= {"kernel": kernel, "place": np.linspace(-0.1, 0.1, frames, dtype=np.float32)}
        nodes += [
            helper.make_node("Conv", ["scaled", "kernel"], ["near"], pads=[0, 1, 0, 1]),
            helper.make_node("Add", ["near", "place"], ["moved"]),
            helper.make_node("Tanh", ["moved"], ["small"]),
            helper.make_node("Mul", ["scaled", "small"], ["product"]),
            helper.make_node("Add", ["scaled", "product"], ["output"]),
        ]
    write_model(path, nodes, (shape, shape), tensors=tensors)
    entry = {
        "compensate": compensate,
        "mdx_dim_f_set": ROWS,
        "mdx_dim_t_set": int(np.log2(frames)),
        "mdx_n_fft_scale_set": n_fft,
        "primary_stem": stem,
    }
    known = path.parent / "mdx_model_data.json"
    content = json.loads(known.read_text()) if known.exists() else {}
    known.write_text(json.dumps(content | {mdx.compute_md5(path): entry}))
    return path


def write_waveform(path: Path, *, gain: float = 0.5, mixes: bool = False, samples: int = SAMPLES) -> Path:
    """Write a model of four stems, of which the vocals are the mixture times a gain.

    Args:
        path: The ONNX file.
        gain: The gain of the vocals.
        mixes: Whether each sample also depends on its neighbours, nonlinearly, and on where it lies in the slice.
        samples: Samples per slice.
    """
    gains = np.array([0.1, 0.2, 0.3, gain], np.float32).reshape(1, 4, 1, 1)
    tensors = {"gains": gains, "axis": np.array([1], np.int64)}
    nodes = [helper.make_node("Unsqueeze", ["mix" if not mixes else "moved", "axis"], ["whole"])]
    if mixes:
        kernel = 0.2 * np.random.RandomState(0).standard_normal((2, 2, 3)).astype(np.float32)
        tensors |= {"kernel": kernel, "place": np.linspace(0.5, 1, samples, dtype=np.float32)}
        nodes = [
            helper.make_node("Conv", ["mix", "kernel"], ["near"], pads=[1, 1]),
            helper.make_node("Tanh", ["near"], ["small"]),
            helper.make_node("Add", ["mix", "small"], ["sum"]),
            helper.make_node("Mul", ["sum", "place"], ["moved"]),
            *nodes,
        ]
    nodes.append(helper.make_node("Mul", ["whole", "gains"], ["stems"]))
    shapes = ([1, 2, samples], [1, 4, 2, samples])
    return write_model(path, nodes, shapes, tensors=tensors, names=("mix", "stems"))


def change(path: Path, edit: Any) -> Path:
    """Change a model in place: `edit` gets it as a message of onnx."""
    model = onnx.load_model(path)
    edit(model)
    path.write_bytes(model.SerializeToString())
    return path
