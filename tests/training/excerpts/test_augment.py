from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep.errors import ConfigError
from vocalsep.training.excerpts import augment
from vocalsep.training.excerpts.augment import AugmentOptions, Change

RATE = 16_000
SAMPLES = 16_000
OFF = AugmentOptions()


def noise(seed: int, samples: int = SAMPLES, channels: int = 2, level: float = 0.1) -> np.ndarray:
    shape = (channels, samples)
    return (level * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def sine(hz: float, samples: int, level: float = 0.5) -> np.ndarray:
    wave = level * np.sin(2 * np.pi * hz * np.arange(samples) / RATE)
    return np.stack([wave, 0.5 * wave]).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def find_peak_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples[0] * np.hanning(samples.shape[1]), 8 * samples.shape[1]))
    return float(np.argmax(spectrum) * RATE / (8 * samples.shape[1]))


def measure_gain_db(before: np.ndarray, after: np.ndarray, hz: float) -> float:
    """Measure the gain between two signals in the third of an octave around a frequency, dB."""
    freqs = np.fft.rfftfreq(before.shape[1], 1 / RATE)
    near = (freqs > hz * 2 ** (-1 / 6)) & (freqs < hz * 2 ** (1 / 6))
    powers = [np.square(np.abs(np.fft.rfft(x)))[:, near].sum() for x in (before, after)]
    return float(10 * np.log10(powers[1] / powers[0]))


# Probabilities


def test_a_probability_of_zero_draws_no_random_number() -> None:
    source, untouched = rng(), rng()
    assert not any(augment.happens(0.0, source) for _ in range(100))
    assert source.random() == untouched.random()
    assert all(augment.happens(1.0, source) for _ in range(100))
    assert 0.2 < np.mean([augment.happens(0.3, source) for _ in range(500)]) < 0.4


def test_nothing_changes_by_default() -> None:
    vocals, accompaniment = noise(1), noise(2)
    source, untouched = rng(), rng()
    assert augment.draw_change(OFF, source) == Change()
    assert augment.equalise(vocals, RATE, source, OFF) is vocals
    out = augment.master(vocals, accompaniment, RATE, source, OFF)
    assert out[0] is vocals
    assert out[1] is accompaniment
    assert source.random() == untouched.random()


# Pitch and tempo


def test_changes_are_drawn_within_their_ranges_and_with_their_probabilities() -> None:
    options = AugmentOptions(pitch=0.5, pitch_semitones=(-1.0, 3.0), tempo=0.25, tempo_ratio=(0.9, 1.3))
    source = rng()
    changes = [augment.draw_change(options, source) for _ in range(600)]
    semitones = np.array([12 * np.log2(c.pitch) for c in changes if c.pitch != 1])
    tempos = np.array([c.tempo for c in changes if c.tempo != 1])
    assert len(semitones) / 600 == pytest.approx(0.5, abs=0.07)
    assert len(tempos) / 600 == pytest.approx(0.25, abs=0.07)
    assert -1 <= semitones.min() < -0.8
    assert 2.8 < semitones.max() <= 3
    assert 0.9 <= tempos.min() < 0.92
    assert 1.27 < tempos.max() <= 1.3


@pytest.mark.parametrize("semitones", [-2.0, -0.5, 1.0, 2.0])
@pytest.mark.parametrize("tempo", [1.0, 0.85])
def test_pitch_moves_a_sine_by_the_stated_semitones(semitones: float, tempo: float) -> None:
    change = Change(2 ** (semitones / 12), tempo)
    changed = change.apply(sine(440, change.count_source_samples(SAMPLES, RATE)), SAMPLES, RATE)
    assert 12 * np.log2(find_peak_hz(changed) / 440) == pytest.approx(semitones, abs=0.03)
    inner = changed[0, 1_000:-1_000]
    assert np.abs(inner).max() == pytest.approx(0.5, rel=0.15)  # the level stays
    np.testing.assert_allclose(changed[1], 0.5 * changed[0], atol=1e-4)  # the position in the stereo image stays


@pytest.mark.parametrize("ratio", [0.7, 1.4])
def test_speed_moves_pitch_and_tempo_alike_and_needs_no_phase_vocoder(ratio: float) -> None:
    """The test sound is a sine of 440 Hz whose loudness beats four times a second."""
    options = AugmentOptions(speed=1.0, speed_ratio=(ratio, ratio))
    change = augment.draw_change(options, np.random.default_rng(0))
    assert (change.pitch, change.tempo) == (ratio, ratio)
    seconds = np.arange(change.count_source_samples(SAMPLES, RATE)) / RATE

    def make_beating_sine(seconds: np.ndarray, speed: float) -> np.ndarray:
        beat = 1 + 0.5 * np.cos(2 * np.pi * 4 * speed * seconds)
        return (beat * np.sin(2 * np.pi * 440 * speed * seconds))[None].astype(np.float32)

    made = change.apply(make_beating_sine(seconds, 1.0), SAMPLES, RATE)[0, 500:-500]
    beat_samples = round(RATE / (4 * ratio))
    expected = make_beating_sine(np.arange(len(made) + beat_samples) / RATE, ratio)[0]
    energy = np.correlate(np.square(expected), np.ones(len(made), np.float32), mode="valid")
    shift = int(np.argmax(np.correlate(expected, made, mode="valid") / np.sqrt(energy)))
    assert np.corrcoef(made, expected[shift : shift + len(made)])[0, 1] > 0.999


@pytest.mark.parametrize("tempo", [0.8, 1.25])
def test_tempo_changes_the_rate_of_beats_but_not_the_pitch(tempo: float) -> None:
    change = Change(tempo=tempo)
    length = change.count_source_samples(2 * SAMPLES, RATE)
    beats = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(length) / RATE)
    changed = change.apply((beats * sine(500, length)).astype(np.float32), 2 * SAMPLES, RATE)
    assert find_peak_hz(changed) == pytest.approx(500, rel=0.005)
    envelope = np.square(changed[0].astype(float))
    spectrum = np.abs(np.fft.rfft(envelope - envelope.mean(), 16 * len(envelope)))
    hz = np.arange(len(spectrum)) * RATE / (16 * len(envelope))
    assert hz[np.argmax(spectrum * (hz < 50))] == pytest.approx(4 * tempo, rel=0.05)


@settings(deadline=None, max_examples=25)
@given(
    samples=st.integers(1, 6_000),
    semitones=st.floats(-12, 12),
    tempo=st.floats(0.5, 2),
    rate=st.sampled_from([100, 8_000, 16_000, 44_100]),
)
def test_a_changed_excerpt_has_its_length_and_no_silent_end(
    samples: int, semitones: float, tempo: float, rate: int
) -> None:
    change = Change(2 ** (semitones / 12), tempo)
    source = noise(3, change.count_source_samples(samples, rate), channels=3)
    before = source.copy()
    changed = change.apply(source, samples, rate)
    assert changed.shape == (3, samples)
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert (changed[:, -1] != 0).all()
    np.testing.assert_array_equal(source, before)


def test_no_change_is_the_recording_itself() -> None:
    source = noise(4)
    assert Change().count_source_samples(SAMPLES, RATE) == SAMPLES
    np.testing.assert_array_equal(Change().apply(source, SAMPLES, RATE), source)


# Equaliser


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-9, 9), min_size=7, max_size=7))
def test_the_equaliser_curve_passes_through_the_gains_and_never_exceeds_them(gains: list[float]) -> None:
    curve = augment.interpolate_gains(np.linspace(0, 22_050, 3_000), np.array(gains))
    assert min(gains) - 1e-9 <= curve.min()
    assert curve.max() <= max(gains) + 1e-9
    np.testing.assert_allclose(augment.interpolate_gains(np.array(augment.EQ_HZ), np.array(gains)), gains)


def test_the_equaliser_stays_within_its_range_and_treats_all_channels_alike() -> None:
    options, stem = AugmentOptions(eq=1.0, eq_db=(-9.0, 3.0)), noise(5)
    stem[1] = stem[0]
    found = []
    for seed in range(12):
        changed = augment.equalise(stem, RATE, rng(seed), options)
        np.testing.assert_array_equal(changed[0], changed[1])
        assert changed.shape == stem.shape
        assert changed.dtype == np.float32
        found.append([measure_gain_db(stem, changed, hz) for hz in augment.EQ_HZ[1:6]])
    assert -9.5 < np.min(found) < -5
    assert 0 < np.max(found) < 3.5


def test_an_equaliser_with_gains_of_zero_changes_nothing() -> None:
    stem = noise(6)
    flat = augment.equalise(stem, RATE, rng(), AugmentOptions(eq=1.0, eq_db=(0.0, 0.0)))
    np.testing.assert_allclose(flat, stem, atol=1e-6)


# Changes of the mixture


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 999),
    samples=st.integers(1, 3_000),
    step=st.integers(1, 200),
    share=st.floats(0.01, 1.5),
)
def test_a_limiter_never_lets_a_peak_through(seed: int, samples: int, step: int, share: float) -> None:
    peaks = np.abs(noise(seed, samples, channels=1)[0])
    ceiling = float(peaks.max()) * share
    gain = augment.compute_limiter_gain(peaks, ceiling, step)
    assert gain.shape == peaks.shape
    assert gain.dtype == np.float32
    assert gain.min() > 0
    assert gain.max() <= 1
    assert (gain * peaks).max() <= ceiling * (1 + 1e-6)
    assert np.abs(np.diff(gain)).max(initial=0) <= 1 / (8 * step) + 1e-6  # no jump
    if share >= 1:
        assert (gain == 1).all()


def test_a_limiter_leaves_samples_far_from_a_peak_alone() -> None:
    peaks = np.full(4_000, 0.1)
    peaks[2_000] = 1.0
    gain = augment.compute_limiter_gain(peaks, 0.5, 10)
    assert gain[2_000] <= 0.5
    assert (gain[:1_800] == 1).all()
    assert (gain[2_200:] == 1).all()


def test_both_stems_get_the_gain_that_limits_the_mixture() -> None:
    vocals, accompaniment = noise(7), noise(8, level=0.2)
    options = AugmentOptions(limiter=1.0, limiter_db=(4.0, 4.0), limiter_seconds=(0.005, 0.005))
    changed = augment.master(vocals, accompaniment, RATE, rng(), options)
    mixture = vocals + accompaniment
    peaks = np.abs(mixture).max(axis=0)
    gain = augment.compute_limiter_gain(peaks, float(peaks.max()) * 10 ** (-4 / 20), round(0.005 * RATE / 8))
    np.testing.assert_allclose(changed[0] + changed[1], mixture * gain, atol=1e-6)
    np.testing.assert_allclose(changed[0], vocals * gain, atol=1e-6)
    now = np.abs(changed[0] + changed[1]).max()
    assert 20 * np.log10(now / np.abs(mixture).max()) <= -4 + 1e-4
    assert gain.max() > gain.min()


def test_a_low_pass_filters_both_stems_alike() -> None:
    vocals, accompaniment = noise(9), noise(10)
    options = AugmentOptions(band_limit=1.0, band_limit_hz=(4_000.0, 4_000.0))
    changed = augment.master(vocals, accompaniment, RATE, rng(), options)
    for stem, after in zip((vocals, accompaniment), changed, strict=True):
        assert measure_gain_db(stem, after, 2_000) == pytest.approx(0, abs=0.1)
        assert measure_gain_db(stem, after, 6_500) < -40
    whole = augment.low_pass(vocals + accompaniment, RATE, 4_000)
    np.testing.assert_allclose(changed[0] + changed[1], whole, atol=1e-6)


def test_a_low_pass_beyond_the_highest_frequency_changes_nothing() -> None:
    stem = noise(11)
    np.testing.assert_allclose(augment.low_pass(stem, RATE, 8_000), stem, atol=1e-6)


# All changes together


ALL = AugmentOptions(pitch=0.7, tempo=0.7, eq=0.7, limiter=0.7, band_limit=0.7)


def apply_all(vocals: np.ndarray, accompaniment: np.ndarray, seed: int) -> list[np.ndarray]:
    source = rng(seed)
    change = augment.draw_change(ALL, source)
    vocals = change.apply(vocals, 4_000, RATE)
    accompaniment = change.apply(accompaniment, 4_000, RATE)
    vocals = augment.equalise(vocals, RATE, source, ALL)
    return list(augment.master(vocals, accompaniment, RATE, source, ALL))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 999))
def test_all_changes_depend_on_the_generator_alone_and_keep_their_inputs(seed: int) -> None:
    vocals, accompaniment = noise(12), noise(13)
    before = vocals.copy(), accompaniment.copy()
    one, two = apply_all(vocals, accompaniment, seed), apply_all(vocals, accompaniment, seed)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)
        assert first.dtype == np.float32
        assert first.shape == (2, 4_000)
    np.testing.assert_array_equal(vocals, before[0])
    np.testing.assert_array_equal(accompaniment, before[1])


@pytest.mark.parametrize("channels", [1, 2])
def test_silence_stays_silence(channels: int) -> None:
    zeros = np.zeros((channels, 20_000), np.float32)
    for seed in range(3):
        assert not any(stem.any() for stem in apply_all(zeros, zeros, seed))


@pytest.mark.parametrize(
    "values",
    [
        {"pitch": 1.1},
        {"tempo": -0.1},
        {"reverb": 2.0},
        {"reverb_seconds": (0.0, 1.0)},
        {"reverb_db": (-90.0, 0.0)},
        {"compressor": 1.1},
        {"compressor_db": (-1.0, 10.0)},
        {"double": -0.1},
        {"double_db": (-10.0, 1.0)},
        {"echo": 1.1},
        {"echo_db": (-10.0, 0.0)},
        {"echo_seconds": (0.0, 0.5)},
        {"eq": 2.0},
        {"limiter": -1.0},
        {"band_limit": 1.5},
        {"pitch_semitones": (2.0, -2.0)},
        {"pitch_semitones": (-20.0, 0.0)},
        {"tempo_ratio": (0.0, 1.0)},
        {"eq_db": (3.0, 1.0)},
        {"limiter_db": (-1.0, 1.0)},
        {"limiter_seconds": (0.0, 1.0)},
        {"band_limit_hz": (0.0, 1_000.0)},
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        replace(OFF, **values)
