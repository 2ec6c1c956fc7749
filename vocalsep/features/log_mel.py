"""Log-mel front end: the net sees the level of mel bands in dB.

With ``p`` the power in a band and frame, ``P`` the mean power of its chunk and ``F = floor_db``, the net sees

    (10 log10(p / P + 10^(F / 10)) - F / 2) / 20,

which lies between about -2 and 3 for ``F = -80``.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Literal

import librosa
import numpy as np
import torch
from torch import Tensor

from vocalsep.errors import ConfigError
from vocalsep.features.base import FrontEnd, compute_power, divide_by_mean
from vocalsep.shapes import Features, Spectrum
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
        make_mel_bank(self.grid, self.bands)

    @property
    def band_hz(self) -> Tensor:
        """Centre of each band in Hz, ``(band,)``, float64."""
        return compute_mel_hz(self.grid, self.bands)

    def analyse(self, spectrum: Spectrum) -> Tensor:
        """Return the mean power in each mel band, frame by frame.

        Args:
            spectrum: ``(..., channel, freq, frame)`` on `grid`.

        Returns:
            ``(..., 1, band, frame)``, float32, not negative. White noise has the same expected value in every band.
        """
        mean = compute_power(spectrum).mean(dim=-3, keepdim=True)
        return make_mel_bank(self.grid, self.bands).to(mean) @ mean

    def normalise(self, power: Tensor, like: Tensor | None = None) -> Features:
        """Return levels relative to the chunk's mean in dB, scaled to about [-2, 3]; see `FrontEnd.normalise`."""
        floor = 10 ** (self.floor_db / 10)
        level_db = 10 * torch.log10(divide_by_mean(power, like) + floor)
        return (level_db - self.floor_db / 2) / 20


def compute_mel_hz(grid: Grid, bands: int) -> Tensor:
    """Return the centres of mel bands between 0 Hz and half the sample rate, ``(band,)``, float64 (Slaney's scale)."""
    return torch.from_numpy(librosa.mel_frequencies(n_mels=bands + 2, fmin=0.0, fmax=grid.rate / 2)[1:-1])


@functools.cache
def make_mel_bank(grid: Grid, bands: int) -> Tensor:
    """Return triangular mel filters, ``(band, freq)``, each summing to 1 (Slaney's scale, as in librosa).

    Args:
        grid: Grid of the STFT.
        bands: Number of filters between 0 Hz and half the sample rate.

    Raises:
        ConfigError: If a band would contain no row of the STFT.
    """
    with warnings.catch_warnings(), torch.inference_mode(False):  # training must be able to use the cached bank
        warnings.simplefilter("ignore")  # librosa warns about empty bands, which are refused below
        bank = torch.from_numpy(
            librosa.filters.mel(sr=grid.rate, n_fft=grid.n_fft, n_mels=bands, norm=None, dtype=np.float64)
        )
        total = bank.sum(dim=1, keepdim=True)
        if (total > 0).all():
            return (bank / total).float()
    raise ConfigError(
        f"{bands} mel bands are too many for n_fft {grid.n_fft} at {grid.rate} Hz: "
        "some contain no STFT row; use fewer bands or a larger n_fft"
    )
