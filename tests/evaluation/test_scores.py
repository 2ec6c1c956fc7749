from __future__ import annotations

import fake_nets
import numpy as np
import pytest
from fake_songs import make_noise_song

from vocalsep.evaluation import metrics
from vocalsep.evaluation.scores import SCORES, TARGETS, Scorer
from vocalsep.evaluation.songs import Song
from vocalsep.extraction import Parts


def test_both_targets_have_every_score() -> None:
    song = make_noise_song()
    found = Scorer(song)(Parts(0.9 * song.vocals, song.mixture - 0.9 * song.vocals))
    assert tuple(found) == TARGETS
    for scores in found.values():
        assert tuple(scores) == tuple(SCORES)
        assert None not in scores.values()


def test_scores_equal_the_metrics_they_are_named_after() -> None:
    song = make_noise_song(channels=2)
    made = song.vocals + 0.3 * fake_nets.noise(2, 20_000, seed=4)
    found = Scorer(song)(Parts(made, song.mixture - made))["vocals"]
    frames = metrics.framewise_sdr(song.vocals, made, song.rate)
    gain = metrics.gain_ratios(song.references, made, 0)
    assert found["v4_sdr"] == pytest.approx(np.median(frames), abs=1e-4)
    assert found["v4_sdr_frame_mean"] == pytest.approx(frames.mean(), abs=1e-4)
    assert found["song_sdr"] == pytest.approx(metrics.sdr(song.vocals, made), abs=1e-4)
    assert found["si_sdr"] == found["gain_sdr"] == pytest.approx(gain.sdr, abs=1e-4)
    assert (found["gain_sir"], found["gain_sar"]) == pytest.approx(gain[1:], abs=1e-4)
    floor = metrics.gain_ratios(song.references, song.mixture, 0).sdr
    assert found["gain_nsdr"] == pytest.approx(gain.sdr - floor, abs=2e-4)


def test_the_mixture_has_no_improvement_over_itself() -> None:
    song = make_noise_song()
    for scores in Scorer(song)(Parts(song.mixture, song.mixture)).values():
        assert scores["gain_nsdr"] == scores["v3_nsdr"] == 0


def test_the_median_of_two_frames_is_their_mean_as_in_museval() -> None:
    song = make_noise_song(samples=16_000)
    made = song.vocals.copy()
    made[:, :8_000] *= 0.9
    made[:, 8_000:] *= 0.99
    assert Scorer(song)(Parts(made, song.mixture - made))["vocals"]["v4_sdr"] == pytest.approx(30, abs=1e-3)


def test_infinite_scores_are_limited_to_300_db() -> None:
    song = make_noise_song()
    found = Scorer(song)(Parts(song.vocals, song.references[1]))["vocals"]
    assert found["song_sdr"] == found["v4_sdr"] == 300


def make_song_with_silence(name: str) -> tuple[Song, Parts]:
    song = make_noise_song()
    parts = {"vocals": song.vocals, "accompaniment": song.references[1], "estimate": 0.5 * song.vocals}
    parts[name] = np.zeros_like(parts[name])
    song = Song(np.stack([parts["vocals"], parts["accompaniment"]]), song.rate)
    return song, Parts(parts["estimate"], song.mixture - parts["estimate"])


def find_missing(scores: dict[str, float | None]) -> set[str]:
    return {name for name, value in scores.items() if value is None}


FILTERED = {name for name in SCORES if name.startswith(("v3", "v4"))}


GAIN = {name for name in SCORES if name.startswith("gain")}


def test_a_song_without_vocals_has_only_plain_scores_of_the_accompaniment() -> None:
    song, parts = make_song_with_silence("vocals")
    found = Scorer(song)(parts)
    assert find_missing(found["vocals"]) == set(SCORES)
    assert find_missing(found["accompaniment"]) == FILTERED | GAIN


def test_a_song_without_accompaniment_has_only_plain_scores_of_the_vocals() -> None:
    song, parts = make_song_with_silence("accompaniment")
    found = Scorer(song)(parts)
    assert find_missing(found["vocals"]) == FILTERED | GAIN
    assert find_missing(found["accompaniment"]) == set(SCORES)


def test_a_silent_estimate_of_vocals_scores_0_sdr_and_has_no_other_score() -> None:
    song, parts = make_song_with_silence("estimate")
    found = Scorer(song)(parts)
    assert found["vocals"]["song_sdr"] == 0
    assert find_missing(found["vocals"]) == set(SCORES) - {"song_sdr"}
    assert find_missing(found["accompaniment"]) == FILTERED
