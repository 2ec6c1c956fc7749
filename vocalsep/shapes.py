"""Names for the arrays that the package works with, and what their axes mean.

Axes always come in the order ``batch, channel, freq, frame`` on a time-frequency grid and ``batch, channel, time`` for
sound. Leading axes may be missing. The last axis is always time or frame.

| axis | runs over |
|---|---|
| batch | excerpts of a training batch, or chunks of a song |
| channel | channels of the recording (left, right, ...), or feature maps of a net |
| freq | rows of an STFT, from 0 Hz up to half the sample rate |
| band | rows of a net's own grid, for example mel bands |
| row | freq or band, whichever the net works on |
| frame | columns of an STFT, one every `hop` samples |
| time | samples |
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array: TypeAlias = npt.NDArray[np.floating]
"""Real sound or levels as a numpy array, in code that does not use torch; axes as for tensors."""

Waveform: TypeAlias = Tensor
"""Real sound, ``(..., channel, time)``, linear amplitude, full scale 1."""

Spectrum: TypeAlias = Tensor
"""Complex STFT, ``(..., channel, freq, frame)``."""

Magnitude: TypeAlias = Tensor
"""Absolute value of a spectrum, ``(..., channel, freq, frame)``, not negative."""

Features: TypeAlias = Tensor
"""The input of a net, ``(batch, channel, row, frame)``."""

Mask: TypeAlias = Tensor
"""The voice's share of each time-frequency bin, ``(..., channel, row, frame)``, in [0, 1]."""

Embedding: TypeAlias = Tensor
"""A unit vector for each bin, close to those of bins from the same source, ``(batch, dimension, row, frame)``."""
