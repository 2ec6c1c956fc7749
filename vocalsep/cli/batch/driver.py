"""Run the jobs of a call on a Ray cluster: a driver hands out the songs to actors.

An actor has one song at a time, and the driver hands out the next one when it gets the outcome. So the driver always
knows who has which song. If an actor is lost, with its process or its machine, the driver starts another one and hands
its song out again. Outputs appear only when they are complete, so a lost actor leaves none.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vocalsep import claims, files
from vocalsep.batches.actors import Actor, localise, make_absolute
from vocalsep.batches.events import Finished, OnEvent, Warned
from vocalsep.batches.jobs import Job
from vocalsep.batches.work import Settings, SetupError
from vocalsep.cli import signals
from vocalsep.cli.batch.connection import Cluster, connect, make_probe
from vocalsep.release import __version__

TRIES: Final = 3
"""How many actors may be lost with a song before it counts as failed."""

NAMESPACE: Final = "vocalsep"
"""Where Ray knows the actors by name."""

_STARTS: Final = 5  # failed starts of actors in a row, before the call gives up
_PAUSE_SECONDS: Final = 1.0  # after the first of them; then longer each time
_POLL_SECONDS: Final = 0.5
_RESOURCES_SECONDS: Final = 5.0  # between looks at how large the cluster is
_PATIENCE_SECONDS: Final = 60.0  # before the user hears that no actor starts
_GRACE_SECONDS: Final = 5.0  # for actors to remove their unfinished files


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
        connect(cluster) as ray,
        signals.raise_on_signal(signal.SIGINT, signal.SIGTERM) as check_signals,  # Ray has just set its own handlers
        make_probe([job for _, job in jobs], settings.run) as shared,
    ):
        driver = _Driver(ray, jobs, settings, digest, cluster, on_event, shared)
        try:
            driver.run(lambda: (check_signals(), on_poll()))
        except BaseException:
            driver.stop()
            raise
        driver.end()


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
        self._settings, self._stopping = settings, False
        self._check = (__version__, digest, shared)
        self._class = ray.remote(
            num_cpus=cluster.processors, num_gpus=cluster.gpus, max_restarts=0, max_task_retries=0, max_concurrency=2
        )(Actor)

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
        self._stopping = True
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
            name = f"vocalsep-{secrets.token_hex(4)}"  # for `ray kill-actor`
            slot = _Slot(self._class.options(name=name, namespace=NAMESPACE).remote(self._settings))
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
                self._finish(localise(result, job))
        elif result:
            slot.unfit = True  # it stays and keeps its place, so that no other actor starts there
            if result not in self._complaints:
                self._complaints.add(result)
                self._on_event(Warned(index=None, message=f"{result}. The other machines continue"))
            return
        else:
            slot.ready, self._failed_starts = True, 0
        self._hand_out()

    def _hand_out(self) -> None:
        for slot in self._slots:
            if not self._waiting or self._stopping:
                return
            if slot.ready and not slot.job:
                slot.job = self._waiting.popleft()
                index, job = slot.job
                self._ask(slot, slot.actor.do.remote(index, make_absolute(job), self._lost[index] > 0))

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
            self._next_start = time.monotonic() + _PAUSE_SECONDS * self._failed_starts
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
            message = f"no worker has started yet: each needs {need}, and the cluster is full or still starting"
            self._on_event(Warned(index=None, message=message))
