"""Changes to the sound of excerpts: pitch, tempo, speed, equaliser, limiter, low-pass; each off unless asked for.

All of them are pure functions of ``(channel, time)`` arrays and a generator; they return float32 and never change what
they are given. Whatever is done to a mixture is done as a gain or a filter, the same for both stems, so that the
mixture stays the sum of its stems.

Pitch and tempo by themselves are the only dear ones: tests/bench/training.py prints what each costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import librosa
import numpy as np
import numpy.typing as npt
import soxr

from vocalsep.errors import ConfigError

Array = npt.NDArray[np.floating]
Range = tuple[float, float]

EQ_HZ = (60.0, 150.0, 400.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0)  # where the equaliser's bands lie
_WINDOW_SECONDS = 0.064  # the phase vocoder's, rounded to a power of two samples
_STEPS = 8  # of the limiter's gain, to the time it takes
_ROLL_OFF = 0.25  # octaves from the low-pass's corner to nothing
_FFT_STEP = 4_096  # FFTs of multiples of it are fast
_PAD_SECONDS = 0.05  # of zeros, so that a filter does not wrap from an excerpt's end to its start


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Which changes are made, how often, and how far. A probability of 0 switches a change off.

    True pairs are changed in pitch and tempo together, vocals and accompaniment alike; stems that were drawn on their
    own are changed on their own, each with the same probability, so that traces of the change do not tell the voice.

    Attributes:
        pitch: Probability that the pitch is moved.
        pitch_semitones: By how much.
        tempo: Probability that the tempo is changed.
        tempo_ratio: New tempo over old.
        speed: Probability that it is played faster or slower, which moves pitch, tempo and formants alike: another
            singer, nearly.
        speed_ratio: New speed over old.
        compressor: Probability that the loudest parts of a lone voice are brought down.
        compressor_db: From where on, below its loudest part.
        double: Probability that a lone voice is doubled, to the left and to the right.
        double_db: Level of either double against it.
        echo: Probability that a lone voice has an echo.
        echo_db: Level of an echo against what it is the echo of.
        echo_seconds: When it comes.
        reverb: Probability that a lone voice, most of which are recorded dry and in the middle, is put into a room.
        reverb_seconds: Time in which the room's sound falls by 60 dB.
        reverb_db: Level of the room's sound against the voice's own.
        eq: Probability, for either stem, of an equaliser of seven bands.
        eq_db: Range of each band's gain, drawn on its own.
        limiter: Probability that the mixture goes through a limiter, whose gain then applies to both stems.
        limiter_db: By how much it lowers the mixture's peak.
        limiter_seconds: How fast its gain moves: about 1 ms is a soft clip, 50 ms a limiter.
        band_limit: Probability of a low-pass over the mixture, both stems alike.
        band_limit_hz: Its corner.

    Raises:
        ConfigError: For values out of range.
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
            check_share(name, getattr(self, name))
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


def check_share(name: str, share: float) -> None:
    """Refuses what is not a probability.

    Raises:
        ConfigError: If it is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"{name} = {share}: expected a probability, in [0, 1]")


def check_range(name: str, ends: Range, least: float = -math.inf, most: float = math.inf) -> None:
    """Refuses a range that is not one.

    Raises:
        ConfigError: If its ends are the wrong way round, or beyond `least` or `most`.
    """
    low, high = ends
    if low > high:
        raise ConfigError(f"{name} = [{low}, {high}]: the lower end comes first")
    if low < least or high > most:
        raise ConfigError(f"{name} = [{low}, {high}]: expected it within {least:g} and {most:g}")


def chance(share: float, rng: np.random.Generator) -> bool:
    """Whether what happens in this share of cases happens now. What never happens draws nothing."""
    return share > 0 and bool(rng.random() < share)


@dataclass(frozen=True)
class Change:
    """A change of pitch (ratio of frequencies) and tempo (ratio of speeds)."""

    pitch: float = 1.0
    tempo: float = 1.0

    @classmethod
    def of_speed(cls, ratio: float) -> Change:
        """One that moves pitch and tempo alike."""
        return cls(ratio, ratio)

    def source_samples(self, samples: int, rate: int) -> int:
        """How much of a recording makes `samples` samples, with a window to spare at either end."""
        if self == Change():
            return samples
        return math.ceil(samples * self.tempo + 2 * _window(rate) * max(self.tempo, self.pitch)) + 1

    def apply(self, source: Array, samples: int, rate: int) -> Array:
        """Changes a piece of a recording.

        Args:
            source: ``(channel, time)``, at least `source_samples` long.
            samples: Length wanted, from its middle.
            rate: Its rate, Hz.
        """
        # Played faster by the pitch, then brought to its tempo by the phase vocoder.
        played = soxr.resample(source.T.astype(np.float32), rate * self.pitch, rate).T if self.pitch != 1 else source
        speed = self.tempo / self.pitch
        if speed != 1:
            played = librosa.effects.time_stretch(played, rate=speed, n_fft=_window(rate))
        start = (played.shape[1] - samples) // 2
        return np.ascontiguousarray(played[:, start : start + samples], dtype=np.float32)


def draw_change(options: AugmentOptions, rng: np.random.Generator) -> Change:
    """Draws a change of pitch, tempo and speed; often there is none."""
    semitones = rng.uniform(*options.pitch_semitones) if chance(options.pitch, rng) else 0.0
    tempo = rng.uniform(*options.tempo_ratio) if chance(options.tempo, rng) else 1.0
    speed = rng.uniform(*options.speed_ratio) if chance(options.speed, rng) else 1.0
    return Change(2 ** (semitones / 12) * speed, tempo * speed)


def equalise(stem: Array, rate: int, rng: np.random.Generator, options: AugmentOptions) -> Array:
    """With probability `eq`: a gain per band, the same for all channels, that runs smoothly from band to band."""
    if not chance(options.eq, rng):
        return stem
    gains_db = rng.uniform(*options.eq_db, size=len(EQ_HZ))
    return filtered(stem, rate, lambda hz: 10 ** (eq_curve(hz, gains_db) / 20))


def eq_curve(hz: Array, gains_db: Array) -> Array:
    """Gain in dB at each frequency: straight lines over octaves through the bands' gains, level beyond them."""
    return np.asarray(np.interp(np.log2(np.maximum(hz, 1.0)), np.log2(EQ_HZ), gains_db))


def master(
    vocals: Array, accompaniment: Array, rate: int, rng: np.random.Generator, options: AugmentOptions
) -> tuple[Array, Array]:
    """What is done to the mixture as a whole: limiter, then low-pass, each with its probability.

    Both stems get the limiter's gain over the mixture, and the same filter; their sum is the mixture after both.
    """
    if chance(options.limiter, rng):
        peaks = np.abs(vocals + accompaniment).max(axis=0)
        ceiling = float(peaks.max()) * 10 ** (-rng.uniform(*options.limiter_db) / 20)
        seconds = math.exp(rng.uniform(*np.log(options.limiter_seconds)))
        gain = limiter_gain(peaks, ceiling, step=max(1, round(seconds * rate / _STEPS)))
        vocals, accompaniment = vocals * gain, accompaniment * gain
    if chance(options.band_limit, rng):
        corner = math.exp(rng.uniform(*np.log(options.band_limit_hz)))
        vocals, accompaniment = low_pass(np.stack([vocals, accompaniment]), rate, corner)
    return vocals, accompaniment


def limiter_gain(peaks: Array, ceiling: float, step: int) -> Array:
    """Gain that keeps ``gain * peaks`` at or under `ceiling`, and is smooth.

    Args:
        peaks: ``(time,)``, magnitudes.
        ceiling: The level; if it is 0 there is nothing to limit.
        step: Samples from one corner of the gain to the next.
    """
    if ceiling <= 0:
        return np.ones(len(peaks), np.float32)
    count = -(-len(peaks) // step)
    blocks = np.pad(peaks, (0, count * step - len(peaks))).reshape(count, step).max(axis=1)
    needed = np.minimum(1.0, ceiling / np.maximum(blocks, ceiling))
    # The least of all neighbours, then the mean of all neighbours: nowhere above what any of them needs.
    around = np.lib.stride_tricks.sliding_window_view
    least = around(np.pad(needed, _STEPS, constant_values=1.0), _STEPS + 1).min(axis=1)
    smooth = around(least, _STEPS).mean(axis=1)  # one value at every corner between blocks, and at both ends
    gain = np.interp(np.arange(len(peaks)) / step, np.arange(count + 1), smooth)
    return np.asarray(gain, np.float32)


def low_pass(samples: Array, rate: int, corner: float) -> Array:
    """All up to the corner (Hz) as it is, nothing from a quarter of an octave above it, without delay."""

    def curve(hz: Array) -> Array:
        down = np.clip(np.log2(np.maximum(hz, 1.0) / corner) / _ROLL_OFF, 0, 1)
        return 0.5 + 0.5 * np.cos(np.pi * down)

    return filtered(samples, rate, curve)


def _window(rate: int) -> int:
    return 1 << max(4, round(math.log2(_WINDOW_SECONDS * rate)))


def fft_length(samples: int) -> int:
    """The next length from so many samples on whose FFTs are fast."""
    return -(-samples // _FFT_STEP) * _FFT_STEP


def filtered(samples: Array, rate: int, curve: Callable[[Array], Array]) -> Array:
    """Multiplies the spectrum over `time` by a real curve over Hz: a filter without delay."""
    length = samples.shape[-1]
    padded = fft_length(length + round(_PAD_SECONDS * rate))
    gains = curve(np.fft.rfftfreq(padded, 1 / rate)).astype(np.float32)
    spectrum = np.fft.rfft(samples.astype(np.float32), padded) * gains
    return np.fft.irfft(spectrum, padded)[..., :length].astype(np.float32)
