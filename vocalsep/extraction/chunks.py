"""Chunks: cut a stream of frames into overlapping chunks for a net, and stitch its masks together again.

All chunks lie on one grid that starts with the song's first frame: chunk ``k`` holds the frames from ``k * hop`` on.
The last chunk is padded with zeros. Where chunks overlap, their masks are averaged under the window

    w[i] = sin^2(pi (i + 1/2) / frames),    mask[t] = sum_k w[t - k hop] mask_k[t - k hop]  /  sum_k w[t - k hop]

which favours the middle of a chunk. Where the masks agree, their value is kept. Chunks depend on the song alone, not on
the blocks in which it arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from vocalsep import audio
from vocalsep.features import FrontEnd
from vocalsep.shapes import Array, Spectrum, Waveform
from vocalsep.stft import Analysis

_TINY = np.float32(1e-12)  # far below any weight other than 0


class ChunkStream:
    """Turns blocks of a song into chunks on a front end's grid.

    Whatever sums over frames gets the same frames at a time, however the song is cut into blocks. So blocks of any size
    give the same chunks, bit for bit.

    Args:
        front_end: The net's front end.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels.
        hop: Frames between the starts of chunks.
        place: Puts an array on the device that the chunks are to be computed on.
    """

    def __init__(
        self, front_end: FrontEnd, rate: int, channels: int, hop: int, place: Callable[[Any], Any] = lambda array: array
    ) -> None:
        self._front_end, self._place = front_end, place
        self._resampler = audio.Resampler(rate, front_end.rate, channels)
        self._analysis = Analysis(front_end.grid)
        self._spectrum = Buffer()  # frames that do not complete a chunk
        self._chunker = Chunker(front_end.frames, hop)

    def push(self, block: Waveform, *, last: bool = False) -> list[Any]:
        """Take the next block of the song and return the chunks that are complete.

        Args:
            block: ``(channel, time)``, finite, in numpy.
            last: Whether the song ends with this block.

        Returns:
            Power of each chunk, ``(channel or 1, row, frame)``; see `FrontEnd.analyse`.
        """
        parts = [self._analysis.push(self._place(self._resampler.push(block, last=last)))]
        if last:
            parts.append(self._analysis.finish())
        return self.push_spectrum(join(parts), last=last)

    def push_spectrum(self, spectrum: Spectrum, *, last: bool = False) -> list[Any]:
        """Like `push`, for callers that already have the spectrum.

        Args:
            spectrum: ``(channel, freq, frame)`` on the front end's grid.
            last: Whether the song ends with these frames.
        """
        self._spectrum.push(spectrum)
        chunks: list[Any] = []
        while self._spectrum.length >= self._chunker.missing:
            frames = self._spectrum.pop(self._chunker.missing)
            chunks += self._chunker.push(self._front_end.analyse(frames))
        if last:
            rest = self._spectrum.pop(self._spectrum.length)
            if rest.shape[-1]:
                chunks += self._chunker.push(self._front_end.analyse(rest))
            chunks += self._chunker.finish()
        return chunks


class Chunker:
    """Cuts frames into overlapping chunks.

    Args:
        frames: Frames per chunk.
        hop: Frames between the starts of chunks, at most `frames`.
    """

    def __init__(self, frames: int, hop: int) -> None:
        self.frames, self.hop = frames, hop
        self._held: Any = None
        self._total = 0
        self._chunks = 0

    @property
    def missing(self) -> int:
        """Number of frames that complete the next chunk."""
        return self._chunks * self.hop + self.frames - self._total

    def push(self, frames: Any) -> list[Any]:
        """Take the next ``(..., frame)`` frames and return all chunks that are full, ``(..., frame)`` each."""
        held = frames if self._held is None else join([self._held, frames])
        self._total += frames.shape[-1]
        count = max(0, (held.shape[-1] - self.frames) // self.hop + 1)
        self._held = held[..., count * self.hop :]
        self._chunks += count
        return [held[..., start : start + self.frames] for start in range(0, count * self.hop, self.hop)]

    def finish(self) -> list[Any]:
        """Return the last chunk, padded with zeros, or none if the full chunks hold all frames.

        Raises:
            ValueError: If nothing was pushed.
        """
        if self._held is None:
            raise ValueError("no frames were pushed")
        if self._chunks and (self._chunks - 1) * self.hop + self.frames >= self._total:
            return []
        return [_pad(self._held, self.frames)]


class Stitcher:
    """Joins the masks of overlapping chunks into the mask of the song, or other estimates in the same way.

    Args:
        frames: Frames per chunk.
        hop: Frames between the starts of chunks, at most `frames`.
    """

    def __init__(self, frames: int, hop: int) -> None:
        self.hop = hop
        self._window = np.square(np.sin(np.pi * (np.arange(frames) + 0.5) / frames)).astype(np.float32)
        self._sum: Any = None
        self._weight: Any = np.zeros(frames, dtype=np.float32)

    def push(self, chunk: Any, window: Array | None = None) -> Any:
        """Take the mask of the next chunk and return the `hop` frames that are complete.

        Args:
            chunk: ``(..., frame)``.
            window: Weights of its frames, ``(frame,)``, float32; by default those of the module's docstring. Frames
                of no weight come out as 0.
        """
        window = self._window if window is None else window
        xp, frames = array_namespace(chunk), len(window)
        weighted = xp.asarray(window, device=device(chunk)) * chunk
        whole = weighted if self._sum is None else self._sum + weighted
        weight = self._weight + window
        self._sum = _pad(whole[..., self.hop :], frames)
        self._weight = _pad(weight[self.hop :], frames)
        return whole[..., : self.hop] / xp.asarray(np.maximum(weight[: self.hop], _TINY), device=device(chunk))

    def finish(self) -> Any:
        """Return the remaining frames. They may run past the song's end, so the caller must ignore those after it.

        Raises:
            ValueError: If nothing was pushed.
        """
        if self._sum is None:
            raise ValueError("no chunks were pushed")
        left = np.count_nonzero(self._weight)
        weight = array_namespace(self._sum).asarray(self._weight[:left], device=device(self._sum))
        return self._sum[..., :left] / weight


class Buffer:
    """A first-in, first-out buffer of frames or samples (the last axis).

    What is pushed is kept as it comes, and copied only when somebody takes a range that lies in several pushes.

    Attributes:
        total: Number of frames or samples pushed so far.
        start: Number popped so far, which is the position in the song of the first one held.
    """

    def __init__(self) -> None:
        self._parts: deque[Any] = deque()
        self._empty: Any = None
        self.total = self.start = 0

    @property
    def length(self) -> int:
        """Number of frames or samples that the buffer holds."""
        return self.total - self.start

    def push(self, part: Any) -> None:
        """Append frames or samples."""
        if self._empty is None:
            shape = (*part.shape[:-1], 0)
            self._empty = array_namespace(part).zeros(shape, dtype=part.dtype, device=device(part))
        if part.shape[-1]:
            self._parts.append(part)
        self.total += int(part.shape[-1])

    def peek(self, first: int = 0, last: int | None = None) -> Any:
        """Return what the buffer holds, or a part of it, and keep it.

        Args:
            first: Position of the first one to return, counted from the first one that the buffer holds.
            last: Position of the one after the last one to return.
        """
        last = self.length if last is None else min(last, self.length)
        found, at = [], 0
        for part in self._parts:
            size = int(part.shape[-1])
            if at < last and at + size > first:
                found.append(part[..., max(0, first - at) : last - at])
            at += size
        return join(found) if found else self._empty

    def pop(self, count: int) -> Any:
        """Remove and return the first `count` frames or samples."""
        popped = self.peek(0, count)
        self.start += int(popped.shape[-1])
        while count and self._parts:
            size = int(self._parts[0].shape[-1])
            if size <= count:
                self._parts.popleft()
            else:
                self._parts[0] = self._parts[0][..., count:]
            count -= min(size, count)
        return popped


def join(parts: list[Any]) -> Any:
    """Join arrays along their last axis.

    Spectra and masks keep their frames one after another in memory, even if they come one by one. Sums would be rounded
    differently otherwise, because numpy adds in the order of memory.
    """
    filled = [part for part in parts if part.shape[-1]] or parts[:1]
    if len(filled) == 1:
        return filled[0]
    xp = array_namespace(filled[0])
    if filled[0].ndim < 3:
        return xp.concat(filled, axis=-1)
    return xp.matrix_transpose(xp.concat([xp.matrix_transpose(part) for part in filled], axis=-2))


def _pad(frames: Any, length: int) -> Any:
    """Append zeros up to a length."""
    xp, missing = array_namespace(frames), length - frames.shape[-1]
    zeros = xp.zeros((*frames.shape[:-1], missing), dtype=frames.dtype, device=device(frames))
    return xp.concat([frames, zeros], axis=-1)
