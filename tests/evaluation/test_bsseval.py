from __future__ import annotations

import fake_nets
import numpy as np
import pytest
import reference_bsseval
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep.evaluation.bsseval import BssEval, Ratios
from vocalsep.evaluation.metrics import framewise_sdr, gain_ratios, sdr
from vocalsep.shapes import Waveform

TAPS = 16
WINDOW = 1_000


def make_separate_noises(channels: int = 2, part: int = 200, gap: int = TAPS) -> Waveform:
    """Make four noises that follow each other, too far apart for the filters: ``(4, channel, 4 * (part + gap))``."""
    signals = np.zeros((4, channels, 4 * (part + gap)))
    for index, signal in enumerate(signals):
        start = index * (part + gap)
        signal[:, start : start + part] = fake_nets.noise(channels, part, seed=index)
    return signals


def energy(signal: Waveform) -> float:
    return float(np.square(signal).sum())


def db(signal: float, error: float) -> float:
    return 10 * np.log10(signal / error)


def score_as_one_frame(references: Waveform, estimates: Waveform, taps: int = TAPS) -> tuple[Ratios, Ratios]:
    """Score with a single frame, and drop its axis."""
    frames, version_3 = BssEval(references, window=references.shape[-1], taps=taps)(estimates)
    return Ratios(*(score[:, 0] for score in frames)), version_3


# truth: signals with known parts


@settings(deadline=None, max_examples=20)
@given(
    channels=st.integers(1, 2), bleed=st.floats(0.01, 3.0), noise=st.floats(0.01, 3.0), taps=st.sampled_from([1, 7, 16])
)
def test_bleeding_and_noise_of_known_energy_have_known_scores(
    channels: int, bleed: float, noise: float, taps: int
) -> None:
    vocals, other, artifact, more = make_separate_noises(channels)
    references = np.stack([vocals, other])
    estimates = np.stack([vocals + bleed * other + noise * artifact, other + more])
    version_4, version_3 = score_as_one_frame(references, estimates, taps)
    v, o, a = energy(vocals), bleed**2 * energy(other), noise**2 * energy(artifact)
    for ratios in (version_4, version_3):
        assert float(ratios.sdr[0]) == pytest.approx(db(v, o + a), abs=1e-6)
        assert float(ratios.sir[0]) == pytest.approx(db(v, o), abs=1e-6)
        assert float(ratios.sar[0]) == pytest.approx(db(v + o, a), abs=1e-6)
    assert float(version_4.isr[0]) > 200
    assert float(version_3.sdr[1]) == pytest.approx(db(energy(other), energy(more)), abs=1e-6)
    assert np.isnan(version_3.isr).all()


@pytest.mark.parametrize("gain", [0.5, -1.0, 3.0])
def test_version_4_counts_a_gain_as_an_error_and_version_3_does_not(gain: float) -> None:
    vocals, other, artifact, _ = make_separate_noises()
    references = np.stack([vocals, other])
    version_4, version_3 = score_as_one_frame(references, np.stack([gain * vocals + artifact, other]))
    v, a = energy(vocals), energy(artifact)
    assert float(version_4.sdr[0]) == pytest.approx(db(v, (gain - 1) ** 2 * v + a), abs=1e-6)
    assert float(version_4.isr[0]) == pytest.approx(db(1, (gain - 1) ** 2), abs=1e-6)
    assert float(version_3.sdr[0]) == pytest.approx(db(gain**2 * v, a), abs=1e-6)
    assert float(version_3.sar[0]) == float(version_4.sar[0]) == pytest.approx(db(gain**2 * v, a), abs=1e-6)


def test_version_3_ignores_a_delay_within_the_filters_but_not_beyond() -> None:
    vocals, other, *_ = make_separate_noises(part=2_000)
    references = np.stack([vocals, other])
    near, far = (np.roll(vocals, shift, axis=-1) for shift in (TAPS - 1, TAPS))
    assert float(score_as_one_frame(references, np.stack([near, other]))[1].sdr[0]) > 150
    assert float(score_as_one_frame(references, np.stack([far, other]))[1].sdr[0]) < 0
    assert float(score_as_one_frame(references, np.stack([near, other]))[0].sdr[0]) < 0
    assert float(score_as_one_frame(references, np.stack([near, other]))[0].isr[0]) < 0


def test_channels_may_be_swapped_for_version_3() -> None:
    vocals, other, *_ = make_separate_noises()
    references = np.stack([vocals, other])
    version_4, version_3 = score_as_one_frame(references, np.stack([np.flip(vocals, 0), other]))
    assert float(version_3.sdr[0]) > 150
    assert float(version_4.isr[0]) < 0


# laws


def make_scene(channels: int = 2, samples: int = 4_321) -> tuple[Waveform, Waveform]:
    """Make references, and estimates with every kind of error."""
    vocals, other = fake_nets.noise(channels, samples), fake_nets.noise(channels, samples, seed=1)
    made = 0.8 * vocals + 0.3 * np.roll(vocals, 3, -1) + 0.2 * other + fake_nets.noise(channels, samples, 2, level=0.02)
    return np.stack([vocals, other]), np.stack([made, vocals + other - made])


def test_sdr_of_version_4_equals_framewise_sdr() -> None:
    references, estimates = make_scene()
    frames, _ = BssEval(references, WINDOW, TAPS)(estimates)
    for source in range(2):
        expected = framewise_sdr(references[source], estimates[source], WINDOW)
        np.testing.assert_allclose(frames.sdr[source], expected, rtol=0, atol=1e-9)


def test_version_3_with_one_tap_of_mono_sources_is_the_gain_only_form() -> None:
    references, estimates = make_scene(channels=1)
    _, version_3 = score_as_one_frame(references, estimates, taps=1)
    for source in range(2):
        found = gain_ratios(references, estimates[source], source)
        assert tuple(found) == pytest.approx(
            (float(version_3.sdr[source]), float(version_3.sir[source]), float(version_3.sar[source])), abs=1e-6
        )


@pytest.mark.parametrize("window", [TAPS, 300, 1_000, 4_000])
def test_version_3_does_not_depend_on_the_frames(window: int) -> None:
    references, estimates = make_scene()
    _, expected = score_as_one_frame(references, estimates)
    _, found = BssEval(references, window, TAPS)(estimates)
    for have, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-8, equal_nan=True)


@settings(deadline=None, max_examples=10)
@given(level=st.floats(-80, 40))
def test_the_level_of_a_song_does_not_matter(level: float) -> None:
    references, estimates = make_scene()
    factor = 10 ** (level / 20)
    expected = BssEval(references.astype(np.float64), WINDOW, TAPS)(estimates.astype(np.float64))
    found = BssEval(factor * references.astype(np.float64), WINDOW, TAPS)(factor * estimates.astype(np.float64))
    for have, want in zip((*found[0], *found[1]), (*expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-6, equal_nan=True)


def test_one_scorer_scores_many_estimates_in_any_order() -> None:
    references, estimates = make_scene()
    scorer = BssEval(references, WINDOW, TAPS)
    first, other = scorer(estimates), scorer(references / 2 + estimates)
    assert not np.array_equal(first[0].sar, other[0].sar)
    np.testing.assert_array_equal(scorer(estimates)[0].sar, first[0].sar)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (5, 1), (999, 1), (1_000, 1), (1_999, 1), (2_000, 2)])
def test_a_shorter_last_frame_is_left_out_unless_it_is_the_only_one(samples: int, frames: int) -> None:
    references, estimates = make_scene(samples=samples)
    found, whole_song = BssEval(references, WINDOW, TAPS)(estimates)
    assert {score.shape for score in found} == {(2, frames)}
    assert {score.shape for score in whole_song} == {(2,)}
    assert {score.dtype for score in (*found, *whole_song)} == {np.dtype(np.float64)}
    assert np.isfinite(found.sdr).all()


def test_inputs_are_not_changed() -> None:
    references, estimates = make_scene()
    before = references.copy(), estimates.copy()
    BssEval(references, WINDOW, TAPS)(estimates)
    np.testing.assert_array_equal(references, before[0])
    np.testing.assert_array_equal(estimates, before[1])


def test_wrong_shapes_are_refused() -> None:
    references, estimates = make_scene()
    with pytest.raises(ValueError, match="expected at least 512"):
        BssEval(references, 511)
    with pytest.raises(ValueError, match=r"expected \(source, channel, time\)"):
        BssEval(references[0], WINDOW)
    with pytest.raises(ValueError, match="expected"):
        BssEval(references[..., :0], WINDOW)
    with pytest.raises(ValueError, match="estimates of shape"):
        BssEval(references, WINDOW, TAPS)(estimates[..., :-1])


# silence


@pytest.mark.parametrize("source", [0, 1])
@pytest.mark.parametrize("which", ["reference", "estimate"])
def test_frames_with_a_silent_signal_have_no_score_as_in_museval(source: int, which: str) -> None:
    references, estimates = make_scene()
    (references if which == "reference" else estimates)[source, :, WINDOW : 2 * WINDOW] = 0
    frames, version_3 = BssEval(references, WINDOW, TAPS)(estimates)
    for ours, museval in zip(
        frames, reference_bsseval.score_version_4(references, estimates, WINDOW, TAPS), strict=True
    ):
        assert np.isnan(ours).tolist() == [[False, True, False, False]] * 2
        np.testing.assert_allclose(ours, museval, atol=1e-6)
    assert np.isfinite(version_3.sdr).all()


def test_channels_that_cancel_count_as_silent_as_in_museval() -> None:
    references, estimates = make_scene()
    estimates[0, 1, :WINDOW] = -estimates[0, 0, :WINDOW]
    frames, _ = BssEval(references, WINDOW, TAPS)(estimates)
    assert np.isnan(frames.sdr[1]).tolist() == [True, False, False, False]
    np.testing.assert_array_equal(
        np.isnan(frames.sdr), np.isnan(reference_bsseval.score_version_4(references, estimates, WINDOW, TAPS)[0])
    )


@pytest.mark.parametrize("source", [0, 1])
@pytest.mark.parametrize("which", ["reference", "estimate"])
def test_a_song_with_a_silent_signal_has_no_score_at_all(source: int, which: str) -> None:
    references, estimates = make_scene()
    (references if which == "reference" else estimates)[source] = 0
    frames, version_3 = BssEval(references, WINDOW, TAPS)(estimates)
    assert frames.sar.shape == (2, 4)
    assert all(np.isnan(score).all() for score in (*frames, *version_3))


def test_silent_and_duplicate_channels_leave_scores_finite() -> None:
    references, estimates = make_scene()
    references[0, 1] = 0
    references[1, 1] = references[1, 0]
    for score in BssEval(references, WINDOW, TAPS)(estimates)[0]:
        assert np.isfinite(score).all()


def test_perfect_estimates_have_no_distortion() -> None:
    references, _ = make_scene()
    frames, version_3 = BssEval(references, WINDOW, TAPS)(references.copy())
    assert (frames.sdr == np.inf).all()
    assert min(float(score.min()) for score in (frames.isr, frames.sir, frames.sar, version_3.sdr)) > 150


# parity


def test_version_4_equals_museval_with_512_taps() -> None:
    references, estimates = make_scene(samples=4_500)
    frames, _ = BssEval(references, 2_000)(estimates)
    for ours, museval in zip(frames, reference_bsseval.score_version_4(references, estimates, 2_000), strict=True):
        np.testing.assert_allclose(ours, museval, atol=1e-6)


def test_version_3_equals_mir_eval() -> None:
    references, estimates = make_scene(channels=1, samples=6_000)
    _, version_3 = BssEval(references, 1_000)(estimates)
    ours = (version_3.sdr, version_3.sir, version_3.sar)
    for have, want in zip(ours, reference_bsseval.score_version_3(references, estimates), strict=True):
        np.testing.assert_allclose(have, want, atol=1e-6)


def test_version_3_of_several_channels_equals_museval() -> None:
    references, estimates = make_scene(channels=3)
    _, version_3 = BssEval(references, WINDOW, TAPS)(estimates)
    ours = (version_3.sdr, version_3.sir, version_3.sar)
    for have, want in zip(
        ours, reference_bsseval.score_version_3_of_channels(references, estimates, TAPS), strict=True
    ):
        np.testing.assert_allclose(have, want, atol=1e-6)


def test_sdr_of_version_4_over_a_single_frame_equals_that_of_the_whole_song() -> None:
    references, estimates = make_scene()
    frames, _ = score_as_one_frame(references, estimates)
    for source in range(2):
        assert float(frames.sdr[source]) == pytest.approx(sdr(references[source], estimates[source]), abs=1e-6)
