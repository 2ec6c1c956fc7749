"""What the streaming separator needs of a model: an estimator, which turns blocks of a song into its vocals."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Generic, Protocol, TypeVar

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
    """

    def __init__(self, workers: Executor | None, *, low_delay: bool = False) -> None:
        self._workers = workers
        self._ahead = _AHEAD if workers and not low_delay else 0
        self._waiting: deque[Future[Result]] = deque()

    def submit(self, compute: Callable[[], Result]) -> None:
        """Start to compute a result."""
        if self._workers:
            self._waiting.append(self._workers.submit(compute))
            return
        result: Future[Result] = Future()
        result.set_result(compute())
        self._waiting.append(result)

    def collect(self, *, last: bool) -> Iterator[Result]:
        """Yield the results that are due, in order; all of them if `last` is true."""
        while len(self._waiting) > (0 if last else self._ahead):
            yield self._waiting.popleft().result()
