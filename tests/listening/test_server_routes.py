from __future__ import annotations

import asyncio
import errno
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import soundfile
import synthetic_songs
from song_server import CHANGE, Server, open_server

from vocalsep.listening.server import downloads
from vocalsep.listening.server.updates import Updates


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return fake_nets.quantise(fake_nets.noise(2, 9_600), 16).T


@pytest.fixture(scope="module")
def song(samples: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A wav file of 0.2 s in 16 bits."""
    return synthetic_songs.write(tmp_path_factory.mktemp("song") / "song.wav", samples, 48_000).read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with open_server(tmp_path_factory.mktemp("server") / "songs") as opened:
        yield opened


@pytest.fixture(scope="module")
def done(server: Server, song: bytes) -> str:
    """The address of a song that is done."""
    found = server.wait(server.upload(song, 'my \N{SNOWMAN} "song".wav'))
    return f"/api/songs/{found.id}"


# adding


def test_unknown_options_are_refused_before_anything_is_stored(server: Server, song: bytes) -> None:
    before = server.store.used
    for wanted in ({"model": "nothing"}, {"gate": "perhaps"}):
        answer = server.client.post("/api/songs", params=wanted, content=song, headers=CHANGE)
        assert answer.status_code == 400
        assert "expected" in answer.json()["error"]
    assert server.store.used == before


def test_an_upload_of_10_gb_is_refused_while_it_comes(server: Server) -> None:
    sent = 0

    async def send() -> AsyncIterator[bytes]:  # without a length that the server could refuse at once
        nonlocal sent
        block = bytes(2**20)
        for _ in range(10_000):
            sent += len(block)
            yield block

    before = server.store.used
    answer = server.client.post("/api/songs?name=long.wav", content=send(), headers=CHANGE)
    assert answer.status_code == 413
    assert sent < 1.2 * server.store.song_limit
    assert server.store.used == before


def test_an_announced_length_beyond_the_limit_is_refused_at_once(server: Server) -> None:
    for length in (str(10**10), "9" * 5_000):
        answer = server.client.post("/api/songs", content=b"", headers=CHANGE | {"Content-Length": length})
        assert answer.status_code == 413
        assert answer.json()["error"].startswith("larger than 100 MB, the limit for one file")


def test_a_full_disk_is_told_and_the_server_goes_on(
    server: Server, song: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", fail)
        answer = server.client.post("/api/songs", content=song, headers=CHANGE)
    assert (answer.status_code, answer.json()["error"]) == (507, "cannot be stored (No space left on device)")
    server.wait(server.upload(song))


def test_an_upload_that_breaks_off_leaves_nothing(server: Server) -> None:
    before = server.store.used, len(server.store.list_songs())

    async def ask() -> None:
        parts = [{"type": "http.request", "body": b"x" * 1_000, "more_body": True}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return parts.pop(0)

        async def send(_: Any) -> None:
            return None

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/songs",
            "query_string": b"name=a.wav",
            "headers": [],
            "http_version": "1.1",
        }
        await server.app.asgi(scope, receive, send)

    asyncio.run(ask())
    assert (server.store.used, len(server.store.list_songs())) == before


# what is done


def test_the_player_gets_its_parts_and_what_there_is_to_tell(server: Server, done: str) -> None:
    about = server.client.get(f"{done}/bundle/song.json").json()
    assert about["stems"] == ["vocals", "accompaniment"]
    assert about["command"] == 'separate my \N{SNOWMAN} "song".wav small'
    assert about["summary"] == "small · voice in 50% of the song"
    sound = server.client.get(f"{done}/bundle/vocals/0.opus")
    assert (sound.status_code, sound.headers["content-type"], sound.content[:4]) == (200, "audio/ogg", b"OggS")


@pytest.mark.parametrize("stem", ["vocals", "accompaniment"])
@pytest.mark.parametrize("extension", ["wav", "flac"])
def test_lossless_downloads_hold_the_part_to_the_bit(
    server: Server, done: str, samples: np.ndarray, stem: str, extension: str
) -> None:
    answer = server.client.get(f"{done}/files/{stem}.{extension}")
    assert answer.headers["content-disposition"] == (
        f"attachment; filename*=utf-8''my%20%E2%98%83%20%22song%22.{stem}.{extension}"
    )
    found, rate = soundfile.read(io.BytesIO(answer.content), dtype="float64")
    assert rate == 48_000
    np.testing.assert_allclose(found, samples / 2, atol=2**-16)


def test_sound_comes_in_ranges(server: Server, done: str) -> None:
    whole = server.client.get(f"{done}/files/vocals.mp3")
    assert whole.headers["accept-ranges"] == "bytes"
    part = server.client.get(f"{done}/files/vocals.mp3", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    beyond = server.client.get(f"{done}/files/vocals.mp3", headers={"Range": "bytes=99999999-"})
    assert beyond.status_code == 416


def test_a_download_is_encoded_once(server: Server, done: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = server.client.get(f"{done}/files/vocals.wav")
    monkeypatch.setattr(downloads, "encode", None)
    assert server.client.get(f"{done}/files/vocals.wav").content == first.content


def test_labels_and_report_can_be_downloaded(server: Server, done: str) -> None:
    labels = server.client.get(f"{done}/files/labels.txt")
    assert labels.text == "0.000000\t0.100000\tvoice\n"
    report = server.client.get(f"{done}/files/report.json")
    assert report.json()["voice_share"] == 0.5
    assert report.headers["content-disposition"] == 'attachment; filename="my _ _song_.report.json"'


def test_a_format_that_cannot_hold_the_song_is_an_error_in_words(server: Server, tmp_path: Path) -> None:
    path = synthetic_songs.write(tmp_path / "odd.wav", fake_nets.noise(3, 4_800).T, 48_000)
    address = f"/api/songs/{server.wait(server.upload(path.read_bytes())).id}"
    answer = server.client.get(f"{address}/files/vocals.mp3")
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        "mp3 supports up to 2 channels, but the song has 3; choose .wav",
    )
    assert server.client.get(f"{address}/files/vocals.wav").status_code == 200


def test_downloads_that_would_exceed_the_limit_are_refused_in_words(tmp_path: Path, song: bytes) -> None:
    with open_server(tmp_path / "songs", limit=10**7) as server:
        found = server.wait(server.upload(song))
        server.store.limit = found.used + 1_000
        answer = server.client.get(f"/api/songs/{found.id}/files/vocals.wav")
        assert answer.status_code == 507
        assert answer.json()["error"].startswith("no room")
        assert server.store.used <= server.store.limit


def test_encoding_ends_with_the_server(server: Server, done: str, tmp_path: Path) -> None:
    found = server.store.songs[done.rpartition("/")[2]]
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Exception, match="has ended"):
        downloads.encode(
            server.store.place_recording(found),
            server.store.place(found, "accompaniment.wav"),
            tmp_path / "vocals.wav",
            "vocals",
            model="m",
            stopping=stopping,
        )
    assert list(tmp_path.iterdir()) == []


# what nobody may see

PLACES = (
    "..%2f..%2fsong.json",
    "../song.json",
    "%2e%2e/%2e%2e/.lock",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "..\\..\\x",
    "vocals.exe",
    "vocals.wav/../../song.json",
    "vocals.",
    "vocals",
    ".wav",
    "song.wav",
    "accompaniment.wav%00",
    "labels.txt%00.wav",
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["files", "bundle"])
def test_addresses_never_lead_to_other_files(server: Server, done: str, place: str, kind: str) -> None:
    answer = server.client.get(f"{done}/{kind}/{place}")
    assert answer.status_code in (404, 405), answer.text
    assert "error" in answer.json()


@pytest.mark.parametrize("song_id", ["..", ".", "%2e%2e", ".lock", "%2e%2e%2f%2e%2e", "0123456789abcdef", ""])
@pytest.mark.usefixtures("done")
def test_ids_are_looked_up_and_never_become_paths(server: Server, song_id: str) -> None:
    for address in (f"/api/songs/{song_id}/files/labels.txt", f"/api/songs/{song_id}/bundle/song.json"):
        assert server.client.get(address).status_code in (404, 405)
    assert server.client.request("DELETE", f"/api/songs/{song_id}", headers=CHANGE).status_code in (307, 404, 405)
    assert len(server.store.list_songs()) > 0


@pytest.mark.parametrize(
    "name", ["player.html", "serve.html", "../bundle.py", "..%2fbundle.py", "%2e%2e/facts.py", "x"]
)
def test_only_the_pages_own_files_are_served(server: Server, name: str) -> None:
    assert server.client.get(f"/{name}").status_code == 404


def test_a_song_that_is_not_done_has_no_parts(server: Server) -> None:
    failed = server.wait(server.upload(b"x"), "failed")
    for part in ("files/vocals.wav", "bundle/song.json"):
        assert server.client.get(f"/api/songs/{failed.id}/{part}").status_code == 409


def test_songs_can_be_removed_once(server: Server, song: bytes) -> None:
    found = server.wait(server.upload(song))
    codes = [server.client.request("DELETE", f"/api/songs/{found.id}", headers=CHANGE).status_code for _ in range(2)]
    assert codes == [200, 404]


def test_all_songs_can_be_removed_at_once(tmp_path: Path, song: bytes) -> None:
    with open_server(tmp_path / "songs") as server:
        server.runner.gate.clear()
        server.wait(server.upload(song), "working")
        server.upload(song)
        assert server.client.post("/api/clear", headers=CHANGE).status_code == 200
        assert server.store.list_songs() == []
        assert len(server.runner.works) == 1


def test_a_bug_is_told_without_details(server: Server, done: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("vocalsep.listening.facts.summarise", fail)
    answer = server.client.get(f"{done}/bundle/song.json")
    assert answer.status_code == 500
    assert answer.json()["error"] == "vocalsep failed; the terminal in which it runs shows why"


# events


def read_event(text: str) -> tuple[str, dict[str, Any]]:
    name, data = text.strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_events_tell_all_songs_and_then_what_changes(tmp_path: Path, song: bytes) -> None:
    async def listen() -> list[tuple[str, dict[str, Any]]]:
        updates = Updates(server.store, {"limit": 5})
        stream = updates.stream()
        events = [read_event(await anext(stream))]
        await asyncio.to_thread(server.store.change, first, warnings=["one"])
        await asyncio.to_thread(server.store.change, first, warnings=["two"])
        await asyncio.sleep(0.02)  # both changes have arrived
        events.append(read_event(await anext(stream)))
        await asyncio.to_thread(server.store.remove, first)
        events.append(read_event(await anext(stream)))
        updates.close()
        events += [read_event(text) async for text in stream if text != ":\n\n"]
        return events

    with open_server(tmp_path / "songs") as server:
        first = server.wait(server.upload(song, "<b>.wav"))
        start, change, gone, *rest = asyncio.run(listen())
    assert (start[0], start[1]["limit"], [each["name"] for each in start[1]["songs"]]) == ("start", 5, ["<b>.wav"])
    assert (change[0], [each["warnings"] for each in change[1]["songs"]]) == ("change", [["two"]])
    assert gone[1] == {"used": 0, "songs": [], "gone": [first.id]}
    assert all(not event["songs"] and not event["gone"] for _, event in rest)


def test_a_browser_that_leaves_is_forgotten(server: Server) -> None:
    async def leave() -> None:
        stream = Updates(server.store, {}).stream()
        await anext(stream)
        assert len(server.store._listeners) == before + 1
        await stream.aclose()  # type: ignore[attr-defined]

    before = len(server.store._listeners)
    asyncio.run(leave())
    assert len(server.store._listeners) == before
