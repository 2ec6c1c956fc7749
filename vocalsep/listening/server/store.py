"""The songs of the server on disk: each in a folder of its own, whose name the server makes up.

    0123456789abcdef/song.json           name, options, state, report
    0123456789abcdef/song.mp3            the recording, as it was sent
    0123456789abcdef/accompaniment.wav   the result in 32-bit float
    0123456789abcdef/labels.txt          label track for Audacity
    0123456789abcdef/bundle.zip          what the player needs
    0123456789abcdef/files/vocals.mp3    what has been downloaded

The vocals are the song minus the accompaniment, so they need no file of their own.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from vocalsep import config, files
from vocalsep.audio.formats import SUFFIXES
from vocalsep.errors import ConfigError, VocalsepError
from vocalsep.listening import facts

WAITING, WORKING, DONE, FAILED, STOPPED = "waiting", "working", "done", "failed", "stopped"

DOWNLOADS = "files"
"""The folder of a song in which downloads are kept until they are needed no more."""

_ID = re.compile(r"[0-9a-f]{16}")
_ABOUT, _LOCK = "song.json", ".lock"
_LONGEST_NAME = 200
_MANY = 10_000


class StoreError(VocalsepError):
    """The store cannot take a song.

    Args:
        message: One line.
        status: HTTP status that says the same.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(kw_only=True, eq=False)
class Song:
    """A song of the store.

    Attributes:
        id: Its name on disk and in addresses.
        name: The name that people see. It never becomes a path.
        suffix: File extension of the recording: one that songs have, or none.
        options: How to separate it.
        added: When it came, in seconds since 1970.
        state: "waiting", "working", "done", "failed" or "stopped".
        seconds: Its length as the file states it.
        done_seconds: How much of it is done.
        error: What went wrong, if it failed.
        warnings: What else there is to know.
        report: Fields of its `extraction.Report`, once it is done.
        used: Bytes that it takes on disk.
    """

    id: str
    name: str
    suffix: str = ""
    options: dict[str, str] = field(default_factory=dict)
    added: float = 0.0
    state: str = WAITING
    seconds: float | None = None
    done_seconds: float = 0.0
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    report: dict[str, Any] | None = None
    used: int = 0


class Store:
    """The songs in a folder. All methods may be called from any thread.

    Args:
        folder: The folder. It is created if it does not exist, and must not be used by another server.
        limit: Bytes that all songs together may take.
        song_limit: Bytes that a recording may have.

    Attributes:
        songs: The songs by id, the oldest first. Songs that were waiting or in progress when the last server ended are
            waiting.

    Raises:
        StoreError: If the folder cannot be used.
    """

    def __init__(self, folder: Path, *, limit: int, song_limit: int) -> None:
        self._folder, self.limit, self.song_limit = folder, limit, song_limit
        self._mutex = threading.RLock()
        self._arriving: dict[str, int] = {}  # bytes so far
        self._listeners: list[Callable[[str], None]] = []
        self.songs: dict[str, Song] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = files.open_locked(folder / _LOCK)
            found = [path for path in folder.iterdir() if _ID.fullmatch(path.name) and path.is_dir()]
        except OSError as error:
            raise StoreError(f"{folder}: cannot be used ({error.strerror or error})", 500) from error
        if self._lock is None:
            hint = "another vocalsep serve keeps its songs there; choose another folder with --folder"
            raise StoreError(f"{folder}: in use; {hint}", 500)
        for song in sorted(filter(None, map(self._read, found)), key=lambda song: song.added):
            self.songs[song.id] = song

    def close(self) -> None:
        """Let another server use the folder."""
        if self._lock:
            self._lock.close()

    # What is there

    @property
    def used(self) -> int:
        """Bytes that all songs take, including those that are just arriving."""
        with self._mutex:
            return sum(song.used for song in self.songs.values()) + sum(self._arriving.values())

    def list_songs(self) -> list[Song]:
        """Return all songs, the oldest first."""
        with self._mutex:
            return list(self.songs.values())

    def place(self, song: Song, *parts: str) -> Path:
        """Return the path of a file of a song. The parts are names that the server chose."""
        return self._folder.joinpath(song.id, *parts)

    def place_recording(self, song: Song) -> Path:
        """Return the path of a song's recording."""
        return self.place(song, f"song{song.suffix}")

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call a function with the id of each song that changes or goes."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[str], None]) -> None:
        """Do not call a function any more."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(listener)

    # What changes

    def receive(self, name: str, options: Mapping[str, Any]) -> Upload:
        """Make room for a song that is about to arrive.

        Raises:
            StoreError: If there is no room.
        """
        if len(self.songs) + len(self._arriving) >= _MANY:
            raise StoreError(f"there are {_MANY:,} songs; remove some first", 507)
        suffix = Path(name).suffix.lower()
        song = Song(
            id=secrets.token_hex(8),
            name=clean_name(name),
            suffix=suffix if suffix in SUFFIXES else "",
            options=dict(options),
        )
        return Upload(self, song)

    def change(self, song: Song, **values: Any) -> None:
        """Change attributes of a song, and count the space that it takes."""
        with self._mutex:
            if self.songs.get(song.id) is not song:
                return  # it has been removed
            for name, value in values.items():
                setattr(song, name, value)
            if "state" in values:
                self._write(song)
            song.used = _measure(self._folder / song.id)
        self._tell(song.id)

    def discard_result(self, song: Song) -> None:
        """Delete all but the recording of a song."""
        keep = (self.place_recording(song).name, _ABOUT)
        with contextlib.suppress(OSError):
            for path in self.place(song).iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name not in keep:
                    path.unlink(missing_ok=True)

    def remove(self, song: Song) -> None:
        """Delete a song."""
        with self._mutex:
            self.songs.pop(song.id, None)
            shutil.rmtree(self._folder / song.id, ignore_errors=True)
        self._tell(song.id)

    def grow(self, song: Song, size: int) -> None:
        """Count bytes that are about to be written for a song that arrives.

        Raises:
            StoreError: If they are too many.
        """
        with self._mutex:
            before = self._arriving.get(song.id, 0)
            self.check_room(before + size, more=size)
            self._arriving[song.id] = before + size

    def check_room(self, size: int, *, more: int) -> None:
        """Check whether there is room, and make some if possible.

        Args:
            size: Bytes of a recording.
            more: Those among them that are not stored yet.

        Raises:
            StoreError: If the recording is too large, or there is no room for more.
        """
        if size > self.song_limit:
            hint = "--song-limit-gb of vocalsep serve sets the limit"
            raise StoreError(f"larger than {format_size(self.song_limit)}, the limit for one file; {hint}", 413)
        if self.used + more > self.limit:
            self.drop_downloads()
        if self.used + more > self.limit:
            raise StoreError(self.describe_limit(), 507)

    def describe_limit(self) -> str:
        """Say what to do if there is no room."""
        hint = "remove songs, or raise --limit-gb of vocalsep serve"
        return f"no room: all songs together may take {format_size(self.limit)}; {hint}"

    def drop_downloads(self, keep: Song | None = None) -> None:
        """Delete the files that can be made again, except those of one song."""
        with self._mutex:
            for song in self.list_songs():
                folder = self.place(song, DOWNLOADS)
                if song is not keep and folder.is_dir():
                    shutil.rmtree(folder, ignore_errors=True)
                    song.used = _measure(folder.parent)

    def accept(self, song: Song) -> None:
        """Add a song whose recording is complete."""
        with self._mutex:
            self._arriving.pop(song.id, None)
            song.added = time.time()
            self.songs[song.id] = song
            self.change(song, state=WAITING)

    def reject(self, song: Song) -> None:
        """Delete a song whose recording will not be complete."""
        with self._mutex:
            self._arriving.pop(song.id, None)
            shutil.rmtree(self._folder / song.id, ignore_errors=True)

    def _tell(self, song_id: str) -> None:
        for listener in list(self._listeners):
            listener(song_id)

    # Disk

    def _read(self, folder: Path) -> Song | None:
        """Read a song. One that has no description has not arrived completely, and is deleted."""
        try:
            values = files.parse_json((folder / _ABOUT).read_text(encoding="utf-8"))
            known = {each.name for each in fields(Song)}
            song = config.build(Song, {name: value for name, value in values.items() if name in known})
        except FileNotFoundError:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        except (OSError, ValueError, AttributeError, ConfigError):
            return None  # of another version; it stays
        if song.id != folder.name or song.suffix not in SUFFIXES | {""}:
            return None
        song.name = clean_name(song.name)
        if song.state != DONE or not facts.can_describe(song.report):
            song.report = None
        if song.state not in (FAILED, STOPPED) and song.report is None:
            song.state, song.done_seconds = WAITING, 0.0
            self.discard_result(song)
        song.used = _measure(folder)
        return song

    def _write(self, song: Song) -> None:
        with contextlib.suppress(OSError):  # a full disk: the next server finds the earlier state
            files.write_text(self.place(song, _ABOUT), files.dump_json(asdict(song)))


class Upload:
    """A recording that arrives. A context manager: unless `finish` was called, nothing of it stays.

    Args:
        store: Where it goes.
        song: The song.
    """

    def __init__(self, store: Store, song: Song) -> None:
        self._store, self._song = store, song
        self._file: BinaryIO | None = None
        self._finished = False

    def expect(self, size: int) -> None:
        """Check whether a recording of a size will fit.

        Raises:
            StoreError: If it will not.
        """
        self._store.check_room(size, more=size)

    def write(self, content: bytes) -> None:
        """Append bytes.

        Raises:
            StoreError: If they are too many, or the disk is full.
        """
        self._store.grow(self._song, len(content))
        try:
            if self._file is None:
                path = self._store.place_recording(self._song)
                path.parent.mkdir(mode=0o700)
                self._file = path.open("xb")
            self._file.write(content)
        except OSError as error:
            raise _describe(error) from error

    def finish(self) -> Song:
        """Add the song to the store, and return it.

        Raises:
            StoreError: If it is empty, or the disk is full.
        """
        if self._file is None:
            raise StoreError("the file is empty", 400)
        try:
            self._file.close()
        except OSError as error:
            raise _describe(error) from error
        self._store.accept(self._song)
        self._finished = True
        return self._song

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
        if not self._finished:
            self._store.reject(self._song)


def _describe(error: OSError) -> StoreError:
    return StoreError(f"cannot be stored ({error.strerror or error})", 507)


def clean_name(name: str) -> str:
    """Return a name without folders and control characters, and not too long."""
    last = re.split(r"[/\\]", name)[-1]
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in last).strip()
    if len(printable) > _LONGEST_NAME:
        suffix = Path(printable).suffix[:10]
        printable = printable[: _LONGEST_NAME - len(suffix)] + suffix
    return printable or "song"


def format_size(size: int) -> str:
    """Return a number of bytes as people write it, such as 1.5 GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def _measure(folder: Path) -> int:
    """Return the bytes that the files in a folder and its subfolders take."""
    total = 0
    with contextlib.suppress(OSError):
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                total += path.lstat().st_size
    return total
