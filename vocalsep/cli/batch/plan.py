"""Decide where the outputs of each song go, and refuse what cannot work, before opening a file or loading torch."""

from __future__ import annotations

import dataclasses
import functools
import os
import string
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from vocalsep.audio.formats import FORMATS, check_output
from vocalsep.cli.batch.inputs import PIPE, Place, Song
from vocalsep.errors import AudioError, VocalsepError, describe_unknown

FIELDS = ("stem", "song", "folder", "model", "ext")
"""Fields that a template for output names may contain."""

LABELS, PICTURE = "labels", "picture"
_EXTENSIONS = {LABELS: "txt", PICTURE: "png"}  # of outputs that are no recordings
_OPTIONS = {"vocals": "-o", "accompaniment": "--accompaniment", LABELS: "--labels", PICTURE: "--picture"}
_IGNORES_CASE = os.name == "nt" or sys.platform == "darwin"  # whether file systems usually treat a and A as the same


@dataclass(frozen=True, kw_only=True)
class Job:
    """One song to process.

    Attributes:
        song: The recording.
        outputs: Where each output goes, by stem.
        refusal: Why vocalsep refuses the job; empty if it accepts the job.
        skipped: Whether vocalsep skips the job because all its outputs exist.
    """

    song: Place
    outputs: dict[str, Place]
    refusal: str = ""
    skipped: bool = False

    @property
    def label(self) -> str:
        """The song's name in messages."""
        return "standard input" if self.song == PIPE else str(self.song)

    @property
    def files(self) -> list[Path]:
        """The outputs that are files."""
        return [path for path in self.outputs.values() if isinstance(path, Path)]

    @property
    def recordings(self) -> list[Path]:
        """The outputs that are files with sound in them."""
        return [path for stem, path in self.outputs.items() if isinstance(path, Path) and stem not in _EXTENSIONS]

    @property
    def uses_pipe(self) -> bool:
        """Whether sound comes from standard input or goes to standard output."""
        return PIPE in (self.song, *self.outputs.values())

    @property
    def is_pending(self) -> bool:
        """Whether there is something to do."""
        return not self.refusal and not self.skipped


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The rules by which outputs are named.

    Attributes:
        places: What the options say for each wanted stem: a file, a folder, a template (a path with fields in braces),
            `PIPE`, an empty string for a file beside the vocals, or None for a file beside the song.
        extension: File extension, without the dot, of outputs whose option does not name a file.
        model: Name of the model.
        many: Whether there may be several songs, so that no option can name a file.

    Raises:
        typer.BadParameter: If a template has an unknown field, or several songs would go to an existing file.
    """

    places: dict[str, str | None]
    extension: str = "wav"
    model: str = ""
    many: bool = False

    def __post_init__(self) -> None:
        for stem, place in self.places.items():
            if not place or place == PIPE:
                continue
            if is_template(place):
                _check_template(place, _OPTIONS[stem])
            elif self.many and Path(place).is_file():
                raise typer.BadParameter(f"{_OPTIONS[stem]} {place} is a file; several songs need a folder")
            elif stem == PICTURE and not (self.many or self._is_folder(place) or place.lower().endswith(".png")):
                raise typer.BadParameter(f"--picture {place}: write {place}/ for a folder, or a name that ends in .png")

    def plan_job(self, song: Song) -> Job:
        """Return the job of a song, with its outputs named."""
        outputs: dict[str, Place] = {}
        try:
            for stem, place in self.places.items():
                outputs[stem] = self._name_output(song, stem, place, outputs)
        except AudioError as error:
            return Job(song=song.path, outputs={}, refusal=str(error))
        return Job(song=song.path, outputs=outputs)

    def _name_output(self, song: Song, stem: str, place: str | None, outputs: dict[str, Place]) -> Place:
        if place == PIPE:
            return PIPE
        name = f"{song.name}.{stem}.{self._choose_extension(stem)}"
        if place == "":
            place, vocals = self.places["vocals"], outputs["vocals"]
            if place is not None and "stem" not in _list_fields(place) and isinstance(vocals, Path):
                return vocals.with_name(name)
        if place is None:
            return song.path.with_name(name) if isinstance(song.path, Path) else Path(name)
        if is_template(place):
            return self._fill_template(song, stem, place)
        return Path(place) / name if self.many or self._is_folder(place) else Path(place)

    @staticmethod
    def _is_folder(place: str) -> bool:
        return Path(place).is_dir() or place.endswith(("/", os.sep))

    def _choose_extension(self, stem: str) -> str:
        return _EXTENSIONS.get(stem, self.extension)

    def _fill_template(self, song: Song, stem: str, template: str) -> Path:
        """Fill a template part by part, so that no song's name can lead into another folder."""
        values = (stem, song.name, song.folder, self.model, self._choose_extension(stem))
        fields = dict(zip(FIELDS, values, strict=True))
        parts = []
        for part in Path(template).parts:
            filled = part.format(**fields)
            if filled != part and {".", ".."} & set(filled.split("/")):
                raise AudioError(f"{song.path}: its name would move {template} to another folder; rename the song")
            parts.append(filled)
        return Path(*filter(None, parts))


def is_template(place: str) -> bool:
    """Return whether a place has fields in it."""
    return "{" in place or "}" in place


def _list_fields(place: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(place) if field is not None}


def _check_template(template: str, option: str) -> None:
    try:
        parsed = [piece for piece in string.Formatter().parse(template) if piece[1] is not None]
    except ValueError as error:
        message = f"{option} {template}: {error}; write {{{{ and }}}} for literal braces"
        raise typer.BadParameter(message) from error
    for _, field, form, conversion in parsed:
        if field not in FIELDS:
            raise typer.BadParameter(f"{option} {template}: {describe_unknown('field', str(field), FIELDS)}")
        if form or conversion:
            raise typer.BadParameter(f"{option} {template}: write a field as its name alone, as in {{{field}}}")


def check_format(naming: Naming) -> None:
    """Check that no output's name contradicts the format that --format asks for.

    Raises:
        typer.BadParameter: If a file name has another extension, a template lacks ``{ext}``, or --format asks for
            anything but wav on standard output.
    """
    for stem, place in naming.places.items():
        if stem in _EXTENSIONS or not place or place.endswith(("/", os.sep)) or Path(place).is_dir():
            continue
        if is_template(place):
            if "ext" not in _list_fields(place):
                raise typer.BadParameter(f"{_OPTIONS[stem]} {place} has no {{ext}} for --format to fill in")
        elif not naming.many:
            extension = "wav" if place == PIPE else Path(place).suffix.lower().removeprefix(".")
            if FORMATS.get(extension) is not FORMATS[naming.extension]:
                what = f"{_OPTIONS[stem]} {place}" + (" (wav)" if place == PIPE else "")
                raise typer.BadParameter(f"{what} and --format {naming.extension} are different formats; give only one")


def check_pipes(songs: Sequence[Song], naming: Naming, *, raw: bool, clip: str, processes: int) -> None:
    """Check that the options work with pipes and with samples without a header.

    Args:
        songs: The songs.
        naming: How outputs are named.
        raw: Whether the song is samples without a header.
        clip: What to do with samples beyond full scale; see `audio.CLIPPING`.
        processes: Number of songs at a time.

    Raises:
        typer.BadParameter: If they do not.
    """
    from_stdin = any(song.path == PIPE for song in songs)
    to_stdout = [stem for stem, place in naming.places.items() if place == PIPE]
    for stem in _EXTENSIONS.keys() & to_stdout:
        raise typer.BadParameter(f"{_OPTIONS[stem]} needs a file; standard output is for sound")
    if not (from_stdin or to_stdout or raw):
        return
    if naming.many or processes > 1:
        raise typer.BadParameter("pipes and --raw take one song at a time; give one SONG, and no --from-file or --jobs")
    if from_stdin and naming.places["vocals"] is None:
        raise typer.BadParameter("where should the vocals go? Give -o PATH, or -o - for standard output")
    if naming.places["vocals"] == PIPE and "" in naming.places.values():
        raise typer.BadParameter("--accompaniment, --labels and --picture need a path when -o is standard output")
    if len(to_stdout) > 1:
        raise typer.BadParameter("vocals and accompaniment cannot both go to standard output")
    if to_stdout and clip == "scale":
        raise typer.BadParameter("--clip scale needs the whole song first, so it does not work with standard output")
    if to_stdout and sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal; send the sound to a program or a file")
    if from_stdin and sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; send a recording to it")


def make(songs: Sequence[Song], naming: Naming, *, existing: str = "refuse", subtype: str | None = None) -> list[Job]:
    """Make the plan: one job for each song.

    Songs that were found in a folder and are outputs of other songs are left out.

    Args:
        songs: The songs, each once.
        naming: How outputs are named.
        existing: What to do about outputs that exist: "refuse", "overwrite", or "skip" songs that have all of them.
        subtype: Sample format of the outputs, a key of `audio.SUBTYPES`; None if the user chose none.

    Raises:
        typer.BadParameter: If two outputs would go to one file.
    """
    identify = functools.cache(_identify)
    songs = _leave_out_outputs(songs, naming, identify)
    jobs = [naming.plan_job(song) for song in songs]
    taken: dict[str, Place] = {}
    for job in jobs:
        for path in job.outputs.values():
            if taken.setdefault(identify(path), path) is not path:
                hint = "as with -o 'out/{folder}/{song}.{stem}.{ext}'"
                raise typer.BadParameter(f"{path} would be written twice; give the outputs different names, {hint}")
    inputs = {identify(song.path) for song in songs}
    checked = []
    for job in jobs:
        own = [path for path in job.files if identify(path) in inputs]
        checked.append(_check(job, own, existing=existing, subtype=subtype))
    return checked


def _leave_out_outputs(songs: Sequence[Song], naming: Naming, identify: Callable[[Place], str]) -> list[Song]:
    """Leave out the songs that this call would write itself. Songs that the call names always stay.

    A call without --accompaniment also leaves out accompaniments, which an earlier call may have written.
    """
    if all(song.named for song in songs):
        return list(songs)
    both = dataclasses.replace(naming, places=naming.places | {"accompaniment": naming.places.get("accompaniment", "")})
    makers: dict[str, set[Place]] = {}
    for song in songs:
        for path in both.plan_job(song).outputs.values():
            makers.setdefault(identify(path), set()).add(song.path)
    return [song for song in songs if song.named or makers.get(identify(song.path), set()) <= {song.path}]


def _check(job: Job, own: list[Path], *, existing: str, subtype: str | None) -> Job:
    """Return a job with its refusal, if any. `own` lists the outputs of the job that are also songs of the call."""
    if job.refusal:
        return job
    try:
        for path in job.recordings:
            check_output(path, subtype=subtype)
        for path in job.files:
            if path in own:
                raise AudioError(f"{path}: is one of the input songs; choose another output")
        there = [path for path in job.files if path.exists()]
    except VocalsepError as error:
        return dataclasses.replace(job, refusal=str(error))
    except OSError as error:  # the name is too long, or the folder is not accessible
        return dataclasses.replace(job, refusal=f"{error.filename}: cannot be written ({error.strerror})")
    if there and existing == "refuse":
        choice = "choose another output, or add --overwrite or --skip-existing"
        return dataclasses.replace(job, refusal=f"{there[0]}: already exists; {choice}")
    return dataclasses.replace(job, skipped=existing == "skip" and len(there) == len(job.outputs))


def _identify(path: Place) -> str:
    """Return the same text for all spellings of a path."""
    if path == PIPE:
        return PIPE
    real = os.path.realpath(path)
    return real.casefold() if _IGNORES_CASE else real
