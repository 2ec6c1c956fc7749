"""Find artist and song in the names of files and folders, and normalise names to compare them.

This is a module of its own because layouts, hold-out and the guard against leaks must all read names the same way.
"""

from __future__ import annotations

import re
from pathlib import Path

_GUESTS = re.compile(r"\s+(?:feat|ft)\b\.?.*", re.IGNORECASE)
_NUMBER = re.compile(r"\d+ - (?=.* - )")  # "007 - " of "007 - Artist - Title", but nothing of "311 - Title"
_STEMS = ("vocals", "accompaniment", "mixture")


def parse_name(name: str) -> tuple[str, str]:
    """Return the artist and the song of ``Artist - Title`` or ``NNN - Artist - Title``.

    Guests of the artist ("feat. ...") are left out. A name of any other form is both artist and song.
    """
    song = _NUMBER.sub("", name, count=1)
    return _GUESTS.sub("", song.split(" - ")[0]).strip(), song


def parse_path(path: Path, root: Path) -> tuple[str, str]:
    """Return the artist and the song of a recording in a folder or one of its subfolders.

    A file named after a stem, such as ``vocals.wav``, takes the name of its folder. Recordings without an artist in
    their names count as the same artist's if they share a folder.
    """
    named_after_stem = path.parent != root and path.stem.lower() in _STEMS
    artist, song = parse_name(path.parent.name if named_after_stem else path.stem)
    return (artist if " - " in song else path.parent.relative_to(root).as_posix()), song


def normalise_name(name: str) -> str:
    """Reduce a name to its letters and digits: case, punctuation and a leading number do not count.

    Returns:
        An empty string for a name without letters, which cannot identify a song or an artist.
    """
    letters = "".join(letter for letter in _NUMBER.sub("", name, count=1).casefold() if letter.isalnum())
    return letters if any(letter.isalpha() for letter in letters) else ""
