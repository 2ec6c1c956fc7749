"""Claims: while a process makes a file, a small hidden file beside it tells other processes to leave it alone.

A claim is made by an atomic create and deleted when the work ends, also after an error or a signal. A process that is
killed leaves its claims behind. They no longer count:

- on the same machine, once no process has the owner's number and start time (without /proc, its number);
- on another machine, such as with a shared network folder, once the owner has not renewed them for `EXPIRY_SECONDS`;
- in a run on several machines, at once: a run hands each file to one process at a time, so a claim of the same run can
  only be that of a process that the run has lost.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from vocalsep import files
from vocalsep.errors import AudioError
from vocalsep.remote import Remote

File = Path | Remote

EXPIRY_SECONDS: Final = 900
"""A claim from another machine counts for this long after it was last renewed."""

RENEWAL_SECONDS: Final = 60
"""Time between renewals of a claim."""


class Claim:
    """The claims that this process holds for the files of one job.

    Args:
        run: See `claim`.
    """

    def __init__(self, run: str = "") -> None:
        self._paths: list[File] = []
        self._run = run
        self._content = json.dumps(_identify_process() | {"claim": secrets.token_hex(8), "run": run}).encode()
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Say that the work goes on. Call it every few seconds."""
        if time.monotonic() - self._renewed >= RENEWAL_SECONDS:
            self._renewed = time.monotonic()
            for path in self._paths:
                with contextlib.suppress(OSError, AudioError):
                    path.write(self._content) if isinstance(path, Remote) else os.utime(path)

    def _take(self, path: File) -> bool:
        self._paths.append(path)  # first, because a signal may arrive after it is created
        if isinstance(path, Remote):
            return _create_remote(path, self._content, self._run)
        return _create(path, self._content, self._run)

    def _release(self) -> None:
        for path in self._paths:
            with contextlib.suppress(OSError, AudioError):  # another process may hold it, or have taken it over
                if isinstance(path, Remote):
                    if path.read()[0] == self._content:
                        path.delete()
                elif path.read_bytes() == self._content:
                    path.unlink()
        self._paths = []


@contextmanager
def claim(paths: Sequence[File], run: str = "") -> Iterator[Claim | None]:
    """Claim files until the ``with`` block ends.

    Args:
        paths: The files to make. Those on this machine need a folder that exists.
        run: Name of the run that this process works for; empty for none. Claims of the same run do not count.

    Yields:
        The claim, or None if another process has claimed one of the files.

    Raises:
        AudioError: If a remote folder cannot be written to.
        OSError: If a folder cannot be written to.
    """
    held = Claim(run)
    try:
        taken = all(held._take(path) for path in sorted({_name_claim(path) for path in paths}, key=str))
        if not taken:
            held._release()
        yield held if taken else None
    finally:
        held._release()


def remove_dead(paths: Sequence[File], run: str = "") -> None:
    """Delete the claims of processes that have ended.

    Args:
        paths: The files that they claimed.
        run: See `claim`.
    """
    for path in map(_name_claim, paths):
        with contextlib.suppress(OSError, AudioError):
            if isinstance(path, Remote):
                _remove_remote_if_dead(path, run)
            else:
                _remove_if_dead(path, run)


def _name_claim(path: File) -> File:
    """Return the claim of a file: a name of fixed length, since the file's own may be as long as names can be."""
    digest = hashlib.blake2b(os.fsencode(path.name), digest_size=8).hexdigest()
    return path.with_name(f".vocalsep-{digest}.claim")


def _create(path: Path, content: bytes, run: str) -> bool:
    """Create a claim, unless a process that is alive holds it. Return whether it was created."""
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if not _remove_if_dead(path, run):
                    return False
            continue
        try:
            os.write(handle, content)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        return True


def _remove_if_dead(path: Path, run: str) -> bool:
    """Delete a claim whose owner has ended. Return whether it is gone.

    The file is locked meanwhile, so that no two processes delete one claim: the second would delete the claim that the
    first then makes.

    Raises:
        FileNotFoundError: If there is no claim.
    """
    handle = os.open(path, os.O_RDWR)
    try:
        with files.lock(handle):
            if not os.fstat(handle).st_nlink:
                return True  # the other process deleted it
            if _is_alive(os.read(handle, 2**16), lambda: _read_clock(path.parent) - os.fstat(handle).st_mtime, run):
                return False
            if os.name != "nt":  # Windows cannot delete an open file
                path.unlink()
                return True
    finally:
        os.close(handle)
    path.unlink()
    return True


def _create_remote(path: Remote, content: bytes, run: str) -> bool:
    """Like `_create`. Services that cannot create a file atomically have no claims."""
    try:
        while not path.create(content):
            if not _remove_remote_if_dead(path, run):
                return False
    except AudioError as error:
        if isinstance(error.__cause__, NotImplementedError | TypeError | ValueError):
            return True
        raise
    return True


def _remove_remote_if_dead(path: Remote, run: str) -> bool:
    """Delete a claim whose owner has ended. Return whether it is gone."""
    try:
        content, age = path.read()
        if _is_alive(content, lambda: age, run):
            return False
        path.delete()
    except AudioError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    return True


def _is_alive(content: bytes, get_age: Callable[[], float], run: str) -> bool:
    """Return whether the owner of a claim may still be at work.

    Args:
        content: The claim.
        get_age: Returns how many seconds ago it was renewed.
        run: See `claim`.
    """
    try:
        owner = files.parse_json(content)
        machine, number, started = owner["machine"], int(owner["pid"]), owner["started"]
    except (ValueError, TypeError, KeyError, OverflowError):  # its owner was killed, or has not yet written it
        machine, number, started, owner = "", 0, None, {}
    if run and owner.get("run") == run:
        return False
    if machine == _identify_machine():
        if started is not None:
            return bool(_read_start(number) == started)
        if _has_ended(number):
            return False
    return get_age() < EXPIRY_SECONDS


def _has_ended(number: int) -> bool:
    """Return whether no process has this number, as far as the system says."""
    if os.name != "posix":
        return False
    try:
        os.kill(number, 0)
    except OverflowError:
        return True
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return False


def _read_clock(folder: Path) -> float:
    """Return the time of the machine that keeps a folder, which stamps claims when they are renewed."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _identify_process() -> dict[str, Any]:
    """Return what tells this process from all others on all machines, as long as it lives."""
    number = os.getpid()
    return {"machine": _identify_machine(), "pid": number, "started": _read_start(number)}


@functools.cache
def _identify_machine() -> str:
    """Return what tells this machine, and this container on it, from others; each start of it counts as another."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - it is no path
    return " ".join(parts)


def _read_start(number: int) -> str | None:
    """Return when a process started, in its machine's own unit. None if it has ended, or the system does not say."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]  # a zombie does nothing more
