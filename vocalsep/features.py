"""From an STFT to the grid that a net looks at, and back: where that grid's rows lie in Hz.

A front end belongs to a model. It has three steps because songs are streamed and have any number of channels:
`analyse` works frame by frame, so it can run before a song is cut into chunks; `arrange` deals the channels of a song
out to a net that takes a fixed number of them; `normalise` works on whole chunks, so that the level of the song does
not matter to the net. The way back is `rearrange`, `spread` and `project`.

`LogMel` is the front end of the UH-net paper: 128 mel bands, 128 frames to a chunk. `Linear` keeps the rows of the
STFT as they are.
"""

from __future__ import annotations

import abc
import functools
import warnings
from dataclasses import dataclass
from typing import Literal

import librosa
import numpy as np
import torch
from torch import Tensor

from vocalsep import masks
from vocalsep.errors import ConfigError
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
    """

    kind: str
    rate: int
    n_fft: int
    hop: int
    frames: int

    @property
    def grid(self) -> Grid:
        """The STFT grid that the net's rows are made from."""
        return Grid(rate=self.rate, n_fft=self.n_fft, hop=self.hop)

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

    def arrange(self, power: Tensor) -> Tensor:
        """Deals the channels of a song out to the net.

        Args:
            power: ``(batch, channel, row, frame)`` chunks of what `analyse` gave.

        Returns:
            ``(batch * groups, channel of the net, row, frame)``.
        """
        return power

    @abc.abstractmethod
    def normalise(self, power: Tensor) -> Features:
        """What the net sees: scaling a chunk by any gain changes nothing.

        Args:
            power: ``(batch, channel of the net, row, frame)``, as `arrange` gives them.

        Returns:
            The same shape. Silence is a constant.
        """

    def rearrange(self, mask: Mask, channels: int) -> Mask:  # noqa: ARG002 - not all front ends need it
        """Gives a net's masks back to the channels of the song: what `arrange` did, undone.

        Args:
            mask: ``(batch * groups, channel of the net or 1, row, frame)``.
            channels: How many channels the song has.

        Returns:
            ``(batch, channels or 1, row, frame)``; one channel of mask is meant for all channels of the song.
        """
        return mask

    def spread(self, mask: Mask) -> Mask:
        """Carries a mask from the net's rows to all rows of `grid`, ``(..., row, frame)`` to ``(..., freq, frame)``."""
        return masks.spread(mask, rows_hz=self.band_hz, to_hz=self.grid.hz)

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
            mask,
            rows_hz=self.band_hz,
            to_hz=grid.hz,
            seconds=torch.arange(start, start + mask.shape[-1], dtype=torch.float64) * self.grid.frame_seconds,
            to_seconds=torch.arange(frames.start, frames.stop, dtype=torch.float64) * grid.frame_seconds,
        )


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
        _bank(self)

    @property
    def band_hz(self) -> Tensor:
        """Centre of every band in Hz, ``(band,)``, float64."""
        centres = librosa.mel_frequencies(n_mels=self.bands + 2, fmin=0.0, fmax=self.rate / 2)[1:-1]
        return torch.from_numpy(centres)

    def analyse(self, spectrum: Spectrum) -> Tensor:
        """Mean power in each mel band, frame by frame.

        Args:
            spectrum: ``(..., channel, freq, frame)`` on `grid`.

        Returns:
            ``(..., 1, band, frame)``, float32, not negative. A signal of constant power density has the same value in
            every band.
        """
        power = _power(spectrum).mean(dim=-3, keepdim=True)
        return _bank(self).to(power) @ power

    def normalise(self, power: Tensor) -> Features:
        """The level of each bin against its chunk's mean, in dB, scaled to about [-2, 3]. See `FrontEnd.normalise`."""
        floor = 10 ** (self.floor_db / 10)
        level_db = 10 * torch.log10(_relative(power) + floor)
        return (level_db - self.floor_db / 2) / 20


@dataclass(frozen=True, kw_only=True)
class Linear(FrontEnd):
    """Linear front end: the lowest rows of the STFT itself, as compressed magnitudes.

    A net of one channel sees the mean power of all channels of a song, and has one mask for them. A net of more sees
    the channels as they are, in groups: what is missing from the last group (the other channel of a mono song) is
    filled up with the last channel, whose mask is then the mean of those of its copies.

    Attributes:
        freqs: Rows, from 0 Hz on; at most those of the STFT.
        channels: Channels that the net takes at once.
        compression: The net sees ``log(1 + compression * magnitude / rms of the chunk)``; with 0 just that ratio.

    Raises:
        ConfigError: For values without meaning.
    """

    kind: Literal["linear"] = "linear"
    rate: int = 44_100
    n_fft: int = 4096
    hop: int = 1024
    freqs: int = 1024
    frames: int = 128
    channels: int = 2
    compression: float = 3.0

    def __post_init__(self) -> None:
        if not 1 <= self.freqs <= self.grid.freqs:
            raise ConfigError(f"a linear front end needs freqs from 1 to {self.grid.freqs}, not {self.freqs}")
        if self.frames < 1 or self.channels < 1 or self.compression < 0:
            raise ConfigError("a linear front end needs frames >= 1, channels >= 1 and compression >= 0")

    @property
    def band_hz(self) -> Tensor:
        """Centre of every row in Hz, ``(freq,)``, float64."""
        return self.grid.hz[: self.freqs]

    def analyse(self, spectrum: Spectrum) -> Tensor:
        """Power of the lowest rows; for a net of one channel the mean over the song's. See `FrontEnd.analyse`."""
        power = _power(spectrum[..., : self.freqs, :])
        return power.mean(dim=-3, keepdim=True) if self.channels == 1 else power

    def arrange(self, power: Tensor) -> Tensor:
        """See `FrontEnd.arrange`."""
        missing = -power.shape[1] % self.channels
        if missing:
            power = torch.cat([power, power[:, -1:].expand(-1, missing, -1, -1)], dim=1)
        groups = power.shape[1] // self.channels
        return power.reshape(power.shape[0] * groups, self.channels, *power.shape[2:])

    def normalise(self, power: Tensor) -> Features:
        """Magnitudes against the chunk's root mean square, compressed. See `compression` and `FrontEnd.normalise`."""
        relative = _relative(power).sqrt()
        return torch.log1p(self.compression * relative) if self.compression else relative

    def rearrange(self, mask: Mask, channels: int) -> Mask:
        """See `FrontEnd.rearrange`."""
        if self.channels == 1:
            return mask
        groups = -(-channels // self.channels)
        mask = mask.expand(-1, self.channels, -1, -1)
        mask = mask.reshape(mask.shape[0] // groups, groups * self.channels, *mask.shape[2:])
        if mask.shape[1] == channels:
            return mask
        return torch.cat([mask[:, : channels - 1], mask[:, channels - 1 :].mean(dim=1, keepdim=True)], dim=1)


def _power(spectrum: Spectrum) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def _relative(power: Tensor) -> Tensor:
    """Power against its chunk's mean; 0 in a silent chunk."""
    return power / power.mean(dim=(-3, -2, -1), keepdim=True).clamp_min(torch.finfo(power.dtype).tiny)


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


FRONT_ENDS: dict[str, type[FrontEnd]] = {"log-mel": LogMel, "linear": Linear}
