"""Addresses of remote files, and what can be done there."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from vocalsep.errors import AudioError

TRIES: Final = 4
_PAUSE_SECONDS = 1.0  # before the second try; then twice as long each time

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_WEB = ("http", "https")
_BUCKETS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "r2")  # the first part of a path is a bucket
ATOMIC: Final = (*_BUCKETS, "memory", "hf")  # a file appears when it is complete
_REFUSED = re.compile("credential|forbidden|unauthori[sz]ed|anonymous caller", re.IGNORECASE)
_FINAL = (FileNotFoundError, IsADirectoryError, PermissionError, NotImplementedError, ImportError, ValueError)


def is_address(text: str) -> bool:
    """Return whether a text is the address of a remote file, and not the name of a file on this machine."""
    return bool(_ADDRESS.match(text)) and not os.path.lexists(text)


@dataclass(frozen=True, order=True)
class Remote:
    """A remote file or folder. It has the attributes of a path that names of outputs are made from.

    Attributes:
        address: Its address, such as ``s3://bucket/song.mp3``.
    """

    address: str

    def __str__(self) -> str:
        return self.address

    @property
    def scheme(self) -> str:
        """The part before ``://``, in lower case."""
        return self.address.partition("://")[0].lower()

    @property
    def is_web(self) -> bool:
        """Whether it is on a web server, where nothing can be written."""
        return self.scheme in _WEB

    @property
    def name(self) -> str:
        """The file's name. That of a web address is decoded and has no query."""
        rest = self.address.partition("://")[2]
        if not self.is_web:
            return rest.rstrip("/").rpartition("/")[2]
        path = urlsplit(self.address).path.rstrip("/").rpartition("/")[2]
        name = re.sub(r"[/\\\0]", "_", unquote(path, errors="surrogateescape"))
        return "song" if name in ("", ".", "..") else name

    @property
    def suffix(self) -> str:
        """The file's extension, with the dot."""
        return Path(self.name).suffix

    @property
    def stem(self) -> str:
        """The file's name without its extension."""
        return Path(self.name).stem

    @property
    def parent(self) -> Remote:
        """The folder."""
        scheme, _, rest = self.address.rstrip("/").partition("://")
        return Remote(f"{scheme}://{rest.rpartition('/')[0]}")

    def with_name(self, name: str) -> Remote:
        """Return a file in the same folder."""
        return self.parent / name

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.address.rstrip('/')}/{name}" if not self.address.endswith("://") else self.address + name)

    def as_posix(self) -> str:
        """Return the address."""
        return self.address

    def is_dir(self) -> bool:
        """Return False: what looks like the address of a file is taken for one."""
        return False

    def exists(self) -> bool:
        """Ask whether the file exists.

        Raises:
            AudioError: If that cannot be found out.
        """
        return bool(call(self, lambda system, path: system.invalidate_cache() or system.exists(path)))

    def create(self, content: bytes) -> bool:
        """Create a small file with this content. Return False if there is one already: of many that try, one succeeds.

        Raises:
            AudioError: If it cannot be created.
        """

        def pipe(system: Any, path: str) -> bool:
            if self.scheme not in ATOMIC:
                system.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                system.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            return True

        return bool(call(self, pipe))

    def write(self, content: bytes) -> None:
        """Replace a small file.

        Raises:
            AudioError: If it cannot be written.
        """
        call(self, lambda system, path: system.pipe_file(path, content))

    def read(self) -> tuple[bytes, float]:
        """Return the content of a small file, and how many seconds ago it was written.

        Raises:
            AudioError: If it cannot be read.
        """

        def read(system: Any, path: str) -> tuple[bytes, float]:
            system.invalidate_cache()
            return system.cat_file(path), time.time() - system.modified(path).timestamp()

        found: tuple[bytes, float] = call(self, read)
        return found

    def delete(self) -> None:
        """Delete a file.

        Raises:
            AudioError: If it cannot be deleted.
        """
        call(self, lambda system, path: system.rm_file(path))

    def was_listed(self) -> bool:
        """Return whether the file existed when its folder was first listed; see `list_names`.

        Raises:
            AudioError: If the folder cannot be listed.
        """
        return self.name in list_names(self.parent)


@functools.lru_cache(maxsize=256)
def list_names(folder: Remote) -> frozenset[str]:
    """List the names in a folder, once for each folder. A folder that does not exist is empty.

    Raises:
        AudioError: If it cannot be listed.
    """
    try:
        found = call(folder, lambda system, path: system.ls(path, detail=False))
    except _MissingError:
        return frozenset()
    return frozenset(str(name).rstrip("/").rpartition("/")[2] for name in found)


def find_files(folder: Remote, *, recursive: bool) -> list[tuple[str, Remote]] | None:
    """Find the files in a folder.

    Args:
        folder: The folder.
        recursive: Whether to search subfolders.

    Returns:
        For each file, its subfolder relative to `folder`, and its address; sorted. None if it is no folder.

    Raises:
        AudioError: If it cannot be listed.
    """

    def search(system: Any, path: str) -> list[tuple[str, Remote]] | None:
        if not system.isdir(path):
            return None
        root = path.rstrip("/") + "/"
        found = []
        for name in system.find(path, maxdepth=None if recursive else 1, withdirs=False):
            below = str(name).removeprefix(root)
            parts = below.split("/")
            if not any(part.startswith(".") for part in parts[:-1]):
                found.append(("/".join(parts[:-1]), Remote(_add_scheme(system, folder, str(name)))))
        return sorted(found)

    found: list[tuple[str, Remote]] | None = call(folder, search)
    return found


def find_matches(pattern: Remote) -> list[Remote]:
    """Find the files that match a pattern, sorted.

    Raises:
        AudioError: If the folder cannot be listed.
    """
    found = call(pattern, lambda system, path: [_add_scheme(system, pattern, name) for name in system.glob(path)])
    return [Remote(address) for address in sorted(found)]


def check_writable(place: Remote) -> None:
    """Check that files can be written to a place, as far as that shows without writing.

    Args:
        place: A file, a folder, or a template.

    Raises:
        AudioError: If the bucket does not exist, credentials are missing, or nothing can be written there.
    """
    if place.is_web:
        raise AudioError(f"{place}: vocalsep cannot write to a web server; choose a folder or a bucket")
    if place.scheme not in _BUCKETS:
        with _explain(place):
            _open_system(place)
        return
    bucket = Remote(f"{place.scheme}://{place.address.partition('://')[2].partition('/')[0]}")
    if "{" not in bucket.address:
        with _explain(bucket):
            system, path = _open_system(bucket)
            system.ls(path, refresh=True) if "s3" in bucket.scheme else system.ls(path)


class _MissingError(AudioError):
    """A remote file or folder does not exist."""


def call(remote: Remote, act: Callable[[Any, str], Any], *, retry: bool = False) -> Any:
    """Do something with a remote file, several times if it fails for a reason that may pass."""
    for attempt in range(TRIES if retry else 1):
        if attempt:
            time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            with _explain(remote):
                return act(*_open_system(remote))
        except AudioError as error:
            if attempt + 1 == (TRIES if retry else 1) or isinstance(error.__cause__, _FINAL):
                raise
    raise AssertionError


@contextlib.contextmanager
def _explain(remote: Remote) -> Iterator[None]:
    """Turn the many exceptions of fsspec's file systems into one line."""
    try:
        yield
    except AudioError:
        raise
    except FileNotFoundError as error:
        raise _MissingError(f"{remote}: no such file, folder or bucket") from error
    except PermissionError as error:
        raise AudioError(f"{remote}: no permission ({_shorten(error)}); check your credentials") from error
    except ImportError as error:
        raise AudioError(f"{remote}: {remote.scheme}:// needs another package; {_name_package(error)}") from error
    except Exception as error:
        name = type(error).__name__
        credentials = "; check your credentials" if _REFUSED.search(f"{name} {error}") else ""
        raise AudioError(f"{remote}: cannot be reached ({_shorten(error) or name}){credentials}") from error


def _name_package(error: ImportError) -> str:
    """Return what to install. fsspec's text names the package, but not in the same way for all of them."""
    text, missing = _shorten(error), getattr(error.__cause__, "name", None)
    return f"run: pip install {missing}" if missing and missing in text else text


def _shorten(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200].rstrip(".")


def _open_system(remote: Remote) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise AudioError(f"{remote}: needs fsspec; run: pip install 'vocalsep[remote]'") from error
    kind = _find_class(remote.scheme)
    system = fsspec.filesystem(remote.scheme, **kind._get_kwargs_from_urls(remote.address))
    return system, str(kind._strip_protocol(remote.address))  # `url_to_fs` would take "::" in a name for a chain


@functools.cache
def _find_class(scheme: str) -> Any:
    """Return the class for a scheme. Python no longer prints what its package logs, unless the program asks for that.

    Its errors are raised; what gcsfs logs besides, several times per file, is not for users.
    """
    import fsspec

    kind = fsspec.get_filesystem_class(scheme)
    logging.getLogger(kind.__module__.partition(".")[0]).addHandler(logging.NullHandler())
    return kind


def _add_scheme(system: Any, like: Remote, path: str) -> str:
    if _ADDRESS.match(path):
        return path
    return f"{like.scheme}://{path}" if like.scheme in _BUCKETS else str(system.unstrip_protocol(path))
