from __future__ import annotations

import numpy as np
import pytest
import synthetic_songs
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep.training.excerpts import keys

RATE = 16_000
SECONDS = 2


def tone(hz: float, seconds: float = SECONDS) -> np.ndarray:
    return synthetic_songs.make_tone(hz, seconds, RATE)


def semitones(ratio: float) -> float:
    return float(12 * np.log2(ratio))


CHORD = tone(220.0) + tone(277.18) + tone(329.63)  # A major


@pytest.mark.parametrize("off", [-2.0, -1.0, -1 / 3, 0.0, 1 / 3, 1.0, 2.0])
@pytest.mark.parametrize("octave", [0.5, 1.0, 2.0])
def test_a_tone_near_the_root_is_moved_onto_it(off: float, octave: float) -> None:
    voice = tone(220.0 * octave * 2 ** (off / 12))
    lone_root = tone(220.0)
    assert semitones(keys.find_matching_ratio(voice, lone_root, RATE)) == pytest.approx(-off, abs=0.34)


def test_a_melody_is_moved_into_the_chords_key() -> None:
    melody = np.concatenate([tone(hz * 2 ** (1 / 12), 0.7) for hz in (440.0, 554.37, 659.26)], axis=1)
    assert semitones(keys.find_matching_ratio(melody, CHORD, RATE)) == pytest.approx(-1, abs=0.34)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1_000), samples=st.integers(1, 20_000), rate=st.sampled_from([100, 8_000, 44_100]))
def test_the_ratio_is_within_three_semitones(seed: int, samples: int, rate: int) -> None:
    rng = np.random.default_rng(seed)
    voice, other = (rng.standard_normal((2, samples)).astype(np.float32) for _ in range(2))
    ratio = keys.find_matching_ratio(voice, other, rate)
    assert 2 ** (-3 / 12) - 1e-9 <= ratio <= 2 ** (3 / 12) + 1e-9


@pytest.mark.parametrize("silent", ["voice", "accompaniment", "both"])
def test_silence_is_not_moved(silent: str) -> None:
    nothing = np.zeros((2, 40_000), np.float32)
    voice = nothing if silent in ("voice", "both") else tone(233.08)
    accompaniment = nothing if silent in ("accompaniment", "both") else CHORD
    assert keys.find_matching_ratio(voice, accompaniment, RATE) == 1


def test_a_profile_peaks_at_the_pitch_class_of_the_tone_in_any_octave() -> None:
    profiles = [keys.compute_profile(tone(hz), RATE) for hz in (220.0, 440.0, 880.0)]
    assert all(one.shape == (keys.STEPS,) and (one >= 0).all() for one in profiles)
    assert len({int(one.argmax()) for one in profiles}) == 1
    fifth = keys.compute_profile(tone(220.0 * 1.4983), RATE)
    assert (fifth.argmax() - profiles[0].argmax()) % keys.STEPS == pytest.approx(7 * keys.STEPS / 12, abs=1)


def test_the_ratio_does_not_depend_on_levels() -> None:
    voice = tone(246.94)
    ratios = {keys.find_matching_ratio(voice * np.float32(gain), CHORD, RATE) for gain in (1e-3, 1.0, 100.0)}
    assert len(ratios) == 1
