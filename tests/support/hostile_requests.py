"""Requests that no browser sends to ``vocalsep serve``: hostile addresses, headers, bodies, ids and ranges.

They go into the app as the web server passes them on, with bytes where it passes bytes, and without a network.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import damage
import fake_nets
import soundfile
from cases import Case
from song_server import CHANGE, HOST, PORT, Server, open_server

from vocalsep.listening.server.store import Store, StoreError

SECRET = b"what lies beside the songs of the server"
MOST_SECONDS = 2.0  # of the processor, for one request
LIMITS = ((10**9, 10**8), (10**9, 10**8), (40_000, 20_000))  # for all songs and for one, bytes

PARTS = ("song.json", "vocals/0.opus", "accompaniment/0.opus", "vocals/0.view", "vocals/overview.view", "vocals/")
FILES = ("vocals.wav", "vocals.flac", "vocals.mp3", "accompaniment.wav", "labels.txt", "report.json")
SEGMENTS = (
    *("..", ".", "", "%2e%2e", "%2E%2E%2F", "..%2f..%2fsecret.txt", "..%5c", "%00", "%0d%0aX-Evil:%201", "%c0%ae"),
    *("%ff", "%ed%a0%80", "%e2%80%ae", "%1b%5b31m", "~", "*", ";x=1", "a" * 5_000, "%", "%zz", "nul", "C:", "\\"),
    *("secret.txt", ".lock", "song.json", "song.wav", "bundle.zip", "files", "api", "0" * 16, "player.js", "%3f"),
)
TEXTS = (
    *("", "x", "small", "large", "yes", "../../secret.txt", "\x00", "\r\nX-Evil: 1", "\x1b[31m", "\ud800", "\u202e"),
    *(
        "a/b\\c.wav",
        "song.wav",
        "song.WAV",
        ".wav",
        "..",
        "é.mp3",
        "\u017f.flac",
        "x" * 9_000,
        '"; filename="a',
        "%00.wav",
    ),
    *("{}", "[1]", "-1", "9" * 5_000, "\ufeff", "a\u2028b", "CON", "song.wav/", "$(id)", "<script>", "1e999"),
)
METHODS = ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X" * 99)
RANGES = (
    *("bytes=0-", "bytes=-1", "bytes=0-0", "bytes=0-0,-1", "bytes=5-2", "bytes=-", "bytes=", "bytes", "items=0-1"),
    *("bytes=0-1," * 3_000, "bytes=" + "9" * 5_000 + "-", "bytes=-" + "9" * 40, "bytes=1-2,4-5,7-8", "bytes=a-b"),
    *("bytes=0-99999999999999999999", "bytes= 0 - 1 ", "bytes=--1", "bytes=0x0-0x9", "bytes=0_1-2", "=", ",", "\xb2-"),
)
COOKIES = (
    *("", "=", ";" * 9_000, "a=b; " * 5_000, '"' * 30_000, '"' + "\\" * 60_000 + '"', "vocalsep-1=x", "\xff=\xfe"),
    *(f"vocalsep-{PORT}", f"vocalsep-{PORT}=", f"vocalsep-{PORT}=wrong", f'vocalsep-{PORT}="\\"\\377"', "expires=1"),
    f'vocalsep-{PORT}="' + "\\\\" * 30_000 + '"',
)
HOSTS = (
    *("evil.example", "", f"evil.example:{PORT}", "127.0.0.1", f"a@{HOST}", f"[::1:{PORT}", f"{HOST}:1", "127.0.0.1:"),
    *(
        f"127.0.0.1:{'9' * 5_000}",
        f"[::1%25eth0]:{PORT}",
        f"{HOST}/",
        f"{HOST}?",
        f"\xe9:{PORT}",
        "[" * 500,
        f"\u00bd:{PORT}",
    ),
)
ORIGINS = (
    "null",
    "https://evil.example",
    f"https://{HOST}",
    "://",
    "http://[",
    f"http://a@{HOST}",
    "\xff",
    "x" * 9_000,
)
TYPES = (
    *("application/json", "multipart/form-data; boundary=x", "multipart/form-data", "text/plain; charset=nonsense"),
    *("application/x-www-form-urlencoded", "multipart/form-data; boundary=" + "x" * 9_000, "\xff", "a/b; c"),
)


@dataclass
class Request:
    """A request, and what its answer may be.

    Attributes:
        method: Its method.
        target: Address without host, in ASCII.
        headers: Names in lower case, and values.
        chunks: Its body.
        breaks: Whether the client goes before the body ends.
        refused: Status of the answer that the guard must give; 0 if the app may see the request.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    chunks: Sequence[bytes] = ()
    breaks: bool = False
    refused: int = 0


@dataclass
class Answer:
    """What the app answered."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


async def ask(server: Server, request: Request) -> Answer:
    """Send a request to the guarded app, and go once the answer is complete or the first event has come."""
    raw, _, query = request.target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", PORT),
        "client": ("127.0.0.1", 9),
        "scheme": "http",
        "method": request.method,
        "root_path": "",
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in request.headers],
    }
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in request.chunks]
    if not request.breaks:
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    answer, gone = Answer(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        if not request.breaks:
            await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message["headers"])
        else:
            answer.body += message.get("body", b"")
            if not message.get("more_body") or answer.body.startswith(b"event:"):
                gone.set()

    await asyncio.wait_for(server.guard(scope, receive, send), 15)
    return answer


def sign_in(loop: asyncio.Runner, server: Server) -> str:
    """Return the cookie of a browser that has opened the link of the server."""
    answer = loop.run(ask(server, Request("GET", f"/?token={server.guard.token}", [("host", HOST)])))
    return dict(answer.headers)[b"set-cookie"].decode().partition(";")[0]


# what is sent


def make_request(rng: random.Random, ids: Sequence[str], cookie: str, songs: dict[str, bytes]) -> Request:
    """Return a request that is hostile in one or two ways, and otherwise as the page sends it."""
    one = f"/api/songs/{rng.choice(ids) if ids and rng.random() < 0.9 else quote(rng.choice(TEXTS), errors='replace')}"
    method, target = rng.choice(
        [
            ("GET", rng.choice(["/", "/player.js", "/serve.css", "/api/events"])),
            *[("POST", "/api/songs")] * 2,
            ("POST", f"{one}/{rng.choice(['start', 'stop'])}"),
            ("DELETE", one),
            *[("GET", f"{one}/bundle/{rng.choice(PARTS)}")] * 3,
            *[("GET", f"{one}/files/{rng.choice(FILES)}")] * 3,
            ("POST", "/api/clear") if rng.random() < 0.2 else ("GET", one),
        ]
    )
    if rng.random() < 0.3:
        target = change_target(rng, target)
    if rng.random() < 0.15:
        method = rng.choice(METHODS)
    if rng.random() < 0.6 and method == "POST":
        keys = ["name", "model", "gate", "token", "id", "x" * 999]
        wanted = {rng.choice(keys): rng.choice(TEXTS) for _ in range(rng.randint(1, 3))}
        target += "?" + "&".join(f"{key}={quote(value, errors='replace')}" for key, value in wanted.items())
    if rng.random() < 0.05:
        target += "?" + rng.choice(["&" * 9_000, "a=1&" * 5_000, "=", "%", "token=", "name=%ff%fe", "?" * 99, ";;"])
    headers = [("host", HOST), ("cookie", cookie), *((name.lower(), value) for name, value in CHANGE.items())]
    request = Request(method, target, headers)
    if rng.random() < 0.15:
        spoil_headers(rng, request)
    add_headers(rng, request)
    if method != "GET" or rng.random() < 0.1:
        request.chunks = list(make_body(rng, songs))
        request.breaks = rng.random() < 0.1
    return request


def change_target(rng: random.Random, target: str) -> str:
    """Put hostile segments into an address."""
    segments = target.split("/")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(1, len(segments) + 1)
        how = rng.random()
        if how < 0.4:
            segments[at : at + 1] = [rng.choice(SEGMENTS)]
        elif how < 0.8:
            segments.insert(at, rng.choice(SEGMENTS))
        else:
            segments[-1] += rng.choice(SEGMENTS)
    return "/".join(segments) if segments[0] == "" else "/" + "/".join(segments)


def spoil_headers(rng: random.Random, request: Request) -> None:
    """Change a header that says who asks, and note how the request must be refused."""
    how = rng.choice(["host", "hosts", "cookie", "origin", "site", "change"])
    others = [pair for pair in request.headers if pair[0] != {"hosts": "host", "change": "x-vocalsep"}.get(how, how)]
    if how == "host":
        request.headers, request.refused = [("host", rng.choice(HOSTS)), *others], 421
    elif how == "hosts":
        request.headers = [*others, *[("host", HOST)] * rng.choice([0, 2])]
        request.refused = 421
    elif how == "origin":
        request.headers.append(("origin", rng.choice(ORIGINS)))
        request.refused = 403
    elif how == "site" and unquote(request.target.partition("?")[0]) != "/":
        request.headers.append(("sec-fetch-site", rng.choice(["cross-site", "same-site", "", "\xff"])))
        request.refused = 403
    elif how == "cookie":
        request.headers, request.refused = [*others, ("cookie", rng.choice(COOKIES))], 401
    elif how == "change" and request.method not in ("GET", "HEAD"):
        request.headers, request.refused = others, 403


def add_headers(rng: random.Random, request: Request) -> None:
    """Add headers that should change nothing, or only what is sent of a file."""
    found = {
        "range": RANGES,
        "if-range": (*TEXTS, "W/x", "Thu, 01 Jan 1970 00:00:00 GMT"),
        "if-none-match": ("*", "x"),
        "content-type": TYPES,
        "content-length": ("0", "-1", "9" * 5_000, "9" * 30, "x", "1", "1,1", "\xb2"),
        "x-http-method-override": ("DELETE",),
        "x-forwarded-host": ("evil.example",),
        "accept-encoding": ("gzip;q=0,*", "\xff"),
        "origin": (f"http://{HOST}",),
        "expect": ("100-continue",),
        "a" * 5_000: ("b",),
    }
    for _ in range(rng.choice([0, 0, 1, 2])):
        name = "range" if rng.random() < 0.3 else rng.choice(list(found))
        value = rng.choice(found[name]).encode("latin-1", "replace").decode("latin-1")
        request.headers.append((name, "".join(letter for letter in value if letter >= " ").strip()))


def make_body(rng: random.Random, songs: dict[str, bytes]) -> Iterator[bytes]:
    """Yield a body in pieces: a song, a damaged one, or something else."""
    song = songs[rng.choice(sorted(songs))]
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="../../secret.txt"\r\n\r\n%b\r\n--x--\r\n'
    body = rng.choice(
        [
            song,
            damage.damage(rng, song),
            damage.damage(rng, song),
            form % song,
            b"",
            json.dumps(rng.choice(damage.HOSTILE)).encode(),
            b"[" * 10**5,
            rng.randbytes(rng.randint(1, 3_000)),
            bytes(rng.choice([10_000, 30_000, 300_000])),
            b"PK\3\4" + rng.randbytes(99),
        ]
    )
    step = rng.choice([len(body) + 1, len(body) + 1, max(1, len(body) // 3), max(1, len(body) // 20)])
    for start in range(0, len(body), step):
        yield body[start : start + step]
        if rng.random() < 0.1:
            yield b""


# what comes back


def check_answer(request: Request, answer: Answer, root: Path, limit: int) -> None:
    """Check an answer: its status, its headers, and that it holds nothing from outside the songs."""
    what = (
        request.method,
        request.target[:200],
        [(name, value[:60]) for name, value in request.headers],
        answer.status,
    )
    if request.breaks and not answer.status:  # the client had gone first
        return
    if request.refused:
        assert answer.status == request.refused, what
    full = answer.status == 507 and limit < 10**6
    assert 200 <= answer.status < 500 or full, (what, answer.body[:300])
    headers = {name.decode(): value for name, value in answer.headers}
    assert headers["content-security-policy"].startswith(b"default-src 'none';"), what
    assert headers["x-content-type-options"] == b"nosniff", what
    assert "x-evil" not in headers, what
    assert not any(b < 32 or b == 127 for name, value in answer.headers for b in name + value), (what, answer.headers)
    assert SECRET not in answer.body, what
    assert str(root).encode() not in answer.body, (what, answer.body[:300])
    if headers.get("content-type") == b"application/json" and answer.body and answer.status >= 400:
        (message,) = json.loads(answer.body).values()
        assert message, what
        assert message.isprintable(), (what, message)
        assert len(message) < 300, (what, message)
    if "content-length" in headers and request.method != "HEAD" and not request.breaks:
        assert len(answer.body) == int(headers["content-length"]), what


def check_folder(server: Server, root: Path) -> None:
    """Check that the folder holds what the store knows, and nothing else has changed."""
    assert sorted(path.name for path in root.iterdir()) == ["secret.txt", "songs"]
    assert (root / "secret.txt").read_bytes() == SECRET
    found = {path.name for path in (root / "songs").iterdir()}
    assert found == {".lock", *server.store.songs}, (found, set(server.store.songs))
    usual = {"song.json", "accompaniment.wav", "labels.txt", "bundle.zip", "files"}
    for song in server.store.list_songs():
        assert song.name.isprintable(), song
        assert 0 < len(song.name) <= 200, song
        names = {path.name for path in server.store.place(song).iterdir()}
        assert names <= usual | {server.store.place_recording(song).name}, names
    assert server.store.used == sum(song.used for song in server.store.list_songs())  # nothing is still arriving
    assert server.store.used <= max(server.store.limit, 10**6)


def spoil_store(rng: random.Random, folder: Path) -> None:
    """Damage what an earlier server has written about a song."""
    path = folder / "song.json"
    values = json.loads(path.read_text())
    for _ in range(rng.randint(1, 2)):
        values = damage.change_value(rng, values)
    content = json.dumps(values).encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        content = damage.damage(rng, content)
    if rng.random() < 0.1:
        content = rng.choice([b"[" * 10**5, b'{"a":' * 10**5, b"", b"\xff", b"null", b"[]"])
    path.write_bytes(content)


def set_up(folder: Path) -> Case:
    """Make songs, and return a case: a server with songs of an earlier one, and some requests to it."""
    songs = {}
    for name in ("a.wav", "b.flac", "c.ogg"):
        soundfile.write(folder / name, fake_nets.noise(2, 600).T, 8_000)
        songs[name] = (folder / name).read_bytes()

    @functools.cache
    def start_loop() -> asyncio.Runner:  # in the process that runs the cases
        return asyncio.Runner()

    @functools.cache
    def make_done() -> Path:
        """Return the folder of a song that a server has separated."""
        place = folder / "done"
        shutil.rmtree(place, ignore_errors=True)
        with open_server(place) as server:
            song = server.wait(server.upload(songs["a.wav"], "my song.wav"))
        return place / song.id

    def case(rng: random.Random, folder: Path) -> None:
        root = folder / "server"
        shutil.rmtree(root, ignore_errors=True)
        (root / "songs").mkdir(parents=True)
        (root / "secret.txt").write_bytes(SECRET)
        spoiled = False
        for number in range(rng.choice([1, 2])):
            own = root / "songs" / f"{number:016x}"
            shutil.copytree(make_done(), own)
            about = (own / "song.json").read_text()
            (own / "song.json").write_text(about.replace(make_done().name, own.name))
            if rng.random() < 0.1:
                spoil_store(rng, own)
                spoiled = True
        limit, song_limit = rng.choice(LIMITS)
        with open_server(root / "songs", limit=limit, song_limit=song_limit) as server:
            loop = start_loop()
            cookie = sign_in(loop, server)
            for _ in range(rng.randint(1, 6)):
                request = make_request(rng, list(server.store.songs), cookie, songs)
                started = time.process_time()
                answer = loop.run(ask(server, request))
                taken = time.process_time() - started
                assert taken < MOST_SECONDS, (taken, request.method, request.target[:99], request.headers)
                check_answer(request, answer, root, limit)
            server.queue.close()
            if not spoiled:
                check_folder(server, root)
            kept = {song.id: song.name for song in server.store.list_songs()}
        try:
            again = Store(root / "songs", limit=limit, song_limit=song_limit)
        except StoreError as error:
            raise AssertionError(error) from error
        assert {song.id: song.name for song in again.list_songs()} == kept
        again.close()

    return case
