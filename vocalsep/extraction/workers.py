"""Threads in which nets run while a song is read, masked and written."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any


class Workers(Executor):
    """A fixed number of threads. After `os.fork`, the child starts its own: those of its parent do not exist there.

    Args:
        count: Number of threads.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._start()

    def _start(self) -> None:
        self._process, self._threads = os.getpid(), ThreadPoolExecutor(self._count)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Compute something in one of the threads; see `Executor.submit`."""
        if self._process != os.getpid():
            self._start()
        return self._threads.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end; see `Executor.shutdown`."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
