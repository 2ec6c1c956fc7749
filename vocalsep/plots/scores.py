"""The scores of an evaluation: their distribution, and song by song."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vocalsep.plots.style import ACCENT, CALM, add_note, add_title, clean, save, style_axes

_NAMED = 40  # with more songs than this, the axis does not name them
_BOXED = 8  # with fewer songs than this, each is a dot
_COLORS = ("#999999", "#d1495b", "#2e86ab", "#edae49", "#3a7d44", "#7b4b94", "#00798c", "#a0522d")
_MARKERS = "osD^vP*X"


def draw_score_boxes(
    scores: Mapping[str, Mapping[str, Sequence[float]]], path: Path, *, title: str, limit_db: float = math.inf
) -> None:
    """Draw the distribution of each score, with one row per estimator.

    With few songs, each song is a dot on its row. With more, a box spans the quartiles, whiskers reach up to 1.5 times
    the interquartile range beyond them, and dots are the songs beyond those. Medians are written beside the rows.

    Args:
        scores: For each score and each estimator, the finite values of all tracks; an empty list leaves a gap. Rows
            with fewer values than others say so.
        path: The PNG file to write.
        title: Title above the plots.
        limit_db: Values beyond this are left out, and counted below the plots.
    """
    from matplotlib.figure import Figure

    rows = max(map(len, scores.values()))
    figure = Figure(figsize=(3.6 * len(scores) + 2, 1.6 + 0.42 * rows), layout="constrained")
    places = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    left_out = []
    counts = {name: max(len(values[name]) for values in scores.values()) for name in next(iter(scores.values()))}
    names = [_count_songs(name, count, max(counts.values())) for name, count in counts.items()]
    for axes, (name, values) in zip(places, scores.items(), strict=True):
        for row, (estimator, column) in enumerate(values.items()):
            kept = [value for value in column if abs(value) < limit_db]
            if len(kept) < len(column):
                left_out.append(f"{len(column) - len(kept)} {name} of {clean(estimator, 30)}")
            if not kept:
                text = "beyond the limit" if column else "no score"
                axes.text(0.02, row, text, transform=axes.get_yaxis_transform(), va="center", color="#999999")
                continue
            if len(kept) < _BOXED:
                axes.plot(kept, [row] * len(kept), "o", color=CALM, alpha=0.7, markersize=5)
                axes.plot([np.median(kept)] * 2, [row - 0.3, row + 0.3], color=ACCENT, linewidth=2)
            else:
                axes.boxplot(
                    [kept],
                    positions=[row],
                    orientation="horizontal",
                    widths=0.55,
                    patch_artist=True,
                    boxprops={"facecolor": "#cfe3ec", "edgecolor": CALM},
                    whiskerprops={"color": CALM},
                    capprops={"color": CALM},
                    medianprops={"color": ACCENT, "linewidth": 2},
                    flierprops={"marker": "o", "markersize": 3, "markeredgecolor": CALM, "alpha": 0.6},
                )
            place = axes.get_yaxis_transform()
            axes.text(1.02, row, f"{np.median(kept):.1f}", transform=place, va="center", color=ACCENT)
        axes.set_yticks(range(len(values)), labels=names, parse_math=False)
        axes.set_title(clean(name), loc="left", fontsize=11, fontweight="bold", parse_math=False)
        axes.set_xlabel("dB")
        axes.set_ylim(len(values) - 0.4, -0.6)  # the first estimator on top, as in the tables
        axes.margins(x=0.08)
        style_axes(axes, "x")
        axes.tick_params(axis="y", length=0)
    add_title(figure, title)
    note = "Red: median. " + (f"Beyond {limit_db:g} dB and left out: {'; '.join(left_out)}." if left_out else "")
    add_note(figure, note, width=round(14 * (3.6 * len(scores) + 2)))
    save(figure, path)


def _count_songs(name: str, count: int, most: int) -> str:
    return clean(name, 40) + (f" ({count} of {most})" if count < most else "")


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
        across, up = (kept, places) if named else (places, kept)
        axes.plot(
            across,
            up,
            linestyle="",
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=6 if named else 4.5,
            color=_COLORS[number % len(_COLORS)],
            alpha=0.85,
            label=clean(name, 40),
        )
    first_name = clean(next(iter(scores)), 40)
    if named:
        labels = [clean(songs[index], 48) for index in order]
        axes.set_yticks(places, labels=labels, fontsize=9, parse_math=False)
        axes.set_ylim(-0.7, len(songs) - 0.3)
        axes.set_xlabel(label, parse_math=False)
        axes.grid(axis="y", alpha=0.25)
        axes.tick_params(axis="y", length=0)
        style_axes(axes, "x")
    else:
        axes.set_xlabel(f"{len(songs)} songs, from the lowest to the highest score of {first_name}", parse_math=False)
        axes.set_ylabel(label, parse_math=False)
        axes.set_xlim(-1, len(songs))
        axes.set_xticks([])
        style_axes(axes)
    legend = figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    add_title(figure, title)
    gaps = [f"{count} of {clean(name, 30)}" for name, count in missing.items() if count]
    notes = [f"Sorted by the score of {first_name}." if named else "scores.csv names the songs."]
    if gaps:
        reason = f"no score, or beyond {limit_db:g} dB" if math.isfinite(limit_db) else "no score"
        notes.append(f"Not drawn ({reason}): {'; '.join(gaps)}.")
    add_note(figure, " ".join(notes), width=140 if not named else 105)
    save(figure, path)
