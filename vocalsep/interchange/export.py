"""Writes our models for other programs. Needs torch and onnx, as training does.

- *onnx* is the net alone, from features to mask, with a JSON file that says all that a program needs around it.
- *mdx* is a graph from spectrum to the vocals' spectrum, as UVR's MDX-Net models are: ``(batch, 4, dim_f, dim_t)``, the
  real and imaginary parts of the left channel, then those of the right one. Features, mask, and the mask above the
  net's band are inside. The JSON file beside it knows it by its MD5, as UVR and audio-separator look models up.
- *sherpa-onnx* is the same graph with the metadata by which sherpa-onnx knows such models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vocalsep import backends, config, files
from vocalsep.backends import export
from vocalsep.backends.graphs import INPUT, OUTPUTS, Graph, RunSettings
from vocalsep.errors import ModelError, describe_error
from vocalsep.features import FrontEnd, Linear
from vocalsep.interchange import mdx
from vocalsep.nets import Net
from vocalsep.release import __version__
from vocalsep.shapes import Array

Kind = Literal["onnx", "mdx", "sherpa-onnx"]

MDX_JSON = "mdx_model_data.json"
_STEMS = {"model_type": "UVR", "stems": "2", "primary_stem": "Vocals"}


class Exportable(Protocol):
    """What this module needs of a model; see `vocalsep.weights.Model`."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def front_end(self) -> FrontEnd:
        """Its front end."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is known about it."""

    @property
    def run(self) -> RunSettings:
        """How its net is run on songs."""

    @property
    def net(self) -> Net:
        """Its net."""


def write(model: Exportable, folder: Path, kind: Kind, *, overwrite: bool = False) -> list[Path]:
    """Write a model for another program. Files appear complete or not at all.

    Args:
        model: The model.
        folder: Where to write it. It is made if it does not exist.
        kind: The program's format; see the module's docstring.
        overwrite: Whether to replace a file of the same name.

    Returns:
        The files, the model first.

    Raises:
        ModelError: If the model has no such format, a file exists, or the folder cannot be written to.
        ImportError: If onnx is missing.
    """
    path = folder / f"{model.name}.onnx"
    beside = folder / (MDX_JSON if kind == "mdx" else f"{model.name}.json")
    if path.exists() and not overwrite:
        raise ModelError(f"{path}: exists already; add --overwrite to replace it")
    if kind == "onnx":
        made = _attach_weights(model)
    else:
        made = _make_spectral_graph(model)
        if kind == "sherpa-onnx":
            _describe_for_sherpa(made, _require_linear(model))
    made.producer_name, made.producer_version = "vocalsep", __version__
    made.doc_string = f"{model.name}; licence of the weights: {model.metadata.get('licence', 'unknown')}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.write_atomically(path) as temporary:
            temporary.write_bytes(made.SerializeToString(deterministic=True))
        if kind == "onnx":
            files.write_text(beside, files.dump_json(describe(model), indent=2) + "\n")
        elif kind == "mdx":
            known = mdx.read_json(beside) if beside.is_file() else {}
            known[mdx.compute_md5(path)] = describe_for_mdx(_require_linear(model))
            files.write_text(beside, json.dumps(known, indent=2) + "\n")
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written ({describe_error(error)})") from error
    return [path] if kind == "sherpa-onnx" else [path, beside]


def describe(model: Exportable) -> dict[str, Any]:
    """Return what a program needs to run a model's net: its front end, and how songs are cut and masked."""
    front_end = model.front_end
    channels, rows, frames = front_end.input_shape
    return {
        "name": model.name,
        "licence": model.metadata.get("licence", ""),
        "made_by": f"vocalsep {__version__}",
        "input": {"name": INPUT, "shape": ["batch", channels, rows, frames]},
        "output": {"name": OUTPUTS["forward"][0], "shape": ["batch", "channel or 1", rows, frames], "range": [0, 1]},
        "front_end": config.to_dict(front_end),
        "rows_hz": [round(hz, 3) for hz in front_end.band_hz.tolist()],
        "overlap": model.run.overlap,
        "steps": [
            "resample the song to front_end.rate",
            "STFT: frame t is centred on sample t * hop; the song counts as zero outside; periodic window",
            f"features of each chunk of {frames} frames, as in vocalsep/features ({front_end.kind})",
            "mask = net(features)",
            "average the masks of overlapping chunks under sin^2(pi (i + 1/2) / frames)",
            f"above the highest row, the mask is {_describe_above(front_end)}",
            "vocals = inverse STFT of mask * spectrum; accompaniment = song - vocals",
        ],
    }


def _describe_above(front_end: FrontEnd) -> str:
    return "0" if front_end.mask_above == "zero" else "the mean of its rows above 3/4 of the highest row's frequency"


def describe_for_mdx(front_end: Linear) -> dict[str, Any]:
    """Return a model's entry in UVR's ``mdx_model_data.json``."""
    return {
        "compensate": 1.0,
        "mdx_dim_f_set": front_end.n_fft // 2,
        "mdx_dim_t_set": front_end.frames.bit_length() - 1,
        "mdx_n_fft_scale_set": front_end.n_fft,
        "primary_stem": "Vocals",
    }


def _describe_for_sherpa(made: Any, front_end: Linear) -> None:
    """Add the metadata by which sherpa-onnx knows a model of UVR's."""
    numbers = {
        "sample_rate": front_end.rate,
        "n_fft": front_end.n_fft,
        "center": 1,
        "win_length": front_end.n_fft,
        "hop_length": front_end.hop,
        "dim_t": front_end.frames,
        "dim_f": front_end.n_fft // 2,
        "dim_c": 4,
    }
    properties = _STEMS | {"window_type": front_end.window} | {key: str(value) for key, value in numbers.items()}
    for key, value in properties.items():
        made.metadata_props.add(key=key, value=value)


def _require_linear(model: Exportable) -> Linear:
    """Return the model's front end if it works as UVR's programs do.

    Raises:
        ModelError: If it does not.
    """
    front_end = model.front_end
    if (
        not isinstance(front_end, Linear)
        or (front_end.rate, front_end.hop, front_end.channels, front_end.window) != (mdx.RATE, mdx.HOP, 2, "hann")
        or front_end.frames & (front_end.frames - 1)
    ):
        raise ModelError(
            f"model {model.name}: cannot be exported in this format, which is for nets that see the spectrum of a "
            f"44.1 kHz stereo song with a hop of {mdx.HOP:,} and a Hann window; --for onnx works with every model"
        )
    return front_end


def _attach_weights(model: Exportable) -> Any:
    """Return the ONNX model of a net with its weights."""
    import onnx

    net = model.net
    graph: Graph = export.export_graphs(net, model.front_end.input_shape)["forward"]
    made = onnx.load_from_string(graph.onnx)
    state = net.state_dict()
    for initialiser in made.graph.initializer:
        if initialiser.name in state:
            values: Array = backends.to_numpy(state[initialiser.name].float())
            initialiser.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), initialiser.name))
    return made


def _make_spectral_graph(model: Exportable) -> Any:
    """Return the ONNX model from spectrum to the vocals' spectrum."""
    front_end = _require_linear(model)
    shape = (4, front_end.n_fft // 2, front_end.frames)
    return export.trace(_SpectralNet(model.net, front_end).eval(), shape, "input", ["output"])


class _SpectralNet(nn.Module):
    """A net with its features before it and its mask applied, from spectrum to the vocals' spectrum.

    Args:
        net: The net.
        front_end: Its front end.
    """

    def __init__(self, net: Net, front_end: Linear) -> None:
        super().__init__()
        self.net, self._front_end = net, front_end

    def forward(self, parts: Tensor) -> Tensor:
        """Mask spectra.

        Args:
            parts: ``(batch, 4, freq, frame)``: real and imaginary parts of the left channel, then of the right one.

        Returns:
            Same shape.
        """
        pairs = parts.reshape(parts.shape[0], 2, 2, *parts.shape[2:])  # batch, channel, part, freq, frame
        seen = pairs[..., : self._front_end.freqs, :]
        power = seen.square().sum(dim=2)
        if self._front_end.side:
            side = (seen[:, :1] - seen[:, 1:]).square().sum(dim=2) / 2
            power = torch.cat([power, side], dim=1)
        mask = self._front_end.spread(self.net(self._front_end.normalise(power)))[:, :, : parts.shape[2]]
        masked: Tensor = pairs * mask.unsqueeze(2)
        return masked.reshape(parts.shape)
