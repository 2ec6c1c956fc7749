"""The page of a run: one HTML file to sort songs by their scores, to listen to them, and for blind tests."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocalsep import files
from vocalsep.errors import DatasetError
from vocalsep.evaluation.estimators import CEILING, MIXTURE, Estimator
from vocalsep.evaluation.passages import Passage, Store, match_levels, read_about
from vocalsep.evaluation.runs import Line
from vocalsep.evaluation.scores import SCORES, TARGETS
from vocalsep.evaluation.songs import Setup
from vocalsep.evaluation.summary import Statistics, Summary
from vocalsep.listening import page as pages

_MARK = '<meta name="generator" content="vocalsep eval">'
_HEAD = 4_096  # bytes of a page in which the mark is found
_SONG = ("mixture", "reference")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a page shows.

    Attributes:
        setup: What was scored on.
        estimators: What was scored, in order.
        lines: The lines of the run.
        summary: Their summary.
        passages: Folder of the passages; see `passages`.
        version: Version of vocalsep.
        command: The command line of the run.
    """

    setup: Setup
    estimators: Sequence[Estimator]
    lines: Sequence[Line]
    summary: Summary
    passages: Path
    version: str
    command: str


def check_page(path: Path) -> None:
    """Check that a page may be written: the file is a page of an earlier run, or there is none.

    Raises:
        DatasetError: If something else is there.
    """
    try:
        with path.open("rb") as file:
            ours = _MARK.encode() in file.read(_HEAD)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from error
    if not ours:
        raise DatasetError(f"{path}: already exists, and is not a page of 'vocalsep eval'; choose another path")


def write_page(path: Path, run: Run) -> None:
    """Write the page of a run, song by song, so that memory does not grow with the passages.

    Args:
        path: The file to write or replace.
        run: The run.

    Raises:
        AudioError: If the page cannot be written.
        DatasetError: If its folder cannot be created, or the passages cannot be read.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pages.write_texts(path, _generate(run))
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise DatasetError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def _generate(run: Run) -> Iterator[str]:
    lines = {(line["track"], line["row"]): line for line in run.lines}
    tracks = {line["track"]: line["seconds"] for line in run.lines}
    found = [_find_passages(run, lines, track) for track in tracks]
    about = {
        "dataset": run.setup.dataset,
        "split": run.setup.split,
        "snr": run.setup.snr_db,
        "version": run.version,
        "command": run.command,
        "targets": TARGETS,
        "scores": SCORES,
        "rows": [{"name": estimator.name, "kind": _describe_kind(estimator)} for estimator in run.estimators],
        "summary": [_list_statistics(run.summary[row.name]) for row in run.estimators],
        "songs": [
            {
                "name": track,
                "seconds": seconds,
                "heard": passages is not None,
                "scores": [
                    [[line[target][score] for score in SCORES] for target in TARGETS] if line else None
                    for line in (lines.get((track, row.name)) for row in run.estimators)
                ],
            }
            for (track, seconds), passages in zip(tracks.items(), found, strict=True)
        ],
    }
    level = "" if run.setup.snr_db is None else f", {run.setup.snr_db:g} dB"
    head, body, end = pages.read_template("evaluation.html", f"{run.setup.dataset}, {run.setup.split}{level}")
    charset = '<meta charset="utf-8">'
    yield head.replace(charset, f"{charset}\n{_MARK}") + pages.embed_json("run", about) + body
    for number, bundles in enumerate(found):
        if bundles:
            yield from _embed_song(str(number), bundles, run.estimators)
    yield end


def _list_statistics(targets: dict[str, dict[str, Statistics]]) -> list[list[dict[str, float | None]]]:
    """Return median and mean by target and score."""
    found = [[targets[target][score] for score in SCORES] for target in TARGETS]
    return [[{"median": each.median, "mean": each.mean} for each in scores] for scores in found]


def _describe_kind(estimator: Estimator) -> str:
    if estimator.is_compared:
        return "model"
    return "floor" if estimator.name == MIXTURE else "ceiling"


@dataclass(frozen=True)
class _Bundles:
    song: Path
    estimates: dict[str, Path]  # by name of the estimator


def _find_passages(run: Run, lines: dict[tuple[str, str], Line], track: str) -> _Bundles | None:
    """Find what is kept of a song; None if there is nothing."""
    store = Store(run.passages, track)
    fingerprints = {
        estimator.name: lines[track, estimator.name]["fingerprint"]
        for estimator in run.estimators
        if estimator.is_compared and (track, estimator.name) in lines
    }
    for chooser in fingerprints.values():
        passages = store.read_passages(chooser)
        if passages is not None:
            located = {name: store.locate_estimate(each, passages) for name, each in fingerprints.items()}
            estimates = {name: path for name, path in located.items() if path.exists()}
            return _Bundles(store.locate_song(chooser), estimates)
    return None


def _embed_song(song: str, bundles: _Bundles, estimators: Sequence[Estimator]) -> Iterator[str]:
    """Yield the elements of a song. Its stems are numbered, because names may hold anything."""
    about = read_about(bundles.song)
    rows = [estimator.name for estimator in estimators]
    parts = [(bundles.song, kind, kind, rows.index(MIXTURE)) for kind in _SONG]
    estimates = {name: read_about(path) for name, path in bundles.estimates.items()}
    parts += [
        (path, kind, f"{kind}-{rows.index(name)}", rows.index(name))
        for name, path in bundles.estimates.items()
        for kind in ("estimate", "error")
    ]
    levels = [(about if kind in _SONG else estimates[rows[row]])["levels"][kind] for _, kind, _, row in parts]
    gains = match_levels(about["levels"]["reference"], levels)
    described: dict[str, Any] = {
        "stems": [stem for _, _, stem, _ in parts],
        "grid": about["grid"],
        "sources": [
            {
                "kind": kind,
                "row": row,
                "gains": gain,
                "sdr": estimates[rows[row]]["sdr"] if kind == "estimate" else None,
            }
            for (_, kind, _, row), gain in zip(parts, gains, strict=True)
        ],
        "passages": [
            {"kind": passage.kind, "from": passage.start / about["songRate"], "to": passage.stop / about["songRate"]}
            for passage in (Passage(**each) for each in about["passages"])
        ],
        "silent": [loudness is None for loudness in about["levels"]["reference"]["loudness"]],
        "seconds": about["seconds"],
        "frameSeconds": about["frameSeconds"],
        "frames": [
            *({"row": rows.index(name), "sdr": estimate["frames"]} for name, estimate in estimates.items()),
            {"row": rows.index(MIXTURE), "sdr": about["frames"]["floor"]},
            {"row": rows.index(CEILING), "sdr": about["frames"]["ceiling"]},
        ],
        "waveform": about["waveform"],
    }
    yield pages.embed_bytes(f"{song}/song.json", files.dump_json(described).encode())
    for path, kind, stem, _ in parts:
        with zipfile.ZipFile(path) as bundle:
            for name in bundle.namelist():
                if name.startswith(f"{kind}/"):
                    yield pages.embed_bytes(f"{song}/{stem}/{name.split('/')[1]}", bundle.read(name))
