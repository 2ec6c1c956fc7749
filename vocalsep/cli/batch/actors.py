"""What runs on each machine of a Ray cluster: actors with a `Worker` each; and how to reach the cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vocalsep import cores, remote
from vocalsep.cli.batch.events import Event, Finished
from vocalsep.cli.batch.plan import Job
from vocalsep.cli.batch.work import Settings, SetupError, Worker, rename
from vocalsep.release import __version__

if TYPE_CHECKING:
    from types import ModuleType

_STORE_BYTES: Final = 100_000_000  # of Ray on this machine; songs do not pass through it
_VARIABLES: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # otherwise Ray reports its use over the network
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise it warns of how it treats GPUs
    "RAY_raylet_start_wait_time_s": "300",  # on a busy machine, 30 s are not enough
}
_PATIENCE_SECONDS: Final = 20.0  # for a cluster to answer
_LONGEST_FOLDER: Final = 40  # Ray puts sockets into its folder, and their names are short


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where to work.

    Attributes:
        address: Address of the cluster, as for `ray.init`; None to start Ray on this machine.
        actors: How many songs to process at a time; None for as many as the cluster has processors or GPUs for.
        processors: Processors for each song.
        gpus: GPUs for each song.
    """

    address: str | None = None
    actors: int | None = None
    processors: int = 1
    gpus: int = 0


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
        from vocalsep import means

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


@contextlib.contextmanager
def connect(cluster: Cluster) -> Iterator[ModuleType]:
    """Connect to a cluster, or start Ray on this machine, until the ``with`` block ends.

    Raises:
        SetupError: If Ray is not installed, or the cluster does not answer.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise SetupError("a cluster needs Ray; run: pip install 'vocalsep[ray]'") from error
    address = cluster.address or os.environ.get("RAY_ADDRESS") or None
    _check_address(address or "")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        try:
            if address:
                ray.init(address=address, **quiet)
            else:
                folder = stack.enter_context(remote.Workspace()).folder
                quiet |= {"_temp_dir": str(folder)} if len(str(folder)) <= _LONGEST_FOLDER else {}
                ray.init(
                    address="local",
                    num_cpus=(cluster.actors or cores.count_cores() // cluster.processors or 1) * cluster.processors,
                    object_store_memory=_STORE_BYTES,
                    include_dashboard=False,
                    **quiet,
                )
        except Exception as error:  # Ray has no common type for what may go wrong
            reason = " ".join(str(error).split())[:300]
            where = f"--address {address}" if address else "Ray on this machine"
            raise SetupError(f"{where}: cannot be reached ({reason or type(error).__name__})") from error
        stack.callback(ray.shutdown)
        stack.enter_context(contextlib.redirect_stdout(_OwnThread(sys.stdout)))
        yield ray


def _check_address(address: str) -> None:
    """Check that a cluster answers. Ray itself would try for minutes.

    Raises:
        SetupError: If nobody answers.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_SECONDS).close()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SetupError(f"--address {address}: no cluster answers there ({reason})") from error


class _OwnThread:
    """Standard output for one thread. What others write there is dropped: Ray's long messages about lost machines."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return self._stream.write(text) if threading.get_ident() == self._thread else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def make_probe(jobs: Sequence[Job], run: str) -> Iterator[list[Path]]:
    """Yield what machines need to see if the songs or outputs are local files: a folder of songs, and a hidden file.

    The file is beside the first outputs, and no other machine has one of the same name by chance. If the driver is
    killed, the next one of the same run deletes it.
    """
    shared = [Path(os.path.abspath(job.song.parent)) for job in jobs if isinstance(job.song, Path)][:1]  # noqa: PTH100
    outputs = [path for job in jobs for path in job.files][:1]
    with contextlib.ExitStack() as stack:
        if outputs:
            folder = Path(os.path.abspath(outputs[0])).parent  # noqa: PTH100
            try:
                folder.mkdir(parents=True, exist_ok=True)
                prefix = f".vocalsep-{run}-"
                for path in folder.glob(f"{prefix}*.probe"):
                    path.unlink(missing_ok=True)
                probe = stack.enter_context(tempfile.NamedTemporaryFile(prefix=prefix, suffix=".probe", dir=folder))
            except OSError as error:
                raise SetupError(f"{folder}: cannot be written ({error.strerror})") from error
            shared.append(Path(probe.name))
        yield shared


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
