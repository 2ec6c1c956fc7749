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

Songs are numpy arrays; what nets train on, and what runs on CUDA, are torch tensors. The signal core takes either and
returns the same kind, so the names of its arrays stand for both.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.floating]
"""Real sound, levels or positions as a numpy array, in code that does not use torch."""

# `Any`, because numpy's and torch's types share no protocol that a type checker could use: their operators, their
# attributes and their namespaces are typed differently.
AnyArray: TypeAlias = Any
"""A real numpy array or torch tensor. A function returns the kind that it takes."""

Waveform: TypeAlias = AnyArray
"""Real sound, ``(..., channel, time)``, linear amplitude, full scale 1."""

Spectrum: TypeAlias = AnyArray
"""Complex STFT, ``(..., channel, freq, frame)``."""

Magnitude: TypeAlias = AnyArray
"""Absolute value of a spectrum, ``(..., channel, freq, frame)``, not negative."""

Features: TypeAlias = AnyArray
"""The input of a net, ``(batch, channel, row, frame)``."""

Mask: TypeAlias = AnyArray
"""The voice's share of each time-frequency bin, ``(..., channel, row, frame)``, in [0, 1]."""

Embedding: TypeAlias = AnyArray
"""A unit vector for each bin, close to those of bins from the same source, ``(batch, dimension, row, frame)``."""
