"""Copy title, artist, cover and all other tags from one file to another, between any two formats.

Fields have the names of Vorbis comments, in lower case. mutagen reads and writes the tags. The decoders supply the tags
that it cannot read: those of Matroska and Windows Media, and the comments of wav and aiff.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocalsep.audio.reader import Reader
from vocalsep.audio.tags import id3, limits, mp4

if TYPE_CHECKING:
    from mutagen import FileType

_MEGABYTES = limits.MAX_BYTES >> 20

Fields = dict[str, tuple[str, ...]]

_MUTAGEN_TYPES = {  # module and class, by the name of the format
    "WAV": ("wave", "WAVE"),
    "AIFF": ("aiff", "AIFF"),
    "FLAC": ("flac", "FLAC"),
    "OGG": ("oggvorbis", "OggVorbis"),
    "OPUS": ("oggopus", "OggOpus"),
    "MP3": ("mp3", "MP3"),
    "M4A": ("mp4", "MP4"),
}
_FILE_PREFIXES = ("replaygain_", "r128_", "itun", "encod", "encoder", "accurip", "acoustid_fingerprint", "cuesheet")
"""Prefixes of fields that describe the sound or its encoding, not the song; they are not copied."""
_STREAM_FIELDS = frozenset(  # decoders list these among the tags
    {
        "major_brand",
        "minor_version",
        "compatible_brands",
        "handler_name",
        "vendor_id",
        "creation_time",
        "duration",
        "language",
        "length",
        "software",
        "tool",
        "waveformatextensible_channel_mask",
    }
)
_FROM_DECODER = {"album_artist": "albumartist", "track": "tracknumber", "disc": "discnumber", "year": "date"}


@dataclass(frozen=True)
class Picture:
    """A cover: its MIME type and its encoded bytes."""

    mime: str
    content: bytes


@dataclass(frozen=True)
class Tags:
    """The tags of a song.

    Attributes:
        fields: The values of each field, by its name, such as "title" or "artist".
        cover: The cover, if there is one.
    """

    fields: Fields
    cover: Picture | None = None

    def for_part(self, part: str, encoder: str) -> Tags:
        """Return the tags for one part of the song.

        Args:
            part: Name of the part, such as "vocals"; appended to the title.
            encoder: Value of the "encoder" field.
        """
        titles = tuple(f"{title} ({part})" for title in self.fields.get("title", ()))
        return replace(self, fields=self.fields | ({"title": titles} if titles else {}) | {"encoder": (encoder,)})


def read_tags(path: Path) -> tuple[Tags, str]:
    """Read the tags of a recording.

    Args:
        path: A file that `Reader` can read.

    Returns:
        The tags, and a warning if they could not be read; empty if all went well.
    """
    fields: Fields = {}
    cover: Picture | None = None
    warning = ""
    try:
        file, left_out = (None, []) if _is_rf64(path) else _open(path)
        if left_out:
            names = ", ".join(dict.fromkeys(left_out))
            warning = f"{path}: its tag {names} is left out, because it unpacks to more than {_MEGABYTES} MB"
        if file is not None and file.tags is not None:
            fields, cover = _read_known(file)
        if not fields:
            fields, other = _read_from_decoder(path)
            cover = cover or other
    except limits.TooLargeError:
        warning = f"{path}: its tags are left out, because they take more than {_MEGABYTES} MB"
    except Exception as error:  # broken tags must not stop the extraction
        warning = f"{path}: its tags cannot be read ({_describe(error)})"
    return Tags({name: texts for name, texts in fields.items() if _describes_song(name)}, cover), warning


def _open(path: Path) -> tuple[FileType | None, list[str]]:
    """Open a file with mutagen, by its extension or, if that fails, by its content; see `limits.open_file`."""
    import mutagen

    try:
        return limits.open_file(path, path)
    except mutagen.MutagenError:
        opened = limits.open_file(path, "recording")
        if opened[0] is None:
            raise
        return opened


def write_tags(path: Path, tags: Tags, kind: str, name: str) -> str:
    """Add tags to a file that was just written; the samples do not change.

    Args:
        path: The file.
        tags: The tags.
        kind: Name of the file's `formats.Format`.
        name: The file's final name, for the warning.

    Returns:
        A warning if the tags could not be written; empty if all went well.

    Raises:
        OSError: If the file cannot be written, which may leave it damaged.
    """
    module, opener = _MUTAGEN_TYPES[kind]
    try:
        file = getattr(importlib.import_module(f"mutagen.{module}"), opener)(path)
        if file.tags is None:
            file.add_tags()
        _fill(file, tags)
        file.save(padding=lambda _: 0)
    except Exception as error:  # a song without tags is better than no song
        for cause in (error, error.__cause__, error.__context__):
            if isinstance(cause, OSError):
                raise cause from error
        return f"{name}: has no tags ({_describe(error)})"
    return ""


def _is_rf64(path: Path) -> bool:
    """Return whether a file is RF64, which has no tags; mutagen reports it as a broken wav."""
    with path.open("rb") as file:
        return file.read(4) in (b"RF64", b"BW64")


def _describe(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _describes_song(name: str) -> bool:
    return name != "metadata_block_picture" and not name.startswith(_FILE_PREFIXES)


def _read_known(file: FileType) -> tuple[Fields, Picture | None]:
    """Return fields and cover of a file that mutagen has opened; nothing for kinds of tags that the decoder reads."""
    from mutagen._vorbis import VComment
    from mutagen.id3 import ID3
    from mutagen.mp4 import MP4Tags

    if isinstance(file.tags, ID3):
        fields, picture = id3.read_fields(file.tags)
    elif isinstance(file.tags, MP4Tags):
        fields, picture = mp4.read_fields(file.tags)
    elif isinstance(file.tags, VComment):
        fields = {}
        for name, text in file.tags:
            fields[name.lower()] = (*fields.get(name.lower(), ()), text)
        picture = _read_vorbis_picture(file, fields)
    else:
        return {}, None
    return fields, Picture(*picture) if picture else None


def _read_vorbis_picture(file: Any, fields: Fields) -> tuple[str, bytes] | None:
    from mutagen.flac import Picture as FlacPicture

    found = list(getattr(file, "pictures", ()))
    for text in fields.get("metadata_block_picture", ()):
        with contextlib.suppress(Exception):  # skip damaged covers
            found.append(FlacPicture(base64.b64decode(text)))
    found.sort(key=lambda picture: picture.type != id3.FRONT_COVER)
    return (found[0].mime, found[0].data) if found else None


def _read_from_decoder(path: Path) -> tuple[Fields, Picture | None]:
    with Reader(path) as reader:
        comments = {name.lower(): text for name, text in reader.comments.items() if text.strip()}
        for name in _STREAM_FIELDS:
            comments.pop(name, None)
        ffmpeg = reader.by_ffmpeg
    fields: Fields = {_FROM_DECODER.get(name, name): (text,) for name, text in comments.items()}
    if not ffmpeg:
        return fields, None
    from vocalsep.audio.decoding import read_picture

    found = read_picture(path)
    return fields, Picture(*found) if found else None


def _fill(file: Any, tags: Tags) -> None:
    """Put tags into a new file that mutagen has opened."""
    from mutagen.flac import FLAC
    from mutagen.flac import Picture as FlacPicture
    from mutagen.id3 import ID3
    from mutagen.mp4 import MP4Tags

    cover = (tags.cover.mime, tags.cover.content) if tags.cover else None
    if isinstance(file.tags, ID3):
        id3.add_fields(file.tags, tags.fields, cover)
    elif isinstance(file.tags, MP4Tags):
        mp4.add_fields(file.tags, tags.fields, cover)
    else:
        file.tags.clear()  # removes the encoder's own name
        for name, texts in tags.fields.items():
            file.tags[_clean_vorbis_name(name)] = list(texts)
        if cover:
            picture = FlacPicture()
            picture.type, picture.mime, picture.data = id3.FRONT_COVER, *cover
            if isinstance(file, FLAC):
                file.add_picture(picture)
            else:
                file.tags["metadata_block_picture"] = base64.b64encode(picture.write()).decode("ascii")


def _clean_vorbis_name(name: str) -> str:
    """Keep only the characters that Vorbis comments allow in names: printable ASCII except "=" and "~"."""
    return "".join(letter for letter in name if " " <= letter <= "}" and letter != "=") or "comment"
