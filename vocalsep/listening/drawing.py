"""Compute what the player draws: spectrograms with a logarithmic frequency axis, and waveforms.

Browsers could compute both, but only after they have decoded the whole song.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from vocalsep.shapes import Array

RATE = 48_000
"""Sample rate of all sound in the player, in Hz: that of Opus."""

HOP = 1_920
"""Samples per column of a spectrogram."""

N_FFT = 4_096
ROWS = 96
LOWEST_HZ, HIGHEST_HZ = 40.0, 16_000.0
PEAKS = 4
"""Points of the waveform per column of the spectrogram."""

FLOOR_DB, CEILING_DB = -100.0, 0.0
"""The range of a spectrogram. A sine at full scale has 0 dB."""

LEVELS = 64  # steps of 1.6 dB: finer ones cannot be seen, and take more space
_POINTS = 128  # per row, at which the spectrum is sampled
_OVERVIEW_COLUMNS = 2_048

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """The picture of a piece of sound.

    Attributes:
        power: Mean power over the channels in each row and column, ``(row, column)``. A sine at full scale has 1.
        peaks: Largest absolute sample of each point, ``(point,)``; `PEAKS` points per column.
        squares: Mean square of each point, ``(point,)``.
    """

    power: Array
    peaks: Array
    squares: Array


def draw(samples: Array, count: int, highest_hz: float) -> Picture:
    """Draw a piece of sound.

    Args:
        samples: ``(channel, time)`` at `RATE`: the piece, with ``N_FFT // 2`` samples before it and after it.
        count: Samples in the piece without these.
        highest_hz: Upper end of the frequency axis.
    """
    margin, columns = N_FFT // 2, -(-count // HOP)
    padded = np.pad(samples, ((0, 0), (0, columns * HOP - count)))
    power = np.zeros((ROWS, columns), np.float32)
    for channel in padded:  # one by one, because all windows together take more memory than the piece
        windows = np.lib.stride_tricks.sliding_window_view(channel, N_FFT)[HOP // 2 :: HOP][:columns]
        spectrum = fft.rfft(windows * _make_window())
        power += _make_rows(highest_hz) @ (np.square(spectrum.real) + np.square(spectrum.imag)).T / len(padded)
    points = padded[:, margin : margin + columns * HOP].reshape(len(padded), columns * PEAKS, HOP // PEAKS)
    return Picture(power, np.abs(points).max(axis=(0, 2)), np.square(points).mean(axis=(0, 2)))


@functools.cache
def _make_window() -> Array:
    window: Array = np.hanning(N_FFT + 1)[:-1]
    return np.asarray(window * 2 / window.sum(), np.float32)


@functools.cache
def _make_rows(highest_hz: float) -> Array:
    """Make the matrix that takes the power of bins to rows, ``(row, bin)``.

    A row gets the power between its edges. Rows that are narrower than a bin get the interpolated power of the bins
    around them, so that low notes are smooth.
    """
    edges = np.geomspace(LOWEST_HZ, highest_hz, ROWS + 1) * N_FFT / RATE
    steps = (np.arange(_POINTS) + 0.5) / _POINTS
    points = edges[:-1, None] + steps * np.diff(edges)[:, None]
    low = points.astype(int)
    weight = np.maximum(1, np.diff(edges))[:, None] / _POINTS
    rows = np.zeros((ROWS, N_FFT // 2 + 2), np.float32)
    index = np.broadcast_to(np.arange(ROWS)[:, None], low.shape)
    np.add.at(rows, (index, low), weight * (1 - (points - low)))
    np.add.at(rows, (index, low + 1), weight * (points - low))
    return np.ascontiguousarray(rows[:, : N_FFT // 2 + 1])


class Overview:
    """The picture of a whole song in at most 2,048 columns, whatever its length. Its memory does not grow.

    Attributes:
        step: Columns of the pieces per column of the overview.
    """

    def __init__(self) -> None:
        self.step, self._columns = 1, 0
        self._power = np.zeros((ROWS, _OVERVIEW_COLUMNS))
        self._peaks, self._squares = np.zeros((2, _OVERVIEW_COLUMNS))

    def push(self, picture: Picture) -> None:
        """Append the picture of the song's next piece."""
        peaks = picture.peaks.reshape(-1, PEAKS).max(axis=1)
        squares = picture.squares.reshape(-1, PEAKS).mean(axis=1)
        while self._columns + len(peaks) > self.step * _OVERVIEW_COLUMNS:
            self._halve()
        places = (self._columns + np.arange(len(peaks))) // self.step
        np.add.at(self._power.T, places, picture.power.T)
        np.add.at(self._squares, places, squares)
        np.maximum.at(self._peaks, places, peaks)
        self._columns += len(peaks)

    def _halve(self) -> None:
        self.step *= 2
        half = _OVERVIEW_COLUMNS // 2
        for sums in (self._power, self._squares[None]):
            sums[:, :half] = sums.reshape(len(sums), half, 2).sum(axis=2)
            sums[:, half:] = 0
        self._peaks[:half] = self._peaks.reshape(half, 2).max(axis=1)
        self._peaks[half:] = 0

    def finish(self) -> Picture:
        """Return the picture. It has one point of the waveform per column."""
        used = -(-self._columns // self.step)
        counts = np.minimum(self.step, self._columns - np.arange(used) * self.step)
        return Picture(self._power[:, :used] / counts, self._peaks[:used].copy(), self._squares[:used] / counts)


def pack(picture: Picture) -> bytes:
    """Pack a picture for the player.

    The result is compressed by zlib. It holds the rows of the spectrogram, the lowest first, then the peaks, then the
    root mean squares, one byte each. A byte of the spectrogram is a level between `FLOOR_DB` and `CEILING_DB` in
    `LEVELS` steps, as the difference from the one before it. The others are the square root of the amplitude times 255.
    """
    with np.errstate(divide="ignore"):
        level = 10 * np.log10(picture.power)
    steps = np.clip(np.round((level - FLOOR_DB) / (CEILING_DB - FLOOR_DB) * (LEVELS - 1)), 0, LEVELS - 1)
    differences = np.diff(steps.astype(np.uint8), axis=1, prepend=np.uint8(0))
    waveform = _to_bytes(np.stack([picture.peaks, np.sqrt(picture.squares)]))
    return zlib.compress(differences.tobytes() + waveform.tobytes(), 9)


def _to_bytes(amplitudes: Array) -> Bytes:
    return np.round(255 * np.sqrt(np.clip(amplitudes, 0, 1))).astype(np.uint8)
