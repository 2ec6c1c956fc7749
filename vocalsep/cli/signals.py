"""Handle Ctrl-C and SIGTERM for all commands: each ends within two seconds, and leaves no unfinished files behind.

Python runs a signal handler in the main thread, between two bytecodes. An exception that a handler raises can be lost
there: numpy turns it into an ImportError while it loads, and a callback from C or an object's clean-up swallows it.
`raise_on_signal` therefore remembers the signal and can raise its exception again. `end_on_signal` remembers it for the
whole command: whatever error comes of it, none is shown. A handler does not run while the main thread is busy in a C
library. So a thread waits for signals, too, and ends a process that has not ended by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

from vocalsep import files

_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None
_TO_STATUS = 128  # what a shell adds to the number of the signal that ended a process


_GRACE_SECONDS = 1.5  # for a command to stop by itself
_grace = [_GRACE_SECONDS]  # the last one counts
_received: list[int] = []  # signals that end this process


@contextmanager
def end_on_signal() -> Iterator[None]:
    """End the command with status 130 on Ctrl-C and 143 on SIGTERM, without a traceback and within two seconds.

    Put everything that the command does into the ``with`` block.
    """

    def raise_remembered(number: int, frame: FrameType | None) -> None:
        del frame
        _received.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(_TO_STATUS + number)

    numbers = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]  # nohup
    _watch()  # first, so that no signal can raise its exception there
    with _drop_unraisable(_received):
        try:
            for number in numbers:
                signal.signal(number, raise_remembered)
            yield
        except BaseException:
            if not _received:
                raise
        finally:
            for number in numbers:
                signal.signal(number, signal.SIG_DFL)  # what follows has nothing to lose
    if _received:
        sys.exit(_TO_STATUS + _received[0])


def _watch() -> None:
    """Start a thread that ends this process if a signal has come and the process has not ended by itself."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def end() -> None:
        number = 0
        while number not in (signal.SIGINT, signal.SIGTERM):
            number = os.read(reader, 1)[0]
        time.sleep(_grace[-1])
        for child in multiprocessing.active_children():
            child.kill()
        files.remove_unfinished()
        os._exit(_TO_STATUS + number)

    threading.Thread(target=end, daemon=True).start()


@contextmanager
def _drop_unraisable(received: Sequence[int]) -> Iterator[None]:
    """Keep Python from printing the exceptions of a signal where it has to drop them, if one has been received."""

    def report_unraisable(dropped: sys.UnraisableHookArgs) -> None:
        if not (received and isinstance(dropped.exc_value, KeyboardInterrupt | SystemExit)):
            previous_hook(dropped)

    previous_hook, sys.unraisablehook = sys.unraisablehook, report_unraisable
    try:
        yield
    finally:
        sys.unraisablehook = previous_hook


@contextmanager
def raise_on_signal(*numbers: signal.Signals) -> Iterator[Callable[[], None]]:
    """Stop the ``with`` block with an exception when a signal arrives: KeyboardInterrupt for SIGINT, else SystemExit.

    Normally, Python prints any exception that it has to drop. Those raised here are not printed.

    Args:
        numbers: The signals.

    Yields:
        A function that raises the exception again if a signal has arrived, and otherwise does nothing. Call it where
        the work can stop.
    """
    received: list[int] = []

    def check() -> None:
        if received:
            raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(_TO_STATUS + received[0])

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        _received.append(number)
        check()

    previous = {number: signal.signal(number, handle) for number in numbers}
    with _drop_unraisable(received):
        try:
            yield check
        finally:
            _restore(previous)


@contextmanager
def stop_on_signal(
    announce: Callable[[], object], *, grace_seconds: float = _GRACE_SECONDS
) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; a second one acts as usual.

    Args:
        announce: Called when the first signal arrives, to tell the user that the work is about to stop.
        grace_seconds: Time that the work may take to stop. Then the process ends without it.

    Yields:
        A function that returns whether the work should stop.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in numbers}
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        announce()
        _restore(previous)

    for number in numbers:
        signal.signal(number, handle)
    _grace.append(grace_seconds)
    try:
        yield lambda: bool(received)
    finally:
        _grace.pop()
        _restore(previous)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C in this process. A terminal sends it to workers too, but only their parent may stop them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Protect processes started in the ``with`` block from Ctrl-C until they can call `ignore_interrupts`.

    This process receives the Ctrl-C when the block ends. Windows has no way to block it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # otherwise the first process starts it, which unblocks SIGINT
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _restore(handlers: dict[signal.Signals, _Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
