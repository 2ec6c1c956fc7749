"""U-Net: a convolutional encoder and decoder with skips, from log-mel to a proportion mask.

Source: Chenyu Xi, "Vocal track extraction using neural networks" (the UH-net paper), 2019, section IV.B, after
Ronneberger, Fischer and Brox, "U-net: Convolutional networks for biomedical image segmentation", 2015.

As in the paper: one channel of 128x128 log-mel in, four down-sampling and four up-sampling stages, skips between
stages of equal size, dropout 0.5, a proportion mask out, binary cross-entropy on it.

Departures:
- `width` is free. The paper's is 64; the shipped model is narrower, since cost grows with its square.
- All four stages halve both axes, and skips meet feature maps of their own size. (In the paper's code two of the four
  did not pool, and the decoder was cropped, so that skips and decoder did not show the same place.)
- `spectral` adds a loss on the masked spectrum itself, which weighs every bin by how much it sounds; `bce` 1 and
  `spectral` 0 is the paper's loss.
- The text names dropout but not its place; here it lies where the maps are smallest: below the last pooling, and
  after the two deepest stages of the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vocalsep import masks
from vocalsep.errors import ConfigError
from vocalsep.nets.base import Batch, Net, full_precision, mask_terms
from vocalsep.shapes import Features, Mask

_STAGES = 4
_WIDTHS = (1, 2, 4, 8, 8)  # of the five levels, in units of `width`


@dataclass(frozen=True, kw_only=True)
class UNetOptions:
    """Options of `UNet`.

    Attributes:
        channels: Maps that the net is shown; one is the front end's, those of a `uhnet` are three.
        width: Feature maps at full size; deeper levels have 2, 4, 8 and 8 times as many.
        dropout: Share of activations that are dropped in training.
        bce: Weight of the binary cross-entropy of the mask.
        target: What the cross-entropy compares the mask with: the "proportion" mask, or the "binary" one.
        spectral: Weight of the L1 distance of the masked spectrum.

    Raises:
        ConfigError: For values out of range.
    """

    channels: int = 1
    width: int = 64
    dropout: float = 0.5
    bce: float = 1.0
    target: Literal["proportion", "binary"] = "proportion"
    spectral: float = 0.0

    def __post_init__(self) -> None:
        if min(self.channels, self.width) < 1 or not 0 <= self.dropout < 1 or min(self.bce, self.spectral) < 0:
            raise ConfigError("a U-Net needs channels and width >= 1, dropout in [0, 1) and weights of the losses >= 0")
        if self.bce + self.spectral == 0:
            raise ConfigError("a U-Net needs at least one loss: bce and spectral are both 0")


class UNet(Net):
    """The U-Net. Bands and frames must be multiples of 16.

    Args:
        options: Width, dropout and losses.
    """

    Options = UNetOptions

    def __init__(self, options: UNetOptions) -> None:
        super().__init__()
        self.options = options
        widths = [options.width * factor for factor in _WIDTHS]
        self.down = nn.ModuleList(
            _double(inside, outside) for inside, outside in zip([options.channels, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[i + 1], widths[i], kernel_size=2, stride=2) for i in range(_STAGES)
        )
        self.merge = nn.ModuleList(_double(2 * widths[i], widths[i]) for i in range(_STAGES))
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Conv2d(widths[0], 1, kernel_size=1)

    def logits(self, features: Features) -> Tensor:
        """The mask before its sigmoid, ``(batch, 1, band, frame)``.

        Raises:
            ConfigError: If the front end has other channels than these, or bands or frames that do not fit.
        """
        channels, *size = features.shape[1:]
        if channels != self.options.channels or any(length % 2**_STAGES for length in size):
            raise ConfigError(
                f"this U-Net needs channels = {self.options.channels}, bands and frames in multiples of {2**_STAGES}, "
                f"not {channels} and {size[0]} x {size[1]}"
            )
        maps = self.down[0](features)
        skips = [maps]
        for stage in self.down[1:]:
            maps = stage(self.pool(maps))
            skips.append(maps)
        maps = self.dropout(skips.pop())
        for level in reversed(range(_STAGES)):
            maps = self.merge[level](torch.cat([skips[level], self.up[level](maps)], dim=1))
            if level >= _STAGES - 2:
                maps = self.dropout(maps)
        logits: Tensor = self.head(maps)
        return logits

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`."""
        return torch.sigmoid(self.logits(features))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """BCE of the mask and L1 of the masked spectrum, each with its weight."""
        logits = self.logits(batch.features).float()
        with full_precision(logits):
            return self.terms(logits, batch)

    def terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, from the mask before its sigmoid."""
        options = self.options
        ideal = masks.binary if options.target == "binary" else masks.ratio
        return mask_terms(batch, torch.sigmoid(logits), logits, bce=options.bce, spectral=options.spectral, ideal=ideal)


def _double(inside: int, outside: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for first in (inside, outside):
        layers += [
            nn.Conv2d(first, outside, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
