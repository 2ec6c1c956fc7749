"""Name the outputs of a song in Python as the command names them: beside the song, or beside the vocals."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

from vocalsep.errors import AudioError

Place = Path | str | BinaryIO
"""A file or an open binary file."""

_EXTENSIONS = {"vocals": ".wav", "accompaniment": ".wav", "labels": ".txt", "picture": ".png"}


def name_outputs(song: Any, places: dict[str, Any]) -> dict[str, Any]:
    """Return where each output goes.

    Args:
        song: The recording: a path or an open binary file.
        places: For each output: a path, an open binary file, or None if it is not wanted. True stands for
            ``<song>.<output>.<extension>`` beside the vocals, or beside the song for the vocals themselves. A folder
            stands for such a file in it.

    Raises:
        AudioError: If the song or the folder of an output does not exist, an open file has no name to derive others
            from, or a picture is not to be PNG.
        TypeError: If something is neither a path nor an open binary file.
    """
    song = check_place(song, "the song", arrays="; to separate an array, use vocalsep.separate")
    if isinstance(song, Path) and not song.exists():
        raise AudioError(f"{song}: no such file")
    named: dict[str, Any] = {}
    for output, place in places.items():
        if place is None or place is False:
            named[output] = None
            continue
        path = True if place is True else check_place(place, f"the place for the {output}")
        vocals = named.get("vocals")
        beside = vocals if isinstance(vocals, Path) else song
        if path is True:
            if not (isinstance(beside, Path) and isinstance(song, Path)):
                raise AudioError(f"the {output} need a path, because the song is an open file")
            path = beside.parent
        elif not (isinstance(path, Path) and path.is_dir()):
            if isinstance(place, str) and place.endswith(("/", os.sep)):
                raise AudioError(f"{place}: no such folder")
            if output == "picture" and not (isinstance(path, Path) and path.suffix.lower() == ".png"):
                raise AudioError(f"{path}: pictures are PNG files; choose a name that ends in .png")
            named[output] = path
            continue
        if not isinstance(song, Path):
            raise AudioError(f"{path}: is a folder, but the song is an open file without a name; name a file")
        extension = _EXTENSIONS[output]
        if output == "accompaniment" and isinstance(vocals, Path):
            extension = vocals.suffix
        named[output] = path / f"{song.stem}.{output}{extension}"
    return named


def check_place(place: Any, what: str, arrays: str = "") -> Path | BinaryIO:
    """Return a path or an open binary file.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(place, str | os.PathLike):
        return Path(place)
    if isinstance(place, io.TextIOBase):
        raise TypeError(f"{what} must be open in binary mode, as with open(path, 'rb') or sys.stdin.buffer")
    if not (hasattr(place, "read") or hasattr(place, "write")):
        hint = arrays if hasattr(place, "shape") or isinstance(place, list | tuple) else ""
        raise TypeError(f"{what} must be a path or an open binary file, not {type(place).__name__}{hint}")
    return place  # type: ignore[no-any-return]
