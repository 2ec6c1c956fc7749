"""Run the jobs of a call on a Ray cluster: actors with a `Worker` each, and a driver that hands out the songs.

An actor has one song at a time, and the driver hands out the next one when it gets the outcome. So the driver always
knows who has which song. If an actor is lost, with its process or its machine, the driver starts another one and hands
its song out again. Outputs appear only when they are complete, so a lost actor leaves none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import queue
import signal
import socket
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vocalsep import claims, cores, files, remote
from vocalsep.cli import signals
from vocalsep.cli.batch.plan import Job
from vocalsep.cli.batch.work import Event, Finished, OnEvent, Settings, SetupError, Warned, Worker, rename
from vocalsep.release import __version__

if TYPE_CHECKING:
    from types import ModuleType

TRIES: Final = 3
"""How many actors may be lost with a song before it counts as failed."""

_STARTS: Final = 5  # failed starts of actors in a row, before the call gives up
_POLL_SECONDS: Final = 0.5
_RESOURCES_SECONDS: Final = 5.0  # between looks at how large the cluster is
_PATIENCE_SECONDS: Final = 60.0  # before the user hears that no actor starts
_GRACE_SECONDS: Final = 5.0  # for actors to remove their unfinished files
_STORE_BYTES: Final = 100_000_000  # of Ray on this machine; songs do not pass through it
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
                return f"{host}: has another model of this name; copy the same file to all machines"
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


@dataclass(eq=False)
class _Slot:
    """An actor, as the driver sees it: it starts, then waits for songs or has one. It may be unfit for the work."""

    actor: Any
    job: tuple[int, Job] | None = None
    ready: bool = False
    unfit: bool = False


def run(
    jobs: Sequence[tuple[int, Job]],
    settings: Settings,
    digest: str,
    cluster: Cluster,
    on_event: OnEvent,
    on_poll: Callable[[], object],
) -> None:
    """Run jobs.

    Args:
        jobs: Jobs with their positions in the plan. They start in this order.
        settings: What to compute.
        digest: SHA-256 of the models; see `means.hash_models`.
        cluster: Where to work.
        on_event: Called with each event.
        on_poll: Called every second or so.

    Raises:
        SetupError: If Ray is not installed, the cluster does not answer, or no actor can work.
    """
    if not jobs:
        return
    with (
        signals.raise_on_signal(signal.SIGINT, signal.SIGTERM) as check_signals,
        connect(cluster) as ray,
        _probe([job for _, job in jobs]) as shared,
    ):
        driver = _Driver(ray, jobs, settings, digest, cluster, on_event, shared)
        try:
            driver.run(lambda: (check_signals(), on_poll()))
        except BaseException:
            driver.stop()
            raise
        driver.end()


@contextlib.contextmanager
def connect(cluster: Cluster) -> Iterator[ModuleType]:
    """Connect to a cluster, or start Ray on this machine, until the ``with`` block ends.

    Raises:
        SetupError: If Ray is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray reports its use over the network
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a warning that does not concern us
    try:
        import ray
    except ImportError as error:
        raise SetupError("a cluster needs Ray; run: pip install 'vocalsep[ray]'") from error
    address = cluster.address or os.environ.get("RAY_ADDRESS") or None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        try:
            if address:
                ray.init(address=address, **quiet)
            else:
                folder = stack.enter_context(remote.Workspace()).folder
                place = {"_temp_dir": str(folder)} if len(str(folder)) <= _LONGEST_FOLDER else {}
                ray.init(
                    address="local",
                    num_cpus=(cluster.actors or cores.count_cores() // cluster.processors or 1) * cluster.processors,
                    object_store_memory=_STORE_BYTES,
                    include_dashboard=False,
                    **place,
                    **quiet,
                )
        except Exception as error:  # Ray has no common type for what may go wrong
            reason = " ".join(str(error).split())[:300]
            where = f"--address {address}" if address else "Ray on this machine"
            raise SetupError(f"{where}: cannot be reached ({reason or type(error).__name__})") from error
        stack.callback(ray.shutdown)
        yield ray


class _Driver:
    def __init__(
        self,
        ray: Any,
        jobs: Sequence[tuple[int, Job]],
        settings: Settings,
        digest: str,
        cluster: Cluster,
        on_event: OnEvent,
        shared: Sequence[Path],
    ) -> None:
        self._ray, self._cluster, self._on_event = ray, cluster, on_event
        self._waiting, self._unfinished = deque(jobs), len(jobs)
        self._lost: Counter[int] = Counter()  # actors, by the song that they had
        self._slots: set[_Slot] = set()
        self._answers: queue.SimpleQueue[tuple[_Slot, Future[Any]]] = queue.SimpleQueue()
        self._failed_starts, self._complaints = 0, set[str]()
        self._next_start, self._heard = 0.0, time.monotonic()
        self._room, self._room_known = 0, -_RESOURCES_SECONDS
        self._settings = settings
        self._check = (__version__, digest, shared)
        self._class = ray.remote(Actor).options(
            num_cpus=cluster.processors, num_gpus=cluster.gpus, max_restarts=0, max_task_retries=0, max_concurrency=2
        )

    def run(self, on_poll: Callable[[], object]) -> None:
        """Hand out songs until all are finished."""
        while self._unfinished:
            on_poll()
            self._start_actors()
            try:
                slot, answer = self._answers.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                self._complain_about_silence()
                continue
            self._heard = time.monotonic()
            if slot in self._slots:
                self._handle(slot, answer)

    def stop(self) -> None:
        """Stop all actors in the middle of their work, and remove their unfinished files."""
        self._waiting.clear()
        busy = [slot for slot in self._slots if slot.job]
        for slot in busy:
            slot.actor.stop.remote()
        end = time.monotonic() + _GRACE_SECONDS
        while busy and time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                slot, answer = self._answers.get(timeout=max(0.0, end - time.monotonic()))
                if slot in busy:
                    busy.remove(slot)
                    self._handle(slot, answer)  # it may have finished just before
        for slot in busy:
            self._ray.kill(slot.actor)
            assert slot.job
            self._clean_up(slot.job[1])

    def end(self) -> None:
        """Let the actors remove what others left on their machines when they were killed."""
        answers = [slot.actor.clean_up.remote() for slot in self._slots if slot.ready]
        if answers:
            self._ray.wait(answers, num_returns=len(answers), timeout=_GRACE_SECONDS)

    def _start_actors(self) -> None:
        """Start actors while the cluster has room, and songs wait that no actor will take."""
        now = time.monotonic()
        if now < self._next_start:
            return
        if now - self._room_known >= _RESOURCES_SECONDS:
            self._room, self._room_known = self._cluster.actors or self._count_room(), now
        unfit = sum(slot.unfit for slot in self._slots)
        idle = sum(not slot.unfit and not slot.job for slot in self._slots)
        if unfit and len(self._slots) == unfit >= self._room:
            raise SetupError("no machine of the cluster can do the work")
        for _ in range(min(self._room - len(self._slots), len(self._waiting) - idle)):
            slot = _Slot(self._class.remote(self._settings))
            self._slots.add(slot)
            self._ask(slot, slot.actor.check.remote(*self._check))

    def _count_room(self) -> int:
        there = self._ray.cluster_resources()
        room = int(there.get("CPU", 0)) // self._cluster.processors
        return min(room, int(there.get("GPU", 0)) // self._cluster.gpus) if self._cluster.gpus else room

    def _ask(self, slot: _Slot, reference: Any) -> None:
        """Put the answer of an actor into the queue when it arrives."""
        reference.future().add_done_callback(lambda answer: self._answers.put((slot, answer)))

    def _handle(self, slot: _Slot, answer: Future[Any]) -> None:
        try:
            result = answer.result()
        except self._ray.exceptions.RayTaskError:
            raise  # a bug
        except self._ray.exceptions.RayError as error:
            self._drop(slot, error)
            return
        if slot.job:
            job, slot.job = slot.job[1], None
            if result is not None:
                self._finish(_localise(result, job))
        elif result:
            slot.unfit = True  # it stays and keeps its place, so that no other actor starts there
            if result not in self._complaints:
                self._complaints.add(result)
                self._on_event(Warned(index=None, message=f"{result}. The work goes on without this machine"))
            return
        else:
            slot.ready, self._failed_starts = True, 0
        self._hand_out()

    def _hand_out(self) -> None:
        for slot in self._slots:
            if not self._waiting:
                return
            if slot.ready and not slot.job:
                slot.job = self._waiting.popleft()
                index, job = slot.job
                self._ask(slot, slot.actor.do.remote(index, _make_absolute(job), self._lost[index] > 0))

    def _finish(self, event: Finished) -> None:
        self._unfinished -= 1
        self._on_event(event)

    def _drop(self, slot: _Slot, error: Exception) -> None:
        """Do without an actor that is lost. Its song, if any, is handed out again."""
        self._slots.remove(slot)
        with contextlib.suppress(Exception):  # it may have lost the connection only
            self._ray.kill(slot.actor)
        if not slot.job and not slot.ready:
            self._failed_starts += 1
            self._next_start = time.monotonic() + self._failed_starts
            if self._failed_starts >= _STARTS and not any(each.ready for each in self._slots):
                lines = str(error).strip().splitlines()
                raise SetupError(f"no worker can start on the cluster ({lines[-1] if lines else type(error).__name__})")
        if slot.job:
            index, job = slot.job
            self._clean_up(job)
            self._lost[index] += 1
            if self._lost[index] < TRIES:
                self._waiting.appendleft(slot.job)
            else:
                how = f"its worker process ended, {TRIES} times"
                self._finish(Finished(index=index, error=f"{job.label}: {how}; is there enough memory?"))
        for other in self._slots:
            if other.ready and not other.job:  # is it there? The next song should not have to find out
                other.ready = False
                self._ask(other, other.actor.check.remote(*self._check))

    def _clean_up(self, job: Job) -> None:
        for path in job.files:
            files.remove_leftovers(path)
        claims.remove_dead(job.all_files, self._settings.run)

    def _complain_about_silence(self) -> None:
        silent = not any(slot.ready for slot in self._slots) and time.monotonic() - self._heard > _PATIENCE_SECONDS
        if silent and "" not in self._complaints:
            self._complaints.add("")
            need = f"{self._cluster.processors} CPU" + (f", {self._cluster.gpus} GPU" if self._cluster.gpus else "")
            message = f"no worker has started yet; each needs {need}, and the cluster has no room or starts slowly"
            self._on_event(Warned(index=None, message=message))


@contextlib.contextmanager
def _probe(jobs: Sequence[Job]) -> Iterator[list[Path]]:
    """Yield what machines need to see if the songs or outputs are local files: a folder of songs, and a file.

    The file is made beside the first outputs, so no other machine can have one of the same name by chance.
    """
    shared = [Path(os.path.abspath(job.song.parent)) for job in jobs if isinstance(job.song, Path)][:1]  # noqa: PTH100
    outputs = [path for job in jobs for path in job.files][:1]
    with contextlib.ExitStack() as stack:
        if outputs:
            folder = Path(os.path.abspath(outputs[0])).parent  # noqa: PTH100
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe = stack.enter_context(tempfile.NamedTemporaryFile(prefix=".vocalsep-probe-", dir=folder))
            except OSError as error:
                raise SetupError(f"{folder}: cannot be written ({error.strerror})") from error
            shared.append(Path(probe.name))
        yield shared


def _make_absolute(job: Job) -> Job:
    """Return a job with absolute paths, because the processes of a cluster work in other folders."""
    return dataclasses.replace(
        job,
        song=_to_absolute(job.song),
        outputs={stem: _to_absolute(path) for stem, path in job.outputs.items()},
    )


def _to_absolute(place: Any) -> Any:
    return Path(os.path.abspath(place)) if isinstance(place, Path) else place  # noqa: PTH100 - keeps links


def _localise(event: Finished, job: Job) -> Finished:
    """Return an event with the names that the call uses, rather than absolute ones."""
    there = _make_absolute(job)
    places = {str(there.song): str(job.song)}
    places |= {str(there.outputs[stem]): str(path) for stem, path in job.outputs.items()}
    named = functools.partial(rename, places=places)
    report = event.report and {key: named(value) for key, value in event.report.items()}
    return dataclasses.replace(event, report=report, error=named(event.error))
