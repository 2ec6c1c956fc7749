"""Spleeter's net: a U-Net for each stem, whose magnitudes are turned into a ratio mask.

Source: Romain Hennequin, Anis Khlif, Felix Voituret and Manuel Moussallam, "Spleeter: a fast and efficient music source
separation tool with pre-trained models", 2020. Layers and mask are those of its 2-stem model, so that its weights fit
(`vocalsep.interchange.spleeter`).

As in Spleeter:
- Each U-Net sees the magnitudes of both channels, rows up to 11 kHz and 512 frames at a time, and estimates the
  magnitudes of its stem: its input times a sigmoid.
- The kernels are 5 x 5 with a stride of 2. A map of even size is padded by one row before and two after, as TensorFlow
  does it.
- Skip connections carry a convolution's output before batch norm and activation. The lowest level has neither.
- The mask is the vocals' share of the squared magnitudes.

Departures: none in the net. It has no softmax variant, and dropout is left out.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocalsep.errors import ConfigError
from vocalsep.features import Linear
from vocalsep.nets.base import Batch, Net, disable_autocast
from vocalsep.shapes import Features, Magnitude, Mask

_CHANNELS = 2  # channels of the features: left and right
_NORM_EPSILON = 1e-3  # Keras' default
_MASK_EPSILON = 1e-10


@dataclass(frozen=True, kw_only=True)
class SpleeterOptions:
    """Options of `Spleeter`.

    Attributes:
        widths: Feature maps of each level, from half size down. Each level halves rows and frames.

    Raises:
        ConfigError: For values out of range.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ConfigError("Spleeter needs widths >= 1")


class Spleeter(Net):
    """Spleeter's 2-stem net. It takes two channels; with n levels, rows and frames must be multiples of 2^n.

    Args:
        options: Shape of the net.
    """

    Options = SpleeterOptions
    memory_format = torch.contiguous_format
    chunks = 1
    overlap = 0.125  # chunks are four times as long as those of other nets
    original_lead = 2

    def __init__(self, options: SpleeterOptions) -> None:
        super().__init__()
        self.options = options
        self.vocals, self.accompaniment = StemNet(options.widths), StemNet(options.widths)

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`."""
        vocals, accompaniment = (magnitude.square() for magnitude in self.estimate_magnitudes(features))
        return (vocals + _MASK_EPSILON / 2) / (vocals + accompaniment + _MASK_EPSILON)

    def estimate_magnitudes(self, features: Features) -> tuple[Magnitude, Magnitude]:
        """Estimate the magnitudes of vocals and accompaniment, each of the shape of the features.

        Args:
            features: Magnitudes of the mixture, ``(batch, 2, freq, frame)``.

        Raises:
            ConfigError: As `StemNet.forward`.
        """
        vocals, accompaniment = (
            (torch.sigmoid(net(features)) * features).float() for net in (self.vocals, self.accompaniment)
        )
        return vocals, accompaniment

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the L1 distances of both stems' magnitudes from the truth.

        Raises:
            ConfigError: If the front end does not compute magnitudes.
        """
        front_end = batch.front_end
        if not isinstance(front_end, Linear) or front_end.compression > 0 or front_end.exponent != 1:
            raise ConfigError("Spleeter needs a linear front end with compression = 0 and exponent = 1")
        estimates = self.estimate_magnitudes(batch.features)
        with disable_autocast(estimates[0]):
            mixture = front_end.group_channels(front_end.analyse(batch.mixture))
            truths = (front_end.normalise(front_end.group_channels(power), mixture) for power in batch.power)
            distances = [(estimate - truth).abs().mean() for estimate, truth in zip(estimates, truths, strict=True)]
        return dict(zip(("vocals", "accompaniment"), distances, strict=True))


class StemNet(nn.Module):
    """One stem's U-Net, from magnitudes to the stem's mask before its sigmoid.

    Args:
        widths: Feature maps of each level, as `SpleeterOptions.widths`.
        rank: Levels with more maps than this use two smaller layers, one of them 1 x 1, with `rank` maps between them.
            0 splits none, as in Spleeter; `vocalsep.nets.unet_hd` has fewer weights with it.
    """

    def __init__(self, widths: tuple[int, ...], rank: int = 0) -> None:
        super().__init__()
        inputs = (_CHANNELS, *widths[:-1])
        outputs = (1, *widths[:-1])
        between = [rank if 0 < rank < width else 0 for width in widths]
        self.down = nn.ModuleList(itertools.starmap(_make_halving, zip(inputs, widths, between, strict=True)))
        self.down_norms = nn.ModuleList(nn.BatchNorm2d(width, _NORM_EPSILON) for width in widths[:-1])
        # Each level gets its own skip connection and what comes from below, except for the lowest.
        below = [2 * width for width in widths[:-1]] + [widths[-1]]
        up = reversed(list(zip(below, outputs, between, strict=True)))
        self.up = nn.ModuleList(itertools.starmap(_make_doubling, up))
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(width, _NORM_EPSILON) for width in reversed(outputs))
        self.leave = nn.Conv2d(1, _CHANNELS, kernel_size=4, dilation=2, padding=3)

    def forward(self, features: Features) -> Tensor:
        """Compute the stem's mask before its sigmoid, of the shape of the features.

        Args:
            features: Magnitudes of the mixture, ``(batch, 2, freq, frame)``.

        Raises:
            ConfigError: If the features do not have two channels, or a size that the levels cannot halve.
        """
        step = 2 ** len(self.down)
        _, channels, freqs, frames = features.shape
        if channels != _CHANNELS or freqs % step or frames % step:
            raise ConfigError(
                f"Spleeter's U-Net needs a linear front end with channels = {_CHANNELS}, and freqs and frames that are "
                f"multiples of {step}, not {channels}, {freqs} and {frames}"
            )
        maps, skips = features, []
        for index, convolution in enumerate(self.down):
            skips.append(convolution(maps))
            if index < len(self.down_norms):
                maps = F.leaky_relu(self.down_norms[index](skips[-1]), 0.2)
        maps = skips.pop()
        for convolution, norm in zip(self.up, self.up_norms, strict=True):
            maps = norm(torch.relu(convolution(maps)))
            if skips:
                maps = torch.cat([skips.pop(), maps], dim=1)
        logits: Tensor = self.leave(maps)
        return logits


def _make_halving(inputs: int, outputs: int, between: int) -> nn.Module:
    """Make a convolution that halves the size of maps, or two layers with `between` maps between them."""
    if not between:
        return _Halving(inputs, outputs, kernel_size=5, stride=2)
    return nn.Sequential(
        _Halving(inputs, between, kernel_size=5, stride=2, bias=False), nn.Conv2d(between, outputs, kernel_size=1)
    )


def _make_doubling(inputs: int, outputs: int, between: int) -> nn.Module:
    """Make a convolution that doubles the size of maps, or two layers with `between` maps between them."""
    if not between:
        return _Doubling(inputs, outputs, kernel_size=5, stride=2, padding=1)
    return nn.Sequential(
        nn.Conv2d(inputs, between, kernel_size=1, bias=False),
        _Doubling(between, outputs, kernel_size=5, stride=2, padding=1),
    )


class _Halving(nn.Conv2d):
    """Convolution of maps of even size to half that size, with one row of zeros before and two after."""

    def forward(self, maps: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return _Padded.apply(maps, self.weight, self.bias, "Conv")  # type: ignore[no-any-return, no-untyped-call]
        return super().forward(F.pad(maps, (1, 2, 1, 2)))


class _Doubling(nn.ConvTranspose2d):
    """Transposed convolution to twice the size, without its first row and its last two."""

    def forward(self, maps: Tensor) -> Tensor:  # type: ignore[override]
        if torch.onnx.is_in_onnx_export():
            return _Padded.apply(maps, self.weight, self.bias, "ConvTranspose")  # type: ignore[no-any-return, no-untyped-call]
        return super().forward(maps)[..., :-1, :-1]  # it has dropped one row at either end


class _Padded(torch.autograd.Function):
    """A convolution whose padding differs before and after, which ONNX knows and torch does not."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor | None, kind: str) -> Tensor:
        """Compute what `_Halving` and `_Doubling` compute outside of an export."""
        del ctx
        if kind == "Conv":
            return F.conv2d(F.pad(maps, (1, 2, 1, 2)), weight, bias, stride=2)
        return F.conv_transpose2d(maps, weight, bias, stride=2, padding=1)[..., :-1, :-1]

    @staticmethod
    def symbolic(g: Any, maps: Any, weight: Any, bias: Any, kind: str) -> Any:
        """Write the node of the graph."""
        size = weight.type().sizes()[2:]
        tensors = (maps, weight) if bias is None else (maps, weight, bias)
        return g.op(kind, *tensors, kernel_shape_i=size, strides_i=[2, 2], pads_i=[1, 1, 2, 2])
