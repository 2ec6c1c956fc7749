"""Averages the vocals that several estimators find in the same song."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vocalsep.extraction.chunks import Buffer
from vocalsep.extraction.estimators import Estimator
from vocalsep.extraction.fading import Fader
from vocalsep.extraction.voice import VoiceDetector
from vocalsep.shapes import Array, Waveform

_STEP_SECONDS = 0.01  # between gains


class MeanEstimator:
    """Estimates the vocals of one song as a weighted mean; see `vocalsep.extraction.estimators.Estimator`.

    Each estimator lags behind the song by its own delay. What the quicker ones find waits for the slowest.

    Args:
        estimators: The estimators, at least one.
        weights: A weight for each. They add up to 1.
        rate: The song's sample rate in Hz.
        led_by_first: Whether the others fade out where the first finds no voice.
    """

    def __init__(
        self, estimators: Sequence[Estimator], weights: Sequence[float], rate: int, *, led_by_first: bool = False
    ) -> None:
        self._members = [(e, np.float32(w), Buffer()) for e, w in zip(estimators, weights, strict=True)]
        self._followers = [Follower(rate) for _ in self._members[1:]] if led_by_first else []
        self.detector: VoiceDetector | None = estimators[0].detector if led_by_first else None

    @property
    def is_invalid(self) -> bool:
        """Whether any net has returned NaN or infinity."""
        return any(estimator.is_invalid for estimator, _, _ in self._members)

    def push(self, block: Waveform) -> Waveform:
        """See `Estimator.push`."""
        for estimator, _, found in self._members:
            found.push(estimator.push(block))
        return self._add()

    def finish(self) -> Waveform:
        """See `Estimator.finish`."""
        for estimator, _, found in self._members:
            found.push(estimator.finish())
        return self._add()

    def _add(self) -> Waveform:
        ready = min(found.length for _, _, found in self._members)
        first, *others = (found.pop(ready) for _, _, found in self._members)
        if self._followers:
            others = [follower.push(first, other) for follower, other in zip(self._followers, others, strict=True)]
        weighted = [w * part for (_, w, _), part in zip(self._members, (first, *others), strict=True)]
        total = weighted[0]
        for part in weighted[1:]:
            total = total + part
        return total


class Follower:
    """Fades the vocals of one model where another one finds far less; see `fading`.

    The gain of a sample depends only on samples before it, so nothing is delayed. The first 10 to 20 ms of a song are
    not faded.

    Args:
        rate: The song's sample rate in Hz.
    """

    def __init__(self, rate: int) -> None:
        self._step = max(1, round(_STEP_SECONDS * rate))
        self._squares = Buffer()  # of the leader and of the follower, ``(2, time)``, in the step that is not complete
        self._fader = Fader(_STEP_SECONDS)
        self._gains = np.ones(2)  # at the end of the last two steps
        self._place = 0  # the next sample within its step

    def push(self, leader: Waveform, follower: Waveform) -> Waveform:
        """Take the next vocals of both, and return the follower's, faded.

        Args:
            leader: ``(channel, time)``, float32, any length.
            follower: Same shape.

        Returns:
            The same shape, float32.
        """
        self._squares.push(np.stack([_sum_squares(x) for x in (leader, follower)]))
        count = self._squares.length // self._step
        energies = self._squares.pop(count * self._step).reshape(2, count, self._step).sum(axis=-1)
        gains = np.concatenate([self._gains, self._fader.push(*energies)])
        at, within = np.divmod(self._place + np.arange(follower.shape[-1]), self._step)
        self._gains, self._place = gains[-2:], self._squares.length
        gain = gains[at] + (gains[at + 1] - gains[at]) * ((within + 0.5) / self._step)
        return follower * gain.astype(np.float32)


def _sum_squares(samples: Waveform) -> Array:
    """Return the energy of each sample over all channels, ``(time,)``, float64. Blocks of any length give the same."""
    total = np.zeros(samples.shape[-1])
    for channel in samples:
        total += np.square(channel, dtype=np.float64)
    return total
