"""What is told of a run: tables for people, CSV and JSON for programs, plots."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocalsep import files, plots
from vocalsep.datasets.tracks import Problem
from vocalsep.evaluation.runs import Line
from vocalsep.evaluation.scores import SCORES, TARGETS
from vocalsep.evaluation.songs import Setup
from vocalsep.evaluation.summary import Figure, Summary, as_dict

_PLOTTED_DB = 60.0  # what lies beyond stands for no error at all, and would squeeze the rest


@dataclass(frozen=True)
class _Column:
    head: str
    score: str
    over_tracks: str  # a field of Figure
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


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: What it shows.
        head: Its columns.
        rows: Its rows, as wide as the head.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(summary: Summary) -> list[Table]:
    """A table for each family of scores and each target, in dB, with 95 % intervals in brackets."""
    made = []
    for title, columns in _TABLES.items():
        for target in TARGETS:
            rows = [(row, *(_cell(targets[target][c.score], c) for c in columns)) for row, targets in summary.items()]
            made.append(Table(f"{target.capitalize()}: {title}", ("estimate", *(c.head for c in columns)), tuple(rows)))
    return made


def _cell(figure: Figure, column: _Column) -> str:
    value, interval = getattr(figure, column.over_tracks), getattr(figure, f"{column.over_tracks}_interval")
    if value is None:
        return "-"
    return f"{value:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if column.interval and interval else "")


def markdown(setup: Setup, made: Iterable[Table], tracks: int) -> str:
    """The tables as Markdown."""
    lines = [f"{_about(setup)}, {tracks} tracks; dB, 95 % bootstrap intervals over songs in brackets."]
    for table in made:
        lines += ["", f"### {table.title}", "", _bar(table.head), _bar(["---"] * len(table.head))]
        lines += [_bar(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def _bar(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _about(setup: Setup) -> str:
    level = "" if setup.snr_db is None else f", voice at {setup.snr_db:g} dB"
    return f"{setup.dataset}, split {setup.split}{level}"


def comma_separated(lines: Iterable[Line]) -> str:
    """A line for each track, row and target, with all scores; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["track", "song", "seconds", "row", "target", *SCORES])
    for line in lines:
        for target in TARGETS:
            about = [line[key] for key in ("track", "song", "seconds", "row")]
            writer.writerow([*about, target, *(line[target][name] for name in SCORES)])
    return text.getvalue()


def as_json(setup: Setup, summary: Summary, problems: Sequence[Problem], version: str) -> dict[str, Any]:
    """All that a program may want to know of a run but its tracks."""
    return {
        "vocalsep": version,
        "dataset": setup.dataset,
        "split": setup.split,
        "snr_db": setup.snr_db,
        "scores": SCORES,
        "rows": as_dict(summary),
        "problems": [{"name": problem.name, "what": problem.what} for problem in problems],
    }


def write(out: Path, setup: Setup, lines: Sequence[Line], summary: Summary, about: dict[str, Any]) -> None:
    """Writes ``summary.json``, ``summary.md``, ``scores.csv``, ``boxes.png`` and ``songs.png`` into a run's folder.

    Args:
        out: The folder.
        setup: What was scored on.
        lines: The run's lines.
        summary: Their summary.
        about: From `as_json`.
    """
    tracks = list(dict.fromkeys(line["track"] for line in lines))
    texts = {
        "summary.json": files.dump_json(about, indent=2) + "\n",
        "summary.md": markdown(setup, tables(summary), len(tracks)),
        "scores.csv": comma_separated(lines),
    }
    for name, text in texts.items():
        files.write_text(out / name, text.encode("utf-8", "backslashreplace").decode())
    if not lines:
        return
    boxes = {
        f"{name.removeprefix('v4_').upper()} of vocals, dB": {
            row: [v for v in _values(lines, row, name).values() if abs(v) < _PLOTTED_DB] for row in summary
        }
        for name in ("v4_sdr", "v4_isr", "v4_sir", "v4_sar")
    }
    title = f"{_about(setup)}: BSS Eval v4, medians over 1-s frames"
    by_row = {row: _values(lines, row, "v4_sdr") for row in summary}
    songs = {row: [values.get(track, math.nan) for track in tracks] for row, values in by_row.items()}
    with files.write_atomically(out / "boxes.png") as temporary:
        plots.score_boxes(boxes, temporary, title=title)
    with files.write_atomically(out / "songs.png") as temporary:
        plots.scores_by_song(tracks, songs, temporary, title=title, label="SDR of vocals, dB")


def _values(lines: Iterable[Line], row: str, score: str) -> dict[str, float]:
    found = {line["track"]: line["vocals"][score] for line in lines if line["row"] == row}
    return {track: math.nan if value is None else value for track, value in found.items()}
