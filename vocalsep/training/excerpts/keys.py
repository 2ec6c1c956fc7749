"""How far a voice has to be moved to suit the key of an accompaniment that it was not sung to.

In a song the voice's partials lie on those of the instruments; in a remix drawn blindly they lie between them, where
they are easier to find. (Stems matched by key, for mashups: Huang, Wang, Smith, Song and Wang, "Modeling the
compatibility of stem tracks to generate music mashups", 2021.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

STEPS = 36  # of an octave
FARTHEST = 9  # steps, either way: three semitones
_WINDOW = 8_192
_HZ = (110.0, 1_800.0)  # where melodies and chords lie
_NEIGHBOURS = 15  # bins, over whose mean a partial stands out


def profile(samples: Array, rate: int) -> Array:
    """How strongly each pitch class sounds, ``(STEPS,)``: root magnitudes of what stands out of its neighbourhood.

    With their neighbourhood's level in them, as in a plain chromagram, profiles of a song's voice and accompaniment
    match less often where they are.

    Args:
        samples: ``(channel, time)``; shorter than a window is filled with zeros.
        rate: Their rate, Hz.
    """
    mono = samples.mean(axis=0)
    mono = np.pad(mono, (0, max(0, _WINDOW - len(mono))))
    frames = np.lib.stride_tricks.sliding_window_view(mono, _WINDOW)[:: _WINDOW // 2]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=-1))
    level = np.sqrt(spectrum).mean(axis=0)
    standing = np.maximum(level - np.convolve(level, np.full(_NEIGHBOURS, 1 / _NEIGHBOURS), mode="same"), 0)
    hz = np.fft.rfftfreq(_WINDOW, 1 / rate)
    seen = (hz >= _HZ[0]) & (hz <= _HZ[1])
    pitch = np.round(STEPS * np.log2(hz[seen] / _HZ[0])).astype(int) % STEPS
    return np.asarray(np.bincount(pitch, weights=standing[seen], minlength=STEPS), dtype=np.float64)


def suiting_ratio(voice: Array, accompaniment: Array, rate: int) -> float:
    """By how much a voice's frequencies are to be multiplied, at most three semitones, to fall on those of the other.

    Args:
        voice: ``(channel, time)``.
        accompaniment: The same, of any length.
        rate: Rate of both, Hz.

    Returns:
        The ratio; 1 where either is silent.
    """
    sung, played = profile(voice, rate), profile(accompaniment, rate)
    moves = sorted(range(-FARTHEST, FARTHEST + 1), key=abs)  # of equals the nearest
    best = max(moves, key=lambda move: float(np.dot(np.roll(sung, move), played)))
    return float(2 ** (best / STEPS))
