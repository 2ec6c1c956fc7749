"""Log-mel front end: the net sees the level of mel bands in dB.

With ``p`` the power in a band and frame, ``P`` the mean power of its chunk and ``F = floor_db``, the net sees

    (10 log10(p / P + 10^(F / 10)) - F / 2) / 20,

which lies between about -2 and 3 for ``F = -80``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vocalsep.errors import ConfigError
from vocalsep.features.base import FrontEnd, compute_power, divide_by_mean
from vocalsep.kinds import array_namespace, get_constant, matmul
from vocalsep.shapes import AnyArray, Array, Features, Spectrum
from vocalsep.stft import Grid


@dataclass(frozen=True, kw_only=True)
class LogMel(FrontEnd):
    """Log-mel front end: levels of mel bands in dB.

    The power is averaged over all channels of the song, so one mask applies to them all. A voice with opposite phases
    left and right stays visible; in a sum of waveforms it would cancel out.

    Attributes:
        bands: Number of mel bands between 0 Hz and half the sample rate.
        floor_db: Level relative to the chunk's mean power that counts as silence; negative.

    Raises:
        ConfigError: If a value is out of range, or a band would contain no row of the STFT.
    """

    kind: Literal["log-mel"] = "log-mel"
    rate: int = 16_000
    n_fft: int = 1024
    hop: int = 256
    bands: int = 128
    frames: int = 128
    floor_db: float = -80.0

    def __post_init__(self) -> None:
        if self.bands < 1 or self.frames < 1 or self.floor_db >= 0:
            raise ConfigError("a log-mel front end needs bands >= 1, frames >= 1 and floor_db < 0")
        self._check_size(self.bands)
        make_mel_bank(self.grid, self.bands)

    @property
    def band_hz(self) -> Array:
        """Centre of each band in Hz, ``(band,)``, float64."""
        return compute_mel_hz(self.grid, self.bands)

    def analyse(self, spectrum: Spectrum) -> AnyArray:
        """Return the mean power in each mel band, frame by frame.

        Args:
            spectrum: ``(..., channel, freq, frame)`` on `grid`.

        Returns:
            ``(..., 1, band, frame)``, float32, not negative. White noise has the same expected value in every band.
        """
        power = compute_power(spectrum)
        mean = array_namespace(power).mean(power, axis=-3, keepdims=True)
        return matmul(get_constant(mean, make_mel_bank, self.grid, self.bands), mean)

    def normalise(self, power: AnyArray, like: AnyArray | None = None) -> Features:
        """Return levels relative to the chunk's mean in dB, scaled to about [-2, 3]; see `FrontEnd.normalise`."""
        floor = 10 ** (self.floor_db / 10)
        level = array_namespace(power).log(divide_by_mean(power, like) + floor)
        level_db = (10 / math.log(10)) * level  # log10 is several times slower than log
        return (level_db - self.floor_db / 2) / 20


def compute_mel_hz(grid: Grid, bands: int) -> Array:
    """Return the centres of mel bands between 0 Hz and half the sample rate, ``(band,)``, float64 (Slaney's scale)."""
    return _compute_corners(grid, bands)[1:-1]


@functools.cache
def _compute_corners(grid: Grid, bands: int) -> Array:
    """Return the corners of the triangles in Hz, ``(bands + 2,)``, at equal distances on Slaney's scale.

    The scale is linear up to 1 kHz, its mel 15, and logarithmic above, with 27 mel for a factor of 6.4.
    """
    top = grid.rate / 2
    highest = top * 3 / 200 if top < 1000 else 15 + 27 * math.log(top / 1000) / math.log(6.4)
    mels = np.linspace(0, highest, bands + 2)
    corners = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    corners.setflags(write=False)  # the cache hands it to everyone
    return corners


@functools.cache
def make_mel_bank(grid: Grid, bands: int) -> Array:
    """Return triangular mel filters, ``(band, freq)``, each summing to 1 (Slaney's scale, as in librosa), float32.

    Args:
        grid: Grid of the STFT.
        bands: Number of filters between 0 Hz and half the sample rate.

    Raises:
        ConfigError: If a band would contain no row of the STFT.
    """
    corners = _compute_corners(grid, bands)
    slopes = (grid.hz - corners[:, None]) / np.diff(corners, append=np.inf)[:, None]  # from each corner to the next
    bank = np.minimum(slopes[:-2], 1 - slopes[1:-1]).clip(0)
    total = bank.sum(axis=1, keepdims=True)
    if not (total > 0).all():
        raise ConfigError(
            f"{bands} mel bands are too many for n_fft {grid.n_fft} at {grid.rate} Hz: "
            "some contain no STFT row; use fewer bands or a larger n_fft"
        )
    return np.asarray(bank / total, dtype=np.float32)
