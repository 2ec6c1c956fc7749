"""Names for the arrays that travel through the package, and the legend of their axes.

Axis order is always ``batch, channel, freq, frame`` for what lies on a time-frequency grid and ``batch, channel,
time`` for sound; leading axes may be missing, the last one is always time or frame.

| axis | runs over |
|---|---|
| batch | excerpts of a training batch or chunks of a song |
| channel | channels of the recording (left, right, ...), or feature maps of a net |
| freq | rows of an STFT, from 0 Hz up to half the rate |
| band | rows of a net's own grid, for example mel bands |
| frame | columns of an STFT, one every `hop` samples |
| time | samples |
"""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

Waveform: TypeAlias = Tensor
"""Real sound, ``(..., channel, time)``, linear amplitude, full scale 1."""

Spectrum: TypeAlias = Tensor
"""Complex STFT, ``(..., channel, freq, frame)``."""

Magnitude: TypeAlias = Tensor
"""Absolute value of a spectrum, ``(..., channel, freq, frame)``, not negative."""

Features: TypeAlias = Tensor
"""What a net looks at, ``(batch, channel, band, frame)``."""

Mask: TypeAlias = Tensor
"""Share of each time-frequency bin that is voice, ``(..., channel, band or freq, frame)``, in [0, 1]."""

Embedding: TypeAlias = Tensor
"""Where each bin lies among others of its source, ``(batch, dimension, band, frame)``, of unit length."""
