"""Slices: cut a song into overlapping pieces of the length that a graph takes, and add what it finds up again.

All slices lie on one grid that starts with the song. Positions are samples or frames, along the last axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vocalsep.extraction.chunks import Buffer, Stitcher, make_window
from vocalsep.extraction.estimators import Lookahead
from vocalsep.shapes import AnyArray, Array

Run = Callable[[AnyArray], AnyArray]
"""Estimates a slice: ``(channel, ..., position)`` in, the same shape out."""


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How a song is cut into slices, in samples or frames.

    Attributes:
        size: Length of a slice.
        step: Distance between the starts of slices.
        window: Weight of a slice's estimate along the slice: "sine" (squared), "triangle" or "hann". The last is
            0 at both ends, so that it needs zeros before the song and after it.
        end: What the last slices hold where the song does not fill them: "earlier" starts the last one earlier,
            "centre" puts what is left into the middle, after what comes before it, and "zeros" appends zeros.
        lead: Zeros before the song. With "zeros", as many at least follow it.
    """

    size: int
    step: int
    window: Literal["sine", "triangle", "hann"]
    end: Literal["earlier", "centre", "zeros"] = "earlier"
    lead: int = 0

    def make_window(self, length: int) -> Array:
        """Return the weights of a slice of which only the first `length` positions count, ``(size,)``, float32."""
        window = np.zeros(self.size, np.float32)
        if self.window == "sine":
            window[:] = make_window(self.size)
        elif self.window == "triangle":
            half = self.size // 2
            window[:half] = np.arange(1, half + 1) / (self.size - half)
            window[half:] = np.arange(self.size - half, 0, -1) / (self.size - half)
        else:
            window[:length] = np.hanning(length)
        window[length:] = 0
        return window

    def count_tail(self, samples: int) -> int:
        """Return the number of zeros after a song of this many samples."""
        if self.end != "zeros":
            return 0
        period = self.size - 2 * self.lead
        return period + self.lead - samples % period

    def list_last(self, first: int, total: int) -> list[int]:
        """Return the starts of the slices that the song does not fill.

        Args:
            first: Start of the first slice that is not full.
            total: Length of the song, with zeros around it.
        """
        if self.end != "earlier":
            return list(range(first, total, self.step))
        return [first] if first == 0 or first - self.step + self.size < total else []

    def count_shift(self, start: int, missing: int) -> int:
        """Return by how much a slice begins before its place, if `missing` positions lie after the song's end."""
        return {"earlier": min(missing, start), "centre": missing // 2, "zeros": 0}[self.end]


class Slices:
    """Cuts a stream into slices, estimates each, and adds the estimates up again.

    Args:
        cutting: How to cut.
        run: Estimates one slice.
        ahead: Computes the estimates.
    """

    def __init__(self, cutting: Cutting, run: Run, ahead: Lookahead[AnyArray]) -> None:
        self._cutting, self._run, self._ahead = cutting, run, ahead
        self._held = Buffer()
        self._next = 0  # start of the next slice
        self._stitcher = Stitcher(cutting.size, cutting.step)
        self._full = cutting.make_window(cutting.size)
        self._last: list[Array] = []  # windows of the slices at the end
        self._submitted = self._joined = 0
        self._skip = cutting.lead  # positions before the song that are still to be dropped

    def push(self, values: AnyArray, *, last: bool = False) -> list[AnyArray]:
        """Take the next positions, and return those whose estimates are known, in pieces.

        Args:
            values: ``(channel, ..., position)``.
            last: Whether the song ends here.

        Returns:
            Pieces of the same shape, cut where slices begin. The last may run past the song's end.
        """
        cutting, held = self._cutting, self._held
        if held.total == 0 and cutting.lead:
            held.push(np.zeros((*values.shape[:-1], cutting.lead), values.dtype))
        held.push(values)
        if last:
            tail = cutting.count_tail(held.total - cutting.lead)
            held.push(np.zeros((*values.shape[:-1], tail), values.dtype))
        while self._next + cutting.size <= held.total:
            self._submit(self._next, cutting.size)
            self._next += cutting.step
            held.drop(max(0, self._next - cutting.size - held.start))  # a last slice may begin this much earlier
        for start in cutting.list_last(self._next, held.total) if last else ():
            length = min(cutting.size, held.total - start)
            self._last.append(cutting.make_window(length))
            self._submit(start, length)
        pieces = [self._join(estimate) for estimate in self._ahead.collect(last=last)]
        if last:
            pieces.append(self._stitcher.finish())
        return [self._drop_lead(piece) for piece in pieces]

    def _submit(self, start: int, length: int) -> None:
        cutting, held = self._cutting, self._held
        shift = cutting.count_shift(start, cutting.size - length)
        first, after = start - shift, start - shift + cutting.size
        part = held.peek(max(0, first - held.start), max(0, after - held.start))
        before = max(0, -first)
        missing = cutting.size - before - part.shape[-1]
        part = np.pad(part, [(0, 0)] * (part.ndim - 1) + [(before, missing)])

        def estimate() -> AnyArray:
            with np.errstate(all="ignore"):
                found = self._run(part) if part.any() else np.zeros_like(part)
            return np.concatenate([found[..., shift:], found[..., :shift]], axis=-1) if shift else found

        self._submitted += 1
        self._ahead.submit(estimate)

    def _join(self, estimate: AnyArray) -> AnyArray:
        self._joined += 1
        left = self._submitted - self._joined
        window = self._last[-left - 1] if left < len(self._last) else self._full
        return self._stitcher.push(estimate, window)

    def _drop_lead(self, piece: AnyArray) -> AnyArray:
        dropped = min(self._skip, piece.shape[-1])
        self._skip -= dropped
        return piece[..., dropped:]
