"""Linear front end: rows of the STFT itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vocalsep.errors import ConfigError
from vocalsep.features.base import FrontEnd, compute_power, divide_by_mean
from vocalsep.shapes import Features, Mask, Spectrum


@dataclass(frozen=True, kw_only=True)
class Linear(FrontEnd):
    """Linear front end: the lowest rows of the STFT itself, as compressed magnitudes.

    A net of one channel sees the mean power of all channels of a song, and has one mask for them. A net of more sees
    the channels as they are, in groups: what is missing from the last group (the other channel of a mono song) is
    filled up with the last channel, whose mask is then the mean of those of its copies.

    Attributes:
        freqs: Rows, from 0 Hz on; at most those of the STFT.
        channels: Channels that the net takes at once.
        compression: The net sees ``log(1 + compression * (magnitude / rms of the chunk) ** exponent)``; with 0 just
            that power of the ratio.
        exponent: See `compression`.

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
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.freqs <= self.grid.freqs:
            raise ConfigError(f"a linear front end needs freqs from 1 to {self.grid.freqs}, not {self.freqs}")
        if self.frames < 1 or self.channels < 1 or self.compression < 0:
            raise ConfigError("a linear front end needs frames >= 1, channels >= 1 and compression >= 0")
        if not 0 < self.exponent <= 1:
            raise ConfigError(f"a linear front end needs exponent above 0 and at most 1, not {self.exponent}")

    @property
    def band_hz(self) -> Tensor:
        """Centre of every row in Hz, ``(freq,)``, float64."""
        return self.grid.hz[: self.freqs]

    def analyse(self, spectrum: Spectrum) -> Tensor:
        """Power of the lowest rows; for a net of one channel the mean over the song's. See `FrontEnd.analyse`."""
        rows = compute_power(spectrum[..., : self.freqs, :])
        return rows.mean(dim=-3, keepdim=True) if self.channels == 1 else rows

    def group_channels(self, power: Tensor) -> Tensor:
        """See `FrontEnd.group_channels`."""
        missing = -power.shape[1] % self.channels
        if missing:
            power = torch.cat([power, power[:, -1:].expand(-1, missing, -1, -1)], dim=1)
        groups = power.shape[1] // self.channels
        return power.reshape(power.shape[0] * groups, self.channels, *power.shape[2:])

    def normalise(self, power: Tensor, like: Tensor | None = None) -> Features:
        """Magnitudes against the chunk's root mean square, compressed. See `compression` and `FrontEnd.normalise`."""
        level = divide_by_mean(power, like).sqrt()
        if self.exponent != 1:
            level = level**self.exponent
        return torch.log1p(self.compression * level) if self.compression else level

    def ungroup_channels(self, mask: Mask, channels: int) -> Mask:
        """See `FrontEnd.ungroup_channels`."""
        if self.channels == 1:
            return mask
        groups = -(-channels // self.channels)
        mask = mask.expand(-1, self.channels, -1, -1)
        mask = mask.reshape(mask.shape[0] // groups, groups * self.channels, *mask.shape[2:])
        if mask.shape[1] == channels:
            return mask
        return torch.cat([mask[:, : channels - 1], mask[:, channels - 1 :].mean(dim=1, keepdim=True)], dim=1)
