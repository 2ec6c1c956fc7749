"""Change the sound of excerpts: pitch, tempo, speed, equaliser, limiter, low-pass.

Every change is off by default. Each is a pure function of ``(channel, time)`` arrays and a random generator. It
returns float32 and never changes its inputs. A change of the whole mixture is a gain or a filter, applied to both stems
alike, so the mixture stays the sum of its stems.

Only `pitch` and `tempo` on their own are expensive; tests/bench/training.py prints the cost of each change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import librosa
import numpy as np
import soxr

from vocalsep.errors import ConfigError
from vocalsep.shapes import Array
from vocalsep.stft import next_fast_length

Range = tuple[float, float]

EQ_HZ = (60.0, 150.0, 400.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0)  # centres of the equaliser's bands
_WINDOW_SECONDS = 0.064  # of the phase vocoder, rounded to a power of two samples
_STEPS = 8  # points of the limiter's gain curve within `limiter_seconds`
_ROLL_OFF = 0.25  # octaves from the low-pass's corner to full attenuation
FFT_STEP = 4_096  # FFT sizes are multiples of it, so that few different ones occur
_PAD_SECONDS = 0.05  # of zeros, so that a filter does not wrap around from the end of an excerpt to its start


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Which changes are made, how often and how strongly. A probability of 0 turns a change off.

    The stems of a true pair get the same change of pitch, tempo and speed. Stems drawn independently are changed
    independently but equally often, so that the net cannot recognise a voice by the artefacts of the change.

    Attributes:
        pitch: Probability that the pitch is shifted.
        pitch_semitones: Range of the shift.
        tempo: Probability that the tempo is changed.
        tempo_ratio: Range of new tempo over old.
        speed: Probability that the sound is sped up or slowed down, which moves pitch, tempo and formants together.
            The result resembles another singer.
        speed_ratio: Range of new speed over old.
        compressor: Probability that a lone voice is compressed.
        compressor_db: Range of the threshold, in dB below the loudest part.
        double: Probability that a lone voice is doubled, to the left and to the right.
        double_db: Range of the level of each double relative to the voice.
        echo: Probability that a lone voice gets an echo.
        echo_db: Range of the level of each repeat relative to the one before.
        echo_seconds: Range of the time between repeats.
        reverb: Probability that a lone voice gets reverb. Most lone voices are recorded dry and in the middle.
        reverb_seconds: Range of the time in which the reverb decays by 60 dB.
        reverb_db: Range of the reverb's level relative to the voice.
        eq: Probability, for each stem, of an equaliser with seven bands.
        eq_db: Range of each band's gain.
        limiter: Probability that the mixture is limited. Both stems get the limiter's gain.
        limiter_db: Range by which the mixture's peak is lowered.
        limiter_seconds: Range of the time in which the gain moves. About 1 ms makes a soft clipper, 50 ms a limiter.
        band_limit: Probability of a low-pass over the mixture, applied to both stems alike.
        band_limit_hz: Range of its corner frequency.

    Raises:
        ConfigError: If a value is out of range.
    """

    pitch: float = 0.0
    pitch_semitones: Range = (-2.0, 2.0)
    tempo: float = 0.0
    tempo_ratio: Range = (0.8, 1.2)
    speed: float = 0.0
    speed_ratio: Range = (0.8, 1.25)
    compressor: float = 0.0
    compressor_db: Range = (6.0, 24.0)
    double: float = 0.0
    double_db: Range = (-15.0, -3.0)
    echo: float = 0.0
    echo_db: Range = (-20.0, -6.0)
    echo_seconds: Range = (0.1, 0.6)
    reverb: float = 0.0
    reverb_seconds: Range = (0.3, 2.5)
    reverb_db: Range = (-20.0, -4.0)
    eq: float = 0.0
    eq_db: Range = (-9.0, 9.0)
    limiter: float = 0.0
    limiter_db: Range = (1.0, 8.0)
    limiter_seconds: Range = (0.001, 0.05)
    band_limit: float = 0.0
    band_limit_hz: Range = (3_000.0, 8_000.0)

    def __post_init__(self) -> None:
        changes = ("pitch", "tempo", "speed", "compressor", "double", "echo", "reverb", "eq", "limiter", "band_limit")
        for name in changes:
            check_probability(name, getattr(self, name))
        check_range("pitch_semitones", self.pitch_semitones, -12, 12)
        check_range("tempo_ratio", self.tempo_ratio, 0.5, 2)
        check_range("speed_ratio", self.speed_ratio, 0.5, 2)
        check_range("compressor_db", self.compressor_db, 0, 60)
        check_range("double_db", self.double_db, -60, 0)
        check_range("echo_db", self.echo_db, -60, -1)
        check_range("echo_seconds", self.echo_seconds, 0.01, 10)
        check_range("reverb_seconds", self.reverb_seconds, 0.01, 20)
        check_range("reverb_db", self.reverb_db, -60, 20)
        check_range("eq_db", self.eq_db, -60, 60)
        check_range("limiter_db", self.limiter_db, 0, 60)
        check_range("limiter_seconds", self.limiter_seconds, 1e-4, 1)
        check_range("band_limit_hz", self.band_limit_hz, 100)


def check_probability(name: str, value: float) -> None:
    """Check that a value is a probability.

    Raises:
        ConfigError: If it is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} = {value}: expected a probability, in [0, 1]")


def check_range(name: str, ends: Range, least: float = -math.inf, most: float = math.inf) -> None:
    """Check that a range has its lower end first and lies within limits.

    Raises:
        ConfigError: If the ends are the wrong way round, or below `least` or above `most`.
    """
    low, high = ends
    if low > high:
        raise ConfigError(f"{name} = [{low}, {high}]: expected the lower end first")
    if low < least or high > most:
        raise ConfigError(f"{name} = [{low}, {high}]: expected values between {least:g} and {most:g}")


def happens(probability: float, rng: np.random.Generator) -> bool:
    """Return True with the given probability. A probability of 0 draws no random number."""
    return probability > 0 and bool(rng.random() < probability)


@dataclass(frozen=True)
class Change:
    """A change of pitch (ratio of frequencies) and tempo (ratio of speeds)."""

    pitch: float = 1.0
    tempo: float = 1.0

    @classmethod
    def of_speed(cls, ratio: float) -> Change:
        """Return a change that moves pitch and tempo together, as playing a tape faster does."""
        return cls(ratio, ratio)

    def count_source_samples(self, samples: int, rate: int) -> int:
        """Return how many source samples `apply` needs to return `samples`, including a window at either end."""
        if self == Change():
            return samples
        return math.ceil(samples * self.tempo + 2 * _window_samples(rate) * max(self.tempo, self.pitch)) + 1

    def apply(self, source: Array, samples: int, rate: int) -> Array:
        """Change a piece of a recording.

        Args:
            source: ``(channel, time)``, at least `count_source_samples` long.
            samples: Samples to return, from the middle of the result.
            rate: Sample rate, Hz.

        Returns:
            ``(channel, samples)``.
        """
        # Resampling sets the pitch and changes the tempo with it; the phase vocoder then corrects the tempo.
        played = soxr.resample(source.T.astype(np.float32), rate * self.pitch, rate).T if self.pitch != 1 else source
        speed = self.tempo / self.pitch
        if speed != 1:
            played = librosa.effects.time_stretch(played, rate=speed, n_fft=_window_samples(rate))
        start = (played.shape[1] - samples) // 2
        return np.ascontiguousarray(played[:, start : start + samples], dtype=np.float32)


def draw_change(options: AugmentOptions, rng: np.random.Generator) -> Change:
    """Draw a change of pitch, tempo and speed, each with its probability."""
    semitones = rng.uniform(*options.pitch_semitones) if happens(options.pitch, rng) else 0.0
    tempo = rng.uniform(*options.tempo_ratio) if happens(options.tempo, rng) else 1.0
    speed = rng.uniform(*options.speed_ratio) if happens(options.speed, rng) else 1.0
    return Change(2 ** (semitones / 12) * speed, tempo * speed)


def equalise(stem: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """Equalise a stem with probability `eq`, using one smooth curve for all channels."""
    if not happens(options.eq, rng):
        return stem
    gains_db = rng.uniform(*options.eq_db, size=len(EQ_HZ))
    return apply_curve(stem, rate, lambda hz: 10 ** (interpolate_gains(hz, gains_db) / 20))


def interpolate_gains(hz: Array, gains_db: Array) -> Array:
    """Return the equaliser's gain in dB at each frequency.

    The curve is linear over octaves between the centres `EQ_HZ` of the bands, and flat below the first and above the
    last.
    """
    return np.asarray(np.interp(np.log2(np.maximum(hz, 1.0)), np.log2(EQ_HZ), gains_db))


def master(
    vocals: Array, accompaniment: Array, rate: int, rng: np.random.Generator, options: AugmentOptions
) -> tuple[Array, Array]:
    """Limit the mixture, then low-pass it, each with its probability.

    Both stems get the gain that limits the mixture, and the same filter. Their sum is the limited, filtered mixture.
    """
    if happens(options.limiter, rng):
        peaks = np.abs(vocals + accompaniment).max(axis=0)
        ceiling = float(peaks.max()) * 10 ** (-rng.uniform(*options.limiter_db) / 20)
        seconds = math.exp(rng.uniform(*np.log(options.limiter_seconds)))
        gain = compute_limiter_gain(peaks, ceiling, step=max(1, round(seconds * rate / _STEPS)))
        vocals, accompaniment = vocals * gain, accompaniment * gain
    if happens(options.band_limit, rng):
        corner = math.exp(rng.uniform(*np.log(options.band_limit_hz)))
        vocals, accompaniment = low_pass(np.stack([vocals, accompaniment]), rate, corner)
    return vocals, accompaniment


def compute_limiter_gain(peaks: Array, ceiling: float, step: int) -> Array:
    """Compute a smooth gain that keeps ``gain * peaks`` at or below `ceiling`.

    Args:
        peaks: ``(time,)``, magnitudes.
        ceiling: The highest level allowed; 0 or below limits nothing.
        step: Samples between points of the gain curve.

    Returns:
        ``(time,)``, in (0, 1].
    """
    if ceiling <= 0:
        return np.ones(len(peaks), np.float32)
    count = -(-len(peaks) // step)
    blocks = np.pad(peaks, (0, count * step - len(peaks))).reshape(count, step).max(axis=1)
    needed = np.minimum(1.0, ceiling / np.maximum(blocks, ceiling))
    # A moving minimum, then a moving average of it: the result never exceeds what any block needs.
    windows = np.lib.stride_tricks.sliding_window_view
    least = windows(np.pad(needed, _STEPS, constant_values=1.0), _STEPS + 1).min(axis=1)
    smooth = windows(least, _STEPS).mean(axis=1)  # one value per boundary between blocks, both ends included
    gain = np.interp(np.arange(len(peaks)) / step, np.arange(count + 1), smooth)
    return np.asarray(gain, np.float32)


def low_pass(samples: Array, rate: int, corner: float) -> Array:
    """Keep everything up to the corner (Hz), and remove everything from a quarter of an octave above it; no delay."""

    def curve(hz: Array) -> Array:
        octaves = np.clip(np.log2(np.maximum(hz, 1.0) / corner) / _ROLL_OFF, 0, 1)
        return 0.5 + 0.5 * np.cos(np.pi * octaves)

    return apply_curve(samples, rate, curve)


def _window_samples(rate: int) -> int:
    return 1 << max(4, round(math.log2(_WINDOW_SECONDS * rate)))


def apply_curve(samples: Array, rate: int, curve: Callable[[Array], Array]) -> Array:
    """Filter the last axis without delay: multiply its spectrum by a real function of the frequency in Hz."""
    length = samples.shape[-1]
    padded = next_fast_length(length + round(_PAD_SECONDS * rate), multiple_of=FFT_STEP)
    gains = curve(np.fft.rfftfreq(padded, 1 / rate)).astype(np.float32)
    spectrum = np.fft.rfft(samples.astype(np.float32), padded) * gains
    return np.fft.irfft(spectrum, padded)[..., :length].astype(np.float32)
