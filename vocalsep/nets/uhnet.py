"""UH-net: a U-Net that also sees the masks of a hybrid clustering net. Both are trained together.

Source: Chenyu Xi, "Vocal track extraction using neural networks" (the UH-net paper), 2019, sections IV.B and V.A.2.

As in the paper:
- The hybrid clustering net's two softmax masks (voice and accompaniment) and the log-mel chunk are the three input
  channels of the U-Net.
- The U-Net estimates the proportion mask. Its loss also trains the clustering net.

Departures:
- All three channels show the same bin at the same place. The paper's code reshapes the softmax without regard to its
  axes, so its masks end up at the wrong frames and bands.
- The clustering net keeps its own losses during joint training, with the weight `clustering_loss`. The paper's code
  trains it beforehand, and then through the U-Net's loss alone; "jointly" in the text allows either.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vocalsep.errors import ConfigError
from vocalsep.nets.base import Batch, Net, disable_autocast
from vocalsep.nets.hdpcl import HDPCL, HDPCLOptions
from vocalsep.nets.unet import UNet, UNetOptions
from vocalsep.shapes import Features, Mask

_CHANNELS = 3  # log-mel, voice, accompaniment


@dataclass(frozen=True, kw_only=True)
class UHNetOptions:
    """Options of `UHNet`.

    Attributes:
        clustering: Options of the hybrid clustering net.
        unet: Options of the U-Net. Its `channels` must be 3.
        clustering_loss: Weight of the clustering net's own losses.

    Raises:
        ConfigError: For values out of range.
    """

    clustering: HDPCLOptions = field(default_factory=HDPCLOptions)
    unet: UNetOptions = field(default_factory=lambda: UNetOptions(channels=_CHANNELS))
    clustering_loss: float = 1.0

    def __post_init__(self) -> None:
        if self.unet.channels != _CHANNELS:
            raise ConfigError(f"a UH-net needs unet.channels = {_CHANNELS}, not {self.unet.channels}")
        if self.clustering_loss <= 0:
            raise ConfigError("a UH-net needs clustering_loss > 0")


class UHNet(Net):
    """The UH-net. It takes one channel; the numbers of bands and frames must be multiples of 16.

    Args:
        options: Options of both parts.
    """

    Options = UHNetOptions
    without_muon = frozenset({"clustering"})

    def __init__(self, options: UHNetOptions) -> None:
        super().__init__()
        self.options = options
        self.clustering = HDPCL(options.clustering)
        self.unet = UNet(options.unet)

    @property
    def frame_step(self) -> int:
        """See `Net.frame_step`."""
        return self.unet.frame_step

    def _compute_logits(self, features: Features, head_logits: Tensor) -> Tensor:
        clustering_masks = head_logits.softmax(dim=1).to(features.dtype)
        return self.unet.compute_logits(torch.cat([features, clustering_masks], dim=1))

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`. Return the U-Net's mask.

        Raises:
            ConfigError: If the front end's channels or bands are not those of the net.
        """
        head_logits = self.clustering.compute_head_logits(self.clustering.encode(features))
        return torch.sigmoid(self._compute_logits(features, head_logits))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the U-Net's terms and the clustering net's own terms.

        Raises:
            ConfigError: As `DPCL.loss`.
        """
        clustering = self.clustering
        state = clustering.encode(batch.features)
        head_logits = clustering.compute_head_logits(state)
        logits = self._compute_logits(batch.features, head_logits).float()
        with disable_autocast(logits):
            terms = self.unet.compute_terms(logits, batch)
        own = clustering.compute_joint_terms(clustering.compute_embeddings(state), head_logits, batch)
        return terms | {f"clustering_{name}": self.options.clustering_loss * term for name, term in own.items()}
