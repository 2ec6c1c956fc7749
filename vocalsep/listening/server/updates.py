"""Tell browsers what changes, by server-sent events.

A browser that is slow misses nothing and costs nothing: for each browser, the server keeps the ids of the songs that
have changed since the last event, and sends what they are now.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from vocalsep import files
from vocalsep.listening.server.store import Song, Store

_PAUSE_SECONDS = 0.1  # between two events, so that a song's progress takes few of them
_SILENCE_SECONDS = 15.0  # after which an empty event finds out whether the browser still listens


def describe(song: Song) -> dict[str, Any]:
    """Return what browsers know about a song."""
    return {
        "id": song.id,
        "name": song.name,
        "state": song.state,
        "options": song.options,
        "seconds": song.report["audio_seconds"] if song.report else song.seconds,
        "done": song.done_seconds,
        "error": song.error,
        "warnings": song.warnings,
        "used": song.used,
    }


class Updates:
    """Sends the state of all songs to each browser, and then what changes.

    Args:
        store: The songs.
        about: What else a browser should know, with the first event.
    """

    def __init__(self, store: Store, about: dict[str, Any]) -> None:
        self._store, self._about = store, about
        self._closed = False
        self._wakers: set[asyncio.Event] = set()

    def close(self) -> None:
        """End all streams of events. It must be called in the thread of the event loop."""
        self._closed = True
        for waker in self._wakers:
            waker.set()

    async def stream(self) -> AsyncIterator[str]:
        """Yield events for one browser, until it goes or the server ends."""
        loop, waker = asyncio.get_running_loop(), asyncio.Event()
        changed: set[str] = set()

        def note(song_id: str) -> None:
            def wake() -> None:
                changed.add(song_id)
                waker.set()

            if not loop.is_closed():
                loop.call_soon_threadsafe(wake)

        self._store.listen(note)
        self._wakers.add(waker)
        try:
            songs = [describe(song) for song in self._store.list_songs()]
            yield _format("start", {**self._about, "used": self._store.used, "songs": songs})
            while not self._closed:
                try:
                    await asyncio.wait_for(waker.wait(), _SILENCE_SECONDS)
                except TimeoutError:
                    yield ":\n\n"
                    continue
                waker.clear()
                now = [self._store.songs.get(song_id) for song_id in changed]
                gone = [song_id for song_id in changed if song_id not in self._store.songs]
                changed.clear()
                songs = [describe(song) for song in now if song]
                yield _format("change", {"used": self._store.used, "songs": songs, "gone": gone})
                if not self._closed:
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._store.unlisten(note)
            self._wakers.discard(waker)


def _format(name: str, values: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {files.dump_json(values)}\n\n"
