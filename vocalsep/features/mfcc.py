"""Cepstral front end: mel-frequency cepstral coefficients (MFCC), all of them, as the DRNN paper has them.

Source: del Castillo, Gogoulou and Lemaire, "Vocals isolation from monoaural music source with deep recurrent neural
networks", section 2.1.1: pre-emphasis, Hamming window, power spectrum, triangular mel filters, natural logarithm,
discrete cosine transform of type II. All coefficients are kept, so the transform can be undone; what lies between the
filters cannot, and is found by least squares (section 2.3).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from vocalsep import masks
from vocalsep.errors import ConfigError
from vocalsep.features.base import FrontEnd, compute_power, divide_by_mean
from vocalsep.features.log_mel import compute_mel_hz, make_mel_bank
from vocalsep.shapes import Features, Mask, Spectrum


@dataclass(frozen=True, kw_only=True)
class MFCC(FrontEnd):
    """Cepstral front end. The net sees coefficients; its masks' rows are the mel bands.

    The power of all channels of the song is averaged, as in `LogMel`.

    Attributes:
        bands: Mel filters between 0 Hz and half the rate, and as many coefficients.
        pre_emphasis: The filter ``y[n] = x[n] - pre_emphasis * x[n - 1]``, applied to the power spectrum.
        floor_db: What lies this far below a chunk's mean power counts as silence to the net; negative.

    Raises:
        ConfigError: For values without meaning.
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
        make_mel_bank(self.grid, self.bands)

    @property
    def band_hz(self) -> Tensor:
        """Centre of every mel filter in Hz, ``(band,)``, float64."""
        return compute_mel_hz(self.grid, self.bands)

    def analyse(self, spectrum: Spectrum) -> Tensor:
        """Mean power under each mel filter after the pre-emphasis, frame by frame. See `FrontEnd.analyse`."""
        mean = compute_power(spectrum).mean(dim=-3, keepdim=True)
        a, angle = self.pre_emphasis, torch.pi * self.grid.hz / (self.rate / 2)
        emphasis = (1 - 2 * a * torch.cos(angle) + a * a).to(mean)  # |1 - a e^(-j angle)|^2
        return (make_mel_bank(self.grid, self.bands).to(mean) * emphasis) @ mean

    def normalise(self, power: Tensor, like: Tensor | None = None) -> Features:
        """The coefficients of each frame, by their number. See `FrontEnd.normalise`.

        The logarithm is that of the power above the floor, ``log(1 + power / floor)``: silence is 0, and the first
        coefficient is never below it.
        """
        level = torch.log1p(divide_by_mean(power, like) / 10 ** (self.floor_db / 10))
        return make_dct_matrix(self.bands).to(level) @ level

    def resolve(self, mask: Mask) -> Mask:
        """By least squares to the rows of the STFT.

        Of all masks with these means under the filters it is the one nearest to the mask interpolated between them; it
        is cut to [0, 1].
        """
        return (_least_squares(self).to(mask) @ mask).clamp(0, 1)

    @property
    def mask_hz(self) -> Tensor:
        """Those of the STFT. See `FrontEnd.mask_hz`."""
        return self.grid.hz


@functools.cache
def make_dct_matrix(size: int) -> Tensor:
    """The discrete cosine transform, type II, as an orthonormal matrix, ``(coefficient, row)``."""
    with torch.inference_mode(False):  # what is kept here must serve training, too
        matrix: Tensor = torch.from_numpy(dct(np.eye(size), type=2, norm="ortho", axis=0)).float()
        return matrix


@functools.cache
def _least_squares(front_end: MFCC) -> Tensor:
    """The matrix ``(freq, band)`` of `MFCC.resolve`."""
    with torch.inference_mode(False):
        bank = make_mel_bank(front_end.grid, front_end.bands).double()
        between = masks.make_row_matrix(tuple(front_end.band_hz.tolist()), tuple(front_end.grid.hz.tolist())).double()
        missing = torch.eye(front_end.bands, dtype=torch.float64) - bank @ between
        whole: Tensor = between + torch.linalg.pinv(bank) @ missing
        return whole.float()
