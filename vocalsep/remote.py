"""Files that fsspec reaches: ``s3://``, ``gs://``, ``https://``, ``hf://`` and many more.

A remote song is downloaded to a temporary folder before its turn, and outputs are uploaded from there when they are
complete. Downloads and uploads are tried `TRIES` times. fsspec finds credentials and settings where it always does: in
the environment and in the configuration files of each service.

The temporary folders of processes that were killed are deleted by the next process; see `Workspace`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from vocalsep import files
from vocalsep.errors import AudioError

TRIES: Final = 4
_PAUSE_SECONDS = 1.0  # before the second try; then twice as long each time
_BLOCK = 2**22  # bytes
_PREFIX = "vocalsep-spool-"

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_WEB = ("http", "https")
_BUCKETS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "r2")  # the first part of a path is a bucket
_ATOMIC = (*_BUCKETS, "memory", "hf")  # a file appears when it is complete
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
        return bool(_call(self, lambda system, path: system.invalidate_cache() or system.exists(path)))

    def create(self, content: bytes) -> bool:
        """Create a small file with this content. Return False if there is one already: of many that try, one succeeds.

        Raises:
            AudioError: If it cannot be created.
        """

        def pipe(system: Any, path: str) -> bool:
            if self.scheme not in _ATOMIC:
                system.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                system.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            return True

        return bool(_call(self, pipe))

    def write(self, content: bytes) -> None:
        """Replace a small file.

        Raises:
            AudioError: If it cannot be written.
        """
        _call(self, lambda system, path: system.pipe_file(path, content))

    def read(self) -> tuple[bytes, float]:
        """Return the content of a small file, and how many seconds ago it was written.

        Raises:
            AudioError: If it cannot be read.
        """

        def read(system: Any, path: str) -> tuple[bytes, float]:
            system.invalidate_cache()
            return system.cat_file(path), time.time() - system.modified(path).timestamp()

        return _call(self, read)  # type: ignore[no-any-return]

    def delete(self) -> None:
        """Delete a file.

        Raises:
            AudioError: If it cannot be deleted.
        """
        _call(self, lambda system, path: system.rm_file(path))

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
        found = _call(folder, lambda system, path: system.ls(path, detail=False))
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

    return _call(folder, search)  # type: ignore[no-any-return]


def find_matches(pattern: Remote) -> list[Remote]:
    """Find the files that match a pattern, sorted.

    Raises:
        AudioError: If the folder cannot be listed.
    """
    found = _call(pattern, lambda system, path: [_add_scheme(system, pattern, name) for name in system.glob(path)])
    return [Remote(address) for address in sorted(found)]


def check_writable(place: Remote) -> None:
    """Check that files can be written to a place, as far as that shows without writing.

    Args:
        place: A file, a folder, or a template.

    Raises:
        AudioError: If the bucket does not exist, credentials are missing, or nothing can be written there.
    """
    if place.is_web:
        raise AudioError(f"{place}: a web server takes no files; choose a folder or a bucket")
    if place.scheme not in _BUCKETS:
        with _explain(place):
            _open_system(place)
        return
    bucket = Remote(f"{place.scheme}://{place.address.partition('://')[2].partition('/')[0]}")
    if "{" not in bucket.address:
        with _explain(bucket):
            system, path = _open_system(bucket)
            system.ls(path, refresh=True) if "s3" in bucket.scheme else system.ls(path)


class Workspace:
    """A temporary folder for one job: remote songs come here, and remote outputs leave from here. A context manager.

    Leaving it deletes the folder. If the process is killed, the next workspace on this machine deletes it: its owner
    holds a lock on a file in it.

    Args:
        on_progress: Called several times per download and upload; may raise an exception to stop it.
    """

    def __init__(self, on_progress: Callable[[], object] = lambda: None) -> None:
        self._on_progress = on_progress
        self._stack, self._count = contextlib.ExitStack(), 0
        remove_abandoned()
        while True:
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT)
            self._stack.callback(os.close, handle)
            self._stack.enter_context(files.lock(handle))
            if os.fstat(handle).st_nlink:
                break
            self._stack.close()  # another process took it for abandoned before it was locked

    def place(self, remote: Remote | Path) -> Path:
        """Return a file of the same name in a subfolder of its own."""
        self._count += 1
        folder = self.folder / str(self._count)
        folder.mkdir()
        name = remote.name
        if len(os.fsencode(name)) > 200:  # names of objects may be longer than those of files
            name = Path(name).stem[:40] + Path(name).suffix[:10]
        return folder / name

    def download(self, remote: Remote) -> Path:
        """Download a file.

        Raises:
            AudioError: If that fails.
        """
        path = self.place(remote)

        def copy(system: Any, source: str) -> None:
            with system.open(source, "rb") as file, path.open("wb") as target:
                while block := file.read(_BLOCK):
                    target.write(block)
                    self._on_progress()
                expected = getattr(file, "size", None)
                if expected is not None and target.tell() != expected:
                    raise OSError(f"{target.tell()} of {expected} bytes arrived")

        self._on_progress()
        _call(remote, copy, retry=True)
        return path

    def upload(self, path: Path, remote: Remote) -> None:
        """Upload a complete file. It appears complete or not at all.

        Raises:
            AudioError: If that fails.
        """

        def copy(system: Any, target: str) -> None:
            if remote.scheme in _ATOMIC:
                system.put_file(str(path), target)
                return
            folder, _, name = target.rpartition("/")
            temporary = f"{folder}/.{self.folder.name}-{name}"
            system.makedirs(folder, exist_ok=True)
            try:
                system.put_file(str(path), temporary)
                system.mv(temporary, target)
            except BaseException:
                with contextlib.suppress(Exception):
                    system.rm_file(temporary)
                raise

        self._on_progress()
        _call(remote, copy, retry=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def remove_abandoned() -> None:
    """Delete the workspaces of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), files.try_lock(folder / "lock"):
            shutil.rmtree(folder, ignore_errors=True)


class _MissingError(AudioError):
    """A remote file or folder does not exist."""


def _call(remote: Remote, act: Callable[[Any, str], Any], *, retry: bool = False) -> Any:
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
        raise AudioError(f"{remote}: needs a package for {remote.scheme}:// ({_shorten(error)})") from error
    except Exception as error:
        name = type(error).__name__
        credentials = "; check your credentials" if "redential" in f"{name} {error}" else ""
        raise AudioError(f"{remote}: cannot be reached ({_shorten(error) or name}){credentials}") from error


def _shorten(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200].rstrip(".")


def _open_system(remote: Remote) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise AudioError(f"{remote}: needs fsspec; run: pip install 'vocalsep[remote]'") from error
    kind = fsspec.get_filesystem_class(remote.scheme)
    system = fsspec.filesystem(remote.scheme, **kind._get_kwargs_from_urls(remote.address))
    return system, str(kind._strip_protocol(remote.address))  # `url_to_fs` would take "::" in a name for a chain


def _add_scheme(system: Any, like: Remote, path: str) -> str:
    if _ADDRESS.match(path):
        return path
    return f"{like.scheme}://{path}" if like.scheme in _BUCKETS else str(system.unstrip_protocol(path))
