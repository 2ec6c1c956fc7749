"""Clustering: cluster a song's bins by their embeddings, and find out which cluster is the voice.

K-means always finds two clusters, even where nobody sings (UH-net paper, figure 11). Three rules keep that harmless:

- K-means is fitted once per song, on a sample of its loud bins. Silent bins belong to no source.
- The net also gives a mask of its own. The voice's cluster is the one in which that mask is larger on average, and
  the difference of the two averages is the confidence. The order in which k-means numbers its clusters does not matter.
- Below a confidence of `MIN_CONFIDENCE` the whole song gets the net's own mask. The same holds for each chunk in which
  that mask finds hardly any voice in the voice's cluster.

Source: J. R. Hershey, Z. Chen, J. Le Roux and S. Watanabe, "Deep clustering", 2016 (k-means on loud bins). Embeddings
are unit vectors, so centroids are scaled to unit length, and a bin goes to the centroid at the smaller angle.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from vocalsep.backends import to_numpy
from vocalsep.kinds import array_namespace, get_device
from vocalsep.shapes import Array, Embedding, Mask

MIN_CONFIDENCE = 0.3
"""The lowest confidence at which a song is separated by its clusters."""

_MAX_BINS = 40_000  # the most bins that k-means is fitted on
_LOUD = 0.1  # bins with less than this share of their chunk's mean power are ignored
_RANGE_DB = 40.0  # bins this far below the song's loudest bin are ignored too
_STARTS = 4  # runs of k-means; the best one is used


@dataclass(frozen=True)
class Clusters:
    """The two clusters of a song.

    Attributes:
        centroids: Centroids of the voice and of the accompaniment, ``(2, dimension)``, unit length.
        confidence: Mean of the net's own mask in the voice's cluster minus that in the other, in [0, 1]. Loud bins
            count more.
    """

    centroids: Array
    confidence: float

    @property
    def trusted(self) -> bool:
        """Whether the confidence is high enough to separate the song by these clusters."""
        return self.confidence >= MIN_CONFIDENCE


class BinSample:
    """A random sample of a song's loud bins, of bounded size.

    All loud bins are equally likely to be in it. The same song gives the same sample, however it is divided into calls
    of `push`.
    """

    def __init__(self) -> None:
        self._random = np.random.RandomState(0)  # the draws of torch.rand with seed 0, with which models were scored
        self._held: Array | None = None  # (bin, random key; power; mask; embedding)

    def push(self, embedding: Embedding, mask: Mask, power: Any) -> None:
        """Take the next chunks of the song.

        Args:
            embedding: ``(chunk, dimension, row, frame)``, unit length.
            mask: The net's own mask, ``(chunk, 1, row, frame)``.
            power: Power of the mixture, ``(chunk, 1, row, frame)``.
        """
        held = [] if self._held is None else [self._held]
        for vectors, share, loudness in zip(to_numpy(embedding), to_numpy(mask), to_numpy(power), strict=True):
            keys = self._random.randint(0, 2**24, loudness.size, dtype=np.uint32).astype(np.float32) / 2**24
            rows = [keys[None], loudness.reshape(1, -1), share.reshape(1, -1), vectors.reshape(len(vectors), -1)]
            loud = (loudness >= _LOUD * loudness.mean()) & (loudness > 0)
            held.append(np.concatenate(rows)[:, loud.ravel()].T)
        every = np.concatenate(held)
        # The bins with the smallest keys so far are a uniform sample of all bins so far.
        self._held = every[every[:, 0].argsort(kind="stable")[:_MAX_BINS]] if len(every) > _MAX_BINS else every

    def fit(self) -> Clusters | None:
        """Fit k-means to the sample.

        Returns:
            The clusters, or None if the song is silent or its loud bins are all alike.
        """
        from sklearn.cluster import KMeans  # takes a second to import, and most models do not need it
        from threadpoolctl import threadpool_limits

        if self._held is None or not len(self._held):
            return None
        power, share, vectors = self._held[:, 1], self._held[:, 2], self._held[:, 3:]
        loud = power >= power.max() * 10 ** (-_RANGE_DB / 10)
        weight, share, vectors = np.sqrt(power[loud]), share[loud], vectors[loud]
        means = KMeans(2, n_init=_STARTS, random_state=0)
        with threadpool_limits(1), warnings.catch_warnings():  # one thread, so that sums have a fixed order
            warnings.simplefilter("ignore")  # fewer different vectors than clusters: handled below
            group = means.fit_predict(vectors.astype(np.float64), sample_weight=weight.astype(np.float64))
        if not 0 < int(group.sum()) < len(group):
            return None
        first, second = (float(np.average(share[group == i], weights=weight[group == i])) for i in (0, 1))
        lengths = np.linalg.norm(means.cluster_centers_, axis=1, keepdims=True)
        centroids = (means.cluster_centers_ / np.maximum(lengths, 1e-12)).astype(np.float32)
        return Clusters(centroids if first >= second else centroids[::-1], abs(first - second))


def estimate_mask(clusters: Clusters, embedding: Embedding, own: Mask, power: Any) -> Mask:
    """Return the binary mask of the voice's cluster, or the net's own mask in chunks where the clusters fail.

    Args:
        clusters: The song's clusters.
        embedding: ``(chunk, dimension, row, frame)``.
        own: The net's own mask, ``(chunk, 1, row, frame)``.
        power: Power of the mixture, ``(chunk, 1, row, frame)``.

    Returns:
        ``(chunk, 1, row, frame)``.
    """
    if not clusters.trusted:
        return own
    xp = array_namespace(embedding)
    direction = xp.asarray(clusters.centroids[0] - clusters.centroids[1], device=get_device(embedding))
    voice = xp.tensordot(direction, embedding, axes=((0,), (1,)))[:, None] > 0
    weight = xp.sqrt(power) * xp.astype(voice, power.dtype)
    total = xp.sum(weight, axis=(1, 2, 3), keepdims=True)
    mean = xp.sum(weight * own, axis=(1, 2, 3), keepdims=True) / xp.clip(total, min=1e-12)
    return xp.where(mean >= MIN_CONFIDENCE, xp.astype(voice, own.dtype), own)
