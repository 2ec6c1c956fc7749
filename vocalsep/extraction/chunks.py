"""Cutting a song's frames into overlapping chunks, and stitching what a net answers for each.

All chunks lie on one grid that starts with the song's first frame: chunk ``k`` holds the frames from ``k * hop`` on.
The last chunk is filled up with zeros. Where chunks overlap, their answers are averaged under a window that favours
the middle of a chunk and is divided out afterwards, so that what all chunks agree on stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vocalsep import audio
from vocalsep.features import FrontEnd
from vocalsep.shapes import Spectrum, Waveform
from vocalsep.stft import Analysis


class Chunker:
    """Cuts frames into chunks.

    Args:
        frames: Frames to a chunk.
        hop: Frames between the starts of chunks, at most `frames`.
    """

    def __init__(self, frames: int, hop: int) -> None:
        self.frames, self.hop = frames, hop
        self._held: Tensor | None = None
        self._total = 0
        self._chunks = 0

    def push(self, frames: Tensor) -> Tensor:
        """Takes the next ``(..., frame)`` frames and gives all chunks that are full, ``(chunk, ..., frame)``."""
        held = frames if self._held is None else torch.cat([self._held, frames], dim=-1)
        self._total += frames.shape[-1]
        count = max(0, (held.shape[-1] - self.frames) // self.hop + 1)
        self._held = held[..., count * self.hop :]
        self._chunks += count
        if not count:
            return held.new_zeros((0, *held.shape[:-1], self.frames))
        return held.unfold(-1, self.frames, self.hop).movedim(-2, 0)

    def finish(self) -> Tensor:
        """Gives the last chunk, filled up with zeros, unless all frames are in full chunks already."""
        if self._held is None:
            raise ValueError("no frames were pushed")
        covered = (self._chunks - 1) * self.hop + self.frames if self._chunks else 0
        if covered >= self._total:
            return self._held.new_zeros((0, *self._held.shape[:-1], self.frames))
        missing = self.frames - self._held.shape[-1]
        return torch.nn.functional.pad(self._held, (0, missing)).unsqueeze(0)


class Stitcher:
    """Joins what was estimated for chunks into frames again.

    Args:
        frames: Frames to a chunk.
        hop: Frames between the starts of chunks, at most `frames`.
    """

    def __init__(self, frames: int, hop: int) -> None:
        self.hop = hop
        self._window = torch.sin(torch.pi * (torch.arange(frames) + 0.5) / frames).square()
        self._sum: Tensor | None = None
        self._weight = torch.zeros(frames)

    def push(self, chunks: Tensor) -> Tensor:
        """Takes the next ``(chunk, ..., frame)`` answers and gives the ``(..., frame)`` frames that are complete."""
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
        """Gives the frames that are left, of which the song's end decides how many count."""
        if self._sum is None:
            raise ValueError("no chunks were pushed")
        left = int((self._weight > 0).sum())
        return self._sum[..., :left] / self._weight[:left]


class Buffer:
    """Frames or samples (the last axis) that wait: pushed at one end, popped at the other."""

    def __init__(self) -> None:
        self._held: Tensor | None = None
        self.total = 0  # pushed in all

    @property
    def length(self) -> int:
        """How many wait."""
        return 0 if self._held is None else self._held.shape[-1]

    @property
    def start(self) -> int:
        """Popped in all."""
        return self.total - self.length

    def push(self, part: Tensor) -> None:
        """Adds some at the end."""
        self._held = part if self._held is None else torch.cat([self._held, part], dim=-1)
        self.total += part.shape[-1]

    def peek(self) -> Tensor:
        """All that wait."""
        assert self._held is not None
        return self._held

    def pop(self, count: int) -> Tensor:
        """Takes away the first ones."""
        held = self.peek()
        self._held = held[..., count:]
        return held[..., :count]


class ChunkStream:
    """From blocks of a song to chunks on a front end's grid.

    Args:
        front_end: The net's front end.
        rate: The song's rate, Hz.
        channels: Its channel count.
        hop: Frames between the starts of chunks.
    """

    def __init__(self, front_end: FrontEnd, rate: int, channels: int, hop: int) -> None:
        self._front_end, self._channels = front_end, channels
        self._resampler = audio.Resampler(rate, front_end.rate, channels)
        self._analysis = Analysis(front_end.grid)
        self._slicer = Chunker(front_end.frames, hop)

    def push(self, block: Waveform, *, last: bool = False) -> Tensor:
        """Takes the next block of the song.

        Args:
            block: ``(channel, time)``, finite.
            last: Whether the song ends with it.

        Returns:
            Power in the chunks that are complete, ``(chunk, channel or 1, row, frame)``.
        """
        low = self._resampler.push(block, last=last)
        spectrum = self._analysis.push(low)
        if last:
            spectrum = torch.cat([spectrum, self._analysis.finish()], dim=-1)
        return self.push_spectrum(spectrum, last=last)

    def push_spectrum(self, spectrum: Spectrum, *, last: bool = False) -> Tensor:
        """The same, for one who has the song's spectrum on the front end's grid: ``(channel, freq, frame)``."""
        sliced = self._slicer.push(self._front_end.analyse(spectrum))
        return torch.cat([sliced, self._slicer.finish()]) if last else sliced
