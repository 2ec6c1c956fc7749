"""Where the parts of each song go, and what speaks against that. Nothing is opened, and torch is not needed."""

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
from vocalsep.cli.batch.inputs import Song
from vocalsep.errors import AudioError, VocalsepError, describe_unknown

FIELDS = ("stem", "song", "folder", "model", "ext")
"""What names of outputs may be made from."""

LABELS = "labels"  # the one output that is no sound
PIPE = "-"
_OPTIONS = {"vocals": "-o", "accompaniment": "--accompaniment", LABELS: "--labels"}
_SAME_LETTERS = os.name == "nt" or sys.platform == "darwin"  # file systems that do not tell a from A


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done with one song.

    Attributes:
        song: The recording.
        outputs: The files to be, by stem.
        refusal: Why it is not done; empty if nothing speaks against it.
        skipped: Whether it needs not be done, since its outputs exist.
    """

    song: Path
    outputs: dict[str, Path]
    refusal: str = ""
    skipped: bool = False

    @property
    def sounds(self) -> list[Path]:
        """The outputs that are recordings."""
        return [path for stem, path in self.outputs.items() if stem != LABELS]

    @property
    def is_open(self) -> bool:
        """Whether there is something to do."""
        return not self.refusal and not self.skipped


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How outputs are called.

    Attributes:
        places: What the options say for each stem that is wanted: a file, a folder, a template (a path with fields in
            braces), an empty text for a place beside the vocals, or None for one beside the song.
        ending: Of files that are not named in full, without its dot.
        model: Name of the model.
        many: Whether there may be several songs, so that a file cannot be meant.

    Raises:
        typer.BadParameter: If a template has no such field, or several songs would go to something that is a file.
    """

    places: dict[str, str | None]
    ending: str = "wav"
    model: str = ""
    many: bool = False

    def __post_init__(self) -> None:
        for stem, place in self.places.items():
            if not place:
                continue
            if is_template(place):
                _check_template(place, _OPTIONS[stem])
            elif self.many and Path(place).is_file():
                raise typer.BadParameter(f"{_OPTIONS[stem]} {place} is a file; several songs need a folder")

    def job(self, song: Song) -> Job:
        """Names the outputs of a song."""
        outputs: dict[str, Path] = {}
        try:
            for stem, place in self.places.items():
                outputs[stem] = self._place(song, stem, place, outputs)
        except AudioError as error:
            return Job(song=song.path, outputs={}, refusal=str(error))
        return Job(song=song.path, outputs=outputs)

    def _place(self, song: Song, stem: str, place: str | None, outputs: dict[str, Path]) -> Path:
        name = f"{song.path.stem}.{stem}.{self._ending(stem)}"
        if place == "":
            place = self.places["vocals"]
            if place is not None and "stem" not in _fields(place):
                return outputs["vocals"].with_name(name)
        if place is None:
            return song.path.with_name(name)
        if is_template(place):
            return self._filled(song, stem, place)
        path = Path(place)
        if self.many or path.is_dir() or place.endswith(("/", os.sep)):
            return path / name
        return path

    def _ending(self, stem: str) -> str:
        return "txt" if stem == LABELS else self.ending

    def _filled(self, song: Song, stem: str, template: str) -> Path:
        """A template with its fields, part by part, so that none can lead to another folder than it says."""
        values = (stem, song.path.stem, song.folder, self.model, self._ending(stem))
        fields = dict(zip(FIELDS, values, strict=True))
        parts = []
        for part in Path(template).parts:
            filled = part.format(**fields)
            if filled != part and {".", ".."} & set(filled.split("/")):
                raise AudioError(f"{song.path}: with such a name {template} would lead elsewhere; give it another name")
            parts.append(filled)
        return Path(*filter(None, parts))


def is_template(place: str) -> bool:
    """Whether a place has fields in it."""
    return "{" in place or "}" in place


def _fields(place: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(place) if field is not None}


def _check_template(template: str, option: str) -> None:
    try:
        parsed = [piece for piece in string.Formatter().parse(template) if piece[1] is not None]
    except ValueError as error:
        message = f"{option} {template}: {error}; braces that are meant literally are doubled"
        raise typer.BadParameter(message) from error
    for _, field, form, conversion in parsed:
        if field not in FIELDS:
            raise typer.BadParameter(f"{option} {template}: {describe_unknown('field', str(field), FIELDS)}")
        if form or conversion:
            raise typer.BadParameter(f"{option} {template}: a field is its name alone, as in {{{field}}}")


def check_ending(naming: Naming) -> None:
    """Makes sure that a format which is asked for is not said otherwise by a name.

    Raises:
        typer.BadParameter: If a file is named with another ending, or a template without ``{ext}``.
    """
    for stem, place in naming.places.items():
        if stem == LABELS or not place or place.endswith(("/", os.sep)) or Path(place).is_dir():
            continue
        if is_template(place):
            if "ext" not in _fields(place):
                raise typer.BadParameter(f"{_OPTIONS[stem]} {place} has no {{ext}} for the format that --format names")
        elif not naming.many:
            check_name(_OPTIONS[stem], place, naming.ending)


def check_name(option: str, name: str, ending: str) -> None:
    """Makes sure that the name of an output does not say another format than the one that is asked for.

    Args:
        option: The option that the name was given to.
        name: The file, or `PIPE`: what goes there is wav.
        ending: The format that is asked for.

    Raises:
        typer.BadParameter: If they are two.
    """
    suffix = "wav" if name == PIPE else Path(name).suffix.lower().removeprefix(".")
    if FORMATS.get(suffix) is not FORMATS[ending]:
        said = f"{name} (wav)" if name == PIPE else name
        raise typer.BadParameter(f"{option} {said} and --format {ending} are two formats; give one")


def make(songs: Sequence[Song], naming: Naming, *, existing: str = "refuse", subtype: str | None = None) -> list[Job]:
    """Decides what becomes of each song.

    Args:
        songs: The songs, each once. One that was found in a folder and is an output of another is left out.
        naming: How outputs are called.
        existing: What to do where outputs exist: "refuse", "overwrite", or "skip" songs that have all of them.
        subtype: Sample format of the outputs, if one is asked for.

    Raises:
        typer.BadParameter: If two outputs would go to one file.
    """
    key = functools.cache(_key)
    songs = _without_outputs(songs, naming, key)
    jobs = [naming.job(song) for song in songs]
    taken: dict[str, Path] = {}
    for job in jobs:
        for path in job.outputs.values():
            if taken.setdefault(key(path), path) is not path:
                hint = "as with -o 'out/{folder}/{song}.{stem}.{ext}'"
                raise typer.BadParameter(f"{path} would be written twice; give the outputs different names, {hint}")
    inputs = {key(song.path) for song in songs}
    judged = []
    for job in jobs:
        own = [path for path in job.outputs.values() if key(path) in inputs]
        judged.append(_judged(job, own, existing=existing, subtype=subtype))
    return judged


def _without_outputs(songs: Sequence[Song], naming: Naming, key: Callable[[Path], str]) -> list[Song]:
    """The songs but for those that were found and not named, and are what this call makes, or would with both stems."""
    if all(song.named for song in songs):
        return list(songs)
    both = dataclasses.replace(naming, places=naming.places | {"accompaniment": naming.places.get("accompaniment", "")})
    makers: dict[str, set[Path]] = {}
    for song in songs:
        for path in both.job(song).outputs.values():
            makers.setdefault(key(path), set()).add(song.path)
    return [song for song in songs if song.named or makers.get(key(song.path), set()) <= {song.path}]


def _judged(job: Job, own: list[Path], *, existing: str, subtype: str | None) -> Job:
    """A job with what speaks against it; `own` are outputs that are songs of the call."""
    if job.refusal:
        return job
    try:
        for path in job.sounds:
            check_output(path, subtype=subtype)
        for path in job.outputs.values():
            if path in own:
                raise AudioError(f"{path}: is a song to be read; choose another output")
        there = [path for path in job.outputs.values() if path.exists()]
    except VocalsepError as error:
        return dataclasses.replace(job, refusal=str(error))
    except OSError as error:  # names that are too long, folders that may not be entered
        return dataclasses.replace(job, refusal=f"{error.filename}: cannot be written ({error.strerror})")
    if there and existing == "refuse":
        choice = "choose another output, or add --overwrite or --skip-existing"
        return dataclasses.replace(job, refusal=f"{there[0]}: exists already; {choice}")
    return dataclasses.replace(job, skipped=existing == "skip" and len(there) == len(job.outputs))


def _key(path: Path) -> str:
    """The same for all spellings of a path."""
    real = os.path.realpath(path)
    return real.casefold() if _SAME_LETTERS else real
