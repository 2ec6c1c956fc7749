"""What the streaming separator needs of a model: an estimator, which turns blocks of a song into its vocals."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Generic, Protocol, TypeVar

import numpy as np

from vocalsep.errors import ConfigError
from vocalsep.extraction.voice import VoiceDetector
from vocalsep.shapes import Waveform

Result = TypeVar("Result")

_AHEAD = 4  # results that the workers hold at a time, so that they have work while the caller goes on


class Estimator(Protocol):
    """Estimates the vocals of one song, block by block.

    Its memory use does not grow with the song, and the vocals do not depend on the blocks or on the workers.
    """

    @property
    def detector(self) -> VoiceDetector | None:
        """Knows where somebody sings as far as vocals were returned; None if that is to be found out from samples."""

    @property
    def is_invalid(self) -> bool:
        """Whether the net has returned NaN or infinity, which count as 0."""

    def push(self, block: Waveform) -> Waveform:
        """Take the next block of the song, and return the vocals that are ready. The rest follows later.

        Args:
            block: ``(channel, time)``, float32, finite, in numpy; any length. The estimator does not change it, and
                may keep it.

        Returns:
            ``(channel, time)``, float32, finite, in numpy; possibly no samples.
        """

    def finish(self) -> Waveform:
        """Return the rest of the vocals. In total there are as many samples as were pushed, at least one."""


class Lookahead(Generic[Result]):
    """Computes results in order, a fixed number of them ahead, so that the number of workers changes none.

    Args:
        workers: Threads that compute while the caller goes on. Without them, `submit` computes at once.
        low_delay: Whether to compute none ahead, so that results come as early as they can.
        most: The most results to compute ahead. Large ones need less of them, and much memory.
    """

    def __init__(self, workers: Executor | None, *, low_delay: bool = False, most: int = _AHEAD) -> None:
        self._workers = workers
        self._ahead = max(1, min(_AHEAD, most)) if workers and not low_delay else 0
        self._waiting: deque[Future[Result]] = deque()
        self._process = os.getpid()

    def submit(self, compute: Callable[[], Result]) -> None:
        """Start to compute a result.

        Raises:
            ConfigError: In a child of `os.fork`, if the song began before the fork: its threads stay with the parent.
        """
        if self._process != os.getpid():
            raise ConfigError("this song began before os.fork, so only the parent can continue it; start it again")
        if self._workers:
            self._waiting.append(self._workers.submit(compute))
            return
        result: Future[Result] = Future()
        result.set_result(compute())
        self._waiting.append(result)

    def collect(self, *, last: bool) -> Iterator[Result]:
        """Yield the results that are due, in order; all of them if `last` is true."""
        if self._waiting and self._process != os.getpid():
            raise ConfigError("this song began before os.fork, so only the parent can continue it; start it again")
        while len(self._waiting) > (0 if last else self._ahead):
            yield self._waiting.popleft().result()


class PaddedEstimator:
    """Estimates the vocals of a song with silence before and after it, as programs do whose frames are not centred.

    Args:
        estimator: Estimates the vocals of the longer song.
        channels: The song's number of channels.
        before: Samples of silence before it.
        after: Samples of silence after it.
    """

    detector: VoiceDetector | None = None  # the estimator's counts from the start of the silence

    def __init__(self, estimator: Estimator, channels: int, before: int, after: int) -> None:
        self._estimator = estimator
        self._before, self._after = (np.zeros((channels, count), np.float32) for count in (before, max(0, after)))
        self._skip, self._left = before, 0

    @property
    def is_invalid(self) -> bool:
        """See `Estimator.is_invalid`."""
        return self._estimator.is_invalid

    def push(self, block: Waveform) -> Waveform:
        """See `Estimator.push`."""
        self._left += block.shape[-1]
        first = self._take(self._estimator.push(self._before))
        self._before = self._before[:, :0]
        return np.concatenate([first, self._take(self._estimator.push(block))], axis=-1)

    def finish(self) -> Waveform:
        """See `Estimator.finish`."""
        parts = [self._take(self._estimator.push(self._after)), self._take(self._estimator.finish())]
        return np.concatenate(parts, axis=-1)

    def _take(self, vocals: Waveform) -> Waveform:
        """Drop what belongs to the silence."""
        dropped = min(self._skip, vocals.shape[-1])
        self._skip -= dropped
        kept = vocals[:, dropped : dropped + self._left]
        self._left -= kept.shape[-1]
        return kept
