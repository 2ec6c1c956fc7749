"""What the names of files and folders tell of a song and its artist."""

from __future__ import annotations

import re
from pathlib import Path

_GUESTS = re.compile(r"\s+(?:feat|ft)\b\.?.*", re.IGNORECASE)
_NUMBER = re.compile(r"\d+ - (?=.* - )")  # of "007 - Artist - Title", but not "311 - Title"
_STEMS = ("vocals", "accompaniment", "mixture")


def artist_and_song(name: str) -> tuple[str, str]:
    """Artist, without guests, and song of ``Artist - Title`` or ``NNN - Artist - Title``; other names are both."""
    song = _NUMBER.sub("", name, count=1)
    return _GUESTS.sub("", song.split(" - ")[0]).strip(), song


def of_recording(path: Path, root: Path) -> tuple[str, str]:
    """Artist and song of a recording below a folder.

    A recording that is called after its stem is the song that its folder is called after. Without an artist in the
    name, recordings of one folder count as of one artist.
    """
    inside = path.parent != root and path.stem.lower() in _STEMS
    artist, song = artist_and_song(path.parent.name if inside else path.stem)
    return (artist if " - " in song else path.parent.relative_to(root).as_posix()), song


def key(name: str) -> str:
    """What is left of a name if case, punctuation and a leading number do not count; empty if that tells nothing."""
    letters = "".join(letter for letter in _NUMBER.sub("", name, count=1).casefold() if letter.isalnum())
    return letters if any(letter.isalpha() for letter in letters) else ""
