"""Reads tags within a limit on memory. A small file can hold a frame that unpacks to gigabytes."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vocalsep.audio.tags import id3

if TYPE_CHECKING:
    from mutagen import FileType

MAX_BYTES = 2**26
"""Limit on the tags of a file, covers and all, packed or not."""

_STEP = 2**16  # bytes that are unpacked at a time
_SMALL = 2**15  # bytes of tags that are read at once, however many frames they have
_MAX_TAG_WORK, _MAX_TEXT_WORK = 2**32, 2**28  # bytes that mutagen may copy for a whole tag, and for one text
_SLACK = 2**22  # bytes that mutagen reads of the sound
_KINDS = (  # mutagen's modules and classes, those whose tags are ID3 first
    ("mp3", "MP3"),
    ("wave", "WAVE"),
    ("aiff", "AIFF"),
    ("dsf", "DSF"),
    ("dsdiff", "DSDIFF"),
    ("trueaudio", "TrueAudio"),
    ("id3", "ID3FileType"),
    ("aac", "AAC"),
    ("ac3", "AC3"),
    ("apev2", "APEv2File"),
    ("asf", "ASF"),
    ("flac", "FLAC"),
    ("monkeysaudio", "MonkeysAudio"),
    ("mp4", "MP4"),
    ("musepack", "Musepack"),
    ("oggflac", "OggFLAC"),
    ("oggopus", "OggOpus"),
    ("oggspeex", "OggSpeex"),
    ("oggtheora", "OggTheora"),
    ("oggvorbis", "OggVorbis"),
    ("optimfrog", "OptimFROG"),
    ("tak", "TAK"),
    ("wavpack", "WavPack"),
)
_WITH_ID3 = 7


class TooLargeError(Exception):
    """The tags are larger than `MAX_BYTES`, or would take far too long to read."""


class _BoundedFile:
    """A file of which no more than the limit can be read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell = file.seek, file.tell
        self._file, self._left = file, MAX_BYTES + _SLACK
        self._size = os.fstat(file.fileno()).st_size

    def read(self, size: int = -1) -> bytes:
        there = max(0, self._size - self._file.tell())
        wanted = there if size is None or size < 0 else min(size, there)
        if wanted > self._left:
            raise TooLargeError
        self._left -= wanted
        content = self._file.read(wanted)
        if wanted > _SMALL:
            _check_work(content)
        return content


class _Kind:
    """One of mutagen's kinds of files, as `mutagen.File` uses them. Its ID3 frames are read within limits."""

    def __init__(self, kind: Any, frames: dict[str, _Frame] | None) -> None:
        self._kind, self._frames = kind, frames
        self.score, self.__name__ = kind.score, kind.__name__

    def __call__(self, file: Any, **options: Any) -> FileType:
        more = {} if self._frames is None else {"known_frames": self._frames}
        opened: FileType = self._kind(file, **options, **more)
        return opened


class _Frame:
    """A kind of ID3 frames, as mutagen uses its classes. Frames that are too large are refused.

    Args:
        kind: mutagen's class.
        limits: What the frames of the file may take in all.
    """

    def __init__(self, kind: Any, limits: _FrameLimits) -> None:
        self._kind, self._limits = kind, limits

    def _fromData(self, header: Any, flags: int, data: bytes) -> Any:  # noqa: N802 - mutagen's name
        self._limits.check(self._kind, header, flags, data)
        return self._kind._fromData(header, flags, data)


class _FrameLimits:
    """What the ID3 frames of one file may take.

    Attributes:
        left_out: Names of the frames that were refused.
    """

    def __init__(self) -> None:
        self.left_out: list[str] = []
        self._left = MAX_BYTES

    def list_frames(self) -> dict[str, _Frame]:
        """Return the frames that vocalsep reads, by name; mutagen keeps the others as bytes."""
        from mutagen.id3 import Frames, Frames_2_2

        read = {name: kind for name, kind in Frames.items() if name in id3.READ}
        old = {name: kind for name, kind in Frames_2_2.items() if kind.__mro__[1].__name__ in id3.READ}
        return {name: _Frame(kind, self) for name, kind in (read | old).items()}

    def check(self, kind: Any, header: Any, flags: int, data: bytes) -> None:
        """Refuse a frame that would take too much memory or time.

        Raises:
            mutagen.id3.ID3JunkFrameError: If it would. mutagen then goes on with the next frame.
        """
        from mutagen.id3 import APIC, ID3JunkFrameError

        packed = flags & (kind.FLAG24_COMPRESS if header.version >= header._V24 else kind.FLAG23_COMPRESS)
        contents = [_unpack(part, self._left) for part in _list_packed(data)] if packed else [data]
        self._left -= max(map(len, contents))
        is_text = not issubclass(kind, APIC)
        if self._left < 0 or (is_text and any(map(_has_too_many_values, contents))):
            self.left_out.append(kind.__name__)
            raise ID3JunkFrameError(f"{kind.__name__} is too large")


def open_file(path: Path, name: str | Path) -> tuple[FileType | None, list[str]]:
    """Open a file with mutagen.

    Args:
        path: The file.
        name: Its name, from which mutagen guesses the format.

    Returns:
        The file, if mutagen knows its format, and the names of ID3 frames that were left out as too large.

    Raises:
        TooLargeError: If the tags are too large as they are in the file.
        mutagen.MutagenError: If mutagen cannot read the file.
    """
    import mutagen

    limits = _FrameLimits()
    frames = limits.list_frames()
    kinds = [
        _Kind(getattr(importlib.import_module(f"mutagen.{module}"), kind), frames if index < _WITH_ID3 else None)
        for index, (module, kind) in enumerate(_KINDS)
    ]
    with path.open("rb") as file:
        opened: FileType | None = mutagen.File(fileobj=_BoundedFile(file), filename=str(name), options=kinds)
    return opened, limits.left_out


def _list_packed(data: bytes) -> list[bytes]:
    """Return what mutagen may unpack of a frame: with and without the size before it, as it is or unsynchronised."""
    parts = [data, data[4:]]
    return parts + [plain for part in parts if (plain := _resynchronise(part)) is not None]


def _resynchronise(data: bytes) -> bytes | None:
    """Undo ID3's unsynchronisation; return None for data that is not unsynchronised."""
    from mutagen.id3._util import unsynch

    try:
        return bytes(unsynch.decode(data))
    except ValueError:
        return None


def _unpack(data: bytes, most: int) -> bytes:
    """Unpack data in steps, as far as it goes, and to hardly more than `most` bytes."""
    unpacker, found = zlib.decompressobj(), bytearray()
    with contextlib.suppress(zlib.error):
        while len(found) <= most and not unpacker.eof:
            piece = unpacker.decompress(data, _STEP)
            data = unpacker.unconsumed_tail
            found += piece
            if not piece and not data:
                break
    return bytes(found)


def _has_too_many_values(content: bytes) -> bool:
    """Return whether a text would take too long to read: mutagen copies the rest of it for each value in it."""
    ends = b"\0\0" if content[:1] in (b"\1", b"\2") else b"\0"  # UTF-16, or one byte for each letter
    return content.count(ends) * len(content) > _MAX_TEXT_WORK


def _check_work(content: bytes) -> None:
    """Refuse an ID3 tag that would take too long to read: mutagen copies the rest of it for each frame in it.

    Other content ends soon if it is read as a tag.

    Raises:
        TooLargeError: If it would.
    """
    for data in filter(None, (content, _resynchronise(content))):
        for name, head, bits in ((3, 6, 8), (4, 10, 8), (4, 10, 7)):  # version 2.2, 2.3 and 2.4
            at = work = 0
            while at + head <= len(data) and any(data[at : at + name]):
                size = functools.reduce(lambda found, byte: (found << bits) + byte, data[at + name : at + 2 * name], 0)
                at += head + size
                work += max(0, len(data) - at)
                if work > _MAX_TAG_WORK:
                    raise TooLargeError
