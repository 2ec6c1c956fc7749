"""Deep clustering: bidirectional GRU layers that compute an embedding for each time-frequency bin.

Source: Chenyu Xi, "Vocal track extraction using neural networks" (the UH-net paper), 2019, section IV.A; based on Luo,
Chen, Hershey, Le Roux and Mesgarani, "Deep clustering and conventional networks for music separation: Stronger
together", 2017, and Hershey, Chen, Le Roux and Watanabe, "Deep clustering", 2016.

As in the paper:
- Four bidirectional GRU layers run over the frames of a 128 x 128 log-mel chunk. A dense layer maps to D = 20
  dimensions for each bin, followed by tanh and scaling to unit length.
- The loss is the affinity loss in its factored form, against binary masks.

Departures (all but the anchors are options, so that the paper's variant is available too):
- `columns` 2 adds a column for the accompaniment. The paper's single column requires the accompaniment's bins to
  be orthogonal to each other, and orthogonal embeddings form no cluster.
- `weighted` weights each bin by its magnitude, because silent bins belong to no source.
- `normalised` brings every band to the same mean and spread before the first layer, and normalises the input of each
  further layer (layer normalisation). Without it, four layers learn slowly at first.
- `compression` feeds compressed magnitudes to the first layer instead of decibels. In decibels, bins that are nearly
  silent matter as much as loud ones.
- The paper does not say how wide the layers are. Its code has 500 units and a dropout of 0.5.
- Two anchors, one for voice and one for accompaniment, are learnt beside the embeddings. Their loss does not change
  the embeddings (compare the attractors of Chen, Luo and Mesgarani, "Deep attractor network", 2017). The anchors say
  which cluster is the voice, which the paper leaves open for this net. They also give the net a mask of its own, for
  songs that cannot be clustered: each bin goes to the nearer anchor.
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
from vocalsep.nets.base import Batch, ClusteringNet, disable_autocast
from vocalsep.shapes import Embedding, Features, Mask

_FLOOR_DB = -80.0  # floor of the log-mel features that `compression` can turn back into magnitudes
_LEVEL = -_FLOOR_DB / 40  # value of such a feature at a chunk's mean power, in units of 20 dB
_SHARPNESS = 5.0  # slope of the mask along the difference of the cosines to both anchors


@dataclass(frozen=True, kw_only=True)
class DPCLOptions:
    """Options of `DPCL`.

    Attributes:
        bands: Rows of the features, as in the front end.
        units: Units of a GRU layer in each direction.
        layers: Number of GRU layers.
        dimensions: Dimensions of an embedding, D in the paper.
        dropout: Share of a GRU layer's output that is dropped in training before the next layer.
        normalised: Whether to normalise the input of each layer.
        compression: If above 0, the first layer sees ``log(1 + compression * magnitude)``, with magnitudes relative to
            the chunk's root mean square. This needs a log-mel front end with its default floor. With 0, the layer sees
            the features unchanged.
        affinity: Weight of the affinity loss.
        columns: Number of sources that bins are assigned to: 2, or 1 as in the paper.
        weighted: Whether to weight each bin by its magnitude.

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
            raise ConfigError("deep clustering needs affinity > 0 and compression >= 0")
        if self.columns not in (1, 2):
            raise ConfigError("deep clustering needs columns = 1 or 2")


class DPCL(ClusteringNet):
    """The deep clustering net. It takes one channel and any number of frames.

    Args:
        options: Shape and losses of the net.
    """

    Options = DPCLOptions
    without_muon = frozenset({"gru", "dense", "anchors"})
    memory_format = torch.contiguous_format
    chunks = 8  # a GRU's large matrices are read once for all chunks of a call

    def __init__(self, options: DPCLOptions) -> None:
        super().__init__()
        self.options = options
        wide = 2 * options.units
        input_sizes = [options.bands, *[wide] * (options.layers - 1)]
        self.gru = nn.ModuleList(
            nn.GRU(size, options.units, batch_first=True, bidirectional=True) for size in input_sizes
        )
        norms = [nn.BatchNorm1d(options.bands), *(nn.LayerNorm(wide) for _ in input_sizes[1:])]
        self.norm = nn.ModuleList(norms if options.normalised else (nn.Identity() for _ in input_sizes))
        self.dropout = nn.Dropout(options.dropout)
        self.dense = nn.Linear(wide, options.bands * options.dimensions)
        # One row for vocals, one for accompaniment. Short vectors change direction quickly in training.
        self.anchors = nn.Parameter(0.1 * torch.randn(2, options.dimensions))

    @property
    def frame_step(self) -> int:
        """See `Net.frame_step`."""
        return 1

    def encode(self, features: Features) -> Tensor:
        """Run the GRU layers on a chunk.

        Args:
            features: ``(batch, 1, band, frame)``.

        Returns:
            The state of the last layer, ``(batch, frame, 2 * units)``.

        Raises:
            ConfigError: If the front end's channels or bands are not those of the net.
        """
        if features.shape[1:3] != (1, self.options.bands):
            raise ConfigError(
                f"this clustering net needs one channel and {self.options.bands} bands, "
                f"not {features.shape[1]} and {features.shape[2]}"
            )
        inputs = features[:, 0]
        if self.options.compression:
            inputs = torch.log1p(self.options.compression * 10 ** (inputs - _LEVEL))
        state: Tensor = self.norm[0](inputs).transpose(1, 2)
        for layer, gru in enumerate(self.gru):
            state, _ = gru(self.norm[layer](self.dropout(state)) if layer else state)
        return state

    def compute_embeddings(self, state: Tensor) -> Embedding:
        """Compute embeddings of unit length.

        Args:
            state: The state that `encode` returns.

        Returns:
            ``(batch, dimension, band, frame)``.
        """
        embeddings = torch.tanh(self.dense(state)).float()
        embeddings = embeddings.reshape(*state.shape[:2], self.options.bands, self.options.dimensions)
        return F.normalize(embeddings.permute(0, 3, 2, 1), dim=1)

    def embed(self, features: Features) -> tuple[Embedding, Mask]:
        """See `ClusteringNet.embed`."""
        embeddings = self.compute_embeddings(self.encode(features))
        return embeddings, torch.sigmoid(self._compute_voice_logits(embeddings))

    def forward(self, features: Features) -> Mask:
        """See `Net.forward`. The mask says how much nearer a bin is to the voice's anchor than to the other."""
        return self.embed(features)[1]

    def _compute_voice_logits(self, embeddings: Embedding) -> Tensor:
        anchors = F.normalize(self.anchors, dim=1)
        nearer = torch.einsum("bdfn,d->bfn", embeddings, anchors[0] - anchors[1])
        return _SHARPNESS * nearer.unsqueeze(1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the affinity loss, and the cross-entropy of the anchors' mask with the binary mask.

        Raises:
            ConfigError: If `compression` is set and the front end's features cannot be turned back into magnitudes.
        """
        embeddings = self.compute_embeddings(self.encode(batch.features))
        with disable_autocast(embeddings):
            return self._compute_terms(embeddings, batch)

    def _compute_terms(self, embeddings: Embedding, batch: Batch) -> dict[str, Tensor]:
        options, target = self.options, masks.binary(*batch.power)
        decibels = isinstance(batch.front_end, LogMel) and batch.front_end.floor_db == _FLOOR_DB
        if options.compression and not decibels:
            raise ConfigError(
                f"a clustering net with compression needs a log-mel front end with floor_db = {_FLOOR_DB:g}"
            )
        weight = losses.magnitude_weight(batch.power[0] + batch.power[1]) if options.weighted else None
        columns = torch.cat([target, 1 - target], dim=1)[:, : options.columns]
        v, y = (part.flatten(2).transpose(1, 2) for part in (embeddings, columns))
        return {
            "affinity": options.affinity * losses.affinity(v, y, None if weight is None else weight.flatten(1)),
            "anchors": losses.binary_cross_entropy(self._compute_voice_logits(embeddings.detach()), target, weight),
        }
