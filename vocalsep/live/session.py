"""A session: what is heard goes through the separator, and is played a fixed time later.

Three threads meet here. Those of the devices call `hear` and `play`, which only copy samples and never wait. A worker
calls `work`, which waits for samples and runs the net. Nothing is locked: each number has one thread that changes it,
and queues may be used by several threads.

The delay is counted in samples. It is kept by two rules:

- If the samples to play have run out, the next ones are preceded by silence that restores the delay.
- If they have been later than the delay for some seconds, what is too late is skipped. That happens after the net was
  late for once, or when the clock of the input is faster than that of the output.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

import numpy as np

from vocalsep.extraction import StreamingSeparator
from vocalsep.live.playout import Playout
from vocalsep.shapes import Array, Waveform

_WATCHED_SECONDS = 5.0  # of being too late before samples are skipped
_TOLERANCE_SECONDS = 0.015
_FADE_SECONDS = 0.005  # into and out of gaps
_MOST_WAITING_SECONDS = 1.0  # of samples that the net has not seen; beyond that it can never catch up


class Session:
    """One run from an input to an output, with the same devices, rate and channels.

    Args:
        start: Starts a separator.
        rate: Sample rate in Hz.
        played_channels: Number of channels of the output. Mono and stereo are turned into each other.
        keep: What to play, "vocals" or "accompaniment".
        latency_seconds: Seconds between hearing a sample and playing it.
        clock: Returns seconds.

    Attributes:
        latency_seconds: See above.
        heard: Samples heard so far.
        underruns: How often the samples to play ran out because the net was late.
        missing: Samples of silence that were played instead.
        last_heard: When the input last gave samples, by `clock`.
        delay_seconds: Time between hearing the samples played last and playing them, as counted; None in gaps.
    """

    def __init__(
        self,
        start: Callable[[], StreamingSeparator],
        *,
        rate: int,
        played_channels: int,
        keep: str,
        latency_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start, self._separator = start, start()
        self._rate, self._channels, self._keep, self._clock = rate, played_channels, keep, clock
        self.latency_seconds, self._latency = latency_seconds, round(latency_seconds * rate)
        self._waiting: queue.SimpleQueue[Array] = queue.SimpleQueue()  # heard, not yet separated
        self._playout = Playout(played_channels, round(_FADE_SECONDS * rate))
        self._separated = self._skipped = 0  # samples that are dealt with, or were thrown away; the latter
        self._gaps = -1  # gaps in what was played that are dealt with
        self._excess: int | None = None  # the fewest samples by which the delay was too long lately
        self._watched = 0  # samples since then
        self.heard = self.underruns = self.missing = 0
        self.last_heard = clock()
        self.delay_seconds: float | None = None

    def hear(self, block: Array) -> None:
        """Take the next samples of the input, ``(time, channel)``, float32. They are copied."""
        self._waiting.put(np.array(block, np.float32))
        self.heard += len(block)
        self.last_heard = self._clock()

    def play(self, out: Array) -> None:
        """Fill an array with the next samples for the output, ``(time, channel)``, float32."""
        playout, before, gaps = self._playout, self._playout.taken, self._playout.gaps
        missing = playout.take(out)
        is_whole = playout.taken - before >= len(out)  # without silence
        self.delay_seconds = (self.heard - before - self._skipped) / self._rate if is_whole else None
        if missing and playout.taken and self.heard > self._separated:  # it is the net that is late
            self.underruns += playout.gaps - gaps
            self.missing += missing

    def work(self, timeout: float = 0.1) -> None:
        """Separate the next samples that were heard.

        Args:
            timeout: The longest to wait for them, in seconds.
        """
        try:
            block = self._waiting.get(timeout=timeout) if timeout else self._waiting.get_nowait()
        except queue.Empty:
            return
        if self.heard - self._separated > _MOST_WAITING_SECONDS * self._rate + len(block):
            self._give_up(block)
            return
        parts = self._separator.push(block.T)
        if parts.vocals.shape[-1]:
            self._put(getattr(parts, self._keep))
        self._separated += len(block)

    def _give_up(self, block: Array) -> None:
        """Throw away what is waiting, and start anew with what comes next."""
        dropped = len(block)
        while not self._waiting.empty():
            dropped += len(self._waiting.get_nowait())
        self._separated += dropped
        self._skipped = self._separated - self._playout.written
        self._separator = self._start()

    def _put(self, samples: Waveform) -> None:
        """Hand samples over to be played, and keep the delay."""
        playout, block = self._playout, np.ascontiguousarray(_fit_channels(samples, self._channels).T)
        if playout.gaps > self._gaps:  # or nothing was played yet
            self._gaps = playout.gaps
            silence = playout.written + self._skipped + self._latency - self.heard
            playout.put_after_gap(block, max(0, silence))
            self._excess, self._watched = None, 0
            return
        late = self.heard - self._latency - playout.taken - self._skipped
        self._excess = late if self._excess is None else min(self._excess, late)
        self._watched += len(block)
        if self._watched >= _WATCHED_SECONDS * self._rate:
            if self._excess > _TOLERANCE_SECONDS * self._rate:
                playout.skip(self._excess)
            self._excess, self._watched = None, 0
        playout.put(block)


def _fit_channels(samples: Waveform, channels: int) -> Waveform:
    """Turn mono into more channels, or any number into mono; otherwise keep the first channels."""
    if channels == 1:
        return samples.mean(axis=0, keepdims=True)
    return np.broadcast_to(samples, (channels, samples.shape[-1])) if len(samples) == 1 else samples[:channels]
