"""Files that appear whole or not at all, folders with all that lies below them, and JSON with names of files in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".part"


def walk(
    root: Path, *, recursive: bool = True, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """A folder and those below it, each followed by the folders in it, by name.

    Links to folders are followed, but no folder is walked through twice, so that links in a ring end; one that is there
    without any link is found in its own place. Hidden folders are left out.

    Args:
        root: The folder.
        recursive: Whether those below it are wanted.
        onerror: Called for each folder that cannot be listed.

    Yields:
        A folder, and the names of the files in it, sorted.
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
    """A temporary file beside `path` that takes its name when the ``with`` block ends, and vanishes if it fails.

    What a killed process has left of an earlier attempt is removed, too; see `remove_leftovers`.

    Args:
        path: The file to be; replaced if it exists. Its folder must exist.

    Yields:
        The temporary file, empty.

    Raises:
        OSError: If the folder does not take the file.
    """
    remove_leftovers(path)
    handle, temporary = _temporary(path)
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
            os.close(handle)  # and with it the lock


def remove_leftovers(path: Path) -> None:
    """Removes temporary files of `path` that nobody writes any more, since their process was killed.

    A process holds a lock on the file that it writes, and loses it when it ends in whatever way. Where there are no
    locks, nothing is removed.

    Args:
        path: The file that they were to become.
    """
    if fcntl is None:
        return
    ours = re.compile(re.escape(_prefix(path)) + "[a-z0-9_]{8}" + re.escape(_SUFFIX))
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for name in [entry.name for entry in entries if ours.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _remove_if_left(path.with_name(name))


def _remove_if_left(temporary: Path) -> None:
    handle = os.open(temporary, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink()
    finally:
        os.close(handle)


def _temporary(path: Path) -> tuple[int | None, Path]:
    """A new file, and the handle that holds its lock where there are locks."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=_SUFFIX, dir=path.parent)
        if fcntl is None:
            os.close(handle)  # an open file cannot be renamed there
            return None, Path(name)
        with contextlib.suppress(OSError):  # some file systems know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # somebody swept it away before it was locked


def _prefix(path: Path) -> str:
    return f".{path.stem[:40]}."


def write_text(path: Path, text: str) -> None:
    """Writes a text file, UTF-8, that appears whole or not at all.

    Args:
        path: The file; replaced if it exists. Its folder must exist.
        text: What it is to hold.

    Raises:
        OSError: If it cannot be written.
    """
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def dump_json(value: object, *, indent: int | None = None) -> str:
    """JSON, without a line's end. Letters stand as they are, unless a name of a file is no text.

    Raises:
        ValueError: If there is a number in it that JSON does not know.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    with contextlib.suppress(UnicodeEncodeError):
        text.encode()
        return text
    return json.dumps(value, indent=indent, allow_nan=False)
