"""Averages the vocals that several estimators find in the same song."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vocalsep.extraction.chunks import Buffer
from vocalsep.extraction.estimators import Estimator
from vocalsep.extraction.voice import VoiceDetector
from vocalsep.shapes import Waveform


class MeanEstimator:
    """Estimates the vocals of one song as a weighted mean; see `vocalsep.extraction.estimators.Estimator`.

    Each estimator lags behind the song by its own delay. What the quicker ones find waits for the slowest.

    Args:
        estimators: The estimators, at least one.
        weights: A weight for each. They add up to 1.
    """

    detector: VoiceDetector | None = None

    def __init__(self, estimators: Sequence[Estimator], weights: Sequence[float]) -> None:
        self._members = [(e, np.float32(w), Buffer()) for e, w in zip(estimators, weights, strict=True)]

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
        parts = [weight * found.pop(ready) for _, weight, found in self._members]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total
