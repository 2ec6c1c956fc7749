"""Record the outcomes of a call in a manifest, and find out from it what earlier calls did."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from vocalsep import manifests, means
from vocalsep.batches.events import Finished
from vocalsep.batches.jobs import PIPE, Job
from vocalsep.batches.work import Settings
from vocalsep.cli.batch.progress import Reporter
from vocalsep.cli.common import Misuse
from vocalsep.errors import VocalsepError
from vocalsep.remote import is_address


class Recorder:
    """Writes a record for each outcome. A context manager, which opens and closes the manifest.

    Args:
        path: The manifest; None to record nothing.
        model: Name of the model.
        settings: What is computed.
        dry_run: Whether to read the manifest only.

    Raises:
        Misuse: If the manifest cannot be used. Also raised by the ``with`` statement.
    """

    def __init__(self, path: str | None, model: str, settings: Settings, *, dry_run: bool = False) -> None:
        self._path, self._writes = path, path is not None and not dry_run
        self._writer: manifests.Writer | None = None
        self._known: dict[str, manifests.Record] = {}
        self._jobs: Sequence[Job] = ()
        if path is None:
            return
        if path == PIPE:
            raise Misuse("--manifest needs a file; standard output is for results")
        if is_address(path):
            raise Misuse(f"--manifest {path}: must be a local file, because vocalsep appends lines to it")
        with _refuse():
            digest = means.hash_models(settings.models, settings.shares)
            self._call = manifests.Call(model=model, model_sha256=digest, options=settings.describe())
            if Path(path).exists():
                self._known = manifests.read(Path(path))
                manifests.check_model(Path(path), self._known.values(), (model, digest))

    @property
    def failed(self) -> set[str]:
        """Ids of the songs that failed in earlier calls."""
        return {name for name, record in self._known.items() if record.status == "failed"}

    def watch(self, reporter: Reporter, jobs: Sequence[Job]) -> None:
        """Record what a reporter is told.

        Args:
            reporter: The reporter.
            jobs: The plan of the call.
        """
        self._jobs = jobs
        if self._writes:
            reporter.record_with(self._record)

    def _record(self, event: Finished) -> None:
        job = self._jobs[event.index]
        known = self._known.get(job.id)
        if not self._writer or event.skipped == "failed":
            return
        if event.skipped and known and known.status != "failed":
            return  # the manifest has it already
        record = self._writer.call.record(
            job.id,
            song=str(job.song),
            report=event.report,
            input_sha256=event.input_sha256,
            error=event.error,
            reason=event.skipped,
            outputs={stem: str(path) for stem, path in job.outputs.items()} if event.skipped == "exists" else None,
        )
        self._writer.add(record)

    def __enter__(self) -> Self:
        if self._writes:
            with _refuse():
                self._writer = manifests.Writer(Path(str(self._path)), self._call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer:
            self._writer.__exit__(kind, error, trace)


@contextlib.contextmanager
def _refuse() -> Iterator[None]:
    """Turn errors about a manifest into misuse."""
    try:
        yield
    except VocalsepError as error:
        raise Misuse(f"--manifest {error}") from error


def name_run(path: str) -> str:
    """Return a name for the run that a manifest belongs to: the same one when the run is resumed."""
    return hashlib.sha256(os.fsencode(f"{socket.gethostname()}:{os.path.realpath(path)}")).hexdigest()[:16]
