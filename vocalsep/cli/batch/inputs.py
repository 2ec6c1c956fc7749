"""Find the songs of a call: files, patterns, folders and lists, each file once and in the order given."""

from __future__ import annotations

import dataclasses
import functools
import glob
import os
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vocalsep import files, remote
from vocalsep.audio.formats import SUFFIXES, VIDEO_SUFFIXES
from vocalsep.audio.signature import is_signed
from vocalsep.batches.jobs import PIPE, Place
from vocalsep.cli.batch import patterns
from vocalsep.errors import AudioError, VocalsepError, describe_error
from vocalsep.remote import Remote

_OWN = "outputs of vocalsep; to separate them again, name the files themselves"
_OUTPUT = re.compile(r"(.+)(?:\.(?:vocals|accompaniment)| \[(?:VOC|INSTR)\])\.[^.]+", re.DOTALL)  # and its song's name


@dataclass(frozen=True, kw_only=True)
class Song:
    """A recording to extract from.

    Attributes:
        path: The file, which need not exist, or `PIPE`.
        folder: For a song found in a folder: its subfolder, relative to that folder. Empty for all others.
        named: Whether the call names the song itself, rather than a folder or pattern.
        alias: The name that outputs are derived from; empty for the file's name without its extension.
        found_in_folder: Whether it was found in a folder that the call names.
    """

    path: Place
    folder: str = ""
    named: bool = True
    alias: str = ""
    found_in_folder: bool = False

    @property
    def name(self) -> str:
        """The name that outputs are derived from."""
        return self.alias or ("stdin" if isinstance(self.path, str) else self.path.stem)

    @property
    def relative(self) -> str:
        """The path relative to the folder that was searched, or the path as given. The same on all machines."""
        if not self.found_in_folder:
            return self.path if isinstance(self.path, str) else self.path.as_posix()
        return f"{self.folder}/{self.full_name}" if self.folder else self.full_name

    @property
    def full_name(self) -> str:
        """The name with the file's extension."""
        return self.name if isinstance(self.path, str) else self.path.name

    @property
    def source(self) -> str:
        """The file's extension, without the dot."""
        return "" if isinstance(self.path, str) else self.path.suffix.removeprefix(".")


def find(
    arguments: Iterable[str], listed: Iterable[str] = (), *, recursive: bool = False
) -> tuple[list[Song], list[VocalsepError]]:
    """Find the songs of a call.

    In folders, a recording is recognised by its file extension. Hidden files and outputs of vocalsep are left out;
    patterns leave out outputs too.

    Args:
        arguments: Files, folders, `PIPE`, and patterns. An argument is a pattern only if no file has that name.
        listed: Files and folders, taken literally.
        recursive: Whether to search subfolders too.

    Returns:
        The songs, and an error for each argument that yields none.
    """
    problems: list[VocalsepError] = []
    songs: dict[str, Song] = {}
    given = [*((text, False) for text in arguments), *((text, True) for text in listed)]
    for text, literal in given:
        try:
            found = _expand(text, problems, literal=literal, recursive=recursive)
        except AudioError as error:
            problems.append(error)
            continue
        for song in found:
            key = os.path.realpath(song.path) if isinstance(song.path, Path) else str(song.path)
            first = songs.setdefault(key, song)
            if song.named and not first.named:
                songs[key] = dataclasses.replace(first, named=True)
    return list(songs.values()), problems


def leave_out_videos(songs: Sequence[Song]) -> list[Song]:
    """Leave out videos that were found beside a recording of the same name. UltraStar keeps both in a song's folder."""
    recordings = {os.path.splitext(str(song.path))[0] for song in songs if not _is_video(song)}  # noqa: PTH122
    return [
        song
        for song in songs
        if song.named or not _is_video(song) or os.path.splitext(str(song.path))[0] not in recordings  # noqa: PTH122
    ]


def _is_video(song: Song) -> bool:
    return f".{song.source.lower()}" in VIDEO_SUFFIXES


def read_list(name: str) -> list[str]:
    """Read a list of paths, one per line.

    Args:
        name: A text file, or `PIPE` for standard input.

    Raises:
        AudioError: If the file cannot be read.
    """
    try:
        content = sys.stdin.buffer.read() if name == PIPE else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: cannot be read as a list of songs ({describe_error(error)})") from error
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [os.fsdecode(line) for line in (line.rstrip(b"\r") for line in lines) if line]


def gather(
    arguments: Iterable[str], from_file: str | None, *, recursive: bool
) -> tuple[list[Song], list[VocalsepError]]:
    """Find the songs of a call whose arguments and list may both name some.

    Args:
        arguments: As for `find`.
        from_file: The list, as for `read_list`; None if there is none.
        recursive: Whether to search subfolders too.

    Returns:
        The songs, and an error for a list that cannot be read and for each argument that yields none.
    """
    problems: list[VocalsepError] = []
    listed: list[str] = []
    try:
        listed = read_list(from_file) if from_file is not None else []
    except AudioError as error:
        problems.append(error)
    songs, unfound = find(arguments, listed, recursive=recursive)
    return songs, problems + unfound


def _expand(text: str, problems: list[VocalsepError], *, literal: bool, recursive: bool) -> list[Song]:
    if text == PIPE and not literal:
        return [Song(path=PIPE)]
    if not text or "\0" in text:
        raise AudioError(f"{text!r}: not a file name")
    if remote.is_address(text):
        return _expand_address(Remote(text), literal=literal, recursive=recursive)
    if _is_folder(text):
        return _search(Path(text), problems, recursive=recursive)
    if literal or os.path.lexists(text) or not glob.has_magic(text):
        return [Song(path=Path(text))]
    songs = []
    list_names = functools.cache(lambda folder: _list_song_names(os.listdir(folder)))  # noqa: PTH208 - names are enough
    found = patterns.find_matches(text)
    for name in found:
        if _is_folder(name):
            songs += _search(Path(name), problems, recursive=recursive)
        elif not is_output(Path(name), list_names(Path(name).parent)):
            songs.append(Song(path=Path(name), named=False))
    if not found:
        raise AudioError(f"{text}: no such file, and no file matches it as a pattern")
    if not songs:
        raise AudioError(f"{text}: matches only {_OWN}")
    return songs


def _expand_address(address: Remote, *, literal: bool, recursive: bool) -> list[Song]:
    """Return the songs of an address. One with the extension of a recording is that of a file."""
    if not literal and any(letter in address.address for letter in ("*[" if address.is_web else "*?[")):
        matches = remote.find_matches(address)
        names = _list_song_names(path.name for path in matches)
        songs = [Song(path=path, named=False) for path in matches if not _has_output_name(path.name, names)]
        if not songs:
            raise AudioError(f"{address}: " + (f"matches only {_OWN}" if matches else "no file matches this pattern"))
        return songs
    is_file = address.suffix.lower() in SUFFIXES or (address.is_web and not address.address.endswith("/"))
    found = None if is_file else remote.find_files(address, recursive=recursive)
    if found is None:
        return [Song(path=address)]
    known: dict[str, list[str]] = {}
    for folder, path in found:
        known.setdefault(folder, []).append(path.name)
    outputs = {folder: _list_song_names(names) for folder, names in known.items()}
    songs = [
        Song(path=path, folder=folder, named=False, found_in_folder=True)
        for folder, path in found
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and not _has_output_name(path.name, outputs[folder])
    ]
    if not songs:
        hint = " or its subfolders" if recursive else "; add -r to search its subfolders too"
        raise AudioError(f"{address}: no recordings in this folder{hint}")
    return songs


def _has_output_name(name: str, songs: Collection[str]) -> bool:
    found = _OUTPUT.fullmatch(name)
    return bool(found and found[1] in songs)


def is_output(path: Path, songs: Collection[str]) -> bool:
    """Return whether a recording is an output of vocalsep: by its name, if its song is there too, or by its tags.

    Args:
        path: The recording.
        songs: Names of the recordings in its folder, with and without their extensions.
    """
    return _has_output_name(path.name, songs) or is_signed(path)


def _list_song_names(names: Iterable[str]) -> set[str]:
    recordings = [name for name in names if Path(name).suffix.lower() in SUFFIXES]
    return {*recordings, *(Path(name).stem for name in recordings)}


def _is_folder(name: str) -> bool:
    return os.path.isdir(name)  # noqa: PTH112 - Path.is_dir raises errors for names that are too long


def _search(root: Path, problems: list[VocalsepError], *, recursive: bool) -> list[Song]:
    """Return the recordings in a folder, then those in its subfolders, each sorted by name."""
    songs: list[Song] = []
    before, outputs = len(problems), 0

    def record(error: OSError) -> None:
        problems.append(AudioError(f"{error.filename}: cannot be listed ({describe_error(error)})"))

    for folder, names in files.walk(root, recursive=recursive, onerror=record):
        below = folder.relative_to(root)
        relative = "" if below == Path() else below.as_posix()
        recordings = [name for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES]
        known = _list_song_names(recordings)
        paths = [folder / name for name in recordings if not is_output(folder / name, known)]
        outputs += len(recordings) - len(paths)
        songs += [Song(path=path, folder=relative, named=False, found_in_folder=True) for path in paths]
    if not songs and outputs and len(problems) == before:
        raise AudioError(f"{root}: holds only {_OWN}")
    if not songs and len(problems) == before:
        hint = " or its subfolders" if recursive else "; add -r to search its subfolders too"
        raise AudioError(f"{root}: no recordings in this folder{hint}")
    return songs
