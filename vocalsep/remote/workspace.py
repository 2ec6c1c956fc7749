"""A temporary folder, from which remote files are separated as if they were on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from vocalsep import files
from vocalsep.remote.addresses import ATOMIC, Remote, call

_PREFIX: Final = "vocalsep-spool-"
_BLOCK: Final = 2**22  # bytes


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
        call(remote, copy, retry=True)
        return path

    def upload(self, path: Path, remote: Remote) -> None:
        """Upload a complete file. It appears complete or not at all.

        Raises:
            AudioError: If that fails.
        """

        def copy(system: Any, target: str) -> None:
            if remote.scheme in ATOMIC:
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
        call(remote, copy, retry=True)

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
