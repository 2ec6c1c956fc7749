"""A song on its way to a net: what has come in but cannot be answered yet, and the chunks that a net looks at."""

from __future__ import annotations

import torch
from torch import Tensor

from vocalsep import audio
from vocalsep.chunks import Slicer
from vocalsep.features import FrontEnd
from vocalsep.shapes import Spectrum, Waveform
from vocalsep.stft import Analysis


class Queue:
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


class Listener:
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
        self._slicer = Slicer(front_end.frames, hop)

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
