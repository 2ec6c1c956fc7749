"""What all front ends have in common.

A front end has three steps because songs are streamed and have any number of channels: `analyse` works frame by frame,
so it can run before a song is cut into chunks; `arrange` deals the channels of a song out to a net that takes a fixed
number of them; `normalise` works on whole chunks, so that the level of the song does not matter to the net. The way
back is `rearrange`, `spread` and `project`.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vocalsep import masks
from vocalsep.shapes import Features, Mask, Spectrum
from vocalsep.stft import Grid


@dataclass(frozen=True, kw_only=True)
class FrontEnd(abc.ABC):
    """What all front ends have in common.

    Attributes:
        kind: Its name in recipes and weights files, a key of `FRONT_ENDS`.
        rate: Sampling rate that the net works at, Hz.
        n_fft: Window length in samples.
        hop: Samples between frames.
        frames: Frames to a chunk.
        window: Of the STFT, "hann" or "hamming".
    """

    kind: str
    rate: int
    n_fft: int
    hop: int
    frames: int
    window: Literal["hann", "hamming"] = "hann"

    @property
    def grid(self) -> Grid:
        """The STFT grid that the net's rows are made from."""
        return Grid(rate=self.rate, n_fft=self.n_fft, hop=self.hop, window=self.window)

    @property
    @abc.abstractmethod
    def band_hz(self) -> Tensor:
        """Centre of every row in Hz, ``(row,)``, float64, ascending."""

    @property
    def chunk_samples(self) -> int:
        """Samples under the frame centres of one chunk."""
        return (self.frames - 1) * self.hop

    @abc.abstractmethod
    def analyse(self, spectrum: Spectrum) -> Tensor:
        """Power in each row, frame by frame.

        Args:
            spectrum: ``(..., channel, freq, frame)`` on `grid`.

        Returns:
            ``(..., channel or 1, row, frame)``, float32, not negative.
        """

    def group_channels(self, power: Tensor) -> Tensor:
        """Deals the channels of a song out to the net.

        Args:
            power: ``(batch, channel, row, frame)`` chunks of what `analyse` gave.

        Returns:
            ``(batch * groups, channel of the net, row, frame)``.
        """
        return power

    @abc.abstractmethod
    def normalise(self, power: Tensor, like: Tensor | None = None) -> Features:
        """What the net sees: scaling a chunk by any gain changes nothing.

        Args:
            power: ``(batch, channel of the net, row, frame)``, as `arrange` gives them.
            like: Power of the same shape whose level is the unit; the power itself by default.

        Returns:
            The same shape. Silence is a constant.
        """

    def ungroup_channels(self, mask: Mask, channels: int) -> Mask:  # noqa: ARG002 - not all front ends need it
        """Gives a net's masks back to the channels of the song: what `arrange` did, undone.

        Args:
            mask: ``(batch * groups, channel of the net or 1, row, frame)``.
            channels: How many channels the song has.

        Returns:
            ``(batch, channels or 1, row, frame)``; one channel of mask is meant for all channels of the song.
        """
        return mask

    def resolve(self, mask: Mask) -> Mask:
        """From the net's rows to those at `mask_hz`, ``(..., row, frame)`` to ``(..., row of mask_hz, frame)``."""
        return mask

    @property
    def mask_hz(self) -> Tensor:
        """Where the rows lie that `resolve` gives, in Hz."""
        return self.band_hz

    def spread(self, mask: Mask) -> Mask:
        """Carries a mask from the net's rows to all rows of `grid`, ``(..., row, frame)`` to ``(..., freq, frame)``."""
        return masks.spread(self.resolve(mask), rows_hz=self.mask_hz, to_hz=self.grid.hz)

    def project(self, mask: Mask, *, start: int, grid: Grid, frames: range) -> Mask:
        """Carries a mask from the net's grid onto the one that a song is filtered on.

        Args:
            mask: ``(..., row, frame)``, an excerpt of a song's mask.
            start: Number of its first frame in the song.
            grid: The song's own grid.
            frames: Numbers of the frames wanted, on `grid`.

        Returns:
            ``(..., freq, frame wanted)``, see `masks.project`.
        """
        if grid == self.grid:
            return self.spread(mask.narrow(-1, frames.start - start, len(frames)))
        return masks.project(
            self.resolve(mask),
            rows_hz=self.mask_hz,
            to_hz=grid.hz,
            seconds=torch.arange(start, start + mask.shape[-1], dtype=torch.float64) * self.grid.frame_seconds,
            to_seconds=torch.arange(frames.start, frames.stop, dtype=torch.float64) * grid.frame_seconds,
        )


def compute_power(spectrum: Spectrum) -> Tensor:
    """``|X|^2``, bin by bin."""
    return spectrum.real.square() + spectrum.imag.square()


def divide_by_mean(power: Tensor, like: Tensor | None = None) -> Tensor:
    """Power against its chunk's mean, or that of `like`; 0 in a silent chunk."""
    level = (power if like is None else like).mean(dim=(-3, -2, -1), keepdim=True)
    return power / level.clamp_min(torch.finfo(power.dtype).tiny)
