"""Noise and tones as numpy arrays, ``(channel, time)`` float32, and how far two of them differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32]


def noise(channels: int, samples: int, seed: int = 0, level: float = 0.2) -> Waveform:
    """Return white noise, the same for the same seed."""
    drawn = np.random.default_rng(seed).standard_normal((channels, samples), dtype=np.float32)
    return drawn * np.float32(level)


def tone(hz: float, rate: int, seconds: float, channels: int = 1) -> Waveform:
    """Return a sine."""
    wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return np.tile(wave.astype(np.float32), (channels, 1))


def quantise(samples: Waveform, bits: int) -> Waveform:
    """Round samples to the values that a fixed-point file of this bit depth can hold."""
    scale = 2.0 ** (bits - 1)
    steps = np.clip(np.round(samples.astype(np.float64) * scale), -scale, scale - 1)
    return (steps / scale).astype(np.float32)


def split_in_blocks(samples: Waveform, size: int) -> Iterator[Waveform]:
    """Cut samples into blocks of one size; the last may be shorter."""
    for start in range(0, samples.shape[-1], size):
        yield samples[..., start : start + size]


def join_blocks(blocks: Any) -> Waveform:
    """Join blocks along time."""
    joined: Waveform = np.concatenate(list(blocks), axis=-1)
    return joined
