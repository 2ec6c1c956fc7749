"""Read and write manifests."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from vocalsep import files
from vocalsep.errors import ManifestError, describe_error
from vocalsep.manifests.records import Call, Record, check_model, collect

_SYNC_SECONDS: Final = 1.0
_START: Final = b'{"id": '  # of every line
_LONGEST: Final = 2**24  # bytes of a line; a song with half a million segments has a shorter one


class Writer:
    """Append records to a manifest. A context manager, and not for several threads.

    Args:
        path: The manifest. It is created, with its folder, if it does not exist.
        call: What the songs have in common.

    Attributes:
        known: The latest records of the songs that the manifest had when it was opened, by id; see `choose`.

    Raises:
        ManifestError: If it cannot be read or written, or its songs were separated with another model.
    """

    def __init__(self, path: Path, call: Call) -> None:
        self.path, self.call = path, call
        self._handle, self._synced, self._dirty = -1, time.monotonic(), False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            with files.lock(self._handle):
                self._repair()
        except OSError as error:
            self._close()
            raise describe_failure(path, "written", error) from error
        except ManifestError:
            self._close()
            raise
        try:
            self.known = read(path)
            check_model(path, self.known.values(), (call.model, call.model_sha256))
        except ManifestError:
            self._close()
            raise

    def add(self, record: Record) -> None:
        """Append a record.

        Raises:
            ManifestError: If it cannot be written. The manifest stays as it was.
        """
        line = record.to_line()
        try:
            with files.lock(self._handle):
                end = self._repair()
                try:
                    if os.write(self._handle, line) < len(line):
                        raise OSError(None, "No space left on device")
                except OSError:
                    with contextlib.suppress(OSError):
                        os.ftruncate(self._handle, end)
                    raise
            self._dirty = True
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                self._sync()
        except OSError as error:
            raise describe_failure(self.path, "written", error) from error

    def _repair(self) -> int:
        """Remove a torn line at the end, which only a killed writer leaves. Return the size of the file."""
        size = end = os.lseek(self._handle, 0, os.SEEK_END)
        while end:
            start = max(0, end - 2**16)
            os.lseek(self._handle, start, os.SEEK_SET)
            found = os.read(self._handle, end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            os.lseek(self._handle, end, os.SEEK_SET)
            start_of_line = os.read(self._handle, len(_START))
            if not (_START.startswith(start_of_line) or start_of_line.startswith(_START)):
                raise ManifestError(f"{self.path}: is not a manifest; choose another file")
            os.ftruncate(self._handle, end)
        return end

    def _sync(self) -> None:
        os.fsync(self._handle)
        self._synced, self._dirty = time.monotonic(), False

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._dirty:
                with contextlib.suppress(OSError):  # such as a pipe, which cannot be synchronised
                    self._sync()
        finally:
            self._close()


def iterate(path: Path) -> Iterator[Record]:
    """Yield the records of a manifest in the order of its lines. A torn last line is ignored.

    Raises:
        ManifestError: If it cannot be read, or a line is no record.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), 1):
                try:
                    if len(line) == _LONGEST:
                        raise ValueError("it is too long")
                    if not line.endswith(b"\n"):
                        return  # torn, or being written
                    record = Record.from_line(line)
                except ValueError as error:
                    reason = " ".join(str(error).split())
                    raise ManifestError(f"{path}: line {number} is not a record of a manifest ({reason})") from error
                yield record
    except OSError as error:
        raise describe_failure(path, "read", error) from error


def read(path: Path) -> dict[str, Record]:
    """Read the record that counts for each song; see `choose`. The songs are in the order of their first lines.

    Raises:
        ManifestError: As `iterate`.
    """
    return collect(iterate(path))


def write(path: Path, records: Iterable[Record]) -> None:
    """Write a manifest. It appears complete or not at all.

    Raises:
        ManifestError: If it cannot be written.
    """
    try:
        with files.write_atomically(path) as temporary, temporary.open("wb") as file:
            file.writelines(record.to_line() for record in records)
    except OSError as error:
        raise describe_failure(path, "written", error) from error


def describe_failure(path: Path, verb: str, error: OSError) -> ManifestError:
    """Return the error for a manifest that cannot be written or read."""
    return ManifestError(f"{path}: cannot be {verb} as a manifest ({describe_error(error)})")
