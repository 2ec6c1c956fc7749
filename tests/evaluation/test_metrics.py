from __future__ import annotations

import fake_nets
import numpy as np
import pytest
import reference_bsseval
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep.evaluation.metrics import framewise_sdr, gain_ratios, sdr, si_sdr, to_decibels
from vocalsep.shapes import Waveform

RATE = 1_000


def make_noise_at(reference: Waveform, snr_db: float, seed: int = 1) -> Waveform:
    """Make noise that lies `snr_db` below the reference in every window of one second."""
    noise = np.random.default_rng(seed).standard_normal(reference.shape)
    for start in range(0, reference.shape[-1], RATE):
        window = slice(start, start + RATE)
        wanted = np.linalg.norm(reference[:, window]) * 10 ** (-snr_db / 20)
        noise[:, window] *= wanted / np.linalg.norm(noise[:, window])
    return noise


@settings(deadline=None, max_examples=25)
@given(snr_db=st.floats(-60, 100), channels=st.integers(1, 3), windows=st.integers(1, 4))
def test_noise_of_a_known_level_scores_that_level(snr_db: float, channels: int, windows: int) -> None:
    reference = fake_nets.noise(channels, windows * RATE).astype(np.float64)
    estimate = reference + make_noise_at(reference, snr_db)
    scores = framewise_sdr(reference, estimate, RATE)
    np.testing.assert_allclose(scores, np.full(windows, snr_db), rtol=0, atol=1e-6)
    assert sdr(reference, estimate) == pytest.approx(snr_db, abs=1e-6)


def test_an_estimate_at_half_the_level_scores_6_db_and_pure_noise_below_0() -> None:
    reference = fake_nets.noise(2, 3 * RATE)
    assert framewise_sdr(reference, reference / 2, RATE).tolist() == pytest.approx([20 * np.log10(2)] * 3)
    assert sdr(reference, reference / 2) == pytest.approx(20 * np.log10(2))
    assert sdr(reference, -reference) == pytest.approx(-20 * np.log10(2))
    assert framewise_sdr(reference, fake_nets.noise(2, 3 * RATE, seed=5), RATE).max() < 0


def test_a_perfect_estimate_scores_infinity() -> None:
    reference = fake_nets.noise(1, 2 * RATE)
    assert framewise_sdr(reference, reference.copy(), RATE).tolist() == [np.inf] * 2
    assert sdr(reference, reference.copy()) == np.inf


def test_windows_are_scored_independently() -> None:
    reference = fake_nets.noise(2, 3 * RATE)
    estimate = reference.copy()
    estimate[:, :RATE] *= 0.9
    estimate[:, RATE : 2 * RATE] *= 0.99
    estimate[:, 2 * RATE :] *= 0.999
    assert framewise_sdr(reference, estimate, RATE).tolist() == pytest.approx([20, 40, 60], abs=1e-2)


@pytest.mark.parametrize(
    ("samples", "windows"), [(1, 1), (999, 1), (1_000, 1), (1_999, 1), (2_000, 2), (2_001, 2), (5_500, 5)]
)
def test_a_shorter_last_window_is_left_out_unless_it_is_the_only_one(samples: int, windows: int) -> None:
    reference = fake_nets.noise(2, samples)
    scores = framewise_sdr(reference, 0.5 * reference, RATE)
    assert scores.shape == (windows,)
    assert scores.dtype == np.float64
    estimate = reference / 2
    if samples > RATE:
        estimate[:, windows * RATE :] = 100.0
    np.testing.assert_array_equal(framewise_sdr(reference, estimate, RATE), scores)


@pytest.mark.parametrize("seconds", [0.25, 0.5, 2.0])
def test_the_window_is_given_in_seconds(seconds: float) -> None:
    reference = fake_nets.noise(1, 4 * RATE)
    assert framewise_sdr(reference, reference / 2, RATE, window_seconds=seconds).shape == (4 / seconds,)


def test_windows_with_a_silent_reference_or_estimate_are_nan() -> None:
    reference, estimate = fake_nets.noise(2, 4 * RATE), fake_nets.noise(2, 4 * RATE, seed=1)
    reference[:, :RATE] = 0
    estimate[:, RATE : 2 * RATE] = 0
    reference[0, 2 * RATE : 3 * RATE] = 0  # a single silent channel is not silence
    assert np.isnan(framewise_sdr(reference, estimate, RATE)).tolist() == [True, True, False, False]


def test_inputs_are_not_changed() -> None:
    reference, estimate = fake_nets.noise(1, 2 * RATE), fake_nets.noise(1, 2 * RATE, seed=1)
    before = reference.copy(), estimate.copy()
    framewise_sdr(reference, estimate, RATE)
    sdr(reference, estimate)
    np.testing.assert_array_equal(reference, before[0])
    np.testing.assert_array_equal(estimate, before[1])


def test_framewise_sdr_equals_museval() -> None:
    reference, other = fake_nets.noise(2, 3 * RATE + 400), fake_nets.noise(2, 3 * RATE + 400, seed=1)
    reference[:, RATE : 2 * RATE] = 0  # the singer pauses
    estimate = 0.8 * reference + 0.3 * other + fake_nets.noise(2, 3 * RATE + 400, seed=2, level=0.02)
    mixture = reference + other
    museval, *_ = reference_bsseval.score_version_4(
        np.stack([reference, other]),
        np.stack([estimate, mixture - estimate]),
        RATE,
        taps=16,  # taps do not affect SDR itself, only the parts it is split into
    )
    ours = framewise_sdr(reference, estimate, RATE)
    assert ours.shape == museval[0].shape
    np.testing.assert_allclose(ours, museval[0], atol=1e-3, equal_nan=True)
    assert np.isnan(ours).tolist() == [False, True, False]
    there = ~np.isnan(museval[1])  # museval scores no source where one of them is silent
    assert there.tolist() == [True, False, True]
    others = framewise_sdr(other, mixture - estimate, RATE)
    np.testing.assert_allclose(others[there], museval[1][there], atol=1e-3)


# whole songs


def test_a_silent_reference_has_no_score_and_a_silent_estimate_scores_0_or_none() -> None:
    reference, silence = fake_nets.noise(2, 500), np.zeros((2, 500), np.float32)
    assert np.isnan(sdr(silence, reference))
    assert np.isnan(sdr(silence, silence))
    assert np.isnan(si_sdr(silence, reference))
    assert sdr(reference, silence) == 0
    assert np.isnan(si_sdr(reference, silence))


def make_orthogonal(count: int, channels: int = 2, samples: int = 500) -> Waveform:
    """Make orthogonal signals of energy 1, ``(signal, channel, time)``."""
    flat = np.random.default_rng(3).standard_normal((channels * samples, count))
    return np.linalg.qr(flat).Q.T.reshape(count, channels, samples)


@settings(deadline=None, max_examples=25)
@given(gain=st.floats(0.1, 10), bleed=st.floats(0.01, 10), noise=st.floats(0.01, 10), channels=st.integers(1, 3))
def test_gain_only_ratios_follow_from_the_energies_of_the_parts(
    gain: float, bleed: float, noise: float, channels: int
) -> None:
    vocals, other, artifact = make_orthogonal(3, channels)
    made = gain * vocals + bleed * other + noise * artifact
    found = gain_ratios(np.stack([vocals, other]), made, 0)
    energies = np.array([gain, bleed, noise]) ** 2
    assert found.sdr == pytest.approx(float(to_decibels(energies[0], energies[1] + energies[2])), abs=1e-6)
    assert found.sir == pytest.approx(float(to_decibels(energies[0], energies[1])), abs=1e-6)
    assert found.sar == pytest.approx(float(to_decibels(energies[0] + energies[1], energies[2])), abs=1e-6)
    assert si_sdr(vocals, made) == pytest.approx(found.sdr, abs=1e-6)
    swapped = gain_ratios(np.stack([other, vocals]), made, 1)
    assert tuple(swapped) == pytest.approx(tuple(found), abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(gain=st.floats(1e-3, 1e3), sign=st.sampled_from([-1, 1]))
def test_scale_invariant_sdr_ignores_level_and_sign(gain: float, sign: int) -> None:
    reference, estimate = fake_nets.noise(2, 400).astype(np.float64), fake_nets.noise(2, 400, seed=1).astype(np.float64)
    made = reference + 0.3 * estimate
    assert si_sdr(reference, sign * gain * made) == pytest.approx(si_sdr(reference, made), abs=1e-6)


def test_correlated_sources_are_split_correctly() -> None:
    vocals, other, artifact = make_orthogonal(3)
    leaning = other + 0.5 * vocals  # correlated with the vocals
    found = gain_ratios(np.stack([vocals, leaning]), vocals + leaning + 0.1 * artifact, 0)
    own, every = 1.5**2, 1.5**2 + 1
    assert found.sir == pytest.approx(10 * np.log10(own / 1), abs=1e-6)
    assert found.sar == pytest.approx(10 * np.log10(every / 0.01), abs=1e-6)
    assert found.sdr == pytest.approx(10 * np.log10(own / 1.01), abs=1e-6)


def test_a_mixture_has_no_artifacts() -> None:
    """The paper of the deep recurrent network reports such scores: SDR equals SIR, and SAR is impossibly high."""
    vocals, other = fake_nets.noise(1, 500), fake_nets.noise(1, 500, seed=1)
    found = gain_ratios(np.stack([vocals, other]), vocals.astype(np.float64) + other, 0)
    assert found.sdr == pytest.approx(found.sir, abs=1e-6)
    assert found.sar > 200


@pytest.mark.parametrize("silent", ["vocals", "other", "estimate"])
def test_gain_only_ratios_of_silence_are_nan(silent: str) -> None:
    parts = {name: fake_nets.noise(1, 100, seed) for seed, name in enumerate(("vocals", "other", "estimate"))}
    parts[silent] = np.zeros((1, 100), np.float32)
    found = gain_ratios(np.stack([parts["vocals"], parts["other"]]), parts["estimate"], 0)
    assert np.isnan(found).all()


def test_whole_song_scores_leave_their_inputs_alone() -> None:
    references, estimate = np.stack([fake_nets.noise(1, 50), fake_nets.noise(1, 50, 1)]), fake_nets.noise(1, 50, 2)
    before = references.copy(), estimate.copy()
    gain_ratios(references, estimate, 0)
    si_sdr(references[0], estimate)
    np.testing.assert_array_equal(references, before[0])
    np.testing.assert_array_equal(estimate, before[1])
