"""Run the jobs of a call: one after another in this process, or several at a time in worker processes.

Worker processes share nothing. Each loads the model, and gets its next song when it has finished one. If the call is
stopped, all workers stop at once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import connection

from vocalsep import claims, files, remote
from vocalsep.batches.events import Event, Finished, OnEvent
from vocalsep.batches.jobs import Job
from vocalsep.batches.work import Settings, SetupError, Worker
from vocalsep.cli import signals, streams
from vocalsep.cli.batch.progress import Reporter

GRACE_SECONDS = 0.8  # for a stopped process to remove its unfinished files


def run_plan(jobs: Sequence[Job], settings: Settings, processes: int, reporter: Reporter) -> None:
    """Report the jobs that the plan refuses or skips, then run the others; see `run`."""
    try:
        run(report_settled(jobs, reporter), settings, processes, reporter)
    except SetupError as error:
        reporter.report_error(error)


def report_settled(jobs: Sequence[Job], reporter: Reporter) -> list[tuple[int, Job]]:
    """Report the jobs that the plan refuses or skips. Return the others, with their positions in the plan."""
    for index, job in enumerate(jobs):
        if not job.is_pending:
            claims.remove_dead(job.files)  # of a call that was killed when its outputs were done
            reporter(Finished(index=index, error=job.refusal, skipped=job.skipped))
    return [(index, job) for index, job in enumerate(jobs) if job.is_pending]


def run(jobs: Sequence[tuple[int, Job]], settings: Settings, processes: int, on_event: OnEvent) -> None:
    """Run jobs.

    Args:
        jobs: Jobs with their positions in the plan. They start in this order.
        settings: What to compute.
        processes: How many songs to process at a time. With 1, this process does the work; with more, it does not even
            load the model.
        on_event: Called with each event.

    Raises:
        SetupError: If the model cannot be loaded.
        BrokenPipeError: If the program that reads standard output has ended.
    """
    with signals.raise_on_signal(signal.SIGINT, signal.SIGTERM) as check_signals:
        if processes > 1:
            _run_in_parallel(jobs, settings, processes, on_event, check_signals)
            return
        with (
            streams.silence_c_libraries(),
            contextlib.closing(Worker(settings, on_event, check_signals, streams.open_sound_output)) as worker,
        ):
            for index, job in jobs:
                worker.do(index, job)


def _run_in_parallel(
    jobs: Sequence[tuple[int, Job]],
    settings: Settings,
    processes: int,
    on_event: OnEvent,
    check_signals: Callable[[], None],
) -> None:
    waiting = deque(jobs)
    running: dict[connection.Connection, WorkerProcess] = {}
    try:
        while waiting or running:
            check_signals()
            while waiting and len(running) < processes:
                with signals.block_interrupts():
                    worker = WorkerProcess(settings)
                    running[worker.pipe] = worker
                worker.send(*waiting.popleft())
            for pipe in connection.wait(list(running)):
                worker = running[pipe]  # type: ignore[index]  # wait returns what it was given
                event = worker.receive()
                if isinstance(event, SetupError):
                    raise event
                on_event(event)
                if not isinstance(event, Finished):
                    continue
                if waiting and worker.alive:
                    worker.send(*waiting.popleft())
                else:
                    del running[worker.pipe]
                    worker.close()
    finally:
        _stop(list(running.values()))


class WorkerProcess:
    """A process with a `Worker` in it, as the process that hands out the jobs uses it."""

    def __init__(self, settings: Settings) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(other_end, settings), daemon=True)
        self.alive, self._index = True, 0
        self.job: Job | None = None
        self.process.start()
        other_end.close()

    def send(self, index: int, job: Job) -> None:
        """Hand a job to the process."""
        self._index, self.job = index, job
        with contextlib.suppress(OSError):  # the process died; `receive` reports it
            self.pipe.send((index, job))

    def receive(self) -> Event | SetupError:
        """Return the next event. If the process died, return a failure of its song."""
        try:
            event: Event | SetupError = self.pipe.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join()
            assert self.job is not None
            self.clean_up()
            how = f"its worker process ended with status {self.process.exitcode}"
            return Finished(index=self._index, error=f"{self.job.label}: {how}; is there enough memory?")
        return event

    def clean_up(self) -> None:
        """Remove what the process left behind when it was killed."""
        if not self.job:
            return
        for path in self.job.files:
            files.remove_leftovers(path)
        claims.remove_dead(self.job.all_files)
        if self.job.is_remote:
            remote.remove_abandoned()

    def close(self) -> None:
        """Let the process end, because there are no more jobs."""
        self.pipe.close()
        self.process.join()


def _stop(workers: list[WorkerProcess]) -> None:
    """Stop processes in the middle of their work, and remove their unfinished files."""
    for worker in workers:
        worker.process.terminate()
    end = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, end - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.clean_up()


def _serve(pipe: connection.Connection, settings: Settings) -> None:
    """Process the jobs that arrive through a pipe, until no more come: the main function of a worker process."""
    signals.ignore_interrupts()
    streams.guard()
    try:
        with streams.silence_c_libraries(), signals.raise_on_signal(signal.SIGTERM) as check_signals:
            worker = Worker(settings, pipe.send, check_signals)
            while True:
                worker.do(*pipe.recv())
    except SetupError as error:
        pipe.send(error)
    except (EOFError, OSError):  # no more songs, or the parent has died
        os._exit(0)  # no files are open, and an ordinary exit would be slow
    except SystemExit:
        os._exit(143)
