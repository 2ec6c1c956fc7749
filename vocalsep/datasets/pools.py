"""Tracks to draw excerpts from, and how often each of them is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vocalsep.datasets.cache import Array, Decoded

_LONG_SECONDS = 60.0  # a track counts in proportion to its length up to this, so that no album outweighs the rest


@dataclass(frozen=True)
class Pool:
    """Tracks of one kind.

    Attributes:
        tracks: The tracks, each drawn in proportion to its length.
        weight: How often they are drawn from, against other pools of their kind.
        balanced: Whether all artists or singers are drawn equally often, however much there is of each.
        remixed: Whether stems of its songs are drawn apart from each other and changed apart; else they make pairs
            alone, and what is done to one is done to the other.
    """

    tracks: Sequence[Decoded]
    weight: float = 1.0
    balanced: bool = False
    remixed: bool = True

    def shares(self, rate: int) -> Array:
        """How often each track is drawn, ``(track,)``, with the sum 1."""
        shares = np.minimum([track.samples for track in self.tracks], _LONG_SECONDS * rate)
        if self.balanced:
            _, group = np.unique([track.track.group for track in self.tracks], return_inverse=True)
            shares = shares / np.bincount(group, weights=shares)[group]
        return np.asarray(shares / shares.sum())
