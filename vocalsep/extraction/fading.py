"""Fades what other models of a mean find where the first one, which leads, finds far less.

A net without a voice-activity head lets more of a song through where nobody sings than one with such a head. In a mean
that is led by its first model, the others fade out there: where the first model's vocals of the last half second are
more than 10 dB below those of another one, each dB beyond these 10 turns that one down by two.
"""

from __future__ import annotations

import numpy as np

from vocalsep.shapes import Array

_SECONDS = 0.5  # over which energies are summed
_TOLERANCE = 10.0  # how many times the first model's energy another one may have


class Fader:
    """Computes the gains of a model that follows another one.

    A gain depends only on energies up to its own step.

    Args:
        step_seconds: Seconds from one step to the next.
    """

    def __init__(self, step_seconds: float) -> None:
        self._steps = max(1, round(_SECONDS / step_seconds))
        self._energies = np.zeros((2, self._steps - 1))  # of leader and follower, in the steps before

    def push(self, leader: Array, follower: Array) -> Array:
        """Take the energies of the next steps, and return the gain after each.

        Args:
            leader: ``(step,)``, float64.
            follower: Same shape.

        Returns:
            The same shape, in [0, 1], float64.
        """
        count = len(leader)
        if not count:
            return np.zeros(0)
        held = np.concatenate([self._energies, np.stack([leader, follower])], axis=-1)
        self._energies = held[:, count:].copy()  # without the rest
        sums = np.zeros((2, count))
        for first in range(self._steps):  # in the same order for blocks of any size
            sums += held[:, first : first + count]
        allowed = np.minimum(_TOLERANCE * sums[0], sums[1])
        gains: Array = np.divide(allowed, sums[1], out=np.ones(count), where=sums[1] > 0)
        return gains
