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
from typing import Any, BinaryIO

from vocalsep import files
from vocalsep.errors import describe_error

_STDIN, _STDOUT, _STDERR = range(3)  # file descriptors


class _Output(io.TextIOWrapper):
    """An output that remembers its first error instead of raising it, and discards everything from then on.

    Nothing is written twice if a signal interrupts: the layers below are in C, and no Python code, such as a handler,
    runs between the system's answer and their account of it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.error: OSError | None = None
        self._busy, self._waiting = False, ""

    def write(self, text: str) -> int:
        """Write a text, or discard it. What a signal's handler writes in the middle of another text comes after it."""
        self._waiting += text
        while self._waiting and not self._busy and self.error is None:
            text_now, self._waiting = self._waiting, ""
            with self._remember_error():
                super().write(text_now)
        return len(text)

    def flush(self) -> None:
        """Write what is in buffers, or discard it."""
        if self.error is None and not self._busy:
            with self._remember_error():
                super().flush()

    @contextlib.contextmanager
    def _remember_error(self) -> Iterator[None]:
        self._busy = True
        try:
            try:
                yield
            except BlockingIOError:  # its reader is slow, and the program that opened it does not wait
                self._wait_and_flush()
        except OSError as error:
            self.error = error
        except ValueError:  # it is closed
            self.error = OSError(errno.EBADF, os.strerror(errno.EBADF))
        finally:
            self._busy = False

    def _wait_and_flush(self) -> None:
        while True:
            select.select([], [self.fileno()], [])
            try:
                super().flush()
            except BlockingIOError:
                continue
            return


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


def _wrap(stream: Any, number: int, errors: str, *, line_buffering: bool) -> _Output:
    """Return an output for a standard stream. `stream` is None if the caller has closed it."""
    encoding = stream.encoding if stream else "utf-8"
    if stream:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    # On a descriptor of its own, standard error stays open while that of C libraries is silent.
    file = io.FileIO(os.dup(number) if number == _STDERR else number, "w", closefd=False)
    return _Output(io.BufferedWriter(file), encoding=encoding, errors=errors, line_buffering=line_buffering)


def open_sound_output() -> BinaryIO:
    """Return standard output for sound. Unlike text, sound raises an error if it cannot be written."""
    if isinstance(sys.stdout, _Output):
        return io.BufferedWriter(io.FileIO(_STDOUT, "w", closefd=False))  # so that only its writer sees its errors
    return sys.stdout.buffer


def finish() -> str:
    """Write what is left in buffers. Return why standard output did not get all of it, or an empty string.

    A reader that has gone is no reason: ``vocalsep models | head -1`` has done what it should.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    error = sys.stdout.error if isinstance(sys.stdout, _Output) else None
    return "" if error is None or error.errno == errno.EPIPE else describe_error(error)


def write_object(stream: Any, value: Any) -> None:
    """Write a value as JSON, in one line and at once."""
    stream.write(files.dump_json(value) + "\n")
    stream.flush()


@contextlib.contextmanager
def silence_c_libraries() -> Iterator[None]:
    """Discard what C libraries print on stderr. Python code still writes there.

    libmpg123, for one, prints its own complaints about damaged files.
    """
    if not isinstance(sys.stderr, _Output):  # a replacement, for example in a test
        yield
        return
    saved = os.dup(_STDERR)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _STDERR)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(saved, _STDERR)
        os.close(saved)
