"""The tag by which vocalsep recognises its own outputs.

`is_signed` reads it without a tag library: searching a folder must stay quick.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Literal

from vocalsep.release import __version__

_SIGNATURE = re.compile(rb"vocalsep \d+\.\d+\.\d+\w*, model ")
_HEAD = 2**16  # bytes of tags that are searched; covers come after the texts
_MOOV = 2**22  # the index of an m4a, which comes before its tags
_PIECES = 64  # chunks or atoms that are looked at: a damaged file may have millions


def sign(model: str) -> str:
    """Return the "encoder" tag of outputs.

    Args:
        model: Name of the model.
    """
    return f"vocalsep {__version__}, model {model}"


def is_signed(path: Path) -> bool:
    """Return whether a file says in its tags that vocalsep wrote it. A file that cannot be read says nothing."""
    try:
        with path.open("rb") as file:
            return bool(_SIGNATURE.search(_read_tags(file)))
    except (OSError, ValueError):
        return False


def _read_tags(file: BinaryIO) -> bytes:
    """Return the part of a file that would hold the signature."""
    head = file.read(_HEAD)
    if head[:4] in (b"RIFF", b"FORM"):
        return _find_chunk(file, "little" if head[:4] == b"RIFF" else "big")
    if head[4:8] == b"ftyp":
        return _find_atom(file)
    return head


def _find_chunk(file: BinaryIO, order: Literal["little", "big"]) -> bytes:
    """Return the ID3 tags of a wav or aiff file, which come after the samples."""
    place = 12
    for _ in range(_PIECES):
        file.seek(place)
        name, size = file.read(4).lower(), int.from_bytes(file.read(4), order)
        if name == b"id3 ":
            return file.read(min(size, _HEAD))
        place += 8 + size + size % 2
    return b""


def _find_atom(file: BinaryIO) -> bytes:
    """Return the atom "moov" of an m4a, which holds the tags."""
    place = 0
    for _ in range(_PIECES):
        file.seek(place)
        size, name = int.from_bytes(file.read(4), "big"), file.read(4)
        if size == 1:  # a long atom
            size = int.from_bytes(file.read(8), "big")
        if name == b"moov":
            return file.read(min(size, _MOOV))
        place += max(8, size)
    return b""
