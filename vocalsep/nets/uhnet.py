"""UH-net: a U-Net that is shown what a clustering net makes of the mixture, both trained together.

Source: Chenyu Xi, "Vocal track extraction using neural networks" (the UH-net paper), 2019, sections IV.B and V.A.2.

As in the paper: the two maps of the hybrid clustering net's softmax (voice and accompaniment) join the log-mel chunk as
input channels of the U-Net; the U-Net answers with the proportion mask; its loss trains the clustering net, too.

Departures:
- The three maps show the same bins at the same place. (In the paper's code the softmax was reshaped without regard to
  its axes, so that its maps held bins of other frames and bands.)
- The clustering net keeps its own losses while both are trained, with the weight `clustering_loss`. (In the paper's
  code it is trained before, and then through the U-Net alone; "jointly" in the text is either.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vocalsep.errors import ConfigError
from vocalsep.nets.base import Batch, Net, full_precision
from vocalsep.nets.hdpcl import HDPCL, HDPCLOptions
from vocalsep.nets.unet import UNet, UNetOptions
from vocalsep.shapes import Features, Mask

_CHANNELS = 3  # log-mel, voice, accompaniment


@dataclass(frozen=True, kw_only=True)
class UHNetOptions:
    """Options of `UHNet`.

    Attributes:
        clustering: Of the hybrid clustering net.
        unet: Of the U-Net; its `channels` are 3.
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
    """The net. It takes one channel; bands and frames must be multiples of 16.

    Args:
        options: Of both parts.
    """

    Options = UHNetOptions

    def __init__(self, options: UHNetOptions) -> None:
        super().__init__()
        self.options = options
        self.clustering = HDPCL(options.clustering)
        self.unet = UNet(options.unet)

    def _logits(self, features: Features, answer: Tensor) -> Tensor:
        return self.unet.logits(torch.cat([features, answer.softmax(dim=1).to(features.dtype)], dim=1))

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`: the U-Net's.

        Raises:
            ConfigError: If the front end has other channels or bands.
        """
        answer = self.clustering.answer(self.clustering.body(features))
        return torch.sigmoid(self._logits(features, answer))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The U-Net's terms, and those of the clustering net.

        Raises:
            ConfigError: As `DPCL.loss`.
        """
        clustering = self.clustering
        seen = clustering.body(batch.features)
        answer = clustering.answer(seen)
        logits = self._logits(batch.features, answer).float()
        with full_precision(logits):
            terms = self.unet.terms(logits, batch)
        own = clustering.both_terms(clustering.place(seen), answer, batch)
        return terms | {f"clustering_{name}": self.options.clustering_loss * term for name, term in own.items()}
