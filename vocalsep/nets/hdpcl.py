"""Hybrid deep clustering: the clustering net with a second head that answers with a mask.

Source: Chenyu Xi, "Vocal track extraction using neural networks" (the UH-net paper), 2019, section IV.A, after Luo et
al., "Deep clustering and conventional networks for music separation: Stronger together", 2017 ("Chimera").

As in the paper: the body and the embeddings of `dpcl`; a softmax over two values for each bin, how much voice and
accompaniment contribute to it; affinity loss and binary cross-entropy on the proportion mask, together; the mask says
which cluster is the voice.

Departures:
- The head reads what the GRU layers give, as in Wang, Le Roux and Hershey, 2018. (The paper does not say; in its code
  it reads the embeddings before their tanh.)
- With `weighted` the cross-entropy counts each bin by its magnitude, too, and `spectral` adds a loss on the masked
  spectrum itself.
- The anchors of `dpcl` are there, too, for songs that are clustered by them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vocalsep.errors import ConfigError
from vocalsep.nets.base import Batch, full_precision, mask_terms
from vocalsep.nets.dpcl import DPCL, DPCLOptions
from vocalsep.shapes import Embedding, Features, Mask


@dataclass(frozen=True, kw_only=True)
class HDPCLOptions(DPCLOptions):
    """Options of `HDPCL`, beside those of `DPCLOptions`.

    Attributes:
        bce: Weight of the binary cross-entropy of the mask.
        spectral: Weight of the L1 distance of the masked spectrum.

    Raises:
        ConfigError: For values out of range.
    """

    bce: float = 1.0
    spectral: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.bce, self.spectral) < 0 or self.bce + self.spectral == 0:
            raise ConfigError("the hybrid needs weights of bce and spectral >= 0, not both 0")


class HDPCL(DPCL):
    """The net. It takes one channel, and any number of frames.

    Args:
        options: Its shape and losses.
    """

    Options = HDPCLOptions
    clusters_by_default = False
    options: HDPCLOptions

    def __init__(self, options: HDPCLOptions) -> None:
        super().__init__(options)
        self.head = nn.Linear(2 * options.units, 2 * options.bands)

    def answer(self, seen: Tensor) -> Tensor:
        """The head's two values for each bin before their softmax, ``(batch, 2, band, frame)``: voice, accompaniment.

        Args:
            seen: What `body` gave.
        """
        both: Tensor = self.head(seen)
        return both.reshape(*seen.shape[:2], 2, self.options.bands).permute(0, 2, 3, 1)

    def embed(self, features: Features) -> tuple[Embedding, Mask]:
        """See `ClusteringNet.embed`."""
        seen = self.body(features)
        return self.place(seen), self.answer(seen).softmax(dim=1)[:, :1]

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`: the head's."""
        return self.answer(self.body(features)).softmax(dim=1)[:, :1]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of `DPCL.loss`, BCE of the head's mask, and L1 of the spectrum under it, each with its weight.

        Raises:
            ConfigError: As `DPCL.loss`.
        """
        seen = self.body(batch.features)
        return self.both_terms(self.place(seen), self.answer(seen), batch)

    def both_terms(self, places: Embedding, answer: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, from embeddings and the head's values."""
        answer = answer.float()
        with full_precision(answer):
            options = self.options
            logits = answer[:, :1] - answer[:, 1:]  # the softmax over two is the sigmoid of their difference
            return self._terms(places, batch) | mask_terms(
                batch,
                torch.sigmoid(logits),
                logits,
                bce=options.bce,
                spectral=options.spectral,
                weighted=options.weighted,
            )
