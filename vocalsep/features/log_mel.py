"""Log-mel front end: the level in each of some mel bands, in dB."""

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
    """Log-mel front end: settings and maps.

    The power of all channels of the song is averaged before the mel bands are formed: there is one mask for all
    channels, and opposite phases left and right cannot cancel a voice, as they would in a sum of waveforms.

    Attributes:
        bands: Mel bands between 0 Hz and half the rate.
        floor_db: What lies this far below a chunk's mean power counts as silence to the net; negative.

    Raises:
        ConfigError: For values without meaning.
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
        """Centre of every band in Hz, ``(band,)``, float64."""
        return compute_mel_hz(self.grid, self.bands)

    def analyse(self, spectrum: Spectrum) -> Tensor:
        """Mean power in each mel band, frame by frame.

        Args:
            spectrum: ``(..., channel, freq, frame)`` on `grid`.

        Returns:
            ``(..., 1, band, frame)``, float32, not negative. A signal of constant power density has the same value in
            every band.
        """
        mean = compute_power(spectrum).mean(dim=-3, keepdim=True)
        return make_mel_bank(self.grid, self.bands).to(mean) @ mean

    def normalise(self, power: Tensor, like: Tensor | None = None) -> Features:
        """The level of each bin against its chunk's mean, in dB, scaled to about [-2, 3]. See `FrontEnd.normalise`."""
        floor = 10 ** (self.floor_db / 10)
        level_db = 10 * torch.log10(divide_by_mean(power, like) + floor)
        return (level_db - self.floor_db / 2) / 20


def compute_mel_hz(grid: Grid, bands: int) -> Tensor:
    """Centres of the mel bands between 0 Hz and half the rate, ``(band,)``, float64 (Slaney's scale, librosa)."""
    return torch.from_numpy(librosa.mel_frequencies(n_mels=bands + 2, fmin=0.0, fmax=grid.rate / 2)[1:-1])


@functools.cache
def make_mel_bank(grid: Grid, bands: int) -> Tensor:
    """Triangular mel weights ``(band, freq)``, each row with the sum 1 (Slaney's scale, librosa).

    Raises:
        ConfigError: If a band would hold no row of the STFT.
    """
    with warnings.catch_warnings(), torch.inference_mode(False):  # what is kept here must serve training, too
        warnings.simplefilter("ignore")  # empty bands: refused below
        bank = torch.from_numpy(
            librosa.filters.mel(sr=grid.rate, n_fft=grid.n_fft, n_mels=bands, norm=None, dtype=np.float64)
        )
        total = bank.sum(dim=1, keepdim=True)
        if (total > 0).all():
            return (bank / total).float()
    raise ConfigError(
        f"{bands} mel bands are too many for n_fft {grid.n_fft} at {grid.rate} Hz: "
        "some hold no STFT row; take fewer bands or a longer n_fft"
    )
