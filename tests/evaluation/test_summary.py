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
from vocalsep.evaluation.summary import Figure, draw, figure

SETUP = set_up("mir1k", Path(), snr_db=-5.0)


def line(row: str, track: str, value: float | None, seconds: float = 1.0, song: str = "") -> Line:
    scores = {target: dict.fromkeys(SCORES, value) for target in TARGETS}
    return {"row": row, "track": track, "song": song or track, "seconds": seconds, "fingerprint": "0", **scores}


def over(values: list[float], seconds: list[float] | None = None, songs: list[str] | None = None) -> Figure:
    drawn = draw(songs or [str(index) for index in range(len(values))])
    return figure(np.array(values, dtype=float), np.array(seconds or [1.0] * len(values)), drawn)


def test_median_mean_and_mean_by_length() -> None:
    found = over([1.0, 2.0, 9.0, 4.0], [1.0, 1.0, 1.0, 5.0])
    assert (found.median, found.mean, found.weighted) == (3.0, 4.0, 4.0)
    assert over([0.0, 10.0], [3.0, 1.0]).weighted == 2.5
    assert (found.tracks, found.without) == (4, 0)


def test_tracks_without_a_score_are_counted_and_left_out() -> None:
    found = over([1.0, np.nan, 3.0], [1.0, 100.0, 1.0])
    assert (found.median, found.mean, found.weighted) == (2.0, 2.0, 2.0)
    assert (found.tracks, found.without) == (2, 1)
    nothing = over([np.nan, np.nan])
    assert (nothing.median, nothing.mean, nothing.mean_interval, nothing.tracks) == (None, None, None, 0)


@settings(deadline=None, max_examples=30)
@given(values=st.lists(st.floats(-30, 30), min_size=2, max_size=20))
def test_intervals_hold_the_figure_and_lie_within_the_values(values: list[float]) -> None:
    found = over(values)
    for centre, interval in ((found.mean, found.mean_interval), (found.median, found.median_interval)):
        assert interval is not None
        assert centre is not None
        assert min(values) - 1e-4 <= interval[0] <= interval[1] <= max(values) + 1e-4
        assert interval[0] - 1e-4 <= centre <= interval[1] + 1e-4


def test_intervals_of_a_mean_are_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = over(list(values))
    assert found.mean_interval is not None
    wide = 2 * 1.96 * values.std() / 20
    assert found.mean_interval[1] - found.mean_interval[0] == pytest.approx(wide, rel=0.1)


def test_resampled_medians_are_those_of_the_values_repeated() -> None:
    rng = np.random.default_rng(1)
    values, drawn = rng.normal(size=7), rng.multinomial(7, np.full(7, 1 / 7), size=50).astype(float)
    expected = [np.median(np.repeat(values, counts.astype(int))) for counts in drawn]
    np.testing.assert_allclose(summary._medians(values, drawn), expected)


def test_resamples_are_always_the_same_and_clips_of_one_song_stay_together() -> None:
    drawn = draw(["a", "b", "a", "c"])
    assert drawn.shape == (1_000, 4)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 2])
    np.testing.assert_array_equal(drawn[:, [0, 1, 3]].sum(axis=1), 3)
    np.testing.assert_array_equal(drawn, draw(["a", "b", "a", "c"]))


def test_clips_of_few_songs_are_less_sure_than_as_many_songs() -> None:
    values = list(np.repeat([1.0, 2.0, 3.0, 4.0], 5))
    clips, songs = over(values, songs=[str(index // 5) for index in range(20)]), over(values)
    assert clips.mean_interval is not None
    assert songs.mean_interval is not None
    assert clips.mean == songs.mean
    assert np.ptp(clips.mean_interval) > 1.5 * np.ptp(songs.mean_interval)


def test_one_song_has_no_interval() -> None:
    found = over([1.0, 2.0], songs=["a", "a"])
    assert (found.mean, found.mean_interval, found.median_interval) == (1.5, None, None)


# what is told


def test_rows_keep_their_order_and_only_those_wanted_are_told() -> None:
    lines = [line(row, track, 1.0) for row in ("c", "a", "b") for track in "xy"]
    assert list(summary.summarise(lines, ["b", "c"])) == ["b", "c"]


def test_tables_are_read_as_they_are_meant() -> None:
    lines = [
        line("mixture", "x", 1.0, 1.0),
        line("mixture", "y", 3.0, 3.0),
        line("unet", "x", None),
        line("unet", "y", None),
    ]
    made = report.tables(summary.summarise(lines, ["mixture", "unet"]))
    assert len(made) == 8
    assert made[0].title == "Vocals: BSS Eval v4 (images, 1-s frames, as museval)"
    assert made[0].head[:2] == ("estimate", "SDR, median of medians")
    assert made[0].rows[0] == ("mixture", "2.00 [1.00, 3.00]", "2.00", "2.00", "2.00", "2.00", "2.00")
    assert made[0].rows[1] == ("unet", "-", "-", "-", "-", "-", "-")
    gain = next(table for table in made if table.title.startswith("Accompaniment: Gain only"))
    assert gain.rows[0] == ("mixture", "2.50 [1.00, 3.00]", "2.50", "2.50", "2.50")
    text = report.markdown(SETUP, made, 2)
    assert text.startswith("mir1k, split test, voice at -5 dB, 2 tracks; dB, 95 % bootstrap intervals")
    assert "| mixture | 2.00 [1.00, 3.00] | 2.00 |" in text


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    lines = [line("mixture", "a, $b$", 1.0), line("mixture", "雨", None), line("unet", "a, $b$", 300.0)]
    found = summary.summarise(lines, ["mixture", "unet"])
    about = report.as_json(SETUP, found, [Problem("雨, unet", "no estimate")], "1.0")
    report.write(tmp_path, SETUP, lines, found, about)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "boxes.png",
        "scores.csv",
        "songs.png",
        "summary.json",
        "summary.md",
    ]
    read: dict[str, Any] = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert read["rows"]["mixture"]["vocals"]["v4_sdr"]["tracks"] == 1
    assert read["rows"]["mixture"]["vocals"]["v4_sdr"]["without"] == 1
    assert read["problems"] == [{"name": "雨, unet", "what": "no estimate"}]
    assert set(read["scores"]) == set(SCORES)
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 6
    assert rows[0]["track"] == "a, $b$"
    assert rows[2]["v4_sdr"] == ""


def test_a_run_in_which_nothing_could_be_scored_has_no_plots(tmp_path: Path) -> None:
    found = summary.summarise([], ["mixture"])
    report.write(tmp_path, SETUP, [], found, report.as_json(SETUP, found, [], "1.0"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.csv", "summary.json", "summary.md"]
