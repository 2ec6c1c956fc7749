"""Linear front end: the net sees the rows of the STFT.

With ``m`` the magnitude of a bin and ``r`` the root mean square of its chunk, the net sees

    log(1 + compression * (m / r)^exponent),   or   (m / r)^exponent   when compression is 0.

With `normalised` off, ``r`` is 1: nets trained on plain magnitudes, as Spleeter's, depend on the song's level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vocalsep import masks
from vocalsep.errors import ConfigError
from vocalsep.features.base import FrontEnd, compute_power, divide_by_mean
from vocalsep.kinds import array_namespace
from vocalsep.shapes import AnyArray, Array, Features, Mask, Spectrum

_PAIR = 2  # left and right


@dataclass(frozen=True, kw_only=True)
class Linear(FrontEnd):
    """Linear front end: the lowest rows of the STFT as compressed magnitudes.

    A net with one channel sees the mean power of all channels of a song, and its mask applies to them all. A net with
    more channels sees those of the song in groups. If the last group is not full, as with a mono song, it is filled
    with copies of the last channel. That channel's mask is then the mean of the copies' masks.

    Attributes:
        freqs: Number of rows, from 0 Hz up; at most as many as the STFT has.
        channels: Number of channels that the net takes at once.
        side: Whether the net also sees half the power of the difference between left and right, as a third channel.
            Sound from the middle of the stereo image vanishes there. Needs two channels.
        compression: How strongly loud bins are compressed; see the module's docstring. 0 means no logarithm.
        exponent: Power to which magnitudes are raised, above 0 and at most 1.
        normalised: Whether magnitudes are relative to the root mean square of their chunk.
        above: The mask above these rows: "mean" continues it with the mean of its top quarter, "zero" leaves all to the
            accompaniment.

    Raises:
        ConfigError: If a value is out of range.
    """

    kind: Literal["linear"] = "linear"
    rate: int = 44_100
    n_fft: int = 4096
    hop: int = 1024
    freqs: int = 1024
    frames: int = 128
    channels: int = 2
    side: bool = False
    compression: float = 3.0
    exponent: float = 1.0
    normalised: bool = True
    above: masks.Above = "mean"

    def __post_init__(self) -> None:
        if not 1 <= self.freqs <= self.grid.freqs:
            raise ConfigError(f"a linear front end needs freqs from 1 to {self.grid.freqs}, not {self.freqs}")
        if self.frames < 1 or self.channels < 1 or self.compression < 0:
            raise ConfigError("a linear front end needs frames >= 1, channels >= 1 and compression >= 0")
        if self.side and self.channels != _PAIR:
            raise ConfigError(f"a linear front end with side needs channels = {_PAIR}, not {self.channels}")
        self._check_size(self.freqs, self.channels + self.side)
        if not 0 < self.exponent <= 1:
            raise ConfigError(f"a linear front end needs exponent above 0 and at most 1, not {self.exponent}")

    @property
    def band_hz(self) -> Array:
        """Centre of each row in Hz, ``(freq,)``, float64."""
        return self.grid.hz[: self.freqs]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """See `FrontEnd.input_shape`."""
        return self.channels + self.side, self.freqs, self.frames

    @property
    def mask_above(self) -> masks.Above:
        """See `FrontEnd.mask_above`."""
        return self.above

    def analyse(self, spectrum: Spectrum) -> AnyArray:
        """Return the result of `measure`; with `side`, planes are left, right, side, left, right, ...

        See `FrontEnd.analyse`.
        """
        power = self.measure(spectrum)
        if not self.side:
            return power
        xp = array_namespace(power)
        left, right = spectrum[..., ::2, : self.freqs, :], spectrum[..., 1::2, : self.freqs, :]
        side = compute_power(left[..., : right.shape[-3], :, :] - right) / 2
        if power.shape[-3] % _PAIR:  # the last channel serves as left and right
            power = xp.concat([power, power[..., -1:, :, :]], axis=-3)
            side = xp.concat([side, xp.zeros_like(power[..., -1:, :, :])], axis=-3)
        pairs = power.reshape(*side.shape[:-2], _PAIR, *side.shape[-2:])
        planes = xp.concat([pairs, xp.expand_dims(side, axis=-3)], axis=-3)
        return planes.reshape(*side.shape[:-3], -1, *side.shape[-2:])

    def measure(self, spectrum: Spectrum) -> AnyArray:
        """Return the power of the lowest rows, as a mean over channels for a mono net; see `FrontEnd.measure`."""
        rows = compute_power(spectrum[..., : self.freqs, :])
        return array_namespace(rows).mean(rows, axis=-3, keepdims=True) if self.channels == 1 else rows

    def group_channels(self, power: AnyArray) -> AnyArray:
        """Group channels and fill the last group with copies of the last channel; see `FrontEnd.group_channels`."""
        if self.side:  # `analyse` has filled the last group
            planes = _PAIR + 1
            return power.reshape(power.shape[0] * (power.shape[1] // planes), planes, *power.shape[2:])
        return self.group_measures(power)

    def group_measures(self, power: AnyArray) -> AnyArray:
        """Group channels and fill the last group with copies of the last channel; see `FrontEnd.group_measures`."""
        missing = -power.shape[1] % self.channels
        if missing:
            xp = array_namespace(power)
            copies = xp.broadcast_to(power[:, -1:], (power.shape[0], missing, *power.shape[2:]))
            power = xp.concat([power, copies], axis=1)
        groups = power.shape[1] // self.channels
        return power.reshape(power.shape[0] * groups, self.channels, *power.shape[2:])

    def normalise(self, power: AnyArray, like: AnyArray | None = None) -> Features:
        """Return magnitudes relative to the chunk's root mean square, compressed; see `FrontEnd.normalise`."""
        xp = array_namespace(power)
        level = xp.sqrt(divide_by_mean(power, like) if self.normalised else power)
        if self.exponent != 1:
            level = level**self.exponent
        if not self.compression:
            return level
        level = self.compression * level
        level += 1  # in place: large arrays take more time than sums
        return xp.log(level)  # log1p is several times slower

    def ungroup_channels(self, mask: Mask, channels: int) -> Mask:
        """Undo the grouping and average the masks of copied channels; see `FrontEnd.ungroup_channels`."""
        if self.channels == 1:
            return mask
        groups = -(-channels // self.channels)
        xp = array_namespace(mask)
        mask = xp.broadcast_to(mask, (mask.shape[0], self.channels, *mask.shape[2:]))
        mask = mask.reshape(mask.shape[0] // groups, groups * self.channels, *mask.shape[2:])
        if mask.shape[1] == channels:
            return mask
        last = xp.mean(mask[:, channels - 1 :], axis=1, keepdims=True)
        return xp.concat([mask[:, : channels - 1], last], axis=1)
