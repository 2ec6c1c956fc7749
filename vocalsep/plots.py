"""Plots. matplotlib is imported only when a plot is drawn, and its global state stays untouched."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vocalsep.shapes import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 120
_NAMED = 40  # with more songs than this, the axis does not name them
_BOXED = 8  # with fewer songs than this, each is a dot
_SMOOTHED = 100  # longer curves of single steps are averaged
_COLORS = ("#999999", "#d1495b", "#2e86ab", "#edae49", "#3a7d44", "#7b4b94", "#00798c", "#a0522d")
_MARKERS = "osD^vP*X"
_ACCENT = "#d1495b"
_FLOOR_DB = -70.0  # levels below this are black
_POINTS = 1_000  # per curve at most; longer curves are averaged down to this


def draw_song(
    spectrograms: Mapping[str, Array],
    path: Path,
    *,
    hz: Array,
    seconds: float,
    voice: Sequence[tuple[float, float]],
    title: str,
    note: str,
) -> None:
    """Draw spectrograms of a song and its parts below each other, and a line that shows where somebody sings.

    Args:
        spectrograms: Power of each, ``(row, column)``, by name; all of the same shape, the song first.
        path: The PNG file to write.
        hz: Centre of each row in Hz, rising.
        seconds: Length of the song in seconds.
        voice: Segments with a voice, (start, end) in seconds.
        title: Title above them.
        note: A short text at the upper right.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.5), layout="constrained")
    heights = [*[1.0] * len(spectrograms), 0.13]
    *panels, line = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    loudest = max(float(np.percentile(next(iter(spectrograms.values())), 99.8)), 1e-12)
    rows = np.arange(len(hz))
    ticks = [tick for tick in (100, 200, 500, 1_000, 2_000, 5_000, 10_000) if hz[0] <= tick <= hz[-1]]
    for axes, (name, power) in zip(panels, spectrograms.items(), strict=True):
        level_db = 10 * np.log10(np.maximum(power / loudest, 10 ** (_FLOOR_DB / 10)))
        image = axes.imshow(
            level_db,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, -0.5, len(hz) - 0.5),
            cmap="magma",
            vmin=_FLOOR_DB,
            vmax=0,
            interpolation="antialiased",
        )
        axes.set_yticks(np.interp(ticks, hz, rows), labels=[_format_hz(tick) for tick in ticks])
        axes.set_title(name, loc="left", fontsize=11, fontweight="bold")
        axes.tick_params(axis="x", bottom=False)
    panels[0].set_title(_clean(note), loc="right", fontsize=11, color="#777777", parse_math=False)
    panels[1].set_ylabel("frequency, Hz")
    bar = figure.colorbar(image, ax=panels, pad=0.01, aspect=50)
    bar.set_label("level, dB")
    bar.set_ticks(range(0, int(_FLOOR_DB) - 1, -20))
    bar.outline.set_visible(False)
    line.set_facecolor("#eeeeee")
    line.broken_barh([(start, end - start) for start, end in voice], (0, 1), color=_ACCENT, linewidth=0)
    sung = sum(end - start for start, end in voice)
    share = f"Voice: {100 * sung / max(seconds, 1e-9):.0f} % of the song" if voice else "No voice found"
    line.set_title(share, loc="left", fontsize=11, fontweight="bold", color=_ACCENT)
    line.set(ylim=(0, 1), yticks=[], xlim=(0, seconds), xlabel="time, " + ("h:mm:ss" if seconds >= 3600 else "m:ss"))
    line.xaxis.set_major_locator(_make_time_locator(seconds))
    line.xaxis.set_major_formatter(lambda value, _: _format_time(value, seconds))
    for spine in line.spines.values():
        spine.set_visible(False)
    _add_title(figure, title)
    _save(figure, path)


def _make_time_locator(seconds: float) -> Any:
    """Return a locator with about ten round times on the axis."""
    from matplotlib.ticker import MultipleLocator

    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600)
    return MultipleLocator(next((step for step in steps if seconds / step <= 14), steps[-1]))


def _format_time(value: float, length: float) -> str:
    """Return a time as m:ss, or as h:mm:ss in songs of an hour or more; with tenths in very short ones."""
    if length < 2:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if length >= 3600 else f"{minutes}:{seconds:02d}"


def _format_hz(hz: float) -> str:
    return f"{hz / 1000:g}k" if hz >= 1000 else f"{hz:g}"


def _clean(text: str, limit: int = 80) -> str:
    """Return a name as it can be drawn: without surrogates and controls, and with its middle left out if it is long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else f"{text[: limit - 21]}…{text[-20:]}"


def draw_loss_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path, *, title: str = ""
) -> None:
    """Draw the curves of a training run: losses, and below them validation SNR in dB and learning rate where given.

    An axis never shows less than a tenth of its values, or 1 dB, so that noise does not look like progress.

    Args:
        curves: Steps and values of any of "loss", "validation_loss", "validation_snr_db" and "lr".
        path: The PNG file to write.
        title: Title above them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [(panel, [name for name in panel.curves if name in curves]) for panel in _PANELS]
    shown = [(panel, names) for panel, names in shown if names]
    figure = Figure(figsize=(9, 1 + 2.2 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    for axes, (panel, names) in zip(places, shown, strict=True):
        drawn = []
        for name in names:
            steps, values = _smooth(*curves[name])
            style = _CURVES[name]
            if style.label == "training" and len(values) > _SMOOTHED:  # the noise of single steps, and its mean
                axes.plot(steps, values, color=style.color, alpha=0.25, linewidth=0.8)
                values = _average_around(values, len(values) // 50)
            marker = "o" if len(steps) < 50 else ""
            axes.plot(steps, values, label=style.label, color=style.color, marker=marker, markersize=4)
            drawn.append(values)
        _widen_axis(axes, np.concatenate(drawn), panel.least_span)
        axes.set_title(panel.title, loc="left", fontsize=11, fontweight="bold")
        if panel.best and len(drawn[0]):
            _mark_best(axes, *_smooth(*curves[names[0]]))
        _style_axes(axes)
        if len(names) > 1:
            axes.legend(frameon=False, ncols=2, loc="upper right")
    places[-1].set_xlabel("step")
    places[-1].xaxis.get_major_locator().set_params(integer=True)
    if title:
        _add_title(figure, title)
    _save(figure, path)


@dataclass(frozen=True)
class _Panel:
    title: str
    curves: tuple[str, ...]
    least_span: float  # of the axis, as a share of the largest value; negative: in dB
    best: bool = False


@dataclass(frozen=True)
class _Curve:
    label: str
    color: str


_PANELS = (
    _Panel("Loss", ("loss", "validation_loss"), 0.1),
    _Panel("SNR of the held-out songs, dB", ("validation_snr_db",), -1.0, best=True),
    _Panel("Learning rate", ("lr",), 1.0),
)
_CURVES = {
    "loss": _Curve("training", "#2e86ab"),
    "validation_loss": _Curve("held-out songs", "#d1495b"),
    "validation_snr_db": _Curve("SNR", "#d1495b"),
    "lr": _Curve("learning rate", "#777777"),
}


def _widen_axis(axes: Axes, values: Array, least_span: float) -> None:
    """Keep an axis from zooming into tiny differences."""
    if not len(values):
        return
    low, high = np.percentile(values, 0.5), np.percentile(values, 99.5)
    span = -least_span if least_span < 0 else least_span * max(abs(low), abs(high), 1e-12)
    if least_span >= 1:  # from zero
        low = min(low, 0.0)
    missing = max(0.0, span - (high - low)) / 2
    margin = 0.06 * max(span, high - low)
    low, high = low - missing - margin, high + missing + margin
    axes.set_ylim(low if least_span < 0 else max(low, 0.0) if values.min() >= 0 else low, high)


def _mark_best(axes: Axes, steps: Array, values: Array) -> None:
    best = int(np.argmax(values))
    axes.plot(steps[best], values[best], "o", color=_ACCENT, markersize=7)
    left = steps[best] > 0.8 * steps[-1]
    axes.annotate(
        f"best {values[best]:.2f} dB",
        (steps[best], values[best]),
        xytext=(-8 if left else 8, -12),
        textcoords="offset points",
        ha="right" if left else "left",
        color=_ACCENT,
    )


def _style_axes(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    axes.grid(axis=grid, alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_score_boxes(
    scores: Mapping[str, Mapping[str, Sequence[float]]], path: Path, *, title: str, limit_db: float = math.inf
) -> None:
    """Draw the distribution of each score, with one row per estimator.

    With few songs, each song is a dot on its row. With more, a box spans the quartiles, whiskers reach up to 1.5 times
    the interquartile range beyond them, and dots are the songs beyond those. Medians are written beside the rows.

    Args:
        scores: For each score and each estimator, the finite values of all tracks; an empty list leaves a gap.
        path: The PNG file to write.
        title: Title above the plots.
        limit_db: Values beyond this are left out, and counted below the plots.
    """
    from matplotlib.figure import Figure

    rows = max(map(len, scores.values()))
    figure = Figure(figsize=(3.6 * len(scores) + 2, 1.6 + 0.42 * rows), layout="constrained")
    places = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    left_out = []
    for axes, (name, values) in zip(places, scores.items(), strict=True):
        for row, (estimator, column) in enumerate(values.items()):
            kept = [value for value in column if abs(value) < limit_db]
            if len(kept) < len(column):
                left_out.append(f"{len(column) - len(kept)} {name} of {_clean(estimator, 30)}")
            if not kept:
                text = "beyond the limit" if column else "no score"
                axes.text(0.02, row, text, transform=axes.get_yaxis_transform(), va="center", color="#999999")
                continue
            if len(kept) < _BOXED:
                axes.plot(kept, [row] * len(kept), "o", color="#2e86ab", alpha=0.7, markersize=5)
                axes.plot([np.median(kept)] * 2, [row - 0.3, row + 0.3], color=_ACCENT, linewidth=2)
            else:
                axes.boxplot(
                    [kept],
                    positions=[row],
                    orientation="horizontal",
                    widths=0.55,
                    patch_artist=True,
                    boxprops={"facecolor": "#cfe3ec", "edgecolor": "#2e86ab"},
                    whiskerprops={"color": "#2e86ab"},
                    capprops={"color": "#2e86ab"},
                    medianprops={"color": _ACCENT, "linewidth": 2},
                    flierprops={"marker": "o", "markersize": 3, "markeredgecolor": "#2e86ab", "alpha": 0.6},
                )
            axes.text(
                1.0,
                row,
                f"{np.median(kept):.1f}",
                transform=axes.get_yaxis_transform(),
                va="center",
                ha="right",
                color=_ACCENT,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )
        axes.set_yticks(range(len(values)), labels=[_clean(name, 40) for name in values], parse_math=False)
        axes.set_title(_clean(name), loc="left", fontsize=11, fontweight="bold", parse_math=False)
        axes.set_xlabel("dB")
        axes.set_ylim(len(values) - 0.4, -0.6)  # the first estimator on top, as in the tables
        axes.margins(x=0.12)
        _style_axes(axes, "x")
        axes.tick_params(axis="y", length=0)
    _add_title(figure, title)
    note = "Red: median. " + (f"Beyond {limit_db:g} dB and left out: {'; '.join(left_out)}." if left_out else "")
    _add_note(figure, note, width=round(14 * (3.6 * len(scores) + 2)))
    _save(figure, path)


def draw_scores_by_song(
    songs: Sequence[str],
    scores: Mapping[str, Sequence[float]],
    path: Path,
    *,
    title: str,
    label: str,
    limit_db: float = math.inf,
) -> None:
    """Draw one score of every song, with one colour per estimator, sorted by the score of the first estimator.

    Few songs are named on the vertical axis, one row each; with more, they stand side by side without names.

    Args:
        songs: Names of the songs.
        scores: For each estimator, the score of each song; NaN leaves a gap.
        path: The PNG file to write.
        title: Title above the plot.
        label: Label of the axis of scores.
        limit_db: Scores beyond this are drawn at the edge.
    """
    from matplotlib.figure import Figure

    named = len(songs) <= _NAMED
    first = next(iter(scores.values()))
    order = sorted(range(len(songs)), key=lambda index: (first[index] != first[index], first[index]))
    figure = Figure(figsize=(10, 2 + 0.26 * len(songs)) if named else (13, 6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(songs))[::-1] if named else np.arange(len(songs))
    missing: Counter[str] = Counter()
    for number, (name, values) in enumerate(scores.items()):
        sorted_values = np.array([values[index] for index in order], float)
        beyond = np.abs(sorted_values) >= limit_db
        missing[name] = int(np.isnan(sorted_values).sum() + beyond.sum())
        kept = np.where(beyond, np.nan, sorted_values)
        style = {"color": _COLORS[number % len(_COLORS)], "marker": _MARKERS[number % len(_MARKERS)]}
        across, up = (kept, places) if named else (places, kept)
        axes.plot(across, up, linestyle="", markersize=6 if named else 4.5, alpha=0.85, label=_clean(name, 40), **style)
    first_name = _clean(next(iter(scores)), 40)
    if named:
        labels = [_clean(songs[index], 48) for index in order]
        axes.set_yticks(places, labels=labels, fontsize=9, parse_math=False)
        axes.set_ylim(-0.7, len(songs) - 0.3)
        axes.set_xlabel(label, parse_math=False)
        axes.grid(axis="y", alpha=0.25)
        axes.tick_params(axis="y", length=0)
        _style_axes(axes, "x")
    else:
        axes.set_xlabel(f"{len(songs)} songs, from the lowest to the highest score of {first_name}", parse_math=False)
        axes.set_ylabel(label, parse_math=False)
        axes.set_xlim(-1, len(songs))
        axes.set_xticks([])
        _style_axes(axes)
    legend = figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    _add_title(figure, title)
    gaps = [f"{count} of {_clean(name, 30)}" for name, count in missing.items() if count]
    notes = [f"Sorted by the score of {first_name}." if named else "scores.csv names the songs."]
    if gaps:
        beyond_text = f" or beyond {limit_db:g} dB" if math.isfinite(limit_db) else ""
        notes.append(f"Not drawn, because there is no score{beyond_text}: {'; '.join(gaps)}.")
    _add_note(figure, " ".join(notes), width=140 if not named else 105)
    _save(figure, path)


def _average_around(values: Array, reach: int) -> Array:
    """Return the mean of each value and its neighbours up to `reach` before and after it."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    starts = np.maximum(np.arange(len(values)) - reach, 0)
    means: Array = (total[ends] - total[starts]) / (ends - starts)
    return means


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


def _add_note(figure: Figure, note: str, width: int) -> None:
    """Write a note below a figure."""
    figure.supxlabel(textwrap.fill(note, width), parse_math=False, fontsize=9, color="#777777", x=0.01, ha="left")


def _add_title(figure: Figure, title: str) -> None:
    figure.suptitle(_clean(title), parse_math=False, fontsize=13, x=0.01, ha="left")


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # letters that the font lacks become boxes
        figure.savefig(path, format="png", dpi=_DPI)
