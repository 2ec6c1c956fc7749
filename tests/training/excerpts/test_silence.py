from __future__ import annotations

import numpy as np
import pytest

from vocalsep.training.excerpts import silence


def sine(hz: float, samples: int, level: float = 0.5) -> np.ndarray:
    wave = level * np.sin(2 * np.pi * hz * np.arange(samples) / 16_000)
    return np.stack([wave, 0.5 * wave]).astype(np.float32)


def make_phrases() -> tuple[np.ndarray, np.ndarray]:
    """Make a tone with two pauses, and another tone without pauses as its accompaniment."""
    vocals, accompaniment = sine(440, 30_000), sine(310, 30_000, level=0.3)
    for start, end in ((8_000, 14_000), (20_000, 22_500)):
        vocals[:, start:end] = 0
    return vocals, accompaniment


def test_frames_are_silent_relative_to_the_loudest() -> None:
    vocals, _ = make_phrases()
    vocals[:, 25_000:] *= 1e-4
    frames = silence.find_sung_frames(vocals, 500, -60.0)
    assert frames.tolist() == [*range(16), *range(28, 40), *range(45, 50)]
    assert silence.find_sung_frames(vocals, 500, -100.0).tolist() == [*range(16), *range(28, 40), *range(45, 60)]
    assert silence.find_sung_frames(np.zeros((2, 5_000)), 500, -60.0).size == 0
    assert silence.find_sung_frames(vocals[:, :100], 500, -60.0).size == 0


def test_measuring_in_sections_finds_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    vocals, _ = make_phrases()
    whole = silence.find_sung_frames(vocals, 500, -60.0)
    monkeypatch.setattr(silence, "_SECTION", 7)
    np.testing.assert_array_equal(silence.find_sung_frames(vocals, 500, -60.0), whole)


def test_the_cut_removes_pauses_from_both_stems_without_clicks() -> None:
    vocals, accompaniment = make_phrases()
    before = vocals.copy(), accompaniment.copy()
    frames = silence.find_sung_frames(vocals, 500, -60.0)
    cut = [silence.join_frames(stem, frames, 500, 160) for stem in (vocals, accompaniment)]
    for stem, original in zip(cut, before, strict=True):
        assert stem.shape == (2, 21_500)
        assert stem.dtype == np.float32
        steepest = np.abs(np.diff(original[:, :8_000])).max()
        joins = [8_000, 14_000]
        for join in joins:
            assert np.abs(np.diff(stem[:, join - 50 : join + 250])).max() < 1.6 * steepest
        np.testing.assert_array_equal(stem[:, :8_000], original[:, :8_000])
        np.testing.assert_array_equal(stem[:, 8_160:14_000], original[:, 14_160:20_000])
        np.testing.assert_array_equal(stem[:, 14_160:], original[:, 22_660:])
    mixture = silence.join_frames(vocals + accompaniment, frames, 500, 160)
    np.testing.assert_allclose(cut[0] + cut[1], mixture, atol=1e-6)
    power = np.square(cut[0][0]).reshape(-1, 500).mean(axis=1)
    assert power.min() > 0.5 * power.max()  # no pause is left
    np.testing.assert_array_equal(vocals, before[0])
    np.testing.assert_array_equal(accompaniment, before[1])


def test_neighbouring_frames_are_joined_unchanged() -> None:
    stem = np.random.default_rng(14).standard_normal((2, 5_000)).astype(np.float32)
    np.testing.assert_array_equal(silence.join_frames(stem, np.arange(3, 9), 500, 80), stem[:, 1_500:4_500])
