from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vocalsep import plots

NAMES = ["plain", "with $math_ and 100 %", "雨の日", "a" * 200]


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG file."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize("count", [1, 4, 61])
def test_scores_by_song_are_drawn_whatever_the_songs_are_called(tmp_path: Path, count: int) -> None:
    songs = [NAMES[index % len(NAMES)] for index in range(count)]
    scores = {"mixture": [float(index) for index in range(count)], "net $x": [float("nan")] * count}
    plots.scores_by_song(songs, scores, tmp_path / "p.png", title="t $", label="dB $")
    assert min(size(tmp_path / "p.png")) > 200


def test_boxes_are_drawn_also_of_rows_without_scores(tmp_path: Path) -> None:
    scores = {"SDR": {"mixture": [1.0, 2.0, 4.0], "none": []}, "SIR": {"mixture": [1.0], "none": []}}
    plots.score_boxes(scores, tmp_path / "p.png", title="title")
    assert min(size(tmp_path / "p.png")) > 100


def test_the_same_scores_give_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plots.score_boxes({"SDR": {"mixture": [1.0, 2.0]}}, tmp_path / name, title="title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
