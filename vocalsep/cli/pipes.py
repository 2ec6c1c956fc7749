"""``vocalsep extract - -o -``: one song from standard input, to standard output, or both."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from vocalsep.cli.batch import plan, progress, work
from vocalsep.cli.batch.plan import PIPE
from vocalsep.cli.common import exit_on_error, report_error, report_warning
from vocalsep.errors import AudioError, ConfigError, VocalsepError

if TYPE_CHECKING:
    from vocalsep.audio import SampleLayout


def asked(songs: Sequence[str], raw: str | None, *outputs: str | None) -> bool:
    """Whether a call is about pipes, or samples without a header."""
    return raw is not None or PIPE in (*songs, *outputs)


def extract(
    songs: Sequence[str],
    vocals: str | None,
    accompaniment: str | None,
    labels: str | None,
    *,
    settings: work.Settings,
    ending: str | None,
    raw: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Extracts from one song, `PIPE` being a pipe wherever it stands.

    Args:
        songs: The song.
        vocals: Where the vocals go.
        accompaniment: Where the accompaniment goes, if it does.
        labels: Where the label track goes, if it does.
        settings: What is computed.
        ending: That outputs must have, if any.
        raw: How samples without a header lie, as `audio.parse_sample_layout` understands it.
        overwrite: Whether to replace files that exist.
        as_json: Whether to tell what was done as JSON; on stdout, or on stderr if the sound goes there.

    Raises:
        typer.BadParameter: If that makes no sense.
    """
    song, places = _check(songs, vocals, accompaniment, labels, settings.clip, ending)
    with exit_on_error():
        for path, sound in ((vocals, True), (accompaniment, True), (labels, False)):
            if path not in (None, PIPE):
                _check_file(Path(path or ""), song, overwrite=overwrite, subtype=settings.subtype, sound=sound)
    layout = None if raw is None else _layout(raw)
    with exit_on_error():
        extractor = work.extractor(settings, at_once=True)
    if extractor.clusters and (song == sys.stdin.buffer or raw):
        report_warning(
            "what is read once (raw samples, wav from a pipe) is not clustered; the net's own masks are used"
        )
    from vocalsep import extraction

    try:
        report = dataclasses.asdict(
            extraction.extract(
                song,
                places[0],
                accompaniment=places[1] if len(places) > 1 else None,
                extractor=extractor,
                subtype=settings.subtype,
                clip=settings.clip,
                labels=labels,
                raw=layout,
            )
        )
    except BrokenPipeError:  # nobody listens any more: Typer ends quietly, with status 1
        raise
    except OSError as error:
        report_error(AudioError(f"{error.filename or vocals}: {error.strerror}"))
        raise typer.Exit(1) from error
    except VocalsepError as error:
        report_error(error)
        raise typer.Exit(1) from error
    told_on = sys.stderr if sys.stdout.buffer in places else sys.stdout
    for text in progress.remarks(report):
        report_warning(text)
    if as_json or told_on is sys.stdout:
        told_on.write(progress.result(report, as_json=as_json))


def _check(
    songs: Sequence[str],
    vocals: str | None,
    accompaniment: str | None,
    labels: str | None,
    clip: str,
    ending: str | None,
) -> tuple[Path | BinaryIO, list[Path | BinaryIO]]:
    """The song and the outputs, opened if they are pipes."""
    if len(songs) != 1:
        raise typer.BadParameter(f"through pipes, and with --raw, songs go one at a time; {len(songs)} were given")
    if labels == PIPE:
        raise typer.BadParameter("--labels need a file; standard output is for sound")
    if vocals is None:
        raise typer.BadParameter("where to? Give -o PATH, or -o - for standard output")
    if "" in (accompaniment, labels):
        raise typer.BadParameter("--accompaniment and --labels need a path, where pipes or --raw are used")
    names = [path for path in (vocals, accompaniment) if path is not None]
    if names == [PIPE, PIPE]:
        raise typer.BadParameter("vocals and accompaniment cannot both go to standard output")
    files = [Path(path).resolve() for path in (*names, labels) if path not in (None, PIPE)]
    if len(files) > len(set(files)):
        raise typer.BadParameter("one file would be written twice; give the outputs different names")
    for option, name in (("-o", vocals), ("--accompaniment", accompaniment)):
        if ending and name:
            plan.check_name(option, name, ending)
    if PIPE in names and clip == "scale":
        raise typer.BadParameter("--clip scale needs the whole song, for which standard output does not wait")
    if PIPE in names and sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal; send the sound to a program or a file")
    if songs[0] == PIPE and sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; send sound to it")
    song: Path | BinaryIO = sys.stdin.buffer if songs[0] == PIPE else Path(songs[0])
    return song, [sys.stdout.buffer if name == PIPE else Path(name) for name in names]


def _check_file(path: Path, song: Path | BinaryIO, *, overwrite: bool, subtype: str | None, sound: bool) -> None:
    """Refuses an output before anything is computed, and makes its folder."""
    from vocalsep import audio

    if sound:
        audio.check_output(path, subtype=subtype)
    if isinstance(song, Path) and path.resolve() == song.resolve():
        raise AudioError(f"{path}: is a song to be read; choose another output")
    if path.exists() and not overwrite:
        raise AudioError(f"{path}: exists already; choose another output or add --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(f"{error.filename or path}: {error.strerror}") from error


def _layout(raw: str) -> SampleLayout:
    from vocalsep import audio

    try:
        return audio.parse_sample_layout(raw)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
