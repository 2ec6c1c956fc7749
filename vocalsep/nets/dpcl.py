"""Deep clustering: bidirectional GRU layers that give every time-frequency bin a place among others of its source.

Source: Chenyu Xi, "Vocal track extraction using neural networks" (the UH-net paper), 2019, section IV.A, after Luo,
Chen, Hershey, Le Roux and Mesgarani, "Deep clustering and conventional networks for music separation: Stronger
together", 2017, and Hershey, Chen, Le Roux and Watanabe, "Deep clustering", 2016.

As in the paper: four bidirectional GRU layers over the frames of a 128x128 log-mel chunk, a dense layer to D = 20
dimensions for each bin, tanh, unit length; the affinity loss in its factored form against binary masks.

Departures; all but the anchors are settings, where the paper can be had:
- `columns` 2 gives the accompaniment a column of its own. With the paper's one column bins of the accompaniment are
  asked to be orthogonal to each other, which is no cluster.
- `weighted` counts each bin by its magnitude: silent bins have no source.
- `normalised` brings every band to the same mean and spread before the first layer, and what a layer gives to unit
  variance before the next (layer normalisation); without it four layers are slow to begin to learn.
- `compression` shows the layers compressed magnitudes in place of decibels, in which what is nearly silent counts as
  much as what is heard.
- The paper does not say how wide the layers are (500 in its code, with dropout 0.5).
- Two anchors, one for voice and one for accompaniment, are learnt beside the embeddings, which take no notice of them
  (after the attractors of Chen, Luo and Mesgarani, "Deep attractor network", 2017). They say which cluster is the
  voice, which the paper leaves open for this net, and they are its mask where a song cannot be clustered: each bin
  goes to the anchor that it is nearer to, and none need be near the voice's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocalsep import masks
from vocalsep.errors import ConfigError
from vocalsep.features import LogMel
from vocalsep.nets import losses
from vocalsep.nets.base import Batch, ClusteringNet, full_precision
from vocalsep.shapes import Embedding, Features, Mask

_FLOOR_DB = -80.0  # of the log-mel features that can be brought back to magnitudes,
_LEVEL = -_FLOOR_DB / 40  # whose value at a chunk's mean power is this, in units of 20 dB
_SHARPNESS = 5.0  # of the step from one anchor to the other, along the difference of cosines


@dataclass(frozen=True, kw_only=True)
class DPCLOptions:
    """Options of `DPCL`.

    Attributes:
        bands: Rows that the net is shown, those of its front end.
        units: Of a GRU layer, in either direction.
        layers: GRU layers.
        dimensions: Of an embedding; D in the paper.
        dropout: Share of what a GRU layer gives to the next that is dropped in training.
        normalised: Whether the layers' inputs are normalised.
        compression: The first layer sees ``log(1 + compression * magnitude)``, the magnitude against the chunk's root
            mean square, for which the front end must be log-mel with its usual floor; 0 leaves the values as they are.
        affinity: Weight of the affinity loss.
        columns: Sources that bins are assigned to: 2, or 1 as in the paper.
        weighted: Whether bins count by their magnitude.

    Raises:
        ConfigError: For values out of range.
    """

    bands: int = 128
    units: int = 500
    layers: int = 4
    dimensions: int = 20
    dropout: float = 0.5
    normalised: bool = False
    compression: float = 0.0
    affinity: float = 1.0
    columns: int = 2
    weighted: bool = True

    def __post_init__(self) -> None:
        if min(self.bands, self.units, self.layers, self.dimensions) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError("deep clustering needs bands, units, layers and dimensions >= 1 and dropout in [0, 1)")
        if self.affinity <= 0 or self.compression < 0:
            raise ConfigError("deep clustering needs a weight of the affinity loss > 0 and compression >= 0")
        if self.columns not in (1, 2):
            raise ConfigError("deep clustering needs columns 1 or 2")


class DPCL(ClusteringNet):
    """The net. It takes one channel, and any number of frames.

    Args:
        options: Its shape and losses.
    """

    Options = DPCLOptions
    memory_format = torch.contiguous_format
    chunks = 8  # of the matrices in a GRU, which are read once for all

    def __init__(self, options: DPCLOptions) -> None:
        super().__init__()
        self.options = options
        wide = 2 * options.units
        inside = [options.bands, *[wide] * (options.layers - 1)]
        self.gru = nn.ModuleList(nn.GRU(size, options.units, batch_first=True, bidirectional=True) for size in inside)
        norms = [nn.BatchNorm1d(options.bands), *(nn.LayerNorm(wide) for _ in inside[1:])]
        self.norm = nn.ModuleList(norms if options.normalised else (nn.Identity() for _ in inside))
        self.dropout = nn.Dropout(options.dropout)
        self.dense = nn.Linear(wide, options.bands * options.dimensions)
        # Of vocals, of accompaniment; short, so that they are soon turned.
        self.anchors = nn.Parameter(0.1 * torch.randn(2, options.dimensions))

    def body(self, features: Features) -> Tensor:
        """What the GRU layers make of a chunk, ``(batch, frame, 2 * units)``.

        Args:
            features: ``(batch, 1, band, frame)``.

        Raises:
            ConfigError: If the front end has other channels or bands.
        """
        if features.shape[1:3] != (1, self.options.bands):
            raise ConfigError(
                f"this clustering net needs one channel and {self.options.bands} bands, "
                f"not {features.shape[1]} and {features.shape[2]}"
            )
        shown = features[:, 0]
        if self.options.compression:
            shown = torch.log1p(self.options.compression * 10 ** (shown - _LEVEL))
        seen: Tensor = self.norm[0](shown).transpose(1, 2)
        for layer, gru in enumerate(self.gru):
            seen, _ = gru(self.norm[layer](self.dropout(seen)) if layer else seen)
        return seen

    def place(self, seen: Tensor) -> Embedding:
        """Embeddings, ``(batch, dimension, band, frame)``, of unit length, from what `body` gave."""
        places = torch.tanh(self.dense(seen)).float()
        places = places.reshape(*seen.shape[:2], self.options.bands, self.options.dimensions).permute(0, 3, 2, 1)
        return F.normalize(places, dim=1)

    def embed(self, features: Features) -> tuple[Embedding, Mask]:
        """See `ClusteringNet.embed`."""
        places = self.place(self.body(features))
        return places, torch.sigmoid(self._towards_voice(places))

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`: how much nearer each bin is to the voice's anchor than to the other."""
        return self.embed(features)[1]

    def _towards_voice(self, places: Embedding) -> Tensor:
        anchors = F.normalize(self.anchors, dim=1)
        nearer = torch.einsum("bdfn,d->bfn", places, anchors[0] - anchors[1])
        return _SHARPNESS * nearer.unsqueeze(1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The affinity loss, and how well the anchors tell voice from accompaniment.

        Raises:
            ConfigError: If the front end is none whose magnitudes can be compressed, and `compression` asks for it.
        """
        places = self.place(self.body(batch.features))
        with full_precision(places):
            return self._terms(places, batch)

    def _terms(self, places: Embedding, batch: Batch) -> dict[str, Tensor]:
        options, target = self.options, masks.binary(*batch.power)
        decibels = isinstance(batch.front_end, LogMel) and batch.front_end.floor_db == _FLOOR_DB
        if options.compression and not decibels:
            raise ConfigError(
                f"a clustering net with compression needs a log-mel front end with floor_db = {_FLOOR_DB:g}"
            )
        weight = losses.magnitude_weight(batch.power[0] + batch.power[1]) if options.weighted else None
        columns = torch.cat([target, 1 - target], dim=1)[:, : options.columns]
        v, y = (part.flatten(2).transpose(1, 2) for part in (places, columns))
        return {
            "affinity": options.affinity * losses.affinity(v, y, None if weight is None else weight.flatten(1)),
            "anchors": losses.binary_cross_entropy(self._towards_voice(places.detach()), target, weight),
        }
