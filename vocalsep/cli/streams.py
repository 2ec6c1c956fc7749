"""Standard input, output and error of the command. If one is closed, full, or left by its reader, the work goes on.

`guard` puts an output in place of each that never raises an error. What could not be written to standard output is
reported once, when everything else is done. A reader that has gone is no error. Sound is different: `open_sound_output`
returns standard output as it is, because a song that nobody hears need not be separated.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from vocalsep import files
from vocalsep.errors import describe_error

_STDIN, _STDOUT, _STDERR = range(3)  # file descriptors


class _Output(io.RawIOBase):
    """An output that remembers its first error instead of raising it, and discards everything from then on."""

    def __init__(self, file: Any) -> None:
        self.file, self.error = file, cast("OSError | None", None)

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        while self.error is None:
            try:
                written = self.file.write(view)
                if written is not None:
                    return int(written)
                select.select([], [self.file], [])  # its reader is slow, and the program that opened it does not wait
            except OSError as error:
                self.error = error
            except ValueError:  # it is closed
                self.error = OSError(errno.EBADF, os.strerror(errno.EBADF))
        return len(view)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self.file.fileno())

    def isatty(self) -> bool:
        return bool(self.file.isatty())


def guard() -> None:
    """Replace the standard streams by ones that never stop the work. Call this once, before any file is opened."""
    _open_closed()
    # File names that are not valid text pass through pipes unchanged. Terminals might take their bytes as commands.
    terminal = bool(sys.stdout and sys.stdout.isatty())
    errors = "backslashreplace" if terminal else "surrogateescape"
    sys.stdout = _wrap(sys.stdout, _STDOUT, errors, line_buffering=terminal)
    sys.stderr = _wrap(sys.stderr, _STDERR, "backslashreplace", line_buffering=True)


def _open_closed() -> None:
    """Open standard streams that the caller has closed. Otherwise the next file that is opened would take their place.

    What is written to standard output or read from standard input then fails.
    """
    for number, flags in ((_STDIN, os.O_WRONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, flags)  # takes the lowest number that is free
        os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(_STDIN, closefd=False)  # noqa: SIM115 - not a path; it stays open


def _wrap(stream: Any, number: int, errors: str, *, line_buffering: bool) -> io.TextIOWrapper:
    """Return a stream with an `_Output` in it. `stream` is None if the caller has closed it."""
    raw = getattr(stream.buffer, "raw", stream.buffer) if stream else io.FileIO(number, "w", closefd=False)
    encoding = stream.encoding if stream else "utf-8"
    buffer = io.BufferedWriter(_Output(raw))
    return io.TextIOWrapper(buffer, encoding=encoding, errors=errors, line_buffering=line_buffering)


def _find_output(stream: Any) -> _Output | None:
    """Return the `_Output` inside a text stream, or None if `guard` has not put one there."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Output) else None


def open_sound_output() -> BinaryIO:
    """Return standard output for sound. Unlike text, sound raises an error if it cannot be written."""
    output = _find_output(sys.stdout)
    return io.BufferedWriter(output.file) if output else sys.stdout.buffer


def finish() -> str:
    """Write what is left in buffers. Return why standard output did not get all of it, or an empty string.

    A reader that has gone is no reason: ``vocalsep models | head -1`` has done what it should.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    output = _find_output(sys.stdout)
    if output is None or output.error is None or output.error.errno == errno.EPIPE:
        return ""
    return describe_error(output.error)


def write_object(stream: Any, value: Any) -> None:
    """Write a value as JSON, in one line and at once."""
    stream.write(files.dump_json(value) + "\n")
    stream.flush()


@contextlib.contextmanager
def silence_c_libraries() -> Iterator[None]:
    """Discard what C libraries print on stderr. Python code still writes there.

    libmpg123, for one, prints its own complaints about damaged files.
    """
    output = _find_output(sys.stderr)
    if output is None or output.fileno() != _STDERR:  # a replacement, for example in a test
        yield
        return
    sys.stderr.flush()
    before, saved = output.file, os.dup(_STDERR)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _STDERR)
    os.close(null)
    output.file = io.FileIO(saved, "w")
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, _STDERR)
        output.file.close()
        output.file = before
