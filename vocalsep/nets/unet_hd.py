"""U-Net at full resolution: Spleeter's U-Net for the vocals, smaller, and with the mask as its output.

Source: Romain Hennequin, Anis Khlif, Felix Voituret and Manuel Moussallam, "Spleeter: a fast and efficient music source
separation tool with pre-trained models", 2020. Training can start from Spleeter's weights
(`docs/lab/scripts/start_unet_hd.py`); that of the shipped model did.

As in Spleeter:
- The layers are those of `vocalsep.nets.spleeter.StemNet`, on the magnitudes of both channels up to 11 kHz.
- Maps are not normalised. In Spleeter's weights, all batch norms have a mean of 0 and a variance of 1, so they only
  scale and shift. Here, these statistics stay fixed.

Departures:
- There is one U-Net, not one for each stem. Its sigmoid is the mask. Spleeter's mask is the vocals' share of what two
  U-Nets find, which takes twice as long.
- The features are relative to the level of their chunk, so the mask does not depend on a song's level.
- Chunks have 128 frames, not 512, so that it can follow a song that is still being played.
- `rank` splits the largest kernels in two. In the shipped model, this saves a third of the weights.
- The loss is the L1 distance of the masked spectrum, plus the mask's cross-entropy, weighted by magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from vocalsep.errors import ConfigError
from vocalsep.nets.base import Batch, Net, compute_mask_terms, disable_autocast
from vocalsep.nets.spleeter import StemNet
from vocalsep.shapes import Features, Mask


@dataclass(frozen=True, kw_only=True)
class UNetHDOptions:
    """Options of `UNetHD`.

    Attributes:
        widths: Feature maps of each level, from half size down. Each level halves rows and frames.
        rank: Levels with more maps than this use two smaller layers, one of them 1 x 1, with `rank` maps between them.
            0 splits none.
        bce: Weight of the binary cross-entropy of the mask with the proportion mask, weighted by magnitude.
        spectral: Weight of the L1 distance of the masked spectrum.

    Raises:
        ConfigError: For values out of range.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    rank: int = 0
    bce: float = 0.0
    spectral: float = 1.0

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or min(self.rank, self.bce, self.spectral) < 0:
            raise ConfigError("a full-resolution U-Net needs widths >= 1, and rank, bce and spectral >= 0")
        if self.bce + self.spectral == 0:
            raise ConfigError("a full-resolution U-Net needs at least one loss, but bce and spectral are both 0")


class UNetHD(Net):
    """The full-resolution U-Net. It takes two channels; with n levels, rows and frames must be multiples of 2^n.

    Args:
        options: Shape and losses of the net.
    """

    Options = UNetHDOptions
    memory_format = torch.contiguous_format
    overlap = 0.25

    def __init__(self, options: UNetHDOptions) -> None:
        super().__init__()
        self.options = options
        self.unet = StemNet(options.widths, options.rank)

    @property
    def frame_step(self) -> int:
        """See `Net.frame_step`."""
        return 1 << len(self.options.widths)

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, in which batch norms, too, use the mean and the variance that they have."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`.

        Raises:
            ConfigError: As `StemNet.forward`.
        """
        mask: Tensor = torch.sigmoid(self.unet(features))
        return mask

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the L1 distance of the masked spectrum and the cross-entropy of the mask."""
        options, logits = self.options, self.unet(batch.features).float()
        with disable_autocast(logits):
            return compute_mask_terms(
                batch, torch.sigmoid(logits), logits, bce=options.bce, spectral=options.spectral, weighted=True
            )
