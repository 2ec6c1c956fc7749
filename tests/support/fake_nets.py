"""Models that need no training: nets that return a known mask, and narrow nets with random weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vocalsep import nets
from vocalsep.extraction import Parts, StreamingSeparator
from vocalsep.features import FrontEnd, Linear, LogMel
from vocalsep.nets import Batch, Net
from vocalsep.shapes import Features, Mask, Waveform
from vocalsep.weights import Model

PAPER = LogMel()  # 16 kHz, chunks of two seconds
SMALL = LogMel(rate=8_000, n_fft=256, hop=64, bands=16, frames=32)  # chunks of a quarter of a second
LINEAR = Linear(rate=8_000, n_fft=256, hop=64, freqs=64, frames=32)  # the same for stereo, with rows up to 2 kHz


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of a net without options."""


class ConstantNet(Net):
    """Returns the same mask for any input: one number, or one per row."""

    Options = NoOptions

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1)

    def forward(self, features: Features) -> Mask:
        return self.value.expand(features.shape[-2:]).expand(len(features), 1, -1, -1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError


class LowBandNet(ConstantNet):
    """Returns 1 in frames whose lower half of the bands is louder than the upper half, else 0."""

    def __init__(self) -> None:
        super().__init__(1.0)

    def forward(self, features: Features) -> Mask:
        low, high = (half.amax(dim=-2, keepdim=True) for half in features.chunk(2, dim=-2))
        return (low > high).to(features) * super().forward(features)


class FailingNet(ConstantNet):
    """Returns 1 for a number of batches, then raises an error."""

    def __init__(self, error: BaseException, after: int = 1) -> None:
        super().__init__(1.0)
        self.error, self.left = error, after

    def forward(self, features: Features) -> Mask:
        if len(features):
            self.left -= 1
        if self.left < 0:
            raise self.error
        return super().forward(features)


def make_model(net: Net, front_end: FrontEnd = PAPER, name: str = "fake") -> Model:
    """Make a model from any net."""
    return Model.from_net(name, net.eval().requires_grad_(False), front_end)


def constant(value: Any, front_end: FrontEnd = PAPER) -> Model:
    """Make a model whose mask is `value` everywhere, or one value per row."""
    return make_model(ConstantNet(value), front_end)


def random_unet(front_end: LogMel = SMALL, seed: int = 0) -> Model:
    """Make an untrained U-Net of width 4 whose masks use all of [0, 1] and depend on the input."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nets.build("unet", {"width": 4, "dropout": 0.0})
        inputs = torch.randn(4, 1, front_end.bands, front_end.frames)
    assert isinstance(net.head, nn.Conv2d)
    return make_model(_spread_masks(net, net.head, inputs), front_end, name="random")


def random_uhnet(front_end: Linear = LINEAR, seed: int = 0) -> Model:
    """Make an untrained small UH-net whose masks use all of [0, 1] and depend on the input."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape = {"freqs": front_end.freqs, "sub_bands": 4, "widths": [4, 6, 8], "recurrent": 8}
        net = nets.build("uhnet-hd", shape | {"side": front_end.side})
        inputs = torch.randn(4, *front_end.input_shape).abs()
    assert isinstance(net.leave, nn.Conv2d)
    return make_model(_spread_masks(net, net.leave, inputs), front_end, name="random")


def _spread_masks(net: Net, head: nn.Conv2d, inputs: Tensor) -> Net:
    """Fill the statistics of the batch norms, and scale the last layer so that masks use all of [0, 1]."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    assert head.bias is not None
    with torch.no_grad():
        net(inputs)
        logits = torch.logit(net.eval()(inputs).double(), eps=1e-9)
        scale = 3 / float(logits.std())
        head.bias.sub_(float(logits.mean())).mul_(scale)
        head.weight.mul_(scale)
    return net


def noise(channels: int, samples: int, seed: int = 0, level: float = 0.2) -> Waveform:
    """Return white noise, ``(channel, time)``, float32."""
    return (level * torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed))).numpy()


def tone(hz: float, rate: int, seconds: float, channels: int = 1) -> Waveform:
    """Return a sine, ``(channel, time)``, float32."""
    phase = 2 * np.pi * hz * np.arange(round(seconds * rate)) / rate
    return np.tile((0.3 * np.sin(phase)).astype(np.float32), (channels, 1))


def quantise(samples: Waveform, bits: int) -> Waveform:
    """Round samples to the values that a fixed-point file of this bit depth can hold."""
    scale = 2.0 ** (bits - 1)
    return (np.clip(np.round(np.float64(samples) * scale), -scale, scale - 1) / scale).astype(np.float32)


def split_in_blocks(samples: Any, sizes: list[int]) -> Iterator[Any]:
    """Cut the last axis into blocks of the given sizes, over and over; at least one size must not be 0."""
    at = turn = 0
    while at < samples.shape[-1]:
        size = sizes[turn % len(sizes)]
        yield samples[..., at : at + size]
        at, turn = at + size, turn + 1


def separate_in_blocks(separator: StreamingSeparator, mixture: Waveform, sizes: list[int]) -> Parts:
    """Push a song in blocks of the given sizes, and return its parts."""
    parts = [separator.push(block) for block in split_in_blocks(mixture, sizes)]
    parts.append(separator.finish())
    return Parts(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))


def snr_db(reference: Any, estimate: Any) -> float:
    """Return the level of the reference relative to the error in dB; infinite if there is no error."""
    wide = np.complex128 if np.iscomplexobj(reference) else np.float64
    reference, estimate = np.asarray(reference, wide), np.asarray(estimate, wide)
    error = float(np.square(np.abs(reference - estimate)).sum())
    return 10 * math.log10(float(np.square(np.abs(reference)).sum()) / error) if error else math.inf
