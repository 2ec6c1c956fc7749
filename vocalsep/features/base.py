"""The base class of all front ends.

A front end works in three steps, because songs are streamed and have any number of channels:

1. `FrontEnd.analyse` works frame by frame, so it runs before a song is cut into chunks.
2. `FrontEnd.group_channels` groups the channels of a song for a net that takes a fixed number of them.
3. `FrontEnd.normalise` works on whole chunks, so that the level of a song does not matter to the net.

`FrontEnd.ungroup_channels` and `FrontEnd.project` turn the net's masks back into masks for the song. All of these
methods take numpy arrays or torch tensors and return the same kind. Positions in Hz are numpy arrays.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vocalsep import masks
from vocalsep.errors import ConfigError
from vocalsep.kinds import array_namespace
from vocalsep.shapes import AnyArray, Array, Features, Mask, Spectrum
from vocalsep.stft import Grid

_RATES = range(1_000, 4_000_001)  # Hz
_MAX_PARTS = 64  # frames that cover one sample
_MAX_CHUNK = 2**23  # numbers of one chunk; known nets see less than 2**19
_MAX_MATRIX = 2**24  # numbers of a matrix from rows to rows; nets with n_fft 8192 need more than 2**23


@dataclass(frozen=True, kw_only=True)
class FrontEnd(abc.ABC):
    """Turns spectra into a net's input, and the net's masks into masks for spectra.

    Attributes:
        kind: The front end's name in recipes and weights files, a key of `FRONT_ENDS`.
        rate: Sample rate that the net works at, in Hz.
        n_fft: FFT size and window length in samples.
        hop: Samples between frames.
        frames: Frames per chunk.
        window: Window of the STFT, "hann" or "hamming".
    """

    kind: str
    rate: int
    n_fft: int
    hop: int
    frames: int
    window: Literal["hann", "hamming"] = "hann"

    def _check_size(self, rows: int, channels: int = 1) -> None:
        """Refuse a size far beyond that of any known model, before it takes memory or time.

        Args:
            rows: Number of the net's rows.
            channels: Number of channels that the net sees.

        Raises:
            ConfigError: If a size is too large.
        """
        if min(rows, channels, self.frames) < 1 or self.rate not in _RATES:
            raise ConfigError(
                f"a front end needs at least one row, channel and frame, and a rate from {_RATES[0]} to {_RATES[-1]} Hz"
            )
        freqs = self.n_fft // 2 + 1
        for what, size, most in (
            ("n_fft", self.n_fft, self.rate),
            ("n_fft / hop", self.n_fft // max(1, self.hop), _MAX_PARTS),
            ("rows x frames", channels * rows * self.frames, _MAX_CHUNK),
            ("freqs x frames", freqs * self.frames, _MAX_CHUNK),
            ("rows x freqs", rows * freqs, _MAX_MATRIX),
        ):
            if size > most:
                raise ConfigError(
                    f"a front end with {what} = {size} is far larger than any known one; the limit is {most}"
                )

    @property
    def grid(self) -> Grid:
        """The STFT grid from which the net's rows are made."""
        return Grid(rate=self.rate, n_fft=self.n_fft, hop=self.hop, window=self.window)

    @property
    @abc.abstractmethod
    def band_hz(self) -> Array:
        """Centre of each of the net's rows in Hz, ``(row,)``, float64, ascending."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of the net's input for one chunk: channels of the net, rows, frames."""
        return 1, len(self.band_hz), self.frames

    @property
    def chunk_samples(self) -> int:
        """Samples from the first to the last frame centre of a chunk."""
        return (self.frames - 1) * self.hop

    @abc.abstractmethod
    def analyse(self, spectrum: Spectrum) -> AnyArray:
        """Return the power in each row, frame by frame.

        Args:
            spectrum: ``(..., channel, freq, frame)`` on `grid`.

        Returns:
            ``(..., plane, row, frame)``, float32, not negative: one plane per channel, or one for all of them.
            `Linear` can add planes.
        """

    def measure(self, spectrum: Spectrum) -> AnyArray:
        """Return the power of each channel in each row: what `analyse` returns, without what only the net sees.

        Args:
            spectrum: ``(..., channel, freq, frame)`` on `grid`.

        Returns:
            ``(..., channel or 1, row, frame)``, float32, not negative.
        """
        return self.analyse(spectrum)

    def group_channels(self, power: AnyArray) -> AnyArray:
        """Group the channels of a song for a net that takes a fixed number of them.

        Args:
            power: Chunks of the result of `analyse`, ``(batch, plane, row, frame)``.

        Returns:
            ``(batch * groups, channel of the net, row, frame)``, the groups of one chunk in a row.
        """
        return power

    def group_measures(self, power: AnyArray) -> AnyArray:
        """Group the channels of a song as the net's masks are grouped.

        Args:
            power: The result of `measure`, ``(batch, channel, row, frame)``.

        Returns:
            ``(batch * groups, channel of the mask, row, frame)``.
        """
        return self.group_channels(power)

    @abc.abstractmethod
    def normalise(self, power: AnyArray, like: AnyArray | None = None) -> Features:
        """Return the net's input. It does not change when a chunk is scaled by any gain, unless the front end says so.

        Args:
            power: ``(batch, channel of the net, row, frame)``, from `group_channels`.
            like: Power of the same shape whose mean is taken as the level; `power` itself by default.

        Returns:
            Same shape. Silence gives a constant.
        """

    def ungroup_channels(self, mask: Mask, channels: int) -> Mask:  # noqa: ARG002 - not all front ends need it
        """Assign a net's masks to the channels of the song: the inverse of `group_channels`.

        Args:
            mask: ``(batch * groups, channel of the net or 1, row, frame)``.
            channels: Number of channels of the song.

        Returns:
            ``(batch, channels or 1, row, frame)``. A mask with one channel applies to all channels of the song.
        """
        return mask

    def resolve(self, mask: Mask) -> Mask:
        """Map a mask from the net's rows to the rows at `mask_hz`.

        Args:
            mask: ``(..., row, frame)``.

        Returns:
            ``(..., len(mask_hz), frame)``.
        """
        return mask

    @property
    def mask_hz(self) -> Array:
        """Centre in Hz of each row that `resolve` returns, ascending, float64."""
        return self.band_hz

    @property
    def mask_above(self) -> masks.Above:
        """How the mask continues above `mask_hz`; see `masks.spread`."""
        return "mean"

    def spread(self, mask: Mask) -> Mask:
        """Map a mask from the net's rows to all rows of `grid`.

        Args:
            mask: ``(..., row, frame)``.

        Returns:
            ``(..., freq, frame)``; see `masks.spread`.
        """
        return masks.spread(self.resolve(mask), rows_hz=self.mask_hz, to_hz=self.grid.hz, above=self.mask_above)

    def project(self, mask: Mask, *, start: int, grid: Grid, frames: range) -> Mask:
        """Map a mask from the net's grid to the grid on which a song is masked.

        Args:
            mask: Part of a song's mask, ``(..., row, frame)``.
            start: Index in the song of the mask's first frame.
            grid: The song's own grid.
            frames: Indices on `grid` of the frames to return.

        Returns:
            ``(..., freq, len(frames))``; see `masks.project`.
        """
        if grid == self.grid:
            return self.spread(mask[..., frames.start - start : frames.stop - start])
        return masks.project(
            self.resolve(mask),
            rows_hz=self.mask_hz,
            to_hz=grid.hz,
            seconds=np.arange(start, start + mask.shape[-1], dtype=np.float64) * self.grid.frame_seconds,
            to_seconds=np.arange(frames.start, frames.stop, dtype=np.float64) * grid.frame_seconds,
            above=self.mask_above,
        )


def compute_power(spectrum: Spectrum) -> AnyArray:
    """Return ``|X|^2``, bin by bin."""
    xp = array_namespace(spectrum)
    return xp.square(spectrum.real) + xp.square(spectrum.imag)


def divide_by_mean(power: AnyArray, like: AnyArray | None = None) -> AnyArray:
    """Divide each chunk's power by its mean, or by the mean of `like`; a silent chunk gives 0.

    Args:
        power: ``(..., channel, row, frame)``.
        like: Power of the same shape.
    """
    xp = array_namespace(power)
    level = xp.mean(power if like is None else like, axis=(-3, -2, -1), keepdims=True)
    return power / level.clip(float(xp.finfo(power.dtype).smallest_normal))
