"""Find the pitch change that moves a voice into the key of an accompaniment it was not sung to.

In a real song, the partials of the voice coincide with those of the instruments. In a random remix, they fall between
those of the instruments, where they are easier to separate. (Stems are matched by key for mashups in Huang, Wang,
Smith, Song and Wang, "Modeling the compatibility of stem tracks to generate music mashups", 2021.)
"""

from __future__ import annotations

import numpy as np

from vocalsep.shapes import Array

STEPS = 36  # per octave
MAX_STEPS = 9  # up or down: three semitones
_WINDOW = 8_192
_HZ = (110.0, 1_800.0)  # the range of melodies and chords
_NEIGHBOURS = 15  # bins averaged to estimate the level around a partial


def compute_profile(samples: Array, rate: int) -> Array:
    """Measure how strong each pitch class is: sum the square roots of the magnitudes, less their local average.

    A plain chromagram keeps the local average. It fails more often to find that voice and accompaniment of one song
    already match.

    Args:
        samples: ``(channel, time)``; anything shorter than a window is padded with zeros.
        rate: Sample rate, Hz.

    Returns:
        ``(STEPS,)``, not negative.
    """
    mono = samples.mean(axis=0)
    mono = np.pad(mono, (0, max(0, _WINDOW - len(mono))))
    frames = np.lib.stride_tricks.sliding_window_view(mono, _WINDOW)[:: _WINDOW // 2]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=-1))
    level = np.sqrt(spectrum).mean(axis=0)
    prominence = np.maximum(level - np.convolve(level, np.full(_NEIGHBOURS, 1 / _NEIGHBOURS), mode="same"), 0)
    hz = np.fft.rfftfreq(_WINDOW, 1 / rate)
    inside = (hz >= _HZ[0]) & (hz <= _HZ[1])
    pitch = np.round(STEPS * np.log2(hz[inside] / _HZ[0])).astype(int) % STEPS
    return np.asarray(np.bincount(pitch, weights=prominence[inside], minlength=STEPS), dtype=np.float64)


def find_matching_ratio(voice: Array, accompaniment: Array, rate: int) -> float:
    """Find the ratio that moves the voice's frequencies onto those of the accompaniment.

    Args:
        voice: ``(channel, time)``.
        accompaniment: ``(channel, time)`` of any length.
        rate: Sample rate of both, Hz.

    Returns:
        New frequency over old, at most three semitones up or down; 1 if either is silent.
    """
    sung, played = compute_profile(voice, rate), compute_profile(accompaniment, rate)
    moves = sorted(range(-MAX_STEPS, MAX_STEPS + 1), key=abs)  # the smallest of equally good moves wins
    best = max(moves, key=lambda move: float(np.dot(np.roll(sung, move), played)))
    return float(2 ** (best / STEPS))
