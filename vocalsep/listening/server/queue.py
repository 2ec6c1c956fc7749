"""Hand the songs of the store to those who separate them, one after another, and note what they report."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vocalsep.errors import VocalsepError
from vocalsep.listening.server import store as stores
from vocalsep.listening.server.store import Song, Store

_LOG = logging.getLogger(__name__)
_IDLE_SECONDS = 60.0  # after which a runner gives its memory back

OnEvent = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of an event and its values, as ``--progress json`` writes them."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What to do with a song.

    Attributes:
        recording: The song.
        accompaniment: Where the accompaniment goes, in 32-bit float.
        labels: Where the label track goes.
        bundle: Where to write what the player needs.
        options: How to separate it; see `routes.Choices`.
    """

    recording: Path
    accompaniment: Path
    labels: Path
    bundle: Path
    options: Mapping[str, Any]


class Runner(Protocol):
    """Separates one song at a time, outside this process."""

    def run(self, work: Work, on_event: OnEvent, should_stop: Callable[[], bool]) -> None:
        """Separate a song. The last event is "done", unless it has to stop.

        Args:
            work: What to do.
            on_event: Takes what happens.
            should_stop: Returns whether to give up. It is asked several times per second.
        """

    def rest(self) -> None:
        """Give memory back, because there is nothing to do."""


class Queue:
    """Separates songs in the order in which they come, as many at a time as there are runners.

    Args:
        store: The songs. Those that wait are started.
        runners: Who separates them.
    """

    def __init__(self, store: Store, runners: Sequence[Runner]) -> None:
        self._store, self._closed = store, False
        self._changed = threading.Condition()
        self._waiting = deque(song for song in store.list_songs() if song.state == stores.WAITING)
        self._working: set[str] = set()
        self._stopped: dict[str, str] = {}  # songs that are being stopped, and why
        self._threads = [threading.Thread(target=self._work, args=(runner,), daemon=True) for runner in runners]
        for thread in self._threads:
            thread.start()

    def add(self, song: Song) -> None:
        """Separate a song, once those before it are done."""
        with self._changed:
            self._waiting.append(song)
            self._changed.notify()

    def restart(self, song: Song, options: Mapping[str, Any]) -> None:
        """Separate a song again, unless it waits or is in progress."""
        with self._changed:
            if song in self._waiting or song.id in self._working:
                return
            self._store.discard_result(song)
            self._store.change(
                song,
                state=stores.WAITING,
                options=dict(options),
                error="",
                warnings=[],
                report=None,
                seconds=None,
                done_seconds=0.0,
            )
            self.add(song)

    def stop(self, song: Song, why: str = "") -> None:
        """Stop a song, or take it out of the queue.

        Args:
            song: The song.
            why: The error to note; if there is none, the song counts as stopped by the user.
        """
        with self._changed:
            if song.id in self._working:
                self._stopped[song.id] = why
            elif song in self._waiting:
                self._waiting.remove(song)
                self._store.change(song, state=stores.STOPPED)

    def remove(self, song: Song) -> None:
        """Stop a song, and delete it."""
        self.stop(song)
        self._store.remove(song)

    def close(self) -> None:
        """Stop all work, and return when nothing runs any more. The songs stay as they are on disk."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, runner: Runner) -> None:
        while song := self._take(runner):
            try:
                self._separate(runner, song)
            finally:
                with self._changed:
                    self._working.discard(song.id)
                    why = self._stopped.pop(song.id, None)
            if self._store.songs.get(song.id) is not song:
                self._store.reject(song)  # what the runner wrote after it had been removed
            elif why is not None and song.state == stores.WORKING:
                self._store.discard_result(song)
                self._store.change(song, state=stores.FAILED if why else stores.STOPPED, error=why)
        runner.rest()

    def _take(self, runner: Runner) -> Song | None:
        """Wait for a song. Return None when the queue is closed."""
        with self._changed:
            while not self._closed:
                if self._waiting:
                    song = self._waiting.popleft()
                    self._working.add(song.id)
                    return song
                if not self._changed.wait(_IDLE_SECONDS):
                    runner.rest()
            return None

    def _separate(self, runner: Runner, song: Song) -> None:
        store = self._store
        store.change(song, state=stores.WORKING, done_seconds=0.0)
        work = Work(
            recording=store.place_recording(song),
            accompaniment=store.place(song, "accompaniment.wav"),
            labels=store.place(song, "labels.txt"),
            bundle=store.place(song, "bundle.zip"),
            options=song.options,
        )
        try:
            runner.run(
                work,
                lambda name, values: self._note(song, name, values),
                lambda: self._closed or song.id in self._stopped,
            )
        except VocalsepError as error:
            self._note(song, "done", {"error": str(error)})
        except Exception as bug:
            _LOG.exception("%s", song.id)
            self._note(song, "done", {"error": f"{type(bug).__name__}: {bug}"})

    def _note(self, song: Song, name: str, values: Mapping[str, Any]) -> None:
        """Note what a runner reports about a song."""
        store = self._store

        def clean(text: str) -> str:
            """Say the song's name instead of its path, of which the user knows nothing."""
            return text.replace(str(store.place_recording(song)), song.name).replace(f"{store.place(song)}/", "")

        if name == "song":
            store.change(song, seconds=values["seconds"])
        elif name == "progress":
            store.change(song, done_seconds=values["seconds"])
            if store.used > store.limit:
                self.stop(song, store.describe_limit())
        elif name == "warning":
            store.change(song, warnings=[*song.warnings, clean(values["message"])])
        elif name == "done" and values.get("report"):
            report = {name: value for name, value in values["report"].items() if name != "outputs"}
            report |= {"input": song.name, "warnings": [clean(text) for text in report["warnings"]]}
            store.change(song, state=stores.DONE, report=report, done_seconds=report["audio_seconds"])
        elif name == "done":
            if "traceback" in values:
                _LOG.error("%s\n%s", song.id, values["traceback"])
            store.discard_result(song)
            store.change(song, state=stores.FAILED, error=clean(values["error"]))
