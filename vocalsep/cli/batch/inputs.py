"""Which recordings a call is about: files, patterns, folders and lists of them; each file once, in the order given."""

from __future__ import annotations

import dataclasses
import glob
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vocalsep import files
from vocalsep.audio.formats import SUFFIXES
from vocalsep.errors import AudioError, VocalsepError


@dataclass(frozen=True, kw_only=True)
class Song:
    """A recording to extract from.

    Attributes:
        path: The file, which need not be there.
        folder: Its folder, seen from the folder of the call that it was found in; empty if that is the same.
        named: Whether the call names the file itself, and not a folder or a pattern that it was found by.
    """

    path: Path
    folder: str = ""
    named: bool = True


def find(
    arguments: Iterable[str], listed: Iterable[str] = (), *, recursive: bool = False
) -> tuple[list[Song], list[VocalsepError]]:
    """Finds the songs of a call.

    Args:
        arguments: Files, patterns (where there is no file of that name), folders.
        listed: Files and folders.
        recursive: Whether to look in the folders below a folder, too.

    Returns:
        The songs, and what is wrong with arguments that gave none. Recordings in folders are known by their endings;
        hidden ones are left out.
    """
    problems: list[VocalsepError] = []
    songs: dict[str, Song] = {}
    given = [*((text, True) for text in arguments), *((text, False) for text in listed)]
    for text, is_pattern in given:
        try:
            found = _expand(text, problems, is_pattern=is_pattern, recursive=recursive)
        except AudioError as error:
            problems.append(error)
            continue
        for song in found:
            first = songs.setdefault(os.path.realpath(song.path), song)
            if song.named and not first.named:
                songs[os.path.realpath(song.path)] = dataclasses.replace(first, named=True)
    return list(songs.values()), problems


def read_list(name: str) -> list[str]:
    """Reads a list of paths, one a line.

    Args:
        name: A text file, or "-" for standard input.

    Raises:
        AudioError: If there is no such file.
    """
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: no list of songs that can be read ({getattr(error, 'strerror', error)})") from error
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [os.fsdecode(line) for line in (line.rstrip(b"\r") for line in lines) if line]


def _expand(text: str, problems: list[VocalsepError], *, is_pattern: bool, recursive: bool) -> list[Song]:
    if not text or "\0" in text:
        raise AudioError(f"{text!r}: is no file's name")
    if _is_folder(text):
        return _in_folder(Path(text), problems, recursive=recursive)
    if not is_pattern or os.path.lexists(text) or not glob.has_magic(text):
        return [Song(path=Path(text))]
    songs = []
    for name in sorted(glob.glob(text, recursive=True)):  # noqa: PTH207 - patterns may be absolute
        if _is_folder(name):
            songs += _in_folder(Path(name), problems, recursive=recursive)
        else:
            songs.append(Song(path=Path(name), named=False))
    if not songs:
        raise AudioError(f"{text}: there is no file of that name, and none that it fits as a pattern")
    return songs


def _is_folder(name: str) -> bool:
    return os.path.isdir(name)  # noqa: PTH112 - Path's raises errors for names that are too long


def _in_folder(root: Path, problems: list[VocalsepError], *, recursive: bool) -> list[Song]:
    """Recordings in a folder: first its own, then those of the folders below, each by name."""
    songs: list[Song] = []
    before = len(problems)

    def complain(error: OSError) -> None:
        problems.append(AudioError(f"{error.filename}: cannot be listed ({error.strerror})"))

    for folder, names in files.walk(root, recursive=recursive, onerror=complain):
        below = folder.relative_to(root)
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                at = "" if below == Path() else below.as_posix()
                songs.append(Song(path=folder / name, folder=at, named=False))
    if not songs and len(problems) == before:
        more = "" if recursive else "; -r looks in the folders below, too"
        raise AudioError(f"{root}: holds no recordings{more}")
    return songs
