from __future__ import annotations

import math
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from vocalsep import plots
from vocalsep.plots import curves, style

PNG = b"\x89PNG\r\n\x1a\n"


def curve(count: int) -> tuple[list[float], list[float]]:
    steps = [float(step) for step in range(count)]
    return steps, [1 / (1 + step) for step in steps]


@pytest.mark.parametrize("count", [1, 30, 5_000])
def test_curves_of_any_length_become_a_png(tmp_path: Path, count: int) -> None:
    path = tmp_path / "curves.part"  # of any extension
    plots.draw_loss_curves({"loss": curve(count), "lr": curve(count), "validation_snr_db": curve(1)}, path)
    assert path.read_bytes().startswith(PNG)


def test_different_curves_give_different_pictures(tmp_path: Path) -> None:
    pictures = []
    for place, given in enumerate(({"loss": curve(10)}, {"loss": curve(20)}, {"loss": curve(10), "lr": curve(10)})):
        path = tmp_path / f"{place}.png"
        plots.draw_loss_curves(given, path)
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 3


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    steps, values = curve(10)
    values[3] = float("nan")
    plots.draw_loss_curves({"loss": (steps, values)}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)


def test_long_curves_are_averaged_in_equal_stretches() -> None:
    steps, values = curves._smooth([float(step) for step in range(3_000)], [1.0, 2.0, 3.0] * 1_000)
    np.testing.assert_allclose(values, 2.0)
    np.testing.assert_allclose(steps[:2], [1.0, 4.0])
    assert len(steps) == 1_000


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved during the test."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


def list_texts(figure: Figure) -> list[str]:
    """Return all texts of a figure that are not empty."""
    return [text for item in figure.findobj(Text) if (text := item.get_text())]


def test_curves_have_titles_and_their_axes_do_not_zoom_into_noise(drawn: list[Figure], tmp_path: Path) -> None:
    steps = [0.0, 10.0, 20.0]
    given = {
        "loss": (steps, [0.500, 0.501, 0.499]),
        "validation_loss": (steps, [0.510, 0.509, 0.511]),
        "validation_snr_db": (steps, [5.00, 5.02, 5.01]),
        "lr": (steps, [2e-3, 1.9e-3, 1.8e-3]),
    }
    plots.draw_loss_curves(given, tmp_path / "p.png", title="Training of tiny")
    loss, snr, rate = drawn[0].axes
    titles = [axes.get_title("left") for axes in drawn[0].axes]
    assert titles == ["Loss", "SNR of the held-out songs, dB", "Learning rate"]
    assert snr.get_title("right") == "best: 5.02 dB after 11 steps"
    assert "Training of tiny" in list_texts(drawn[0])
    low, high = snr.get_ylim()
    assert high - low > 1
    assert low < 5.0 < 5.02 < high
    low, high = loss.get_ylim()
    assert high - low > 0.05
    assert rate.get_ylim()[0] == 0


def test_a_few_huge_losses_do_not_squeeze_the_rest(drawn: list[Figure], tmp_path: Path) -> None:
    values = [1.0 + index / 1_000 for index in range(1_000)]
    values[3] = 1e9
    plots.draw_loss_curves({"loss": ([float(step) for step in range(1_000)], values)}, tmp_path / "p.png")
    assert drawn[0].axes[0].get_ylim()[1] < 3


def test_drawing_leaves_the_global_state_of_matplotlib_alone(tmp_path: Path) -> None:
    before = "matplotlib.pyplot" in sys.modules  # another library may have loaded it
    plots.draw_loss_curves({"loss": curve(3)}, tmp_path / "curves.png")
    assert ("matplotlib.pyplot" in sys.modules) == before


# scores

NAMES = ["plain", "with $math_ and 100 %", "雨の日", "a" * 200, os.fsdecode(b"Caf\xe9")]


def read_size(path: Path) -> tuple[int, int]:
    """Return the width and height of a PNG file."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize("count", [1, 4, 61])
def test_scores_by_song_are_drawn_for_songs_of_any_name(tmp_path: Path, count: int) -> None:
    songs = [NAMES[index % len(NAMES)] for index in range(count)]
    scores = {"mixture": [float(index) for index in range(count)], "net $x_$": [float("nan")] * count}
    plots.draw_scores_by_song(songs, scores, tmp_path / "p.png", title="t $", label="dB $")
    assert min(read_size(tmp_path / "p.png")) > 200


def test_boxes_are_drawn_for_estimators_without_scores_too(tmp_path: Path) -> None:
    scores = {"SDR": {"mixture": [1.0, 2.0, 4.0], "none": []}, "SIR": {"mixture": [1.0], "none": []}}
    plots.draw_score_boxes(scores, tmp_path / "p.png", title="title")
    assert min(read_size(tmp_path / "p.png")) > 100


def test_few_songs_are_dots_and_many_are_boxes_and_both_show_medians(drawn: list[Figure], tmp_path: Path) -> None:
    for count in (3, 100):
        scores = {"SDR": {"unet": [float(value) for value in range(count)], "none": []}}
        plots.draw_score_boxes(scores, tmp_path / "p.png", title="t")
    few, many = (figure.axes[0] for figure in drawn)
    assert len(few.lines[0].get_xdata()) == 3
    assert len(few.patches) == 0
    assert len(many.patches) == 1
    assert "1.0" in list_texts(drawn[0])
    assert {"49.5", "no score"} <= set(list_texts(drawn[1]))


def test_rows_with_fewer_songs_than_others_say_so(drawn: list[Figure], tmp_path: Path) -> None:
    plots.draw_score_boxes({"SDR": {"mixture": [1.0, 2.0], "unet": [3.0]}}, tmp_path / "p.png", title="t")
    assert {"mixture", "unet (1 of 2)"} <= set(list_texts(drawn[0]))


def test_scores_beyond_the_limit_are_left_out_and_counted(drawn: list[Figure], tmp_path: Path) -> None:
    scores = {"SAR": {"mixture": [180.0, 181.0, 3.0], "unet": [4.0, 5.0, 6.0]}}
    plots.draw_score_boxes(scores, tmp_path / "p.png", title="t", limit_db=60)
    assert drawn[0].axes[0].get_xlim()[1] < 60
    assert "Red: median. Beyond 60 dB and left out: 2 SAR of mixture." in list_texts(drawn[0])
    by_song = {"mixture": [1.0, math.nan], "unet": [2.0, 99.0]}
    plots.draw_scores_by_song(["a", "b"], by_song, tmp_path / "p.png", title="t", label="SDR, dB", limit_db=60)
    note = "Sorted by the score of mixture. Not drawn (no score, or beyond 60 dB): 1 of mixture; 1 of unet."
    assert note in list_texts(drawn[1])


@pytest.mark.parametrize("count", [3, 100])
def test_few_songs_are_named_and_many_are_counted(drawn: list[Figure], tmp_path: Path, count: int) -> None:
    songs = [f"song {number}" for number in range(count)]
    scores = {"mixture": [float(-number) for number in range(count)]}
    plots.draw_scores_by_song(songs, scores, tmp_path / "p.png", title="t", label="SDR, dB")
    texts = list_texts(drawn[0])
    assert ("song 0" in texts) == (count == 3)
    assert any(text.startswith(f"{count} songs, from the lowest") for text in texts) == (count == 100)
    assert drawn[0].get_figheight() < 8
    if count == 3:  # the lowest score on top
        axes = drawn[0].axes[0]
        by_height = sorted(zip(axes.get_yticks(), [label.get_text() for label in axes.get_yticklabels()], strict=True))
        assert [name for _, name in by_height] == ["song 0", "song 1", "song 2"]


@pytest.mark.parametrize(
    ("seconds", "label", "marks"),
    [
        (0.9, "time, s", {"0.0", "0.1", "0.9"}),
        (4.0, "time, s", {"0.0", "0.5", "4.0"}),
        (200.0, "time, m:ss", {"0:00", "0:15", "3:15"}),
        (10_800.0, "time, h:mm:ss", {"0:00:00", "0:15:00", "3:00:00"}),
    ],
)
def test_times_of_songs_are_round_and_differ(
    drawn: list[Figure], tmp_path: Path, seconds: float, label: str, marks: set[str]
) -> None:
    power = {name: np.ones((4, 5)) for name in ("Song", "Vocals", "Accompaniment")}
    about: dict[str, Any] = {"title": "t", "note": "n", "voice": [(0.0, seconds / 2)]}
    plots.draw_song(power, tmp_path / "p.png", hz=np.array([90.0, 300, 900, 2_700]), seconds=seconds, **about)
    axes = drawn[0].axes[3]
    drawn[0].draw_without_rendering()
    shown = [text.get_text() for text in axes.get_xticklabels()]
    assert len(set(shown)) == len(shown)
    assert marks <= set(shown)
    assert axes.get_xlabel() == label
    assert "Voice: 50 % of the song" in list_texts(drawn[0])


def test_fonts_for_other_scripts_are_used_if_the_system_has_them(
    drawn: list[Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plots.draw_score_boxes({"SDR": {"雨": [1.0]}}, tmp_path / "p.png", title="雨")
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["Noto Sans CJK JP", "DejaVu Sans"])
    plots.draw_score_boxes({"SDR": {"雨": [1.0]}}, tmp_path / "p.png", title="雨")
    families = [
        next(text for text in figure.findobj(Text) if text.get_text() == "雨").get_fontfamily() for figure in drawn
    ]
    assert families[1] == ["DejaVu Sans", "Noto Sans CJK JP"]


def test_names_are_cleaned_and_keep_both_ends() -> None:
    assert style.clean("a\x1bb" + os.fsdecode(b"\xe9")) == "a?b?"
    long = style.clean("start " + "x" * 200 + " end.mp3")
    assert len(long) == 80
    assert long.startswith("start x")
    assert long.endswith(" end.mp3")


def test_the_same_scores_give_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plots.draw_score_boxes({"SDR": {"mixture": [1.0, 2.0]}}, tmp_path / name, title="title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
