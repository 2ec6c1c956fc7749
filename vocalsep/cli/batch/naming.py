"""Name the outputs of songs: beside the song, in a folder, in a file, or by a template."""

from __future__ import annotations

import dataclasses
import os
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vocalsep import files
from vocalsep.batches.jobs import EXTENSIONS, PICTURE, PIPE, Place
from vocalsep.claims import File
from vocalsep.cli.batch.inputs import Song
from vocalsep.cli.common import Misuse
from vocalsep.errors import AudioError, describe_unknown
from vocalsep.remote import Remote, is_address

FIELDS = ("stem", "song", "folder", "model", "ext", "source")
"""Fields that a template for output names may contain."""

_DEFAULT_NAME = "{song}.{stem}.{ext}"
_VARYING = {"song", "folder", "source"}  # fields that differ between songs


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Names and format that other programs expect.

    Attributes:
        names: Default names of outputs, by stem: templates.
        extension: File extension of the outputs, unless the user chooses another.
    """

    names: dict[str, str]
    extension: str


PRESETS: Final = {
    "ultrastar": Preset(
        names={"vocals": "{song} [VOC].{ext}", "accompaniment": "{song} [INSTR].{ext}"}, extension="mp3"
    )
}


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The rules by which outputs are named.

    Attributes:
        places: What the options say for each wanted stem, the one that -o names first: a file, a folder, a template (a
            path with fields in braces), `PIPE`, an empty string for a file beside the first stem, or None for a file
            beside the song.
        extension: File extension, without the dot, of outputs whose option does not name a file.
        model: Name of the model.
        many: Whether there may be several songs, so that no option can name a file.
        names: Templates of file names by stem, for outputs whose option does not name a file.

    Raises:
        Misuse: If a template has an unknown field or gives all songs one name, or several songs would go to
            an existing file.
    """

    places: dict[str, str | None]
    extension: str = "wav"
    model: str = ""
    many: bool = False
    names: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for stem, place in self.places.items():
            if not place or place == PIPE:
                continue
            option = self.get_option(stem)
            if is_template(place):
                check_template(place, option)
                if self.many and not list_fields(place) & _VARYING:
                    raise Misuse(f"{option} {place}: gives all songs the same name; add {{song}}")
            elif self.many and files.is_file(place):
                raise Misuse(f"{option} {place} is a file; several songs need a folder")
            elif stem == PICTURE and not (self.many or is_folder(place) or place.lower().endswith(".png")):
                raise Misuse(f"--picture {place}: write {place}/ for a folder, or a name that ends in .png")

    @property
    def main(self) -> str:
        """The stem that -o names."""
        return next(iter(self.places))

    def get_option(self, stem: str) -> str:
        """Return the option that says where a stem goes."""
        return "-o" if stem == self.main else f"--{stem}"

    def name_outputs(self, song: Song) -> dict[str, Place]:
        """Return where the outputs of a song go, by stem.

        Raises:
            AudioError: If the song's name would lead out of the folder in a template.
        """
        outputs: dict[str, Place] = {}
        for stem, place in self.places.items():
            outputs[stem] = self._name_output(song, stem, place, outputs)
        return outputs

    def _name_output(self, song: Song, stem: str, place: str | None, outputs: dict[str, Place]) -> Place:
        if place == PIPE:
            return PIPE
        name = self.names.get(stem, _DEFAULT_NAME).format(**self._list_values(song, stem))
        if place == "":
            place, first = self.places[self.main], outputs[self.main]
            if place is not None and "stem" not in list_fields(place) and not isinstance(first, str):
                return first.with_name(name)
        if place is None:
            if isinstance(song.path, str) or (isinstance(song.path, Remote) and song.path.is_web):
                return Path(name)  # nothing can be written there
            return song.path.with_name(name)
        if is_template(place):
            return self._fill_template(song, stem, place)
        path = Remote(place) if is_address(place) else Path(place)
        return path / name if self.many or is_folder(place) else path

    def _list_values(self, song: Song, stem: str) -> dict[str, str]:
        extension = EXTENSIONS.get(stem, self.extension)
        values = (stem, song.name, song.folder, self.model, extension, song.source)
        return dict(zip(FIELDS, values, strict=True))

    def _fill_template(self, song: Song, stem: str, template: str) -> File:
        """Fill a template part by part, so that no song's name can lead into another folder."""
        fields = self._list_values(song, stem)
        parts = []
        scheme, _, rest = template.partition("://") if is_address(template) else ("", "", template)
        for part in Path(rest).parts:
            filled = part.format(**fields)
            if filled != part and {".", ".."} & set(filled.split("/")):
                raise AudioError(f"{song.path}: its name would move {template} to another folder; rename the song")
            parts.append(filled)
        path = Path(*filter(None, parts))
        return Remote(f"{scheme}://{path.as_posix()}") if scheme else path


def is_folder(place: str) -> bool:
    """Return whether a place is a folder, or is written like one."""
    return place.endswith(("/", os.sep)) or (not is_address(place) and files.is_folder(place))


def is_template(place: str) -> bool:
    """Return whether a place has fields in it."""
    return "{" in place or "}" in place


def list_fields(place: str) -> set[str]:
    """Return the fields of a template."""
    return {field for _, field, _, _ in string.Formatter().parse(place) if field is not None}


def check_template(template: str, option: str) -> None:
    """Check that a template has only fields that exist.

    Args:
        template: The template.
        option: The option that holds it.

    Raises:
        Misuse: If it has others.
    """
    try:
        parsed = [piece for piece in string.Formatter().parse(template) if piece[1] is not None]
    except ValueError as error:
        message = f"{option} {template}: {error}; write {{{{ and }}}} for literal braces"
        raise Misuse(message) from error
    for _, field, form, conversion in parsed:
        if field not in FIELDS:
            raise Misuse(f"{option} {template}: {describe_unknown('field', str(field), FIELDS)}")
        if form or conversion:
            raise Misuse(f"{option} {template}: write a field as its name alone, as in {{{field}}}")
