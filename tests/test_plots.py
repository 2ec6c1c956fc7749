from __future__ import annotations

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
    path = tmp_path / "curves.part"  # whatever the name
    plots.loss_curves({"loss": curve(count), "lr": curve(count), "validation_snr_db": curve(1)}, path)
    assert path.read_bytes().startswith(PNG)


def test_the_picture_shows_what_it_is_given(tmp_path: Path) -> None:
    pictures = []
    for place, curves in enumerate(({"loss": curve(10)}, {"loss": curve(20)}, {"loss": curve(10), "lr": curve(10)})):
        path = tmp_path / f"{place}.png"
        plots.loss_curves(curves, path)
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 3


def test_what_is_not_finite_does_not_keep_the_rest_from_being_drawn(tmp_path: Path) -> None:
    steps, values = curve(10)
    values[3] = float("nan")
    plots.loss_curves({"loss": (steps, values)}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)


def test_long_curves_are_averaged_in_equal_stretches() -> None:
    steps, values = plots._smoothed([float(step) for step in range(3_000)], [1.0, 2.0, 3.0] * 1_000)
    np.testing.assert_allclose(values, 2.0)
    np.testing.assert_allclose(steps[:2], [1.0, 4.0])
    assert len(steps) == 1_000


def test_drawing_leaves_the_global_state_of_the_library_alone(tmp_path: Path) -> None:
    before = "matplotlib.pyplot" in sys.modules  # other libraries may have loaded it
    plots.loss_curves({"loss": curve(3)}, tmp_path / "curves.png")
    assert ("matplotlib.pyplot" in sys.modules) == before
