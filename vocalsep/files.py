"""Write files atomically, walk through folders, and write JSON that may contain file names."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import platformdirs

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".part"


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


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Create a temporary file beside `path`, and rename it to `path` when the ``with`` block ends.

    If the block fails, the temporary file is deleted and `path` stays as it was. Temporary files of `path` that
    killed processes left behind are deleted first; see `remove_leftovers`.

    Args:
        path: The file to write or replace. Its folder must exist.

    Yields:
        The empty temporary file.

    Raises:
        OSError: If the file cannot be created or renamed.
    """
    remove_leftovers(path)
    handle, temporary = _create_temporary(path)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # temporary files are private; results are not
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        if handle is not None:
            os.close(handle)  # this also releases the lock


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of `path` that killed processes left behind.

    A process locks the temporary file that it writes, and loses the lock when it ends, even if it is killed. On systems
    without file locks nothing is deleted.

    Args:
        path: The file that the temporary files were written for.
    """
    if fcntl is None:
        return
    pattern = re.compile(re.escape(_make_prefix(path)) + "[a-z0-9_]{8}" + re.escape(_SUFFIX))
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for name in [entry.name for entry in entries if pattern.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _delete_if_abandoned(path.with_name(name))


def _delete_if_abandoned(temporary: Path) -> None:
    handle = os.open(temporary, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink()
    finally:
        os.close(handle)


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


def lock(path: Path) -> IO[bytes] | None:
    """Lock a file for this process, and create it if it does not exist. Closing it releases the lock.

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
    of them are escaped.

    Raises:
        ValueError: If the value holds NaN or infinity.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    with contextlib.suppress(UnicodeEncodeError):
        text.encode()
        return text
    return json.dumps(value, indent=indent, allow_nan=False)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
