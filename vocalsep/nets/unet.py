"""U-Net: a convolutional encoder and decoder with skip connections, from a log-mel chunk to a proportion mask.

Source: Chenyu Xi, "Vocal track extraction using neural networks" (the UH-net paper), 2019, section IV.B; based on
Ronneberger, Fischer and Brox, "U-net: Convolutional networks for biomedical image segmentation", 2015.

As in the paper:
- The input is one channel of 128 x 128 log-mel, the output a proportion mask.
- Four down-sampling and four up-sampling stages have skip connections between stages of equal size.
- Dropout is 0.5. The loss is the binary cross-entropy of the mask.

Departures:
- `width` is an option. The paper has 64; the shipped model is narrower, because the cost grows with its square.
- All four stages halve both axes, and each skip joins maps of its own size. In the paper's code two of the four stages
  do not pool, and the decoder is cropped, so skips and decoder do not line up.
- `spectral` adds a loss on the masked spectrum, which weights each bin by its loudness. The paper's loss is `bce` 1 and
  `spectral` 0.
- The paper does not say where dropout is applied. Here it follows the deepest stage of the encoder and the two deepest
  stages of the decoder, where the maps are smallest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vocalsep import masks
from vocalsep.errors import ConfigError
from vocalsep.nets.base import Batch, Net, compute_mask_terms, disable_autocast
from vocalsep.shapes import Features, Mask

_STAGES = 4
_WIDTHS = (1, 2, 4, 8, 8)  # of the five levels, in units of `width`


@dataclass(frozen=True, kw_only=True)
class UNetOptions:
    """Options of `UNet`.

    Attributes:
        channels: Input channels: 1 for the front end's features alone, 3 inside a `uhnet`.
        width: Feature maps at full size. Deeper levels have 2, 4, 8 and 8 times as many.
        dropout: Share of activations that is dropped in training.
        bce: Weight of the binary cross-entropy of the mask.
        target: Ideal mask that the cross-entropy compares with: "proportion" or "binary".
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
            raise ConfigError("a U-Net needs channels and width >= 1, dropout in [0, 1), and bce and spectral >= 0")
        if self.bce + self.spectral == 0:
            raise ConfigError("a U-Net needs at least one loss, but bce and spectral are both 0")


class UNet(Net):
    """The U-Net. The numbers of bands and frames must be multiples of 16.

    Args:
        options: Width, dropout and losses.
    """

    Options = UNetOptions
    overlap = 0.125

    def __init__(self, options: UNetOptions) -> None:
        super().__init__()
        self.options = options
        widths = [options.width * factor for factor in _WIDTHS]
        self.down = nn.ModuleList(
            _make_double_convolution(inputs, outputs)
            for inputs, outputs in zip([options.channels, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[i + 1], widths[i], kernel_size=2, stride=2) for i in range(_STAGES)
        )
        self.merge = nn.ModuleList(_make_double_convolution(2 * widths[i], widths[i]) for i in range(_STAGES))
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Conv2d(widths[0], 1, kernel_size=1)

    @property
    def frame_step(self) -> int:
        """See `Net.frame_step`."""
        return 1 << _STAGES

    def compute_logits(self, features: Features) -> Tensor:
        """Compute the mask before its sigmoid, ``(batch, 1, band, frame)``.

        Raises:
            ConfigError: If the number of channels is wrong, or bands or frames are not multiples of 16.
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
        return torch.sigmoid(self.compute_logits(features))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the cross-entropy of the mask and the L1 distance of the masked spectrum."""
        logits = self.compute_logits(batch.features).float()
        with disable_autocast(logits):
            return self.compute_terms(logits, batch)

    def compute_terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the terms of the loss from the mask before its sigmoid."""
        options = self.options
        ideal = masks.binary if options.target == "binary" else masks.ratio
        return compute_mask_terms(
            batch, torch.sigmoid(logits), logits, bce=options.bce, spectral=options.spectral, ideal=ideal
        )


def _make_double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Stack two 3x3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
