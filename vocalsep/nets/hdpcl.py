"""Hybrid deep clustering: the deep clustering net with a second head that estimates a mask.

Source: Chenyu Xi, "Vocal track extraction using neural networks" (the UH-net paper), 2019, section IV.A; based on Luo
et al., "Deep clustering and conventional networks for music separation: Stronger together", 2017 ("Chimera").

As in the paper:
- The GRU layers and the embeddings are those of `dpcl`.
- A second head computes a softmax over two values for each bin: the shares of voice and accompaniment.
- The loss is the affinity loss plus the binary cross-entropy with the proportion mask.
- The mask says which cluster is the voice.

Departures:
- The head reads the output of the GRU layers, as in Wang, Le Roux and Hershey, 2018. The paper does not say what it
  reads; in its code the head reads the embeddings before their tanh.
- `weighted` also weights the bins of the cross-entropy by magnitude. `spectral` adds a loss on the masked spectrum.
- The anchors of `dpcl` exist here too, but extraction uses the head's mask instead of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vocalsep.errors import ConfigError
from vocalsep.nets.base import Batch, compute_mask_terms, disable_autocast
from vocalsep.nets.dpcl import DPCL, DPCLOptions
from vocalsep.shapes import Embedding, Features, Mask


@dataclass(frozen=True, kw_only=True)
class HDPCLOptions(DPCLOptions):
    """Options of `HDPCL`, in addition to those of `DPCLOptions`.

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
            raise ConfigError("the hybrid net needs bce and spectral >= 0, and at least one of them above 0")


class HDPCL(DPCL):
    """The hybrid deep clustering net. It takes one channel and any number of frames.

    Args:
        options: Shape and losses of the net.
    """

    Options = HDPCLOptions
    without_muon = DPCL.without_muon | {"head"}
    clusters_by_default = False
    options: HDPCLOptions

    def __init__(self, options: HDPCLOptions) -> None:
        super().__init__(options)
        self.head = nn.Linear(2 * options.units, 2 * options.bands)

    def compute_head_logits(self, state: Tensor) -> Tensor:
        """Compute the head's values before their softmax, ``(batch, 2, band, frame)``: voice, then accompaniment.

        Args:
            state: The state that `encode` returns.
        """
        both: Tensor = self.head(state)
        return both.reshape(*state.shape[:2], 2, self.options.bands).permute(0, 2, 3, 1)

    def embed(self, features: Features) -> tuple[Embedding, Mask]:
        """See `ClusteringNet.embed`."""
        state = self.encode(features)
        return self.compute_embeddings(state), self.compute_head_logits(state).softmax(dim=1)[:, :1]

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`. Return the head's mask."""
        return self.compute_head_logits(self.encode(features)).softmax(dim=1)[:, :1]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the terms of `DPCL.loss`, the head's cross-entropy, and the L1 distance of the masked spectrum.

        Raises:
            ConfigError: As `DPCL.loss`.
        """
        state = self.encode(batch.features)
        return self.compute_joint_terms(self.compute_embeddings(state), self.compute_head_logits(state), batch)

    def compute_joint_terms(self, embeddings: Embedding, head_logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the terms of the loss from the embeddings and the head's values before their softmax."""
        head_logits = head_logits.float()
        with disable_autocast(head_logits):
            options = self.options
            logits = head_logits[:, :1] - head_logits[:, 1:]  # a softmax over two is the sigmoid of their difference
            return self._compute_terms(embeddings, batch) | compute_mask_terms(
                batch,
                torch.sigmoid(logits),
                logits,
                bce=options.bce,
                spectral=options.spectral,
                weighted=options.weighted,
            )
