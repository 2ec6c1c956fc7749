"""Small synthetic songs and data sets: a voice with vibrato, chords and noise bursts, always the same.

All songs are rounded to 16 bits, and mixtures are the exact sums of their stems.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

Array = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int16]

ARTISTS = ("Ada", "Ada", "Brahe", "Curie", "Dirac", "Euler")  # two songs of the first Dev artist
SINGERS = ("abjones", "amy", "bobon", "davidson")


def make_tone(hz: float, seconds: float, rate: int) -> Array:
    """Make a steady voice-like tone, ``(2, time)``: a fundamental and six softer partials."""
    seconds_at = np.arange(round(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * hz * partial * seconds_at) / partial for partial in range(1, 8))
    return np.stack([wave, wave]).astype(np.float32)


def make_voice(seed: int, seconds: float, rate: int) -> Array:
    """Make a sung line, ``(time,)``: six harmonics with vibrato, in syllables with pauses between them."""
    rng = np.random.default_rng([seed, 1])
    seconds_at = np.arange(round(seconds * rate)) / rate
    notes = rng.choice([220.0, 246.9, 277.2, 329.6, 370.0], size=int(seconds / 0.5) + 1)
    pitch = notes[(seconds_at / 0.5).astype(int)] * (1 + 0.02 * np.sin(2 * np.pi * 5.5 * seconds_at))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 7))
    syllable = np.clip(1.6 * np.sin(np.pi * (seconds_at % 0.5) / 0.4), 0, 1)
    return 0.12 * syllable * tone


def make_backing(seed: int, seconds: float, rate: int) -> dict[str, Array]:
    """Make bass, drums and other, ``(time,)`` each: a low tone, noise bursts and held chords."""
    rng = np.random.default_rng([seed, 2])
    seconds_at = np.arange(round(seconds * rate)) / rate
    root = rng.choice([110.0, 123.5, 146.8])
    chord = sum(np.sin(2 * np.pi * root * step * seconds_at) for step in (2, 2.5, 3, 5, 7.5))
    burst = np.exp(-25 * (seconds_at % 0.25)) * rng.standard_normal(len(seconds_at))
    return {
        "bass": 0.10 * np.sin(2 * np.pi * root / 2 * seconds_at),
        "drums": 0.06 * burst,
        "other": 0.03 * chord,
    }


def make_song(seed: int, seconds: float = 3.0, rate: int = 44_100) -> dict[str, Integers]:
    """Make four stems, ``(time, channel)``, 16-bit stereo, each at its own position between left and right."""
    stems = {**make_backing(seed, seconds, rate), "vocals": make_voice(seed, seconds, rate)}
    places = {"bass": (1.0, 1.0), "drums": (0.9, 0.7), "other": (0.6, 1.0), "vocals": (1.0, 0.95)}
    return {name: to_pcm(np.stack([samples * g for g in places[name]], 1)) for name, samples in stems.items()}


def to_pcm(samples: Array) -> Integers:
    """Round to 16 bits; full scale is 1."""
    return np.clip(np.round(samples * 32_768), -32_768, 32_767).astype(np.int16)


def write(path: Path, samples: npt.ArrayLike, rate: int, subtype: str = "PCM_16") -> Path:
    """Write ``(time,)`` or ``(time, channel)`` samples, and create the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def write_constant(path: Path, value: float, seconds: float, rate: int = 8_000, channels: int = 2) -> Path:
    """Write a file in which every sample is `value`."""
    return write(path, np.full((round(seconds * rate), channels), value), rate, "FLOAT")


def write_dsd100(root: Path, dev: int = 6, test: int = 2, seconds: float = 3.0) -> Path:
    """Write a data set laid out like DSD100, 44.1 kHz stereo. Test songs have the lower numbers, as in the original."""
    for number in range(1, test + dev + 1):
        split = "Test" if number <= test else "Dev"
        artist = f"Artist {number}" if number <= test else ARTISTS[(number - test - 1) % len(ARTISTS)]
        name = f"{number:03d} - {artist} - Song {number}"
        stems = make_song(number, seconds)
        for stem, samples in stems.items():
            write(root / "Sources" / split / name / f"{stem}.wav", samples, 44_100)
        write(root / "Mixtures" / split / name / "mixture.wav", sum(stems.values()), 44_100)
    return root


def write_mir1k(root: Path, clips: int = 2, seconds: float = 3.0) -> Path:
    """Write a data set in the layout of MIR-1K, 16 kHz: accompaniment left, voice right."""
    for number, singer in enumerate(SINGERS):
        for clip in range(1, clips + 1):
            seed = 100 + 10 * number + clip
            left = sum(make_backing(seed, seconds, 16_000).values())
            right = make_voice(seed, seconds, 16_000)
            path = root / "Wavfile" / f"{singer}_{number + 1}_{clip:02d}.wav"
            write(path, to_pcm(np.stack([left, right], 1)), 16_000)
    return root


def write_stems(root: Path, songs: int = 3, seconds: float = 3.0) -> Path:
    """Write songs with stems; every second one has three stems and a mixture instead of an accompaniment."""
    for number in range(1, songs + 1):
        stems = make_song(200 + number, seconds)
        vocals = stems.pop("vocals")
        folder = root / f"Band {number} - Song {number}"
        write(folder / "vocals.wav", vocals, 44_100)
        whole = sum(stems.values())
        if number % 2:
            write(folder / "accompaniment.wav", whole, 44_100)
        else:
            write(folder / "mixture.wav", whole + vocals, 44_100)
            for stem, samples in stems.items():
                write(folder / f"{stem}.wav", samples, 44_100)
    return root


def write_labels(root: Path, clips: list[str]) -> Path:
    """Write pitch and voicing labels for clips in the layout of MIR-1K, one value every 20 ms."""
    for folder, ending in (("PitchLabel", ".pv"), ("vocal-nonvocalLabel", ".vocal")):
        (root / folder).mkdir(exist_ok=True)
        for clip in clips:
            (root / folder / f"{clip}{ending}").write_text("0\n" * 149, encoding="utf-8")
    return root
