"""Plots. matplotlib is imported only when a plot is drawn, and its global state stays untouched."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 120
_NAMED = 60  # with more songs than this, the axis does not name them
_POINTS = 1_000  # per curve at most; longer curves are averaged down to this


def draw_loss_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path) -> None:
    """Draw the curves of a training run: losses, and below them validation SNR in dB and learning rate where given.

    Args:
        curves: Steps and values of any of "loss", "validation_loss", "validation_snr_db" and "lr".
        path: The PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [("loss", ["loss", "validation_loss"]), ("SNR, dB", ["validation_snr_db"]), ("learning rate", ["lr"])]
    shown = [(label, [name for name in names if name in curves]) for label, names in panels]
    shown = [(label, names) for label, names in shown if names]
    for axes, (label, names) in zip(figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0], shown, strict=True):
        for name in names:
            steps, values = _smooth(*curves[name])
            axes.plot(steps, values, label=name.replace("_", " "), marker="." if len(steps) < 50 else "")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend()
    figure.supxlabel("step")
    figure.savefig(path, format="png", dpi=100)


def draw_score_boxes(scores: Mapping[str, Mapping[str, Sequence[float]]], path: Path, *, title: str) -> None:
    """Draw a box plot for each score, with one box per estimator.

    Boxes span the quartiles. Whiskers reach up to 1.5 times the interquartile range beyond them.

    Args:
        scores: For each score and each estimator, the finite values of all tracks; an empty list leaves a gap.
        path: The PNG file to write.
        title: Title above the plots.
    """
    from matplotlib.figure import Figure

    boxes = max(map(len, scores.values()))
    figure = Figure(figsize=(4 * len(scores) + 2, 1.5 + 0.45 * boxes), layout="constrained")
    axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for place, (name, values) in zip(axes, scores.items(), strict=True):
        place.boxplot([list(column) for column in values.values()], orientation="horizontal", widths=0.6)
        place.set_yticks(range(1, len(values) + 1), labels=list(values), parse_math=False)
        place.set_xlabel(name, parse_math=False)
        place.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()  # the first estimator on top, as in the tables
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def draw_scores_by_song(
    songs: Sequence[str], scores: Mapping[str, Sequence[float]], path: Path, *, title: str, label: str
) -> None:
    """Draw one score of every song, with one colour per estimator, sorted by the score of the first estimator.

    Args:
        songs: Names of the songs.
        scores: For each estimator, the score of each song; NaN leaves a gap.
        path: The PNG file to write.
        title: Title above the plot.
        label: Label of the vertical axis.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(8, 3 + 0.22 * min(len(songs), _NAMED)), 6), layout="constrained")
    axes = figure.subplots()
    first = next(iter(scores.values()))
    order = sorted(range(len(songs)), key=lambda index: (first[index] != first[index], first[index]))
    for name, values in scores.items():
        axes.plot(range(len(songs)), [values[index] for index in order], "o", markersize=4, label=name)
    if len(songs) <= _NAMED:
        names = [songs[index][:40].encode("utf-8", "replace").decode() for index in order]
        axes.set_xticks(range(len(songs)), labels=names, rotation=90, fontsize=7, parse_math=False)
    axes.set_xlabel(f"songs, sorted by the score of {next(iter(scores))}", parse_math=False)
    axes.set_ylabel(label, parse_math=False)
    axes.grid(axis="y", alpha=0.3)
    for text in figure.legend(loc="outside right upper", fontsize=8).get_texts():
        text.set_parse_math(False)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def _smooth(steps: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Average a curve down to at most `_POINTS` points, and leave out NaN and infinity."""
    x, y = np.asarray(steps, float), np.asarray(values, float)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    length = max(1, -(-len(x) // _POINTS))
    starts = range(0, len(x), length)
    return (
        np.array([x[start : start + length].mean() for start in starts]),
        np.array([y[start : start + length].mean() for start in starts]),
    )


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # letters that the font lacks become boxes
        figure.savefig(path, format="png", dpi=_DPI)
