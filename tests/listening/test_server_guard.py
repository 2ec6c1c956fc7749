"""Who gets an answer from the server: each test is a way in that must be closed, or the one that is open."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import pytest
from song_server import CHANGE, HOST, PORT, Client, Server, open_server

from vocalsep.listening.server import guard
from vocalsep.listening.server.guard import Guard


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with open_server(tmp_path_factory.mktemp("songs")) as opened:
        yield opened


@pytest.fixture
def stranger(server: Server) -> Iterator[Client]:
    """A client that is not signed in."""
    with contextlib.closing(Client(server.guard)) as client:
        yield client


def test_the_token_becomes_a_strict_cookie_and_leaves_the_address(stranger: Client, server: Server) -> None:
    answer = stranger.get("/", params={"token": server.guard.token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert f"vocalsep-{PORT}=" in cookie
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert server.guard.token not in answer.headers["set-cookie"]
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/", "/player.js", "/api/events", "/api/songs/0123456789abcdef/files/vocals.wav"])
def test_nothing_is_answered_without_the_cookie(stranger: Client, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "vocalsep serve" in answer.text


@pytest.mark.parametrize("token", ["", "wrong", "\N{SNOWMAN}"])
def test_a_wrong_token_is_refused(stranger: Client, token: str) -> None:
    answer = stranger.get("/", params={"token": token, "x": "1"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("cookie", [f"vocalsep-{PORT}=wrong", "vocalsep-1=x", "\x00;=", f"vocalsep-{PORT}"])
def test_a_wrong_cookie_is_refused(stranger: Client, cookie: str) -> None:
    assert stranger.get("/", headers={"Cookie": cookie}).status_code == 401


def test_a_cookie_of_60_kb_takes_no_time(stranger: Client, server: Server) -> None:
    started = time.process_time()
    for cookie in ('"' + "\\" * 60_000 + '"', f'vocalsep-{PORT}="' + "\\\\" * 30_000 + '"', "a=b; " * 12_000):
        assert stranger.get("/", headers={"Cookie": cookie}).status_code == 401
    assert time.process_time() - started < 1


def test_a_ticket_works_once(stranger: Client, server: Server) -> None:
    ticket = server.guard.make_ticket()
    codes = [stranger.get("/", params={"token": ticket}).status_code for _ in range(2)]
    assert codes == [303, 401]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"a@127.0.0.1:{PORT}",
        f"127.0.0.1:{PORT}?",
        "",
        f"[::1:{PORT}",
    ],
)
def test_other_host_names_are_refused_even_with_the_cookie(server: Server, host: str) -> None:
    answer = server.client.get("/", headers={"Host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", [f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"])
def test_the_names_of_this_machine_are_its_own(server: Server, host: str) -> None:
    assert server.client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"https://{HOST}", "http://127.0.0.1:1", f"file://{HOST}"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_requests_of_other_pages_are_refused(server: Server, origin: str, method: str) -> None:
    answer = server.client.request(method, "/api/songs", headers={"Origin": origin} | CHANGE)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_requests_that_a_browser_marks_as_cross_site_are_refused(server: Server) -> None:
    for site, code in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert server.client.get("/player.js", headers={"Sec-Fetch-Site": site}).status_code == code


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/songs"), ("DELETE", "/api/songs/x"), ("POST", "/api/songs/x/stop")]
)
def test_changes_need_a_header_that_other_pages_may_not_send(server: Server, method: str, path: str) -> None:
    answer = server.client.request(method, path, headers={"Origin": f"http://{HOST}"})
    assert (answer.status_code, answer.json()["error"]) == (
        403,
        "a request that changes something needs the header x-vocalsep",
    )


def test_preflight_requests_get_no_permission(server: Server) -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = server.client.request("OPTIONS", "/api/songs", headers=asks)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/player.js", "/api/nothing", "/?token=wrong"])
def test_all_answers_carry_the_headers_that_protect_them(server: Server, path: str) -> None:
    headers = server.client.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"


def test_the_page_has_no_code_of_its_own(server: Server) -> None:
    page = server.client.get("/").text
    assert "<style" not in page
    assert " style=" not in page
    assert " onclick" not in page
    assert page.count("<script") == page.count('<script src="') == 5
    for name in ("player.css", "serve.css", "shared.js", "engine.js", "view.js", "player.js", "serve.js"):
        assert f'"{name}"' in page
        assert server.client.get(f"/{name}").status_code == 200


def test_a_server_on_all_addresses_answers_to_addresses_but_not_to_names() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError

    with contextlib.closing(Client(Guard(app, host="0.0.0.0", port=PORT), f"192.168.1.7:{PORT}")) as client:
        assert client.get("/").status_code == 401
        assert client.get("/", headers={"Host": f"evil.example:{PORT}"}).status_code == 421


def test_only_loopback_addresses_are_local() -> None:
    assert all(map(guard.is_local, ["127.0.0.1", "127.0.0.2", "::1", "localhost"]))
    assert not any(map(guard.is_local, ["0.0.0.0", "::", "192.168.1.7", "example.org"]))


def test_websockets_are_not_answered(server: Server) -> None:
    sent: list[object] = []

    async def ask() -> None:
        async def fail() -> None:
            raise AssertionError

        async def send(message: object) -> None:
            sent.append(message)

        await server.guard({"type": "websocket", "path": "/", "headers": []}, fail, send)  # type: ignore[arg-type]

    asyncio.run(ask())
    assert sent == []
