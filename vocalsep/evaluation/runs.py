"""Scoring of a whole data set, that can be stopped anywhere and resumed.

A run is a folder. ``tracks.jsonl`` has one line for each track and row, written as soon as it is known; a line that
was cut off by a stop is dropped. ``setup.json`` says what was scored on; another setup needs another folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from vocalsep import files
from vocalsep.datasets import splits
from vocalsep.datasets.tracks import Problem, Track
from vocalsep.errors import ConfigError, DatasetError, VocalsepError
from vocalsep.evaluation.rows import Row, strangers
from vocalsep.evaluation.scores import TARGETS, Ruler
from vocalsep.evaluation.songs import Setup, load

_FORM = 1  # of the scores; a run whose lines mean something else must not be resumed

Line = dict[str, Any]
"""What is known of one track and row: ``track``, ``song``, ``row``, ``fingerprint``, ``seconds``, scores by target."""


@dataclass(frozen=True)
class Task:
    """A track and those of its rows that are not known yet."""

    track: Track
    rows: tuple[tuple[Row, str], ...]  # with their fingerprints
    setup: Setup


@dataclass(frozen=True)
class Outcome:
    """What was found of a task; of each row a line or a problem."""

    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]


def evaluate(
    setup: Setup,
    rows: Sequence[Row],
    out: Path,
    *,
    limit: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[list[Line], list[Problem]]:
    """Scores all rows on all tracks of a data set, as far as `out` does not have the scores yet.

    Args:
        setup: What is scored on.
        rows: What is scored.
        out: The run's folder; made if it is not there.
        limit: Only the first so many tracks.
        executor: Where tracks are scored side by side; here, one by one, if none is given.
        progress: Is told how many of how many tracks are done.

    Returns:
        Lines in order of rows and tracks, and what could not be scored.

    Raises:
        ConfigError: If `out` holds a run of another setup, or a process of the executor died.
        DatasetError: If the data set's folder is laid out differently, or `out` cannot be written.
    """
    listing = setup.find()
    tracks = listing.tracks[:limit]
    leaks = _leaks(rows, tracks, shares_singers=listing.shares_singers)
    try:
        problems = [*listing.problems, *_lone_files(rows, listing.tracks), *leaks.values()]
        asked = [(row, track) for row in rows for track in tracks if (row.name, track.name) not in leaks]
        wanted = {(row.name, track.name): row.fingerprint(track) for row, track in asked}
        known = _open(setup, out)
        done = {key: known[key] for key in wanted if key in known and known[key]["fingerprint"] == wanted[key]}
        tasks = []
        for track in tracks:
            here = [row for row in rows if (row.name, track.name) in wanted.keys() - done.keys()]
            missing = [(row, wanted[row.name, track.name]) for row in here]
            if missing:
                tasks.append(Task(track, tuple(missing), setup))
        count = len(tracks) - len(tasks)
        progress(count, len(tracks))
        with (out / "tracks.jsonl").open("a", encoding="utf-8") as log:
            for outcome in _outcomes(tasks, executor):
                _append(log, outcome.lines)
                done |= {(line["row"], line["track"]): line for line in outcome.lines}
                problems += outcome.problems
                count += 1
                progress(count, len(tracks))
    except OSError as error:
        raise DatasetError(f"{error.filename or out}: {error.strerror}") from error
    return [done[key] for key in wanted if key in done], problems


def _leaks(rows: Iterable[Row], tracks: Iterable[Track], *, shares_singers: bool) -> dict[tuple[str, str], Problem]:
    """What must not be scored since the row's model was trained on it, by row and track."""
    tracks, leaks = list(tracks), {}
    for row in rows:
        heard = row.heard()
        for track in tracks:
            song = splits.has_heard_song(heard, track)
            if song or (not shares_singers and splits.has_heard_singer(heard, track)):
                what = "the song" if song else f"its singer or artist, {track.group},"
                problem = Problem(f"{track.name}, {row.name}", f"not scored: {what} was trained on")
                leaks[row.name, track.name] = problem
    return leaks


def _lone_files(rows: Iterable[Row], tracks: Sequence[Track]) -> list[Problem]:
    names = [track.name for track in tracks]
    return [
        Problem(f"{row.name}: {path}", "belongs to no track of the data set")
        for row in rows
        if row.folder is not None
        for path in strangers(row.folder, names)
    ]


def _outcomes(tasks: Iterable[Task], executor: Executor | None) -> Iterator[Outcome]:
    if executor is None:
        yield from map(score_track, tasks)
        return
    futures = [executor.submit(score_track, task) for task in tasks]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BrokenExecutor as error:
        raise ConfigError("a scoring process died, perhaps for lack of memory; go on with fewer --jobs") from error


def score_track(task: Task) -> Outcome:
    """Scores the rows of one track; problems are told, not raised."""
    track, lines, problems = task.track, [], []
    try:
        song = load(track, task.setup)
        ruler = Ruler(song)
    except VocalsepError as error:
        return Outcome((), (Problem(track.name, str(error)),))
    for row, fingerprint in task.rows:
        try:
            scores = ruler(row.estimate(track.name, song))
        except VocalsepError as error:
            problems.append(Problem(f"{track.name}, {row.name}", str(error)))
            continue
        lines.append(
            {
                "track": track.name,
                "song": track.song or track.name,
                "row": row.name,
                "fingerprint": fingerprint,
                "seconds": round(song.seconds, 4),
                **scores,
            }
        )
    return Outcome(tuple(lines), tuple(problems))


def _open(setup: Setup, out: Path) -> dict[tuple[str, str], Line]:
    """Makes or opens a run's folder and gives its lines."""
    out.mkdir(parents=True, exist_ok=True)
    about = {
        "form": _FORM,
        "dataset": setup.dataset,
        "root": str(setup.root.resolve()),
        "split": setup.split,
        "snr_db": setup.snr_db,
    }
    path = out / "setup.json"
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path}: not the setup of a run; choose another --out") from error
        other = [key for key, value in about.items() if found.get(key) != value]
        if other:
            changes = ", ".join(f"{key} {found.get(key)}, not {about[key]}" for key in other)
            raise ConfigError(f"{out}: holds scores of another setup ({changes}); choose another --out")
    else:
        files.write_text(path, json.dumps(about, indent=2) + "\n")
    return _read(out / "tracks.jsonl")


def _read(path: Path) -> dict[tuple[str, str], Line]:
    """Lines of an earlier part of the run; of several for one track and row the last counts.

    Raises:
        ConfigError: If a line is not one of a run.
    """
    if not path.exists():
        return {}
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):  # stopped in the middle of a line
        with path.open("r+b") as file:
            file.truncate(len(whole))
    lines = {}
    for number, part in enumerate(whole.decode("utf-8", errors="replace").split("\n")[:-1], start=1):
        try:
            line = json.loads(part)
            _ = [line[key] for key in ("fingerprint", "seconds", *TARGETS)]
            lines[line["row"], line["track"]] = line
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: line {number} is not a line of scores; choose another --out") from error
    return lines


def _append(log: TextIO, lines: Iterable[Line]) -> None:
    for line in lines:
        log.write(files.dump_json(line) + "\n")
    log.flush()
