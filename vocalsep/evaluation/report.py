"""Report the results of a run: tables for people, CSV and JSON for programs, and plots."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocalsep import files, plots
from vocalsep.datasets.tracks import Problem
from vocalsep.evaluation.runs import Line
from vocalsep.evaluation.scores import SCORES, TARGETS
from vocalsep.evaluation.songs import Setup
from vocalsep.evaluation.summary import Comparison, Difference, Statistics, Summary, to_dict
from vocalsep.text import escape

_PLOTTED_DB = 60.0  # scores beyond this come from rounding errors, and would squeeze the rest of the plot


@dataclass(frozen=True)
class _Column:
    head: str
    score: str
    statistic: str  # a field of Statistics
    interval: bool = False


_TABLES = {
    "BSS Eval v4 (images, 1-s frames, as museval)": (
        _Column("SDR, median of medians", "v4_sdr", "median", interval=True),
        _Column("mean of medians", "v4_sdr", "mean"),
        _Column("mean of means", "v4_sdr_frame_mean", "mean"),
        _Column("ISR", "v4_isr", "median"),
        _Column("SIR", "v4_sir", "median"),
        _Column("SAR", "v4_sar", "median"),
    ),
    "Whole songs, no filters": (
        _Column("SDR, mean", "song_sdr", "mean", interval=True),
        _Column("SDR, median", "song_sdr", "median"),
        _Column("SI-SDR, mean", "si_sdr", "mean", interval=True),
        _Column("SI-SDR, median", "si_sdr", "median"),
    ),
    "Gain only (BSS Eval v2.1), means weighted by length": (
        _Column("GNSDR", "gain_nsdr", "weighted", interval=True),
        _Column("GSIR", "gain_sir", "weighted"),
        _Column("GSAR", "gain_sar", "weighted"),
        _Column("SDR", "gain_sdr", "weighted"),
    ),
    "BSS Eval v3 (sources, 512 taps, as mir_eval), means weighted by length": (
        _Column("GNSDR", "v3_nsdr", "weighted", interval=True),
        _Column("GSIR", "v3_sir", "weighted"),
        _Column("GSAR", "v3_sar", "weighted"),
        _Column("SDR", "v3_sdr", "weighted"),
    ),
}

_COMPARED = {
    "whole songs": "song_sdr",
    "medians of frames (v4)": "v4_sdr",
    "gain only (v2.1)": "gain_sdr",
}
"""The kinds of SDR whose differences are shown."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: Title of the table.
        head: Headings of the columns.
        rows: Cells, row by row; each row is as long as `head`.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def make_tables(summary: Summary, comparison: Comparison | None = None) -> list[Table]:
    """Make a table for each family of scores and each target, in dB, with 95 % intervals in brackets.

    Estimators that were scored on fewer tracks than others say so beside their names. A comparison adds a table for
    each target.
    """
    tables, labels = [], _label_rows(summary)
    for title, columns in _TABLES.items():
        head = ("estimate", *(column.head for column in columns))
        for target in TARGETS:
            rows = [
                (labels[name], *(_format_cell(targets[target][column.score], column) for column in columns))
                for name, targets in summary.items()
            ]
            tables.append(Table(f"{target.capitalize()}: {title}", head, tuple(rows)))
    return [*tables, *(_make_comparison_tables(comparison) if comparison else ())]


def _make_comparison_tables(comparison: Comparison) -> Iterator[Table]:
    head = ("estimate", *itertools.chain.from_iterable((name, "better on") for name in _COMPARED))
    for target in TARGETS:
        rows = [
            (name, *itertools.chain.from_iterable(_format_difference(found[target][key]) for key in _COMPARED.values()))
            for name, found in comparison.differences.items()
        ]
        title = f"{target.capitalize()}: SDR minus that of {comparison.base}, song by song"
        yield Table(title, head, tuple(rows))


def _format_difference(found: Difference | None) -> tuple[str, str]:
    if found is None:
        return "-", "-"
    interval = found.mean_interval
    ends = f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else ""
    return f"{found.mean:+.2f}{ends}", f"{found.better} of {found.tracks}"


def _label_rows(summary: Summary) -> dict[str, str]:
    any_score = next(iter(SCORES))
    statistics = {name: targets[TARGETS[0]][any_score] for name, targets in summary.items()}
    counts = {name: found.tracks + found.without for name, found in statistics.items()}
    most = max(counts.values(), default=0)
    return {name: name if count == most else f"{name} ({count} of {most} tracks)" for name, count in counts.items()}


def _format_cell(statistics: Statistics, column: _Column) -> str:
    value, interval = getattr(statistics, column.statistic), getattr(statistics, f"{column.statistic}_interval")
    if value is None:
        return "-"
    return f"{value:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if column.interval and interval else "")


def format_markdown(setup: Setup, tables: Iterable[Table], tracks: int) -> str:
    """Format the tables as Markdown. `tracks` is the number of tracks."""
    lines = [f"{_describe_setup(setup)}, {tracks} tracks. All scores in dB; 95 % bootstrap intervals in brackets."]
    for table in tables:
        lines += ["", f"### {table.title}", "", _format_row(table.head), _format_row(["---"] * len(table.head))]
        lines += [_format_row(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def _format_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(escape(cell).replace("|", "\\|") for cell in cells) + " |"


def _describe_setup(setup: Setup) -> str:
    level = "" if setup.snr_db is None else f", voice at {setup.snr_db:g} dB"
    return f"{setup.dataset}, split {setup.split}{level}"


def format_csv(lines: Iterable[Line]) -> str:
    """Format the scores as CSV: one line per track, estimator and target; a missing score is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["track", "song", "seconds", "row", "target", *SCORES])
    for line in lines:
        for target in TARGETS:
            track, song, row = (escape(line[key]) for key in ("track", "song", "row"))
            writer.writerow([track, song, line["seconds"], row, target, *(line[target][name] for name in SCORES)])
    return text.getvalue()


def make_json(
    setup: Setup, summary: Summary, comparison: Comparison | None, problems: Sequence[Problem], version: str
) -> dict[str, Any]:
    """Return a run as plain values, for JSON: setup, summary and problems, but not the scores of each track."""
    return {
        "vocalsep": version,
        "dataset": setup.dataset,
        "split": setup.split,
        "snr_db": setup.snr_db,
        "scores": SCORES,
        "rows": to_dict(summary),
        "compared_with": comparison and comparison.base,
        "differences": to_dict(comparison.differences) if comparison else {},
        "problems": [{"name": problem.name, "what": problem.what} for problem in problems],
    }


def write_files(
    out: Path,
    setup: Setup,
    lines: Sequence[Line],
    summary: Summary,
    comparison: Comparison | None,
    about: dict[str, Any],
) -> None:
    """Write ``summary.json``, ``summary.md``, ``scores.csv``, ``boxes.png`` and ``songs.png`` into the folder of a run.

    Args:
        out: The folder.
        setup: What was scored on.
        lines: The lines of the run; without lines, no plots are drawn.
        summary: Their summary.
        comparison: Their comparison, if there is one.
        about: The result of `make_json`.
    """
    tracks = list(dict.fromkeys(line["track"] for line in lines))
    texts = {
        "summary.json": files.dump_json(about, indent=2) + "\n",
        "summary.md": format_markdown(setup, make_tables(summary, comparison), len(tracks)),
        "scores.csv": format_csv(lines),
    }
    for name, text in texts.items():
        files.write_text(out / name, text.encode("utf-8", "backslashreplace").decode())
    if not lines:
        return
    boxes = {
        score.removeprefix("v4_").upper(): {
            name: [value for value in _collect_values(lines, name, score).values() if math.isfinite(value)]
            for name in summary
        }
        for score in ("v4_sdr", "v4_isr", "v4_sir", "v4_sar")
    }
    songs = f"{len(tracks)} track{'s' if len(tracks) != 1 else ''}"
    title = f"Vocals: BSS Eval v4, medians over 1-s frames, {songs} of {_describe_setup(setup)}"
    values = {name: _collect_values(lines, name, "v4_sdr") for name in summary}
    by_song = {name: [found.get(track, math.nan) for track in tracks] for name, found in values.items()}
    with files.write_atomically(out / "boxes.png") as temporary:
        plots.draw_score_boxes(boxes, temporary, title=title, limit_db=_PLOTTED_DB)
    with files.write_atomically(out / "songs.png") as temporary:
        plots.draw_scores_by_song(tracks, by_song, temporary, title=title, label="SDR, dB", limit_db=_PLOTTED_DB)


def _collect_values(lines: Iterable[Line], name: str, score: str) -> dict[str, float]:
    """Return one score of the vocals of each track; NaN where there is none."""
    found = {line["track"]: line["vocals"][score] for line in lines if line["row"] == name}
    return {track: math.nan if value is None else value for track, value in found.items()}
