"""Samples on their way to an output, which takes them when it wants them."""

from __future__ import annotations

from collections import deque

import numpy as np

from vocalsep.shapes import Array


class Playout:
    """A queue of samples, ``(time, channel)``. One thread puts them in, another takes them out, and neither waits.

    Args:
        channels: Number of channels.
        fade: Samples over which sound fades out into a gap and in after it, and over which skipped parts are joined.

    Attributes:
        written: Samples put in so far, without silence.
        taken: Samples taken out or skipped so far, without silence.
        gaps: How often there were too few.
    """

    def __init__(self, channels: int, fade: int) -> None:
        self._blocks: deque[tuple[Array, bool]] = deque()  # samples, and whether they are counted
        self._skips: deque[int] = deque()
        self._head, self._is_counted = np.zeros((0, channels), np.float32), True
        self._rise = ((np.arange(fade, dtype=np.float32) + 0.5) / max(1, fade))[:, None]
        self._last = np.zeros(channels, np.float32)  # the last sample taken
        self._in_gap = False
        self._tail = np.zeros((0, channels), np.float32)  # what fades out into a gap, as far as it is not yet played
        self.written = self.taken = self.gaps = 0

    def put(self, block: Array) -> None:
        """Append samples."""
        self._blocks.append((block, True))
        self.written += len(block)

    def put_after_gap(self, block: Array, silence: int) -> None:
        """Append a number of samples of silence, then fade in the samples."""
        self._blocks.append((np.zeros((silence, block.shape[-1]), np.float32), False))
        rise = self._rise[: len(block)]
        self.put(np.concatenate([rise * block[: len(rise)], block[len(rise) :]]))

    def skip(self, count: int) -> None:
        """Skip a number of the samples put in so far, at the next `take`."""
        self._skips.append(count)

    def take(self, out: Array) -> int:
        """Fill an array with the next samples, and with silence if there are too few. Return how many are missing."""
        before = self._skip(len(out)) if self._skips else None
        found = self._pull(out)
        out[found:] = 0
        if before is not None:
            out[: len(before)] += (1 - self._rise) * (before - out[: len(before)])
        falling, self._tail = self._tail[: len(out)], self._tail[len(out) :]
        out[: len(falling)] += falling
        if found < len(out) and (found or not self._in_gap):
            self._tail = (1 - self._rise) * (out[found - 1] if found else self._last)
            falling, self._tail = self._tail[: len(out) - found], self._tail[len(out) - found :]
            out[found : found + len(falling)] = falling
            self.gaps += 1
        self._in_gap = found < len(out)
        self._last = out[-1].copy()
        return len(out) - found

    def _skip(self, wanted: int) -> Array | None:
        """Skip what is to be skipped, if enough is left. Return the first of it, to fade from."""
        count = min(self._skips.popleft(), self.written - self.taken - wanted)
        if count < len(self._rise) or wanted < len(self._rise):
            return None
        first = np.empty((len(self._rise), self._head.shape[-1]), np.float32)
        self._pull(first)
        self._pull(np.empty((count - len(first), self._head.shape[-1]), np.float32))
        return first

    def _pull(self, out: Array) -> int:
        """Fill an array as far as there are samples, and return how many there were."""
        found = 0
        while found < len(out):
            if not len(self._head):
                if not self._blocks:
                    break
                self._head, self._is_counted = self._blocks.popleft()
            part = self._head[: len(out) - found]
            out[found : found + len(part)] = part
            self._head = self._head[len(part) :]
            self.taken += len(part) * self._is_counted
            found += len(part)
        return found
