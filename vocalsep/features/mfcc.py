"""Cepstral front end: the net sees mel-frequency cepstral coefficients (MFCC).

Source: del Castillo, Gogoulou and Lemaire, "Vocals isolation from monoaural music source with deep recurrent neural
networks", section 2.1.1. With ``p`` the power under each mel filter, ``P`` the mean power of the chunk and
``F = floor_db``, the coefficients of a frame are

    c = DCT-II(log(1 + p / (P * 10^(F / 10)))).

As in the paper: pre-emphasis, Hamming window, power spectrum, triangular mel filters, natural logarithm, DCT-II. All
coefficients are kept, so the DCT can be inverted exactly. The mel filters cannot: least squares finds the values of a
mask between them (section 2.3).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vocalsep import masks
from vocalsep.errors import ConfigError
from vocalsep.features.base import FrontEnd, compute_power, divide_by_mean
from vocalsep.features.log_mel import compute_mel_hz, make_mel_bank
from vocalsep.kinds import array_namespace, get_constant, matmul, multiply_rows
from vocalsep.shapes import AnyArray, Array, Features, Mask, Spectrum


@dataclass(frozen=True, kw_only=True)
class MFCC(FrontEnd):
    """Cepstral front end: the net sees coefficients, and the rows of its masks are mel bands.

    The power is averaged over all channels of the song, as in `LogMel`.

    Attributes:
        bands: Number of mel filters between 0 Hz and half the sample rate, and of coefficients.
        pre_emphasis: ``a`` of the filter ``y[n] = x[n] - a * x[n - 1]``, applied to the power spectrum; in [0, 1).
        floor_db: Level relative to the chunk's mean power that counts as silence; negative.

    Raises:
        ConfigError: If a value is out of range, or a filter would contain no row of the STFT.
    """

    kind: Literal["mfcc"] = "mfcc"
    rate: int = 16_000
    n_fft: int = 512
    hop: int = 256
    bands: int = 49
    frames: int = 128
    window: Literal["hann", "hamming"] = "hamming"
    pre_emphasis: float = 0.97
    floor_db: float = -80.0

    def __post_init__(self) -> None:
        if self.bands < 1 or self.frames < 1 or self.floor_db >= 0 or not 0 <= self.pre_emphasis < 1:
            raise ConfigError(
                "an MFCC front end needs bands >= 1, frames >= 1, floor_db < 0 and pre_emphasis in [0, 1)"
            )
        self._check_size(self.bands)
        make_mel_bank(self.grid, self.bands)

    @property
    def band_hz(self) -> Array:
        """Centre of each mel filter in Hz, ``(band,)``, float64."""
        return compute_mel_hz(self.grid, self.bands)

    def analyse(self, spectrum: Spectrum) -> AnyArray:
        """Return the mean power under each mel filter after pre-emphasis, frame by frame; see `FrontEnd.analyse`."""
        power = compute_power(spectrum)
        mean = array_namespace(power).mean(power, axis=-3, keepdims=True)
        return matmul(get_constant(mean, _make_analysis_matrix, self), mean)

    def normalise(self, power: AnyArray, like: AnyArray | None = None) -> Features:
        """Return the coefficients of each frame, in order; see `FrontEnd.normalise`.

        Silence gives 0 in all coefficients, and the first one is never negative.
        """
        level = array_namespace(power).log(1 + divide_by_mean(power, like) / 10 ** (self.floor_db / 10))
        return matmul(get_constant(level, make_dct_matrix, self.bands), level)

    def resolve(self, mask: Mask) -> Mask:
        """Map a mask from the mel bands to the rows of the STFT by least squares; see `FrontEnd.resolve`.

        Many masks have the given means under the filters. The result is the one nearest to the linear
        interpolation between the bands, clamped to [0, 1].
        """
        return multiply_rows(mask, _make_resolve_matrix, self).clip(0, 1)

    @property
    def mask_hz(self) -> Array:
        """Centre of each row of the STFT in Hz; see `FrontEnd.mask_hz`."""
        return self.grid.hz


@functools.cache
def make_dct_matrix(size: int) -> Array:
    """Return the orthonormal matrix of the DCT-II, ``(coefficient, row)``."""
    rows = np.arange(size)
    matrix = math.sqrt(2 / size) * np.cos(np.pi / size * np.outer(rows, rows + 0.5))
    matrix[0] /= math.sqrt(2)
    return np.asarray(matrix, dtype=np.float32)


@functools.cache
def _make_analysis_matrix(front_end: MFCC) -> Array:
    """Return the matrix of `MFCC.analyse`, ``(band, freq)``: pre-emphasis, then the filters."""
    a, angle = front_end.pre_emphasis, np.pi * front_end.grid.hz / (front_end.rate / 2)
    emphasis = 1 - 2 * a * np.cos(angle) + a * a  # |1 - a e^(-j angle)|^2
    return np.asarray(make_mel_bank(front_end.grid, front_end.bands) * emphasis, dtype=np.float32)


@functools.cache
def _make_resolve_matrix(front_end: MFCC) -> Array:
    """Return the matrix of `MFCC.resolve`, ``(freq, band)``.

    With ``B`` the filter bank and ``L`` the linear interpolation, the mask ``L m`` has the means ``B L m`` under the
    filters, not ``m``. The smallest correction is ``B^+ (m - B L m)``, so the matrix is ``L + B^+ (I - B L)``.
    """
    bank = make_mel_bank(front_end.grid, front_end.bands).astype(np.float64)
    between = masks.make_row_matrix(tuple(front_end.band_hz.tolist()), tuple(front_end.grid.hz.tolist()))
    missing = np.eye(front_end.bands) - bank @ between
    return np.asarray(between + np.linalg.pinv(bank) @ missing, dtype=np.float32)
