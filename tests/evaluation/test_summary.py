from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep.datasets.tracks import Problem
from vocalsep.evaluation import report, summary
from vocalsep.evaluation.runs import Line
from vocalsep.evaluation.scores import SCORES, TARGETS
from vocalsep.evaluation.songs import set_up
from vocalsep.evaluation.summary import Statistics, compute_statistics, draw_resamples

SETUP = set_up("mir1k", Path(), snr_db=-5.0)


def make_line(row: str, track: str, value: float | None, seconds: float = 1.0, song: str = "") -> Line:
    scores = {target: dict.fromkeys(SCORES, value) for target in TARGETS}
    return {"row": row, "track": track, "song": song or track, "seconds": seconds, "fingerprint": "0", **scores}


def compute(values: list[float], seconds: list[float] | None = None, songs: list[str] | None = None) -> Statistics:
    counts = draw_resamples(songs or [str(index) for index in range(len(values))])
    return compute_statistics(np.array(values, dtype=float), np.array(seconds or [1.0] * len(values)), counts)


def test_statistics_are_median_mean_and_mean_weighted_by_length() -> None:
    found = compute([1.0, 2.0, 9.0, 4.0], [1.0, 1.0, 1.0, 5.0])
    assert (found.median, found.mean, found.weighted) == (3.0, 4.0, 4.0)
    assert compute([0.0, 10.0], [3.0, 1.0]).weighted == 2.5
    assert (found.tracks, found.without) == (4, 0)


def test_tracks_without_a_score_are_counted_and_left_out() -> None:
    found = compute([1.0, np.nan, 3.0], [1.0, 100.0, 1.0])
    assert (found.median, found.mean, found.weighted) == (2.0, 2.0, 2.0)
    assert (found.tracks, found.without) == (2, 1)
    nothing = compute([np.nan, np.nan])
    assert (nothing.median, nothing.mean, nothing.mean_interval, nothing.tracks) == (None, None, None, 0)


@settings(deadline=None, max_examples=30)
@given(values=st.lists(st.floats(-30, 30), min_size=2, max_size=20))
def test_intervals_contain_the_statistic_and_lie_within_the_values(values: list[float]) -> None:
    found = compute(values)
    for centre, interval in ((found.mean, found.mean_interval), (found.median, found.median_interval)):
        assert interval is not None
        assert centre is not None
        assert min(values) - 1e-4 <= interval[0] <= interval[1] <= max(values) + 1e-4
        assert interval[0] - 1e-4 <= centre <= interval[1] + 1e-4


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = compute(list(values))
    assert found.mean_interval is not None
    wide = 2 * 1.96 * values.std() / 20
    assert found.mean_interval[1] - found.mean_interval[0] == pytest.approx(wide, rel=0.1)


def test_medians_of_resamples_equal_those_of_repeated_values() -> None:
    rng = np.random.default_rng(1)
    values, counts = rng.normal(size=7), rng.multinomial(7, np.full(7, 1 / 7), size=50).astype(float)
    expected = [np.median(np.repeat(values, row.astype(int))) for row in counts]
    np.testing.assert_allclose(summary._compute_medians(values, counts), expected)


def test_resamples_never_change_and_keep_the_clips_of_a_song_together() -> None:
    counts = draw_resamples(["a", "b", "a", "c"])
    assert counts.shape == (1_000, 4)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    np.testing.assert_array_equal(counts[:, [0, 1, 3]].sum(axis=1), 3)
    np.testing.assert_array_equal(counts, draw_resamples(["a", "b", "a", "c"]))


def test_clips_of_few_songs_have_wider_intervals_than_as_many_songs() -> None:
    values = list(np.repeat([1.0, 2.0, 3.0, 4.0], 5))
    clips, songs = compute(values, songs=[str(index // 5) for index in range(20)]), compute(values)
    assert clips.mean_interval is not None
    assert songs.mean_interval is not None
    assert clips.mean == songs.mean
    assert np.ptp(clips.mean_interval) > 1.5 * np.ptp(songs.mean_interval)


def test_one_song_has_no_interval() -> None:
    found = compute([1.0, 2.0], songs=["a", "a"])
    assert (found.mean, found.mean_interval, found.median_interval) == (1.5, None, None)


# comparisons


def test_estimators_are_compared_on_the_tracks_that_both_have() -> None:
    lines = [
        *(make_line("a", track, value) for track, value in zip("uvwxy", (1.0, 5.0, 9.0, None, 3.0), strict=True)),
        *(make_line("b", track, value) for track, value in zip("uvwxz", (2.0, 5.5, 8.5, 1.0, 4.0), strict=True)),
        make_line("c", "z", 1.0),
    ]
    found = summary.compare(lines, ["a", "b", "c"])
    assert found is not None
    assert (found.base, list(found.differences)) == ("a", ["b", "c"])
    difference = found.differences["b"]["vocals"]["song_sdr"]
    assert difference is not None
    assert (difference.mean, difference.better, difference.tracks) == (pytest.approx(1 / 3, abs=1e-4), 2, 3)
    assert found.differences["c"]["vocals"]["song_sdr"] is None
    assert summary.compare(lines, ["a"]) is None
    assert summary.compare(lines, ["a", "nothing"]) is None
    later = summary.compare(lines, ["nothing", "b", "a"])
    assert later is not None
    assert (later.base, list(later.differences)) == ("b", ["a"])


def test_a_steady_difference_shows_where_scores_vary_from_song_to_song() -> None:
    random = np.random.default_rng(2)
    songs = random.normal(5, 3, 25)
    lines = [make_line("a", str(index), value) for index, value in enumerate(songs)]
    lines += [make_line("b", str(index), value + 0.3 + random.normal(0, 0.2)) for index, value in enumerate(songs)]
    scores = summary.summarise(lines, ["a", "b"])
    one, other = (scores[name]["vocals"]["song_sdr"].mean_interval for name in "ab")
    assert one is not None
    assert other is not None
    assert other[0] < one[1]
    compared = summary.compare(lines, ["a", "b"])
    assert compared is not None
    difference = compared.differences["b"]["vocals"]["song_sdr"]
    assert difference is not None
    assert difference.mean_interval is not None
    assert 0.15 < difference.mean_interval[0] < 0.3 < difference.mean_interval[1] < 0.45


def test_clips_of_one_song_are_not_independent_in_comparisons() -> None:
    lines = [make_line("a", str(index), 0.0, song="one") for index in range(9)]
    lines += [make_line("b", str(index), 1.0, song="one") for index in range(9)]
    found = summary.compare(lines, ["a", "b"])
    assert found is not None
    assert found.differences["b"]["vocals"]["v4_sdr"] == summary.Difference(
        mean=1.0, mean_interval=None, better=9, tracks=9
    )


# the report


def test_only_named_estimators_are_summarised_in_the_given_order() -> None:
    lines = [make_line(row, track, 1.0) for row in ("c", "a", "b") for track in "xy"]
    assert list(summary.summarise(lines, ["b", "c"])) == ["b", "c"]


def test_tables_show_the_statistics_of_each_estimator() -> None:
    lines = [
        make_line("mixture", "x", 1.0, 1.0),
        make_line("mixture", "y", 3.0, 3.0),
        make_line("unet", "x", None),
        make_line("unet", "y", None),
    ]
    made = report.make_tables(summary.summarise(lines, ["mixture", "unet"]))
    assert len(made) == 8
    assert made[0].title == "Vocals: BSS Eval v4 (images, 1-s frames, as museval)"
    assert made[0].head[:2] == ("estimate", "SDR, median of medians")
    assert made[0].rows[0] == ("mixture", "2.00 [1.00, 3.00]", "2.00", "2.00", "2.00", "2.00", "2.00")
    assert made[0].rows[1] == ("unet", "-", "-", "-", "-", "-", "-")
    gain = next(table for table in made if table.title.startswith("Accompaniment: Gain only"))
    assert gain.rows[0] == ("mixture", "2.50 [1.00, 3.00]", "2.50", "2.50", "2.50")
    text = report.format_markdown(SETUP, made, 2)
    assert text.startswith("mir1k, split test, voice at -5 dB, 2 tracks. All scores in dB; 95 % bootstrap intervals")
    assert "| mixture | 2.00 [1.00, 3.00] | 2.00 |" in text


def test_comparisons_are_tables_of_their_own_and_in_the_json() -> None:
    lines = [make_line("unet", track, value) for track, value in zip("xyz", (1.0, 2.0, 3.0), strict=True)]
    lines += [make_line("mine", track, 2.5) for track in "xyz"]
    found, comparison = summary.summarise(lines, ["unet", "mine"]), summary.compare(lines, ["unet", "mine"])
    vocals, accompaniment = report.make_tables(found, comparison)[-2:]
    assert vocals.title == "Vocals: SDR minus that of unet, song by song"
    assert accompaniment.title.startswith("Accompaniment: ")
    assert vocals.head[:3] == ("estimate", "whole songs", "better on")
    assert vocals.rows == (("mine", *("+0.50 [-0.50, +1.50]", "2 of 3") * 3),)
    about = report.make_json(SETUP, found, comparison, [], "1.0")
    assert about["compared_with"] == "unet"
    assert about["differences"]["mine"]["vocals"]["si_sdr"]["better"] == 2


def test_rows_with_fewer_tracks_than_others_say_so() -> None:
    lines = [make_line("mixture", "x", 1.0), make_line("mixture", "y", 2.0), make_line("unet", "x", 3.0)]
    rows = [row[0] for row in report.make_tables(summary.summarise(lines, ["mixture", "unet"]))[0].rows]
    assert rows == ["mixture", "unet (1 of 2 tracks)"]


def test_every_file_of_a_report_can_be_read(tmp_path: Path) -> None:
    lines = [make_line("mixture", "a, $b$", 1.0), make_line("mixture", "雨", None), make_line("unet", "a, $b$", 300.0)]
    found = summary.summarise(lines, ["mixture", "unet"])
    about = report.make_json(SETUP, found, None, [Problem("雨, unet", "no estimate")], "1.0")
    out = tmp_path / "out"
    out.mkdir()
    report.write_files(out, SETUP, lines, found, None, about)
    assert sorted(path.name for path in out.iterdir()) == [
        "boxes.png",
        "scores.csv",
        "songs.png",
        "summary.json",
        "summary.md",
    ]
    read: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert read["rows"]["mixture"]["vocals"]["v4_sdr"]["tracks"] == 1
    assert read["rows"]["mixture"]["vocals"]["v4_sdr"]["without"] == 1
    assert read["problems"] == [{"name": "雨, unet", "what": "no estimate"}]
    assert set(read["scores"]) == set(SCORES)
    rows = list(csv.DictReader((out / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 6
    assert rows[0]["track"] == "a, $b$"
    assert rows[2]["v4_sdr"] == ""


def test_a_run_without_scores_has_no_plots(tmp_path: Path) -> None:
    found = summary.summarise([], ["mixture"])
    report.write_files(tmp_path, SETUP, [], found, None, report.make_json(SETUP, found, None, [], "1.0"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.csv", "summary.json", "summary.md"]
