"""Handle Ctrl-C and SIGTERM for all commands: each stops the work and leaves no unfinished files behind.

Python runs a signal handler in the main thread, between two bytecodes. An exception that a handler raises can be lost
there: numpy turns it into an ImportError while it loads, and a callback from C or an object's clean-up swallows it.
`raise_on_signal` therefore remembers the signal and can raise its exception again.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None
_TO_STATUS = 128  # what a shell adds to the number of the signal that ended a process


def exit_on_terminate() -> None:
    """Make SIGTERM raise SystemExit, so that unfinished files are removed. The exit status is 143."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(_TO_STATUS + number))


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
        check()

    def report_unraisable(dropped: sys.UnraisableHookArgs) -> None:
        if not (received and isinstance(dropped.exc_value, KeyboardInterrupt | SystemExit)):
            previous_hook(dropped)

    previous_hook, sys.unraisablehook = sys.unraisablehook, report_unraisable
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield check
    finally:
        _restore(previous)
        sys.unraisablehook = previous_hook


@contextmanager
def stop_on_signal(announce: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; a second one acts as usual.

    Args:
        announce: Called when the first signal arrives, to tell the user that the work is about to stop.

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
    try:
        yield lambda: bool(received)
    finally:
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
