"""Title, artist, album, cover and the rest: read from one file, written to another, whatever the formats call them.

Names are those of Vorbis comments, lower case. mutagen reads and writes them; what it does not read (Matroska, Windows
Media, the comments of wav and aiff) the decoders tell.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocalsep.audio.reader import Reader
from vocalsep.audio.tags import id3, mp4

if TYPE_CHECKING:
    from mutagen import FileType

Names = dict[str, tuple[str, ...]]

_OPENERS = {  # mutagen's, by the name of the format
    "WAV": ("wave", "WAVE"),
    "AIFF": ("aiff", "AIFF"),
    "FLAC": ("flac", "FLAC"),
    "OGG": ("oggvorbis", "OggVorbis"),
    "OPUS": ("oggopus", "OggOpus"),
    "MP3": ("mp3", "MP3"),
    "M4A": ("mp4", "MP4"),
}
_OF_THE_FILE = ("replaygain_", "r128_", "itun", "encod", "encoder", "accurip", "acoustid_fingerprint", "cuesheet")
"""Beginnings of names that tell of the sound or of its encoding, not of the song."""
_OF_THE_STREAM = frozenset(  # what decoders tell among the names
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
_DECODERS_WORDS = {"album_artist": "albumartist", "track": "tracknumber", "disc": "discnumber", "year": "date"}


@dataclass(frozen=True)
class Picture:
    """A cover, as it is stored: its MIME type and bytes."""

    mime: str
    content: bytes


@dataclass(frozen=True)
class Tags:
    """What a file tells of its song.

    Attributes:
        names: Texts by name, as "title" and "artist"; there may be several.
        cover: The picture.
    """

    names: Names
    cover: Picture | None = None

    def of_part(self, part: str, encoder: str) -> Tags:
        """The tags of a part of the song.

        Args:
            part: What to add to the title, as "vocals".
            encoder: What made the file.
        """
        titles = tuple(f"{title} ({part})" for title in self.names.get("title", ()))
        return replace(self, names=self.names | ({"title": titles} if titles else {}) | {"encoder": (encoder,)})


def read(path: Path) -> tuple[Tags, str]:
    """Tags of a recording.

    Args:
        path: A file that `Reader` reads.

    Returns:
        The tags, and why there are none (or not all), if something went wrong.
    """
    names: Names = {}
    cover: Picture | None = None
    complaint = ""
    try:
        file = None if _is_rf64(path) else _opened(path)
        if file is not None and file.tags is not None:
            names, cover = _known(file)
        if not names:
            names, other = _from_decoder(path)
            cover = cover or other
    except Exception as error:  # whatever is wrong with its tags, the song is worth extracting
        complaint = f"{path}: its tags cannot be read ({_said(error)})"
    return Tags({name: texts for name, texts in names.items() if _of_the_song(name)}, cover), complaint


def _opened(path: Path) -> FileType | None:
    """The file as mutagen reads it: as what its name says, or if it is not that, as what it begins like."""
    import mutagen

    found: FileType | None
    try:
        found = mutagen.File(path)
    except mutagen.MutagenError:
        with path.open("rb") as content:
            found = mutagen.File(fileobj=content, filename="recording")
        if found is None:
            raise
    return found


def write(path: Path, tags: Tags, kind: str, name: str) -> str:
    """Gives tags to a file that was just written; its samples stay as they are.

    Args:
        path: The file.
        tags: The tags.
        kind: What it is: the name of its `formats.Format`.
        name: What the file will be called, for a complaint.

    Returns:
        Why that did not succeed; empty if it did.

    Raises:
        OSError: If the disk does not take them, so that the file may be broken.
    """
    module, opener = _OPENERS[kind]
    try:
        file = getattr(importlib.import_module(f"mutagen.{module}"), opener)(path)
        if file.tags is None:
            file.add_tags()
        _tell(file, tags)
        file.save(padding=lambda _: 0)
    except Exception as error:  # a song without its tags is better than none
        for cause in (error, error.__cause__, error.__context__):
            if isinstance(cause, OSError):
                raise cause from error
        return f"{name}: has no tags ({_said(error)})"
    return ""


def _is_rf64(path: Path) -> bool:
    """Whether it is a long wav, which has no tags, and which mutagen takes for a broken one."""
    with path.open("rb") as file:
        return file.read(4) in (b"RF64", b"BW64")


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _of_the_song(name: str) -> bool:
    return name != "metadata_block_picture" and not name.startswith(_OF_THE_FILE)


def _known(file: FileType) -> tuple[Names, Picture | None]:
    """Names and cover of a file that mutagen reads."""
    from mutagen._vorbis import VComment
    from mutagen.id3 import ID3
    from mutagen.mp4 import MP4Tags

    if isinstance(file.tags, ID3):
        names, picture = id3.names(file.tags)
    elif isinstance(file.tags, MP4Tags):
        names, picture = mp4.names(file.tags)
    elif isinstance(file.tags, VComment):
        names = {}
        for name, text in file.tags:
            names[name.lower()] = (*names.get(name.lower(), ()), text)
        picture = _vorbis_picture(file, names)
    else:  # others are read by the decoder
        return {}, None
    return names, Picture(*picture) if picture else None


def _vorbis_picture(file: Any, names: Names) -> tuple[str, bytes] | None:
    from mutagen.flac import Picture as FlacPicture

    found = list(getattr(file, "pictures", ()))
    for text in names.get("metadata_block_picture", ()):
        with contextlib.suppress(Exception):  # a cover that is none
            found.append(FlacPicture(base64.b64decode(text)))
    found.sort(key=lambda picture: picture.type != id3.FRONT)
    return (found[0].mime, found[0].data) if found else None


def _from_decoder(path: Path) -> tuple[Names, Picture | None]:
    with Reader(path) as reader:
        given = {name.lower(): text for name, text in reader.comments.items() if text.strip()}
        for name in _OF_THE_STREAM:
            given.pop(name, None)
        ffmpeg = reader.by_ffmpeg
    names: Names = {_DECODERS_WORDS.get(name, name): (text,) for name, text in given.items()}
    if not ffmpeg:
        return names, None
    from vocalsep.audio.decoding import picture

    found = picture(path)
    return names, Picture(*found) if found else None


def _tell(file: Any, tags: Tags) -> None:
    """Puts tags into a file that mutagen has opened; it has none of its own but its encoder's."""
    from mutagen.flac import FLAC
    from mutagen.flac import Picture as FlacPicture
    from mutagen.id3 import ID3
    from mutagen.mp4 import MP4Tags

    cover = (tags.cover.mime, tags.cover.content) if tags.cover else None
    if isinstance(file.tags, ID3):
        id3.tell(file.tags, tags.names, cover)
    elif isinstance(file.tags, MP4Tags):
        mp4.tell(file.tags, tags.names, cover)
    else:
        file.tags.clear()
        for name, texts in tags.names.items():
            file.tags[_vorbis_name(name)] = list(texts)
        if cover:
            picture = FlacPicture()
            picture.type, picture.mime, picture.data = id3.FRONT, *cover
            if isinstance(file, FLAC):
                file.add_picture(picture)
            else:
                file.tags["metadata_block_picture"] = base64.b64encode(picture.write()).decode("ascii")


def _vorbis_name(name: str) -> str:
    """A name that Vorbis comments allow: printable ASCII without "="."""
    return "".join(letter for letter in name if " " <= letter <= "}" and letter != "=") or "comment"
