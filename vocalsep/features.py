"""From an STFT to the grid that a net looks at, and where that grid's rows lie in Hz.

`LogMel` is the front end of the UH-net paper: 128 mel bands, 128 frames to a chunk. It has two steps because songs
are streamed: `analyse` works frame by frame, so it can run before a song is cut into chunks, and `normalise` works on
whole chunks, so that the level of the song does not matter to the net.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass

import librosa
import numpy as np
import torch
from torch import Tensor

from vocalsep.errors import ConfigError
from vocalsep.shapes import Features, Spectrum
from vocalsep.stft import Grid


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Log-mel front end: settings and maps.

    The power of all channels of the song is averaged before the mel bands are formed: there is one mask for all
    channels, and opposite phases left and right cannot cancel a voice, as they would in a sum of waveforms.

    Attributes:
        rate: Sampling rate that the net works at, Hz.
        n_fft: Window length in samples.
        hop: Samples between frames.
        bands: Mel bands between 0 Hz and half the rate.
        frames: Frames to a chunk.
        floor_db: What lies this far below a chunk's mean power counts as silence to the net; negative.

    Raises:
        ConfigError: For values without meaning.
    """

    rate: int = 16_000
    n_fft: int = 1024
    hop: int = 256
    bands: int = 128
    frames: int = 128
    floor_db: float = -80.0

    def __post_init__(self) -> None:
        if self.bands < 1 or self.frames < 1 or self.floor_db >= 0:
            raise ConfigError("a log-mel front end needs bands >= 1, frames >= 1 and floor_db < 0")
        _bank(self)

    @property
    def grid(self) -> Grid:
        """The STFT grid that the bands are made from."""
        return Grid(rate=self.rate, n_fft=self.n_fft, hop=self.hop)

    @property
    def band_hz(self) -> Tensor:
        """Centre of every band in Hz, ``(band,)``, float64: where `masks.project` takes a mask's rows to lie."""
        centres = librosa.mel_frequencies(n_mels=self.bands + 2, fmin=0.0, fmax=self.rate / 2)[1:-1]
        return torch.from_numpy(centres)

    @property
    def chunk_samples(self) -> int:
        """Samples under the frame centres of one chunk."""
        return (self.frames - 1) * self.hop

    def analyse(self, spectrum: Spectrum) -> Tensor:
        """Mean power in each mel band, frame by frame.

        Args:
            spectrum: ``(..., channel, freq, frame)`` on `grid`.

        Returns:
            ``(..., 1, band, frame)``, float32, not negative. A signal of constant power density has the same value in
            every band.
        """
        power = (spectrum.real.square() + spectrum.imag.square()).mean(dim=-3, keepdim=True)
        return _bank(self).to(power) @ power

    def normalise(self, power: Tensor) -> Features:
        """What the net sees: the level of each bin against its chunk's mean, in dB, scaled to about [-2, 3].

        Args:
            power: ``(batch, 1, band, frame)`` chunks of what `analyse` gave.

        Returns:
            The same shape. Scaling a chunk by any gain changes nothing; silence is a constant.
        """
        mean = power.mean(dim=(-3, -2, -1), keepdim=True)
        floor = 10 ** (self.floor_db / 10)
        level_db = 10 * torch.log10(power / mean.clamp_min(torch.finfo(power.dtype).tiny) + floor)
        return (level_db - self.floor_db / 2) / 20


@functools.cache
def _bank(front_end: LogMel) -> Tensor:
    """Triangular mel weights ``(band, freq)``, each row with the sum 1 (Slaney's scale, librosa)."""
    grid = front_end.grid
    with warnings.catch_warnings(), torch.inference_mode(False):  # what is kept here must serve training, too
        warnings.simplefilter("ignore")  # empty bands: refused below
        bank = torch.from_numpy(
            librosa.filters.mel(sr=grid.rate, n_fft=grid.n_fft, n_mels=front_end.bands, norm=None, dtype=np.float64)
        )
        total = bank.sum(dim=1, keepdim=True)
        if (total > 0).all():
            return (bank / total).float()
    raise ConfigError(
        f"{front_end.bands} mel bands are too many for n_fft {grid.n_fft} at {grid.rate} Hz: "
        "some hold no STFT row; take fewer bands or a longer n_fft"
    )


FRONT_ENDS = {"log-mel": LogMel}
