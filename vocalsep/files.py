"""Write files atomically, walk through folders, and write JSON that may contain file names."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import platformdirs

from vocalsep.text import escape_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".part"
_unfinished: set[Path] = set()  # temporary files that this process is writing


def is_folder(path: str | Path) -> bool:
    """Return whether a path is a folder. Unlike `Path.is_dir`, this takes any name, even one that no file can have."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """Return whether a path is a regular file, whatever its name."""
    return os.path.isfile(path)  # noqa: PTH113


def walk(
    root: Path, *, recursive: bool = True, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """Walk through a folder and its subfolders, sorted by name.

    Links to folders are followed, but no folder is visited twice, so circular links do no harm. A folder that lies
    inside `root` is visited at its own path, not through a link. Hidden folders are skipped.

    Args:
        root: The folder to start from.
        recursive: Whether to visit subfolders.
        onerror: Called for each folder that cannot be listed.

    Yields:
        A folder, and the sorted names of the files in it.
    """
    own = {root}
    for name, folders, _ in os.walk(root) if recursive else ():
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        own.update(path for path in map(Path(name).joinpath, folders) if not path.is_symlink())
    seen = {os.path.realpath(path) for path in own}
    for name, folders, names in os.walk(root, onerror=onerror, followlinks=True):
        yield Path(name), sorted(names)
        below = []
        for path in map(Path(name).joinpath, sorted(folders) if recursive else ()):
            real = os.path.realpath(path)
            if not path.name.startswith(".") and (path in own or real not in seen):
                seen.add(real)
                below.append(path.name)
        folders[:] = below


def is_special(path: Path) -> bool:
    """Return whether a path is a named pipe or a device: something to write into, not to replace."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def is_same(place: Path | IO[bytes], path: Path) -> bool:
    """Return whether a path or an open file and another path are one regular file, whatever their names."""
    try:
        one = place.stat() if isinstance(place, Path) else os.fstat(place.fileno())
        return stat.S_ISREG(one.st_mode) and os.path.samestat(one, path.stat())
    except (OSError, ValueError, AttributeError):  # it does not exist, or is no file of the system
        return False


def follow_links(path: Path) -> Path:
    """Return the file that a path stands for, which need not exist.

    Raises:
        OSError: If symbolic links form a circle.
    """
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return real if path.is_symlink() else path


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Create a temporary file beside `path`, and rename it to `path` when the ``with`` block ends.

    If the block fails, the temporary file is deleted and `path` stays as it was. Temporary files of `path` that
    killed processes left behind are deleted first; see `remove_leftovers`.

    A symbolic link stays: the file that it points to is written. So do a named pipe and a device. They get the content
    when it is complete.

    Args:
        path: The file to write or replace. Its folder must exist.

    Yields:
        The empty temporary file.

    Raises:
        OSError: If the file cannot be created or renamed.
    """
    path = follow_links(path)
    if is_special(path):
        with _write_into(path) as temporary:
            yield temporary
        return
    remove_leftovers(path)
    handle, temporary = _create_temporary(path)
    _unfinished.add(temporary)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # temporary files are private; results are not
        temporary.replace(path)
        _unfinished.discard(temporary)
    except BaseException:
        temporary.unlink(missing_ok=True)  # without memory, this may fail; `remove_unfinished` then tries again
        _unfinished.discard(temporary)
        raise
    finally:
        if handle is not None:
            os.close(handle)  # this also releases the lock


@contextmanager
def _write_into(path: Path) -> Iterator[Path]:
    """Create a temporary file, and copy it into a named pipe or a device when the ``with`` block ends."""
    handle, name = tempfile.mkstemp(suffix=_SUFFIX)
    os.close(handle)
    temporary = Path(name)
    _unfinished.add(temporary)
    try:
        yield temporary
        with temporary.open("rb") as source, path.open("wb", buffering=0) as sink:
            shutil.copyfileobj(source, sink)
    except BrokenPipeError as error:
        raise OSError(f"the reader of {path} has gone") from error
    finally:
        _unfinished.discard(temporary)
        temporary.unlink(missing_ok=True)


def remove_unfinished() -> None:
    """Delete the temporary files that this process is writing. Call this only where the process ends at once."""
    for temporary in tuple(_unfinished):
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextmanager
def lock(handle: int) -> Iterator[None]:
    """Wait for the lock of an open file and hold it until the ``with`` block ends.

    Windows and some file systems have no such locks: there, nothing is locked.

    Args:
        handle: Descriptor of the file.
    """
    locked = False
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
            locked = True
    try:
        yield
    finally:
        if locked:
            fcntl.flock(handle, fcntl.LOCK_UN)


@contextmanager
def try_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file until the ``with`` block ends.

    Raises:
        OSError: If the file does not exist, another process has locked it, or the system has no locks.
    """
    if fcntl is None:
        raise OSError("this system has no locks")
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of `path` that killed processes left behind.

    A process locks the temporary file that it writes, and loses the lock when it ends, even if it is killed. On systems
    without file locks nothing is deleted.

    Args:
        path: The file that the temporary files were written for.
    """
    with contextlib.suppress(OSError):
        path = follow_links(path)
    pattern = re.compile(re.escape(_make_prefix(path)) + "[a-z0-9_]{8}" + re.escape(_SUFFIX))
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for name in [entry.name for entry in entries if pattern.fullmatch(entry.name)]:
            with contextlib.suppress(OSError), try_lock(path.with_name(name)):
                path.with_name(name).unlink()


def _create_temporary(path: Path) -> tuple[int | None, Path]:
    """Create a temporary file. Return the handle that holds its lock (None on Windows), and its path."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_make_prefix(path), suffix=_SUFFIX, dir=path.parent)
        if fcntl is None:
            os.close(handle)  # Windows cannot rename an open file
            return None, Path(name)
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # another process deleted the file before it was locked


def _make_prefix(path: Path) -> str:
    return f".{path.stem[:40]}."


def open_locked(path: Path) -> IO[bytes] | None:
    """Open a file and lock it for this process; create it if it does not exist. Closing it releases the lock.

    On systems without file locks, nothing is locked.

    Returns:
        The open file. None if another process has locked it.

    Raises:
        OSError: If the file cannot be opened.
    """
    file = path.open("ab")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        pass  # some file systems have no locks
    return file


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Args:
        path: The file to write or replace. Its folder must exist.
        text: The whole text of the file.

    Raises:
        OSError: If the file cannot be written.
    """
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def find_cache_folder() -> Path:
    """Return the folder of what vocalsep computes once: ``VOCALSEP_CACHE``, or else the user's cache folder.

    If an earlier version left a cache in ``~/.cache/vocalsep``, vocalsep keeps using it, even on Windows and macOS,
    where new caches go elsewhere.
    """
    named = os.environ.get("VOCALSEP_CACHE")
    if named:
        return Path(named)
    earlier = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vocalsep"
    return earlier if earlier.is_dir() else platformdirs.user_cache_path("vocalsep", appauthor=False)


def dump_json(value: object, *, indent: int | None = None) -> str:
    """Format a value as JSON, without a final newline.

    Letters outside ASCII stay as they are, unless the value holds a file name that is not valid Unicode: then all
    of them are escaped. Control characters are always escaped, so that the text is safe to show.

    Raises:
        ValueError: If the value holds NaN or infinity.
    """
    text = escape_json(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False))
    with contextlib.suppress(UnicodeEncodeError):
        text.encode()
        return text
    return json.dumps(value, indent=indent, allow_nan=False)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON that may come from anywhere.

    Raises:
        ValueError: If it is not JSON, or its values lie in each other deeper than anything that vocalsep reads.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_data_folder() -> Path:
    """Return the folder of what the user wants to keep: own models, and the songs of ``vocalsep serve``."""
    return platformdirs.user_data_path("vocalsep", appauthor=False)
