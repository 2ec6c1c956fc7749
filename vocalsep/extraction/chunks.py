"""Chunks: cut a stream of frames into overlapping chunks for a net, and stitch its masks together again.

All chunks lie on one grid that starts with the song's first frame: chunk ``k`` holds the frames from ``k * hop`` on.
The last chunk is padded with zeros. Where chunks overlap, their masks are averaged under the window

    w[i] = sin^2(pi (i + 1/2) / frames),    mask[t] = sum_k w[t - k hop] mask_k[t - k hop]  /  sum_k w[t - k hop]

which favours the middle of a chunk. Where the masks agree, their value is kept. Chunks depend on the song alone, not on
the blocks in which it arrives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vocalsep import audio
from vocalsep.features import FrontEnd
from vocalsep.shapes import Spectrum, Waveform
from vocalsep.stft import Analysis


class ChunkStream:
    """Turns blocks of a song into chunks on a front end's grid.

    Args:
        front_end: The net's front end.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels.
        hop: Frames between the starts of chunks.
    """

    def __init__(self, front_end: FrontEnd, rate: int, channels: int, hop: int) -> None:
        self._front_end = front_end
        self._resampler = audio.Resampler(rate, front_end.rate, channels)
        self._analysis = Analysis(front_end.grid)
        self._chunker = Chunker(front_end.frames, hop)

    def push(self, block: Waveform, *, last: bool = False) -> Tensor:
        """Take the next block of the song and return the chunks that are complete.

        Args:
            block: ``(channel, time)``, finite.
            last: Whether the song ends with this block.

        Returns:
            Power, ``(chunk, channel or 1, row, frame)``; see `FrontEnd.analyse`.
        """
        resampled = self._resampler.push(block, last=last)
        spectrum = self._analysis.push(resampled)
        if last:
            spectrum = torch.cat([spectrum, self._analysis.finish()], dim=-1)
        return self.push_spectrum(spectrum, last=last)

    def push_spectrum(self, spectrum: Spectrum, *, last: bool = False) -> Tensor:
        """Like `push`, for callers that already have the spectrum.

        Args:
            spectrum: ``(channel, freq, frame)`` on the front end's grid.
            last: Whether the song ends with these frames.
        """
        chunks = self._chunker.push(self._front_end.analyse(spectrum))
        return torch.cat([chunks, self._chunker.finish()]) if last else chunks


class Chunker:
    """Cuts frames into overlapping chunks.

    Args:
        frames: Frames per chunk.
        hop: Frames between the starts of chunks, at most `frames`.
    """

    def __init__(self, frames: int, hop: int) -> None:
        self.frames, self.hop = frames, hop
        self._held: Tensor | None = None
        self._total = 0
        self._chunks = 0

    def push(self, frames: Tensor) -> Tensor:
        """Take the next ``(..., frame)`` frames and return all chunks that are full, ``(chunk, ..., frame)``."""
        held = frames if self._held is None else torch.cat([self._held, frames], dim=-1)
        self._total += frames.shape[-1]
        count = max(0, (held.shape[-1] - self.frames) // self.hop + 1)
        self._held = held[..., count * self.hop :]
        self._chunks += count
        if not count:
            return held.new_zeros((0, *held.shape[:-1], self.frames))
        return held.unfold(-1, self.frames, self.hop).movedim(-2, 0)

    def finish(self) -> Tensor:
        """Return the last chunk, padded with zeros, or none if the full chunks hold all frames.

        Raises:
            ValueError: If nothing was pushed.
        """
        if self._held is None:
            raise ValueError("no frames were pushed")
        covered = (self._chunks - 1) * self.hop + self.frames if self._chunks else 0
        if covered >= self._total:
            return self._held.new_zeros((0, *self._held.shape[:-1], self.frames))
        missing = self.frames - self._held.shape[-1]
        return torch.nn.functional.pad(self._held, (0, missing)).unsqueeze(0)


class Stitcher:
    """Joins the masks of overlapping chunks into the mask of the song.

    Args:
        frames: Frames per chunk.
        hop: Frames between the starts of chunks, at most `frames`.
    """

    def __init__(self, frames: int, hop: int) -> None:
        self.hop = hop
        self._window = torch.sin(torch.pi * (torch.arange(frames) + 0.5) / frames).square()
        self._sum: Tensor | None = None
        self._weight = torch.zeros(frames)

    def push(self, chunks: Tensor) -> Tensor:
        """Take the next ``(chunk, ..., frame)`` masks and return the ``(..., frame)`` frames that are complete."""
        done = []
        window = self._window.to(chunks)
        if self._sum is None:
            self._sum = chunks.new_zeros(chunks.shape[1:])
            self._weight = self._weight.to(chunks)
        for chunk in chunks:
            self._sum = self._sum + window * chunk
            self._weight = self._weight + window
            done.append((self._sum / self._weight)[..., : self.hop])
            self._sum = torch.nn.functional.pad(self._sum[..., self.hop :], (0, self.hop))
            self._weight = torch.nn.functional.pad(self._weight[self.hop :], (0, self.hop))
        return torch.cat(done, dim=-1) if done else self._sum[..., :0]

    def finish(self) -> Tensor:
        """Return the remaining frames. They may run past the song's end, so the caller must ignore those after it.

        Raises:
            ValueError: If nothing was pushed.
        """
        if self._sum is None:
            raise ValueError("no chunks were pushed")
        left = int((self._weight > 0).sum())
        return self._sum[..., :left] / self._weight[:left]


class Buffer:
    """A first-in, first-out buffer of frames or samples (the last axis).

    Attributes:
        total: Number of frames or samples pushed so far.
    """

    def __init__(self) -> None:
        self._held: Tensor | None = None
        self.total = 0

    @property
    def length(self) -> int:
        """Number of frames or samples that the buffer holds."""
        return 0 if self._held is None else self._held.shape[-1]

    @property
    def start(self) -> int:
        """Number popped so far, which is the position in the song of the first one held."""
        return self.total - self.length

    def push(self, part: Tensor) -> None:
        """Append frames or samples."""
        self._held = part if self._held is None else torch.cat([self._held, part], dim=-1)
        self.total += part.shape[-1]

    def peek(self) -> Tensor:
        """Return all that the buffer holds, and keep it."""
        assert self._held is not None
        return self._held

    def pop(self, count: int) -> Tensor:
        """Remove and return the first `count` frames or samples."""
        held = self.peek()
        self._held = held[..., count:]
        return held[..., :count]
