"""A server for tests: its songs are separated without a net, and it is asked without a network."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import soundfile
from starlette.types import ASGIApp

from vocalsep import audio, listening
from vocalsep.errors import AudioError
from vocalsep.listening.server import guard
from vocalsep.listening.server.queue import OnEvent, Queue, Work
from vocalsep.listening.server.routes import App, Choices
from vocalsep.listening.server.store import Song, Store

PORT = 4321
HOST = f"127.0.0.1:{PORT}"
OPTIONS = {"model": ("small", "large"), "gate": ("no", "yes")}
CHANGE = {"X-Vocalsep": "1"}


class HalfRunner:
    """Takes half of the song for its vocals. It waits for `gate`, which is open at first."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.works: list[Work] = []
        self.rests = 0

    def run(self, work: Work, on_event: OnEvent, should_stop: Callable[[], bool]) -> None:
        self.works.append(work)
        try:
            samples, rate = audio.read(work.recording)
        except AudioError as error:
            raise AudioError(f"{work.recording}: is not a recording") from error
        seconds = samples.shape[1] / rate
        on_event("song", {"seconds": seconds})
        on_event("progress", {"seconds": seconds / 2, "of": seconds})
        while not self.gate.wait(0.01):
            if should_stop():
                return
        soundfile.write(work.accompaniment, (samples - samples / 2).T, rate, subtype="FLOAT")
        work.labels.write_text("0.000000\t0.100000\tvoice\n", encoding="utf-8")
        parts = [samples / 2, samples - samples / 2]
        with listening.BundleWriter(work.bundle, ["vocals", "accompaniment"], rate=rate, channels=len(parts[0])) as out:
            out.write(parts)
            out.finish(voice=[(0.0, 0.1)])
        on_event("warning", {"message": f"{work.recording}: odd tags"})
        on_event("done", {"outcome": "done", "report": make_report(str(work.recording), seconds)})

    def rest(self) -> None:
        self.rests += 1


def make_report(name: str, seconds: float) -> dict[str, object]:
    """Return the report of a song, with the outputs in one field."""
    return {
        "input": name,
        "outputs": {"accompaniment": "/secret/accompaniment.wav"},
        "model": "small",
        "audio_seconds": round(seconds, 3),
        "taken_seconds": 0.1,
        "times_real_time": 10.0,
        "peak_memory_mb": None,
        "voice": [[0.0, 0.1]],
        "voice_share": 0.5,
        "vocals_db": -6.0,
        "cluster_confidence": None,
        "clusters_used": False,
        "clipped_samples": 0,
        "gain_db": 0.0,
        "warnings": [f"{name}: odd tags"],
    }


class Client:
    """Asks an app without a network, and waits for the whole answer. It keeps cookies.

    Args:
        app: The app.
        host: The host that requests name, with a port.
    """

    def __init__(self, app: ASGIApp, host: str = HOST) -> None:
        self._loop = asyncio.Runner()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=f"http://{host}")

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._loop.run(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def close(self) -> None:
        self._loop.run(self._client.aclose())
        self._loop.close()


@dataclass
class Server:
    """A server without a network."""

    store: Store
    queue: Queue
    runner: HalfRunner
    app: App
    guard: guard.Guard
    stack: contextlib.ExitStack

    @functools.cached_property
    def client(self) -> Client:
        """A client that is signed in."""
        client = self.stack.enter_context(contextlib.closing(Client(self.guard)))
        client.get("/", params={"token": self.guard.token})
        return client

    def upload(self, content: bytes, name: str = "song.wav", **options: str) -> str:
        """Send a song, and return its id."""
        answer = self.client.post("/api/songs", params={"name": name} | options, content=content, headers=CHANGE)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def wait(self, song_id: str, *states: str) -> Song:
        """Wait until a song is in one of these states, and return it."""
        song = self.store.songs[song_id]
        wait_until(lambda: song.state in (states or ("done",)))
        return song


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait until something has happened, or fail."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


@contextlib.contextmanager
def open_server(folder: Path, *, limit: int = 10**9, song_limit: int = 10**8, port: int = PORT) -> Iterator[Server]:
    """Run a server on a folder, for requests to a port."""
    store = Store(folder, limit=limit, song_limit=song_limit)
    runner = HalfRunner()
    queue = Queue(store, [runner])
    choices = Choices(
        options=OPTIONS,
        purposes={"small": "tests"},
        formats=("wav", "flac", "mp3"),
        describe_command=lambda name, options: f"separate {name} {options['model']}",
    )
    app = App(store, queue, choices)
    guarded = guard.Guard(app.asgi, host="127.0.0.1", port=port)
    try:
        with contextlib.closing(store), contextlib.ExitStack() as stack:
            yield Server(store, queue, runner, app, guarded, stack)
    finally:
        queue.close()
