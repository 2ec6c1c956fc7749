"""Reads tags within a limit on memory. A small file can hold a frame that unpacks to gigabytes."""

from __future__ import annotations

import functools
import importlib
import os
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutagen import FileType

MAX_BYTES = 2**26
"""Limit on the tags of a file, covers and all, packed or not."""

_STEP = 2**16  # bytes that are unpacked at a time
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
    """The tags are larger than `MAX_BYTES`."""


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
        return self._file.read(wanted)


class _Kind:
    """One of mutagen's kinds of files, as `mutagen.File` uses them. Its ID3 frames unpack within a limit."""

    def __init__(self, kind: Any, frames: dict[str, Any] | None) -> None:
        self._kind, self._frames = kind, frames
        self.score, self.__name__ = kind.score, kind.__name__

    def __call__(self, file: Any, **options: Any) -> FileType:
        more = {"known_frames": self._frames} if self._frames else {}
        opened: FileType = self._kind(file, **options, **more)
        return opened


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

    left_out: list[str] = []
    frames = _make_frames(left_out)
    kinds = [
        _Kind(getattr(importlib.import_module(f"mutagen.{module}"), name), frames if index < _WITH_ID3 else None)
        for index, (module, name) in enumerate(_KINDS)
    ]
    with path.open("rb") as file:
        opened: FileType | None = mutagen.File(fileobj=_BoundedFile(file), filename=str(name), options=kinds)
    return opened, left_out


def _make_frames(left_out: list[str]) -> dict[str, Any]:
    """Return mutagen's classes of ID3 frames, in a form that refuses to unpack more than the limit in all.

    Args:
        left_out: Receives the names of frames that are refused.
    """
    from mutagen.id3 import Frames, Frames_2_2, ID3JunkFrameError

    left = MAX_BYTES

    def parse(kind: Any, header: Any, flags: int, data: bytes) -> Any:
        nonlocal left
        if flags & (kind.FLAG24_COMPRESS if header.version >= header._V24 else kind.FLAG23_COMPRESS):
            left -= max(_measure(part, left) for part in _list_packed(data))
            if left < 0:
                left_out.append(kind.__name__)
                raise ID3JunkFrameError(f"{kind.__name__} unpacks to more than the limit")
        return kind._fromData(header, flags, data)

    def bound(kind: Any) -> Any:
        # mutagen makes frames with `_fromData`, and takes their name from that of their class
        return type(kind.__name__, (kind,), {"_fromData": staticmethod(functools.partial(parse, kind))})

    return {name: bound(kind) for name, kind in Frames.items()} | Frames_2_2


def _list_packed(data: bytes) -> list[bytes]:
    """Return what mutagen may unpack of a frame: with and without the size before it, as it is or unsynchronised."""
    from mutagen.id3._util import unsynch

    parts = [data, data[4:]]
    for part in tuple(parts):
        try:
            parts.append(unsynch.decode(part))
        except ValueError:
            continue
    return parts


def _measure(data: bytes, most: int) -> int:
    """Return how many bytes packed data unpacks to, at most one step more than `most`. Damaged data may give less."""
    unpacker, size = zlib.decompressobj(), 0
    try:
        while size <= most and not unpacker.eof:
            piece = unpacker.decompress(data, _STEP)
            data, size = unpacker.unconsumed_tail, size + len(piece)
            if not piece and not data:
                break
    except zlib.error:
        pass
    return size
