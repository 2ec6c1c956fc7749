"""Score a whole data set in a run that can be stopped at any time and continued later.

A run is a folder. ``tracks.jsonl`` holds one line per track and estimator, written as soon as its scores are known. An
incomplete last line, which a stopped run may leave, is dropped. ``setup.json`` says what was scored on; a different
setup needs a different folder.
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
from vocalsep.errors import ConfigError, DatasetError, VocalsepError, describe_error
from vocalsep.evaluation.estimators import Estimator, apply_ceiling, find_unmatched_files
from vocalsep.evaluation.passages import Collector, Store
from vocalsep.evaluation.scores import TARGETS, Scorer
from vocalsep.evaluation.songs import Setup, load

_FORM = 1  # version of the scores: a run whose lines mean something else must not be continued

Line = dict[str, Any]
"""The scores of one estimator on one track: ``track``, ``song``, ``row``, ``fingerprint``, ``seconds``, and `TARGETS`.

``row`` is the name of the estimator.
"""


@dataclass(frozen=True)
class Task:
    """What to do with one estimator on one track."""

    estimator: Estimator
    fingerprint: str
    scored: bool  # whether its scores are known already


@dataclass(frozen=True)
class Job:
    """One track, and its tasks in the order of estimators."""

    track: Track
    tasks: tuple[Task, ...]
    setup: Setup
    passages: Path | None = None  # folder for passages of the estimates that are compared; None to cut none


@dataclass(frozen=True)
class JobResult:
    """The result of a job: a line or a problem for each estimator."""

    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]


def evaluate(
    setup: Setup,
    estimators: Sequence[Estimator],
    out: Path,
    *,
    limit: int | None = None,
    passages: Path | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[list[Line], list[Problem]]:
    """Score estimators on all tracks of a data set, except where `out` already holds their scores.

    Args:
        setup: What to score on.
        estimators: What to score.
        out: Folder of the run; created if necessary.
        limit: Score only the first N tracks.
        passages: Folder in which passages are kept that a page plays; see `passages`. Estimates whose scores are
            known are made again if their passages are missing.
        executor: Scores several tracks at once; by default they are scored here, one by one.
        progress: Called with the number of tracks done and the total number.

    Returns:
        The lines, in the order of estimators and tracks, and what could not be scored.

    Raises:
        ConfigError: If `out` holds a run of another setup, or a process of the executor died.
        DatasetError: If the folder does not have the data set's layout, or `out` cannot be written.
    """
    listing = setup.list_tracks()
    tracks = listing.tracks[:limit]
    leaks = _find_leaks(estimators, tracks, shares_singers=listing.shares_singers)
    try:
        problems = [*listing.problems, *_list_unmatched_files(estimators, listing.tracks), *leaks.values()]
        fingerprints = {
            (estimator.name, track.name): estimator.compute_fingerprint(track)
            for estimator in estimators
            for track in tracks
            if (estimator.name, track.name) not in leaks
        }
        stored = _open_run(setup, out)
        done = {
            key: stored[key]
            for key, fingerprint in fingerprints.items()
            if key in stored and stored[key]["fingerprint"] == fingerprint
        }
        jobs = []
        for track in tracks:
            keys = [(estimator, (estimator.name, track.name)) for estimator in estimators]
            tasks = tuple(Task(e, fingerprints[key], key in done) for e, key in keys if key in fingerprints)
            compared = [task.fingerprint for task in tasks if task.estimator.is_compared]
            if not all(task.scored for task in tasks) or not (
                passages is None or Store(passages, track.name).is_complete(compared)
            ):
                jobs.append(Job(track, tasks, setup, passages))
        count = len(tracks) - len(jobs)
        progress(count, len(tracks))
        with (out / "tracks.jsonl").open("a", encoding="utf-8") as log:
            for result in _run_jobs(jobs, executor):
                _append_lines(log, result.lines)
                done |= {(line["row"], line["track"]): line for line in result.lines}
                problems += result.problems
                count += 1
                progress(count, len(tracks))
    except OSError as error:
        raise DatasetError(f"{error.filename or out}: {describe_error(error)}") from error
    return [done[key] for key in fingerprints if key in done], problems


def _find_leaks(
    estimators: Iterable[Estimator], tracks: Iterable[Track], *, shares_singers: bool
) -> dict[tuple[str, str], Problem]:
    """Find the tracks that a model was trained on and must not be scored on, keyed by names of estimator and track."""
    tracks, leaks = list(tracks), {}
    for estimator in estimators:
        heard = estimator.read_heard()
        for track in tracks:
            is_song = splits.has_heard_song(heard, track)
            if is_song or (not shares_singers and splits.has_heard_singer(heard, track)):
                what = "this song" if is_song else f"its singer or artist, {track.group}"
                problem = Problem(f"{track.name}, {estimator.name}", f"not scored: the model was trained on {what}")
                leaks[estimator.name, track.name] = problem
    return leaks


def _list_unmatched_files(estimators: Iterable[Estimator], tracks: Sequence[Track]) -> list[Problem]:
    names = [track.name for track in tracks]
    return [
        Problem(f"{estimator.name}: {path}", "belongs to no track of the data set")
        for estimator in estimators
        if estimator.folder is not None
        for path in find_unmatched_files(estimator.folder, names)
    ]


def _run_jobs(jobs: Iterable[Job], executor: Executor | None) -> Iterator[JobResult]:
    if executor is None:
        yield from map(score_track, jobs)
        return
    futures = [executor.submit(score_track, job) for job in jobs]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BrokenExecutor as error:
        raise ConfigError("a scoring process died, perhaps out of memory; run it again with fewer --jobs") from error


def score_track(job: Job) -> JobResult:
    """Do the tasks of one job. Problems are returned, not raised."""
    track, lines, problems = job.track, [], []
    try:
        song = load(track, job.setup)
        scorer = None if all(task.scored for task in job.tasks) else Scorer(song)
    except VocalsepError as error:
        return JobResult((), (Problem(track.name, str(error)),))
    collector = None
    if job.passages:
        collector = Collector(Store(job.passages, track.name), song, lambda: apply_ceiling(track.name, song))
    for task in job.tasks:
        estimator, fingerprint = task.estimator, task.fingerprint
        heard = collector is not None and estimator.is_compared and collector.needs(fingerprint)
        if task.scored and not heard:
            continue
        try:
            parts = estimator.estimate(track.name, song)
            if scorer and not task.scored:
                about = {"track": track.name, "song": track.song or track.name, "row": estimator.name}
                seconds = round(song.seconds, 4)
                lines.append({**about, "fingerprint": fingerprint, "seconds": seconds, **scorer(parts)})
            if collector and heard:
                collector.add(fingerprint, parts.vocals)
        except VocalsepError as error:
            problems.append(Problem(f"{track.name}, {estimator.name}", str(error)))
    return JobResult(tuple(lines), tuple(problems))


def _open_run(setup: Setup, out: Path) -> dict[tuple[str, str], Line]:
    """Create or open the folder of a run, and return its lines, keyed by names of estimator and track."""
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
            stored = files.parse_json(path.read_text(encoding="utf-8"))
            if not isinstance(stored, dict):
                raise ValueError("it is not a table")
        except ValueError as error:
            raise ConfigError(f"{path}: not the setup of a run; choose another --out") from error
        changed = [key for key, value in about.items() if stored.get(key) != value]
        if changed:
            changes = ", ".join(f"{key} {stored.get(key)}, not {about[key]}" for key in changed)
            raise ConfigError(f"{out}: holds scores of another setup ({changes}); choose another --out")
    else:
        files.write_text(path, json.dumps(about, indent=2) + "\n")
    return _read_lines(out / "tracks.jsonl")


def _read_lines(path: Path) -> dict[tuple[str, str], Line]:
    """Read the lines of an earlier run. If there are several for one estimator and track, the last one counts.

    Raises:
        ConfigError: If a line is not a line of scores.
    """
    if not path.exists():
        return {}
    text = path.read_bytes()
    complete = text[: text.rfind(b"\n") + 1]
    if len(complete) < len(text):  # the run was stopped in the middle of a line
        with path.open("r+b") as file:
            file.truncate(len(complete))
    lines = {}
    for number, part in enumerate(complete.decode("utf-8", errors="replace").split("\n")[:-1], start=1):
        try:
            line = files.parse_json(part)
            _ = [line[key] for key in ("fingerprint", "seconds", *TARGETS)]
            lines[line["row"], line["track"]] = line
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: line {number} is not a line of scores; choose another --out") from error
    return lines


def _append_lines(log: TextIO, lines: Iterable[Line]) -> None:
    for line in lines:
        log.write(files.dump_json(line) + "\n")
    log.flush()
