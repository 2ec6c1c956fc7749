"""The songs of a call: one after the other in this process, or side by side in several.

These share nothing: each loads the model, gets another song when it has done one, and is taken down with whatever it
was at if the call is stopped.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from types import FrameType

from vocalsep import files
from vocalsep.cli.batch.plan import Job
from vocalsep.cli.batch.work import Bench, Ended, Event, Settings, SetupError, Tell
from vocalsep.cli.common import silence_c_libraries

_LAST_SECONDS = 0.8  # for a process to clear away what it was writing, when it is stopped


def run(jobs: Sequence[tuple[int, Job]], settings: Settings, processes: int, tell: Tell) -> None:
    """Does jobs.

    Args:
        jobs: Each with its place in the plan, to be begun in this order.
        settings: What to compute.
        processes: How many songs at once. With 1 they are done in this process; with more, torch is not loaded in it.
        tell: Is told what happens.

    Raises:
        SetupError: If the model cannot be loaded.
    """
    with heeded(signal.SIGINT, signal.SIGTERM) as heed:
        if processes > 1:
            _side_by_side(jobs, settings, processes, tell, heed)
            return
        bench = Bench(settings, tell, heed)
        with silence_c_libraries():
            for index, job in jobs:
                bench.do(index, job)


def _side_by_side(
    jobs: Sequence[tuple[int, Job]], settings: Settings, processes: int, tell: Tell, heed: Callable[[], None]
) -> None:
    waiting = deque(jobs)
    workers: dict[connection.Connection, _Worker] = {}
    try:
        while waiting or workers:
            heed()
            while waiting and len(workers) < processes:
                with _deaf():
                    worker = _Worker(settings)
                    workers[worker.pipe] = worker
                worker.give(*waiting.popleft())
            for pipe in connection.wait(list(workers)):
                worker = workers[pipe]  # type: ignore[index]  # they are what was waited for
                told = worker.hear()
                if isinstance(told, SetupError):
                    raise told
                tell(told)
                if not isinstance(told, Ended):
                    continue
                if waiting and worker.lives:
                    worker.give(*waiting.popleft())
                else:
                    del workers[worker.pipe]
                    worker.dismiss()
    finally:
        _stop(list(workers.values()))


class _Worker:
    """A process that does songs, seen from the one that hands them out."""

    def __init__(self, settings: Settings) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, settings), daemon=True)
        self.lives, self._index = True, 0
        self.job: Job | None = None
        self.process.start()
        theirs.close()

    def give(self, index: int, job: Job) -> None:
        self._index, self.job = index, job
        with contextlib.suppress(OSError):  # it died; `hear` tells
            self.pipe.send((index, job))

    def hear(self) -> Event | SetupError:
        """What it says next; if it died, that its song failed."""
        try:
            told: Event | SetupError = self.pipe.recv()
        except (EOFError, OSError):
            self.lives = False
            self.process.join()
            assert self.job is not None
            how = f"the process that worked on it ended with status {self.process.exitcode}"
            return Ended(index=self._index, error=f"{self.job.song}: {how}; is there enough memory?")
        return told

    def dismiss(self) -> None:
        """Lets it go when there is nothing more to do."""
        self.pipe.close()
        self.process.join()


def _stop(workers: list[_Worker]) -> None:
    """Stops processes that are at work; nothing half-written is left."""
    for worker in workers:
        worker.process.terminate()
    end = time.monotonic() + _LAST_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, end - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        for path in worker.job.outputs.values() if worker.job else ():
            files.remove_leftovers(path)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that start here never hear Ctrl-C, which a terminal sends to all: their parent stops them.

    It hears of it itself when this is left.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which it would be with the first process, and open the ears again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def heeded(*numbers: signal.Signals) -> Iterator[Callable[[], None]]:
    """Signals end what is going on by an exception, for all to be cleared away.

    Yields:
        A function that raises it once more if it was raised: numpy, interrupted while it loads, makes an error of its
        own of it, and what is raised where nothing can be passed on (in a function that C calls, in the clean-up of an
        object) is lost. Of that, Python would tell on stderr; here it does not.
    """
    came: list[int] = []

    def heed() -> None:
        if came:
            raise KeyboardInterrupt if came[0] == signal.SIGINT else SystemExit(128 + came[0])

    def hear(number: int, frame: FrameType | None) -> None:
        del frame
        came.append(number)
        heed()

    def lost(what: sys.UnraisableHookArgs) -> None:
        if not (came and isinstance(what.exc_value, KeyboardInterrupt | SystemExit)):
            told(what)

    told, sys.unraisablehook = sys.unraisablehook, lost
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield heed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = told


def _serve(pipe: connection.Connection, settings: Settings) -> None:
    """The life of a process that does songs, until nobody has any more for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait busily would take the cores from others
    try:
        with silence_c_libraries(), heeded(signal.SIGTERM) as heed:
            bench = Bench(settings, pipe.send, heed)
            while True:
                bench.do(*pipe.recv())
    except SetupError as error:
        pipe.send(error)
    except (EOFError, OSError):  # the parent has no more songs, or is not there any more
        os._exit(0)  # all is cleared away; the rest would take its time
    except SystemExit:
        os._exit(143)
