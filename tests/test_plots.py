from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from vocalsep import plots

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
    for place, curves in enumerate(({"loss": curve(10)}, {"loss": curve(20)}, {"loss": curve(10), "lr": curve(10)})):
        path = tmp_path / f"{place}.png"
        plots.draw_loss_curves(curves, path)
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 3


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    steps, values = curve(10)
    values[3] = float("nan")
    plots.draw_loss_curves({"loss": (steps, values)}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)


def test_long_curves_are_averaged_in_equal_stretches() -> None:
    steps, values = plots._smooth([float(step) for step in range(3_000)], [1.0, 2.0, 3.0] * 1_000)
    np.testing.assert_allclose(values, 2.0)
    np.testing.assert_allclose(steps[:2], [1.0, 4.0])
    assert len(steps) == 1_000


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


def test_the_same_scores_give_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plots.draw_score_boxes({"SDR": {"mixture": [1.0, 2.0]}}, tmp_path / name, title="title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
