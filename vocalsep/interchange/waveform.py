"""Models from waveform to waveform, such as Demucs: samples in, samples of each stem out.

The graph's input is ``(1, 2, samples)``, its output ``(1, stems, 2, samples)``, at a fixed number of samples. The file
names no stems. Four of them are in the order of Demucs, and so are six.

Source: S. Rouard, F. Massa and A. Defossez, "Hybrid transformers for music source separation", 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vocalsep.errors import ConfigError
from vocalsep.interchange.inspection import MAX_SIGNAL_BYTES

STEMS = {
    4: ("drums", "bass", "other", "vocals"),
    6: ("drums", "bass", "other", "vocals", "guitar", "piano"),
}
"""Names of the stems by their number, where the file does not say."""

_RATES = range(8_000, 192_001)
_MAX_SAMPLES = 2**22


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model from waveform to waveform is run.

    Attributes:
        samples: Samples per slice.
        stems: Names of the stems that come out, in order. One of them is "vocals".
        rate: Sample rate in Hz.

    Raises:
        ConfigError: If a value is out of range, or no stem is the vocals.
    """

    kind: Literal["waveform"] = "waveform"
    samples: int
    stems: tuple[str, ...]
    rate: int = 44_100

    def __post_init__(self) -> None:
        if not 4 <= self.samples <= _MAX_SAMPLES:
            raise ConfigError(f"samples = {self.samples}: expected 4 to {_MAX_SAMPLES}")
        if 4 * 2 * self.samples * len(self.stems) > MAX_SIGNAL_BYTES:
            raise ConfigError(f"{len(self.stems)} stems of {self.samples} samples: far more than any known model has")
        if self.rate not in _RATES:
            raise ConfigError(f"rate = {self.rate}: expected {_RATES[0]} to {_RATES[-1]} Hz")
        if self.stems.count("vocals") != 1:
            raise ConfigError(f"stems = {list(self.stems)}: expected one stem called vocals")
