from __future__ import annotations

import json
import zipfile
from pathlib import Path

import fake_nets
import numpy as np
import pytest

from vocalsep import audio
from vocalsep.evaluation import passages
from vocalsep.evaluation.passages import Collector, Passage, Store, choose, match_levels, measure_loudness
from vocalsep.evaluation.songs import Song

RATE = 1_000  # of songs in which passages are only chosen


def make_silence(seconds: float) -> np.ndarray:
    return np.zeros((1, round(seconds * RATE)), np.float32)


def find(sdr: list[float], seconds: float | None = None) -> dict[str, float]:
    """Return where the passages of a song start, in seconds."""
    chosen = choose(np.array(sdr), make_silence(seconds or len(sdr)), RATE)
    assert all(passage.stop - passage.start == 10 * RATE for passage in chosen)
    return {passage.kind: passage.start / RATE for passage in chosen}


def make_song(seconds: float = 2.0, rate: int = 8_000, channels: int = 1) -> Song:
    return Song(np.stack([fake_nets.noise(channels, round(seconds * rate), seed) / 8 for seed in (1, 2)]), rate)


def collect(store: Store, song: Song, estimates: dict[str, np.ndarray]) -> None:
    collector = Collector(store, song, lambda: song.vocals * 0.9)
    for fingerprint, vocals in estimates.items():
        if collector.needs(fingerprint):
            collector.add(fingerprint, vocals)


def read_stem(path: Path, name: str, folder: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as bundle:
        (folder / "stem.opus").write_bytes(bundle.read(name))
    return audio.read(folder / "stem.opus")[0]


# choosing


def test_the_worst_the_median_and_the_best_ten_seconds_are_found() -> None:
    levels = [5.0] * 100
    levels[20:30] = [-3.0] * 10
    levels[70:80] = [12.0] * 10
    starts = find(levels)
    assert (starts["worst"], starts["best"]) == (20, 70)
    assert all(abs(starts["median"] - other) >= 5 for other in (20, 70))
    assert set(levels[int(starts["median"]) : int(starts["median"]) + 10]) == {5.0}


def test_passages_overlap_by_at_most_half() -> None:
    starts = sorted(find(list(np.arange(21.0))).values())
    assert starts == [0, 5, 11]
    assert find(list(np.arange(12.0))) == {"worst": 0}


def test_seconds_in_which_nobody_sings_do_not_count() -> None:
    levels = [np.nan] * 40
    levels[3] = -20.0  # a breath does not make a passage
    levels[20:30] = [4.0] * 10
    assert find(levels)["worst"] == pytest.approx(20, abs=5)
    assert all(start >= 10 for start in find(levels).values())


def test_a_song_with_a_single_word_has_a_passage_around_it() -> None:
    levels = [np.nan] * 40
    levels[25] = 3.0
    starts = find(levels)
    assert all(start <= 25 < start + 10 for start in starts.values())


def test_without_a_voice_the_loudest_passage_of_the_estimate_is_chosen() -> None:
    estimate = make_silence(30)
    estimate[:, 17 * RATE : 18 * RATE] = 0.1
    estimate[:, 24 * RATE : 25 * RATE] = 0.1
    (passage,) = choose(np.full(30, np.nan), estimate, RATE)
    assert passage.kind == "loudest"
    assert passage.start <= 17 * RATE
    assert passage.stop >= 25 * RATE


@pytest.mark.parametrize("seconds", [0.004, 3.0, 10.0])
def test_a_short_song_is_one_passage(seconds: float) -> None:
    song = make_silence(seconds)
    assert choose(np.full(1, np.nan), song, RATE) == [Passage("whole", 0, song.shape[1])]


def test_perfect_and_infinite_scores_do_no_harm() -> None:
    levels = [np.inf] * 30 + [2.0] * 30
    starts = find(levels)
    assert starts["best"] <= 25
    assert starts["worst"] >= 25


# levels


def test_loudness_is_that_of_the_recommendation() -> None:
    """ITU-R BS.1770-4: a sine of 997 Hz at full scale in one channel has -3.01 LKFS."""
    sine = np.sin(2 * np.pi * 997 * np.arange(480_000) / 48_000)[None]
    assert measure_loudness(sine) == pytest.approx(-3.01, abs=0.02)
    assert measure_loudness(np.concatenate([sine, sine])) == pytest.approx(0.0, abs=0.02)
    assert measure_loudness(sine / 10) == pytest.approx(-23.01, abs=0.02)
    assert measure_loudness(np.zeros((2, 100))) == -np.inf
    hum = np.sin(2 * np.pi * 30 * np.arange(480_000) / 48_000)[None]
    assert measure_loudness(hum) < -10


def test_sources_are_as_loud_as_the_reference() -> None:
    reference = {"loudness": [-20.0, -30.0], "peak": [-10.0, -15.0]}
    estimate = {"loudness": [-22.0, -29.0], "peak": [-9.0, -12.0]}
    assert match_levels(reference, [reference, estimate]) == [[0, 0], [2, -1]]


def test_no_source_exceeds_full_scale_and_all_keep_the_same_loudness() -> None:
    reference = {"loudness": [-20.0], "peak": [-6.0]}
    error = {"loudness": [-35.0], "peak": [-12.0]}
    assert match_levels(reference, [reference, error]) == [[-3], [12]]


def test_silence_is_not_raised() -> None:
    reference = {"loudness": [-20.0, None], "peak": [-6.0, None]}
    silent = {"loudness": [None, -40.0], "peak": [None, -30.0]}
    faint = {"loudness": [-80.0, -50.0], "peak": [-70.0, -40.0]}
    assert match_levels(reference, [silent, faint]) == [[0, 0], [24, 0]]


# collecting


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_what_is_kept_is_the_sound_of_the_passages(tmp_path: Path, channels: int) -> None:
    song, store = make_song(24.0, channels=channels), Store(tmp_path, "song")
    made = song.vocals.copy()
    made[:, 10 * 8_000 : 20 * 8_000] += song.references[1, :, 10 * 8_000 : 20 * 8_000] * 0.5
    collect(store, song, {"one": made})
    chosen = store.read_passages("one")
    assert chosen is not None
    assert (chosen[0].kind, chosen[0].start, chosen[0].stop) == ("worst", 80_000, 160_000)
    path = store.locate_estimate("one", chosen)
    about = passages.read_about(path)
    assert about["sdr"][0] == pytest.approx(6, abs=0.2)
    assert about["frames"][0] == 60  # no error at all
    assert len(about["frames"]) == 24
    expected = song.references[1, :, 80_000:160_000] * 0.5
    found = audio.resample(read_stem(path, "error/0.opus", tmp_path)[:, :480_000], 48_000, 8_000)
    assert found.shape == (channels, 80_000)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.8
    song_about = passages.read_about(store.locate_song("one"))
    assert song_about["grid"]["samples"] == len(chosen) * 480_000
    assert len(song_about["waveform"]["mixture"]) == 800
    assert song_about["frames"]["ceiling"][0] == pytest.approx(20, abs=0.1)


def test_the_first_estimate_chooses_for_all(tmp_path: Path) -> None:
    song, store = make_song(), Store(tmp_path, "song")
    collect(store, song, {"one": song.mixture, "two": song.vocals / 2})
    assert store.is_complete(["one", "two"])
    assert not store.is_complete(["two", "one"])
    assert not store.is_complete(["one", "three"])
    assert store.read_passages("two") is None
    assert Store(tmp_path, "other").read_passages("one") is None


def test_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    song, store = make_song(), Store(tmp_path, "song")
    collect(store, song, {"one": song.mixture})
    collector = Collector(store, song, lambda: song.vocals)
    assert not collector.needs("one")
    assert collector.needs("two")


def test_a_silent_reference_has_no_scores_and_plain_json(tmp_path: Path) -> None:
    song = Song(np.stack([np.zeros((1, 16_000), np.float32), fake_nets.noise(1, 16_000)]), 8_000)
    store = Store(tmp_path, "song")
    collect(store, song, {"one": song.mixture / 3})
    chosen = store.read_passages("one")
    assert chosen is not None
    about = passages.read_about(store.locate_estimate("one", chosen))
    assert about["frames"] == [None, None]
    assert about["sdr"] == [None]
    with zipfile.ZipFile(store.locate_song("one")) as bundle:
        text = bundle.read("song.json").decode()
    assert json.loads(text)["levels"]["reference"] == {"loudness": [None], "peak": [None]}
    assert "NaN" not in text


def test_the_parts_of_songs_with_the_same_start_are_kept_apart(tmp_path: Path) -> None:
    names = {Store(tmp_path, track).locate_song("f") for track in ("a", "b", "caf\udce9")}
    assert len(names) == 3


def test_noise_where_nobody_sings_is_not_the_worst_passage(tmp_path: Path) -> None:
    song, store = make_song(30.0), Store(tmp_path, "song")
    song.vocals[:, 12 * 8_000 :] *= 1e-4
    collect(store, song, {"one": song.vocals + song.references[1] * 0.3})
    chosen = store.read_passages("one")
    assert chosen is not None
    assert all(passage.start < 8 * 8_000 for passage in chosen)
    assert passages.read_about(store.locate_estimate("one", chosen))["frames"][12:] == [None] * 18
