"""Clustering a song's bins by their embeddings, and finding out which cluster is the voice.

K-means always finds two groups, also where there is no singer (UH-net paper, figure 11). What makes it safe here:

- It is fitted once for the whole song, on a sample of its loud bins: a silent bin belongs to nobody.
- Which group is the voice, and how sure that is, is told by the mask that the net itself gives for the same bins: the
  voice is what the net takes for voice. The order in which k-means happens to number its groups plays no part.
- Where the net sees hardly more voice in one group than in the other, in the whole song, its mask is used in place of
  the clusters; and so in each chunk in which it sees hardly any voice in the voice's group.

Source: J. R. Hershey, Z. Chen, J. Le Roux and S. Watanabe, "Deep clustering", 2016 (k-means, loud bins only). Centroids
of unit vectors are brought to unit length afterwards, so that a bin goes to the one at the smaller angle.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from vocalsep.shapes import Embedding, Mask

MIN_CONFIDENCE = 0.3
"""Clusters count from this confidence on."""

_SAMPLE = 40_000  # bins that k-means is fitted on
_LOUD = 0.1  # of a chunk's mean power: bins below it are no witnesses
_RANGE_DB = 40.0  # bins so far below the song's loudest ones are not, either
_STARTS = 4  # of k-means, of which the best counts


@dataclass(frozen=True)
class Clusters:
    """What was found in a song.

    Attributes:
        centroids: ``(2, dimension)``, of unit length: of the voice, of the accompaniment.
        confidence: How much more the net takes the one group for voice than the other: the difference of the mean of
            its mask over them, loud bins counting more, in [0, 1].
    """

    centroids: Tensor
    confidence: float

    @property
    def trusted(self) -> bool:
        """Whether the song is to be separated by them."""
        return self.confidence >= MIN_CONFIDENCE


class BinSample:
    """A sample of a song's loud bins, whose size does not depend on how long the song is.

    All bins have the same chance, whatever comes first, and the same song gives the same sample however it is cut into
    calls.
    """

    def __init__(self) -> None:
        self._random = torch.Generator().manual_seed(0)
        self._held: Tensor | None = None  # (bin, key and power and mask and embedding)

    def push(self, embedding: Embedding, mask: Mask, power: Tensor) -> None:
        """Takes chunks, in the order of the song.

        Args:
            embedding: ``(chunk, dimension, row, frame)``, of unit length.
            mask: The net's own, ``(chunk, 1, row, frame)``.
            power: Of the mixture, ``(chunk, 1, row, frame)``.
        """
        held = [] if self._held is None else [self._held]
        for places, share, loudness in zip(embedding.cpu(), mask.cpu(), power.cpu(), strict=True):
            keys = torch.rand(loudness.numel(), generator=self._random)
            flat = torch.cat([keys[None], loudness.flatten(1), share.flatten(1), places.flatten(1)])
            loud = (loudness >= _LOUD * loudness.mean()) & (loudness > 0)
            held.append(flat[:, loud.flatten()].T)
        every = torch.cat(held)
        self._held = every[every[:, 0].argsort(stable=True)[:_SAMPLE]] if len(every) > _SAMPLE else every

    def fit(self) -> Clusters | None:
        """K-means over the sample; none if the song has not two different loud bins."""
        from sklearn.cluster import KMeans  # takes a second to import, and most songs need none
        from threadpoolctl import threadpool_limits

        if self._held is None or not len(self._held):
            return None
        power, share, places = self._held[:, 1], self._held[:, 2], self._held[:, 3:]
        loud = power >= power.max() * 10 ** (-_RANGE_DB / 10)
        weight, share, places = power[loud].sqrt(), share[loud], places[loud]
        means = KMeans(2, n_init=_STARTS, random_state=0)
        with threadpool_limits(1), warnings.catch_warnings():  # sums of several threads come in any order
            warnings.simplefilter("ignore")  # fewer places than clusters: told below
            group = torch.from_numpy(means.fit_predict(places.double().numpy(), sample_weight=weight.double().numpy()))
        if not 0 < int(group.sum()) < len(group):
            return None
        first, second = (((weight * share)[group == i].sum() / weight[group == i].sum()).item() for i in (0, 1))
        centroids = torch.nn.functional.normalize(torch.from_numpy(means.cluster_centers_).float(), dim=1)
        return Clusters(centroids if first >= second else centroids.flip(0), abs(first - second))


def estimate_mask(clusters: Clusters, embedding: Embedding, own: Mask, power: Tensor) -> Mask:
    """The binary mask of the voice's cluster, chunk by chunk; the net's own where it sees no voice in that cluster.

    Args:
        clusters: Of the song.
        embedding: ``(chunk, dimension, row, frame)``.
        own: The net's own mask, ``(chunk, 1, row, frame)``.
        power: Of the mixture, ``(chunk, 1, row, frame)``.

    Returns:
        ``(chunk, 1, row, frame)``.
    """
    if not clusters.trusted:
        return own
    centroids = clusters.centroids.to(embedding)
    voice = torch.einsum("bdfn,d->bfn", embedding, centroids[0] - centroids[1]).unsqueeze(1) > 0
    weight = power.sqrt() * voice
    seen = (weight * own).sum((1, 2, 3), keepdim=True) / weight.sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
    return torch.where(seen >= MIN_CONFIDENCE, voice.to(own.dtype), own)
