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

from vocalsep import audio
from vocalsep.features import FrontEnd
from vocalsep.kinds import array_namespace, copy_frame_by_frame, get_device
from vocalsep.shapes import Array, Mask, Spectrum, Waveform
from vocalsep.stft import Analysis, Grid

PIECE = 32
"""Frames that are transformed and masked at a time on a CPU: few enough to stay in a core's cache. It divides the hop
between chunks of most shipped models, so pieces rarely have to be joined or cut."""

_TINY = np.float32(1e-12)  # far below any weight other than 0


class PieceStream:
    """Streaming STFT that returns a song's spectrum in pieces of a fixed length. Only the last may have another.

    Whatever sums over frames gets the same frames at a time, however the song is cut into blocks. So blocks of any size
    give the same result, bit for bit.

    Args:
        grid: The grid of the spectrum.
        size: Frames in a piece. None returns all frames that are complete, which takes the fewest calls.
        place: Puts an array on the device that computes.
    """

    def __init__(self, grid: Grid, size: int | None, place: Callable[[Array], Any]) -> None:
        self._place, self._analysis = place, Analysis(grid)
        self._samples = Buffer()  # those that do not complete a piece
        self._step = (size or 0) * grid.hop
        self._end = self._step - grid.hop + grid.n_fft // 2  # the next piece needs this many samples of the song

    def push(self, block: Waveform, *, last: bool = False) -> list[Spectrum]:
        """Take the next block of the song and return the pieces that are complete.

        Args:
            block: ``(channel, time)``, finite, in numpy.
            last: Whether the song ends with this block.

        Returns:
            ``(channel, freq, frame)`` each, in order.
        """
        self._samples.push(block)
        total = self._samples.total
        ends = range(self._end, total + 1, self._step) if self._step else [total]
        self._end += len(ends) * self._step
        pieces = [self._analysis.push(self._take(end)) for end in ends]
        return [*pieces, self._analysis.finish(self._take(total))] if last else pieces

    def _take(self, end: int) -> Waveform:
        return self._place(self._samples.pop(end - self._samples.start))


class ChunkStream:
    """Turns blocks of a song into chunks on a front end's grid.

    Args:
        front_end: The net's front end.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels.
        hop: Frames between the starts of chunks.
        piece: Frames to analyse at a time; see `PieceStream`.
        place: Puts an array on the device that the chunks are to be computed on.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        rate: int,
        channels: int,
        hop: int,
        piece: int | None = PIECE,
        place: Callable[[Array], Any] = lambda array: array,
    ) -> None:
        self._front_end = front_end
        self._resampler = audio.Resampler(rate, front_end.rate, channels)
        self._pieces = PieceStream(front_end.grid, piece, place)
        self._chunker = Chunker(front_end.frames, hop)

    def push(self, block: Waveform, *, last: bool = False) -> list[Any]:
        """Take the next block of the song and return the chunks that are complete.

        Args:
            block: ``(channel, time)``, finite, in numpy.
            last: Whether the song ends with this block.

        Returns:
            Power of each chunk, ``(channel or 1, row, frame)``; see `FrontEnd.analyse`.
        """
        return self.push_pieces(self._pieces.push(self._resampler.push(block, last=last), last=last), last=last)

    def push_pieces(self, pieces: list[Spectrum], *, last: bool = False) -> list[Any]:
        """Like `push`, for callers that already have the spectrum.

        Args:
            pieces: From a `PieceStream` on the front end's grid.
            last: Whether the song ends with these pieces.
        """
        chunks = [chunk for piece in pieces for chunk in self._chunker.push(self._front_end.analyse(piece))]
        return chunks + self._chunker.finish() if last else chunks


class Chunker:
    """Cuts frames into overlapping chunks.

    Args:
        frames: Frames per chunk.
        hop: Frames between the starts of chunks, at most `frames`.
    """

    def __init__(self, frames: int, hop: int) -> None:
        self.frames, self.hop = frames, hop
        self._held = Buffer()
        self._chunks = 0

    def push(self, frames: Any) -> list[Any]:
        """Take the next ``(..., frame)`` frames and return all chunks that are full, ``(..., frame)`` each."""
        self._held.push(frames)
        chunks = []
        while self._held.length >= self.frames:
            chunks.append(self._held.peek(0, self.frames))
            self._held.drop(self.hop)
        self._chunks += len(chunks)
        return chunks

    def finish(self) -> list[Any]:
        """Return the last chunk, padded with zeros, or none if the full chunks hold all frames.

        Raises:
            ValueError: If nothing was pushed.
        """
        if not self._held.total:
            raise ValueError("no frames were pushed")
        if self._chunks and (self._chunks - 1) * self.hop + self.frames >= self._held.total:
            return []
        return [_pad(self._held.peek(), self.frames)]


class Stitcher:
    """Joins the masks of overlapping chunks into the mask of the song, or other estimates in the same way.

    Args:
        frames: Frames per chunk.
        hop: Frames between the starts of chunks, at most `frames`.
    """

    def __init__(self, frames: int, hop: int) -> None:
        self.hop = hop
        self._window = make_window(frames)
        self._rest: Any = None  # weighted frames of the chunks so far that the next chunk overlaps
        self._rest_weight = np.zeros(frames - hop, dtype=np.float32)

    def push(self, chunk: Array, window: Array | None = None) -> Array:
        """Take the estimate of the next chunk and return the `hop` frames that are complete.

        Args:
            chunk: ``(..., frame)``.
            window: Weights of its frames, ``(frame,)``, float32; by default those of the module's docstring. Frames
                of no weight come out as 0.
        """
        xp, shared = array_namespace(chunk), len(self._rest_weight)
        if window is None:  # a mask, which is wanted frame by frame
            window, chunk = self._window, copy_frame_by_frame(chunk)
        whole = xp.asarray(window, device=get_device(chunk)) * chunk
        weight = window.copy()
        if self._rest is not None:
            whole[..., :shared] += self._rest
            weight[:shared] += self._rest_weight
        self._rest, self._rest_weight = whole[..., self.hop :], weight[self.hop :]
        ready: Array = whole[..., : self.hop] / xp.asarray(
            np.maximum(weight[: self.hop], _TINY), device=get_device(chunk)
        )
        return ready

    def finish(self) -> Mask:
        """Return the remaining frames. They may run past the song's end, so the caller must ignore those after it.

        Raises:
            ValueError: If nothing was pushed.
        """
        if self._rest is None:
            raise ValueError("no chunks were pushed")
        weight = np.maximum(self._rest_weight, _TINY)
        return self._rest / array_namespace(self._rest).asarray(weight, device=get_device(self._rest))


def make_window(frames: int) -> Array:
    """Return the weights of the module's docstring, ``(frames,)``, float32."""
    window: Array = np.square(np.sin(np.pi * (np.arange(frames) + 0.5) / frames)).astype(np.float32)
    return window


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
            self._empty = array_namespace(part).zeros(shape, dtype=part.dtype, device=get_device(part))
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
        """Remove and return the first `count` frames or samples, or all if there are fewer."""
        popped = self.peek(0, count)
        self.drop(count)
        return popped

    def drop(self, count: int) -> None:
        """Remove the first `count` frames or samples, or all if there are fewer."""
        self.start += min(count, self.length)
        while count and self._parts:
            size = int(self._parts[0].shape[-1])
            if size <= count:
                self._parts.popleft()
            else:
                self._parts[0] = self._parts[0][..., count:]
            count -= min(size, count)


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
    zeros = xp.zeros((*frames.shape[:-1], missing), dtype=frames.dtype, device=get_device(frames))
    return xp.concat([frames, zeros], axis=-1)
