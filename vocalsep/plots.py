"""Pictures, drawn with matplotlib, which is loaded only when one is wanted; its global state is left alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 120
_NAMED = 60  # more songs than this are not named along the axis
_POINTS = 1_000  # to a curve: a noisy one is averaged over this many stretches


def loss_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path) -> None:
    """Draws the course of a training: losses above, validation SNR (dB) below if there is any.

    Args:
        curves: Steps and values of "loss", "validation_loss", "validation_snr_db" and "lr", as far as they are there.
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
            steps, values = _smoothed(*curves[name])
            axes.plot(steps, values, label=name.replace("_", " "), marker="." if len(steps) < 50 else "")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend()
    figure.supxlabel("step")
    figure.savefig(path, format="png", dpi=100)


def score_boxes(scores: Mapping[str, Mapping[str, Sequence[float]]], path: Path, *, title: str) -> None:
    """Draws a box plot for each score, with a box (quartiles; whiskers over 1.5 times their distance) to each row.

    Args:
        scores: Of each score and each row the values of all tracks, finite; none leave a gap.
        path: The PNG file to write.
        title: Stands above.
    """
    from matplotlib.figure import Figure

    rows = max(map(len, scores.values()))
    figure = Figure(figsize=(4 * len(scores) + 2, 1.5 + 0.45 * rows), layout="constrained")
    axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for place, (name, values) in zip(axes, scores.items(), strict=True):
        place.boxplot([list(column) for column in values.values()], orientation="horizontal", widths=0.6)
        place.set_yticks(range(1, len(values) + 1), labels=list(values), parse_math=False)
        place.set_xlabel(name, parse_math=False)
        place.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()  # the first row on top, as in tables
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def scores_by_song(
    songs: Sequence[str], scores: Mapping[str, Sequence[float]], path: Path, *, title: str, label: str
) -> None:
    """Draws a score against songs, in order of the first row's score, with a colour to each row.

    Args:
        songs: Their names.
        scores: Of each row the score of each song; not-a-number leaves a gap.
        path: The PNG file to write.
        title: Stands above.
        label: Of the vertical axis.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(8, 3 + 0.22 * min(len(songs), _NAMED)), 6), layout="constrained")
    axes = figure.subplots()
    first = next(iter(scores.values()))
    order = sorted(range(len(songs)), key=lambda index: (first[index] != first[index], first[index]))
    for row, values in scores.items():
        axes.plot(range(len(songs)), [values[index] for index in order], "o", markersize=4, label=row)
    if len(songs) <= _NAMED:
        names = [songs[index][:40].encode("utf-8", "replace").decode() for index in order]
        axes.set_xticks(range(len(songs)), labels=names, rotation=90, fontsize=7, parse_math=False)
    axes.set_xlabel("songs, in order of the first row's score")
    axes.set_ylabel(label, parse_math=False)
    axes.grid(axis="y", alpha=0.3)
    for text in figure.legend(loc="outside right upper", fontsize=8).get_texts():
        text.set_parse_math(False)
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def _smoothed(steps: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """At most `_POINTS` points: the means of equal stretches; what is not finite does not count."""
    at, what = np.asarray(steps, float), np.asarray(values, float)
    at, what = at[np.isfinite(what)], what[np.isfinite(what)]
    count = max(1, -(-len(at) // _POINTS))
    parts = range(0, len(at), count)
    return (
        np.array([at[part : part + count].mean() for part in parts]),
        np.array([what[part : part + count].mean() for part in parts]),
    )


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a song's name in another script: drawn as a box
        figure.savefig(path, format="png", dpi=_DPI)
