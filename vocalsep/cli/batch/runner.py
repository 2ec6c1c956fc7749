"""Run songs for ``vocalsep serve``: one at a time, in a worker process that can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vocalsep.batches.events import Finished
from vocalsep.batches.jobs import Job
from vocalsep.batches.work import Settings, SetupError
from vocalsep.cli import signals
from vocalsep.cli.batch.describing import EventFormatter
from vocalsep.cli.batch.processes import GRACE_SECONDS, WorkerProcess
from vocalsep.listening.server.queue import OnEvent, Work

_POLL_SECONDS = 0.1  # between looks at whether to stop


class ProcessRunner:
    """A `queue.Runner` that uses the workers of ``vocalsep extract``.

    Args:
        make_settings: Returns what to compute for the options of a song.
    """

    def __init__(self, make_settings: Callable[[Mapping[str, Any]], Settings]) -> None:
        self._make_settings = make_settings
        self._worker: WorkerProcess | None = None
        self._settings: Settings | None = None

    def run(self, work: Work, on_event: OnEvent, should_stop: Callable[[], bool]) -> None:
        """Separate a song; see `queue.Runner`. The process stays for songs with the same settings."""
        settings = self._make_settings(work.options)
        if settings != self._settings:
            self.rest()
        if self._worker is None:
            with signals.block_interrupts():
                self._worker, self._settings = WorkerProcess(settings), settings
        worker = self._worker
        job = Job(
            song=work.recording,
            outputs={"accompaniment": work.accompaniment, "labels": work.labels},
            bundle=work.bundle,
        )
        worker.send(0, job)
        formatter, finished = EventFormatter(), False
        while not finished:
            if should_stop():
                self._end()
                return
            if not worker.pipe.poll(_POLL_SECONDS):
                continue
            event = worker.receive()
            if isinstance(event, SetupError):
                self.rest()
                raise event
            finished = isinstance(event, Finished)
            if finished and not worker.alive:
                self._worker = None
            for name, values in formatter.format(event):
                on_event(name, values)

    def rest(self) -> None:
        """End the process, if it has nothing to do."""
        if self._worker:
            self._worker.close()
        self._worker = self._settings = None

    def _end(self) -> None:
        """End the process in the middle of its work."""
        assert self._worker
        process = self._worker.process
        process.terminate()
        process.join(GRACE_SECONDS)
        if process.is_alive():
            process.kill()
        self.rest()
