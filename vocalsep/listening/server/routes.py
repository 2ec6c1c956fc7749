"""Answer the requests of the page.

    GET    /                                the page, and its scripts and style sheets beside it
    GET    /api/events                      server-sent events: all songs, then what changes
    POST   /api/songs?name=...&model=...    adds the recording in the body
    POST   /api/songs/ID/start?model=...    separates a song again
    POST   /api/songs/ID/stop
    DELETE /api/songs/ID
    POST   /api/clear                       removes all songs
    GET    /api/songs/ID/bundle/NAME        a part of the bundle, for the player
    GET    /api/songs/ID/files/NAME         vocals.mp3, accompaniment.flac, ..., labels.txt, report.json

Errors are JSON: ``{"error": "..."}``. Addresses hold ids that the server made and names from fixed lists, never paths.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from vocalsep import files
from vocalsep.errors import AudioError
from vocalsep.listening import facts, page
from vocalsep.listening.server import downloads, store
from vocalsep.listening.server.queue import Queue
from vocalsep.listening.server.store import Song, Store, StoreError
from vocalsep.listening.server.updates import Updates

_STATIC = resources.files("vocalsep.listening") / "static"
_DIGITS = 20  # of a length that is beyond any limit
_TYPES = {".css": "text/css", ".js": "text/javascript"}
_SCRIPTS = ("shared.js", "engine.js", "view.js", "player.js", "serve.js")
_STYLES = ("player.css", "serve.css")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What people can choose on the page.

    Attributes:
        options: The values of each option of a separation, the default first.
        purposes: What each model is for.
        formats: File extensions of downloads.
        describe_command: Returns the command line that gives the same result, for the name of a song and its options.
    """

    options: Mapping[str, Sequence[str]]
    purposes: Mapping[str, str]
    formats: Sequence[str]
    describe_command: Callable[[str, Mapping[str, Any]], str]

    def choose(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Return a value for each option.

        Args:
            wanted: Values by option. What is missing gets its default; other keys do not matter.

        Raises:
            HTTPException: If there is no such value.
        """
        chosen = {}
        for option, values in self.options.items():
            chosen[option] = wanted.get(option, values[0])
            if chosen[option] not in values:
                raise HTTPException(400, f"{option}: expected {', '.join(values)}")
        return chosen


class App:
    """The web app: a Starlette app, and what it works with.

    Args:
        songs: The songs.
        queue: Separates them.
        choices: What people can choose.

    Attributes:
        asgi: The Starlette app.
    """

    def __init__(self, songs: Store, queue: Queue, choices: Choices) -> None:
        self._store, self._queue, self._choices = songs, queue, choices
        self._stopping = threading.Event()
        self._encoding = asyncio.Lock()
        about = {
            "limit": songs.limit,
            "songLimit": songs.song_limit,
            "options": choices.options,
            "purposes": choices.purposes,
            "formats": choices.formats,
        }
        self._updates = Updates(songs, about)
        self._static = _read_static()
        one = "/api/songs/{id}"
        self.asgi = Starlette(
            routes=[
                Route("/api/events", self._stream_events),
                Route("/api/songs", self._add, methods=["POST"]),
                Route("/api/clear", self._remove_all, methods=["POST"]),
                Route(f"{one}/start", self._start, methods=["POST"]),
                Route(f"{one}/stop", self._stop, methods=["POST"]),
                Route(one, self._remove, methods=["DELETE"]),
                Route(f"{one}/bundle/{{name:path}}", self._send_part),
                Route(f"{one}/files/{{name}}", self._send_file),
                Route("/{name}", self._send_static),
                Route("/", self._send_static),
            ],
            exception_handlers=dict.fromkeys((HTTPException, StoreError, AudioError, OSError, Exception), _explain),
        )

    def close(self) -> None:
        """End what would keep the server from ending. It must be called in the thread of the event loop."""
        self._stopping.set()
        self._updates.close()

    async def _send_static(self, request: Request) -> Response:
        name = request.path_params.get("name", "")
        if name not in self._static:
            raise HTTPException(404, "there is nothing here")
        return Response(self._static[name], media_type=_TYPES.get(Path(name).suffix, "text/html"))

    async def _stream_events(self, _: Request) -> Response:
        return StreamingResponse(self._updates.stream(), media_type="text/event-stream")

    async def _add(self, request: Request) -> Response:
        options = self._choices.choose(request.query_params)
        announced = request.headers.get("content-length", "")
        try:
            with self._store.receive(request.query_params.get("name", ""), options) as upload:
                if announced.isdecimal():
                    upload.expect(int(announced) if len(announced) < _DIGITS else sys.maxsize)
                async for content in request.stream():
                    if content:
                        await run_in_threadpool(upload.write, content)
                song = await run_in_threadpool(upload.finish)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        self._queue.add(song)
        return JSONResponse({"id": song.id}, 201)

    async def _start(self, request: Request) -> Response:
        song, options = self._find(request), self._choices.choose(request.query_params)
        await run_in_threadpool(self._queue.restart, song, options)
        return JSONResponse({})

    async def _stop(self, request: Request) -> Response:
        await run_in_threadpool(self._queue.stop, self._find(request))
        return JSONResponse({})

    async def _remove(self, request: Request) -> Response:
        await run_in_threadpool(self._queue.remove, self._find(request))
        return JSONResponse({})

    async def _remove_all(self, _: Request) -> Response:
        for song in reversed(self._store.list_songs()):  # so that no other one starts when one is stopped
            await run_in_threadpool(self._queue.remove, song)
        return JSONResponse({})

    async def _send_part(self, request: Request) -> Response:
        song, name = self._find_done(request), request.path_params["name"]
        content = await run_in_threadpool(self._read_part, song, name)
        kind = "application/json" if name == "song.json" else "audio/ogg" if name.endswith(".opus") else None
        return Response(content, media_type=kind or "application/octet-stream")

    def _read_part(self, song: Song, name: str) -> bytes:
        bundle = self._store.place(song, "bundle.zip")
        if name == "song.json":
            report = song.report or {}
            options = {option: values[0] for option, values in self._choices.options.items()} | song.options
            described = page.Song(
                name=song.name,
                bundle=bundle,
                summary=facts.summarise(report),
                facts=facts.list_facts(report),
                command=self._choices.describe_command(song.name, options),
            )
            return files.dump_json(described.describe()).encode()
        try:
            with zipfile.ZipFile(bundle) as parts:
                return parts.read(name)
        except KeyError as error:
            raise HTTPException(404, "the song has no such part") from error

    async def _send_file(self, request: Request) -> Response:
        song, name = self._find_done(request), request.path_params["name"]
        title = f"{Path(song.name).stem}.{name}"
        if name == "report.json":
            return Response(
                json.dumps(song.report, indent=2),
                media_type="application/json",
                headers={"content-disposition": f'attachment; filename="{_quote(title)}"'},
            )
        if name == "labels.txt":
            path = self._store.place(song, name)
        else:
            stem, _, extension = name.partition(".")
            if stem not in downloads.STEMS or extension not in self._choices.formats:
                raise HTTPException(404, "there is no such file")
            path = self._store.place(song, store.DOWNLOADS, f"{stem}.{extension}")
            async with self._encoding:  # one at a time: songs that are being separated need the processor too
                if not path.exists():
                    await run_in_threadpool(self._encode, song, path, stem)
        return FileResponse(path, filename=title)

    def _encode(self, song: Song, path: Path, stem: str) -> None:
        model = song.report["model"] if song.report else ""
        kept = self._store.place(song, "accompaniment.wav")
        try:
            downloads.encode(self._store.place_recording(song), kept, path, stem, model=model, stopping=self._stopping)
        except AudioError as error:
            raise AudioError(str(error).replace(f"{path}: ", "")) from error
        self._store.change(song)
        if self._store.used > self._store.limit:
            self._store.drop_downloads(keep=song)
        if self._store.used > self._store.limit:
            self._store.drop_downloads()
            raise StoreError(self._store.describe_limit(), 507)

    def _find(self, request: Request) -> Song:
        song = self._store.songs.get(request.path_params["id"])
        if song is None:
            raise HTTPException(404, "there is no such song any more")
        return song

    def _find_done(self, request: Request) -> Song:
        song = self._find(request)
        if song.state != store.DONE:
            raise HTTPException(409, "the song is not done")
        return song


async def _explain(_: Request, error: Exception) -> Response:
    """Say in JSON what is wrong."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    if isinstance(error, StoreError):
        return JSONResponse({"error": str(error)}, error.status)
    if isinstance(error, OSError):
        return JSONResponse({"error": f"the disk reports an error: {error.strerror or error}"}, 500)
    if isinstance(error, AudioError):
        return JSONResponse({"error": str(error)}, 422)
    return JSONResponse({"error": "vocalsep failed; the terminal in which it runs shows why"}, 500)


def _quote(name: str) -> str:
    return re.sub(r'[^ -~]|["\\%]', "_", name)


def _read_static() -> dict[str, str]:
    """Return the page and what it loads. The page is that of `page.write_page`, with the list of songs around it."""
    found = {name: (_STATIC / name).read_text(encoding="utf-8") for name in (*_SCRIPTS, *_STYLES)}
    player, around = ((_STATIC / name).read_text(encoding="utf-8") for name in ("player.html", "serve.html"))
    for place, part in re.findall(r"<!-- (\S+) -->\n(.*?)(?=<!--|\Z)", around, re.DOTALL):
        mark = f"<!-- {place} -->\n"
        assert mark in player
        player = player.replace(mark, part)
    return found | {"": player}
