"""What runs on each machine of a Ray cluster: actors with a `Worker` each."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocalsep import means, remote
from vocalsep.batches.events import Event, Finished
from vocalsep.batches.jobs import Job
from vocalsep.batches.work import Settings, SetupError, Worker, rename
from vocalsep.release import __version__


class Actor:
    """The process that separates songs on a machine of the cluster. `ray.remote` makes an actor of it.

    Args:
        settings: What to compute.
    """

    def __init__(self, settings: Settings) -> None:
        self._stopped = threading.Event()
        self._finished: Finished | None = None
        self._worker = Worker(settings, self._keep, self._check_stopped)

    def check(self, version: str, digest: str, shared: Sequence[Path]) -> str:
        """Load the model, and find out whether this machine gives the results of the driver's machine.

        Args:
            version: Version of vocalsep there.
            digest: SHA-256 of the models there; see `means.hash_models`.
            shared: Files and folders that have to be here too.

        Returns:
            What is wrong; empty if nothing is.
        """
        settings, host = self._worker.settings, socket.gethostname()
        if version != __version__:
            return f"{host}: has vocalsep {__version__}, not {version}; install the same version on all machines"
        for path in shared:
            if not path.exists():
                hint = "all machines need the same folders, or use addresses such as s3://"
                return f"{host}: there is no {path}; {hint}"
        try:
            self._worker.load()
            if means.hash_models(settings.models, settings.shares) != digest:
                return f"{host}: has another file for the model; copy the same file to all machines"
        except SetupError as error:
            return f"{host}: {error}"
        return ""

    def do(self, index: int, job: Job, again: bool) -> Finished | None:
        """Process a song; see `Worker.do`. Return how it ended; None if it was stopped."""
        self._finished = None
        with contextlib.suppress(SystemExit):
            self._worker.do(index, job, again=again)
        return self._finished

    def stop(self) -> None:
        """Stop in the middle of a song, and remove its unfinished files."""
        self._stopped.set()

    def clean_up(self) -> None:
        """Remove what other actors left on this machine when they were killed."""
        remote.remove_abandoned()

    def _keep(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._finished = event

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise SystemExit


def make_absolute(job: Job) -> Job:
    """Return a job with absolute paths, because the processes of a cluster work in other folders."""
    return dataclasses.replace(
        job,
        song=_to_absolute(job.song),
        outputs={stem: _to_absolute(path) for stem, path in job.outputs.items()},
    )


def _to_absolute(place: Any) -> Any:
    return Path(os.path.abspath(place)) if isinstance(place, Path) else place  # noqa: PTH100 - keeps links


def localise(event: Finished, job: Job) -> Finished:
    """Return an event with the names that the call uses, rather than absolute ones."""
    there = make_absolute(job)
    places = {str(there.song): str(job.song)}
    places |= {str(there.outputs[stem]): str(path) for stem, path in job.outputs.items()}
    named = functools.partial(rename, places=places)
    report = event.report and {key: named(value) for key, value in event.report.items()}
    return dataclasses.replace(event, report=report, error=named(event.error))
