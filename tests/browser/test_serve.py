"""The page of ``vocalsep serve`` in Chromium."""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import uvicorn
from command_line import make_environment
from player_song import RATE, TabOpener
from song_server import Server, make_report, open_server

from vocalsep.listening.server import store as stores

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


@dataclass
class Web:
    """A server that answers in a thread, and how to open its page."""

    server: Server
    address: str
    open_tab: TabOpener
    contexts: list[Any] = field(default_factory=list)

    def open(self, **options: Any) -> Page:
        """Open a tab that is signed in, and wait until it knows all songs."""
        page: Page = self.open_tab(f"{self.address}/?token={self.server.guard.token}", **options)
        page.wait_for_function("() => window.desk?.about")
        self.contexts.append(page.context)
        return page


@contextlib.contextmanager
def serve(folder: Path, open_tab: TabOpener, **limits: int) -> Iterator[Web]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with open_server(folder, port=port, **limits) as server:
            http = uvicorn.Server(
                uvicorn.Config(
                    server.guard,
                    log_config=None,
                    log_level="critical",
                    lifespan="off",
                    ws="none",
                    timeout_graceful_shutdown=1,
                )
            )
            thread = threading.Thread(target=http.run, kwargs={"sockets": [listener]})
            thread.start()
            web = Web(server, f"http://127.0.0.1:{port}", open_tab)
            try:
                yield web
            finally:
                for context in web.contexts:  # before the server ends, which would be an error on their consoles
                    context.close()
                http.should_exit = True
                thread.join()


@pytest.fixture
def web(tmp_path: Path, open_tab: TabOpener) -> Iterator[Web]:
    with serve(tmp_path / "songs", open_tab) as opened:
        yield opened


def make_song(stems: dict[str, np.ndarray], path: Path, seconds: float = 2.0) -> Path:
    soundfile.write(path, sum(stems.values()).T[: round(seconds * RATE)], RATE)
    return path


@pytest.fixture(scope="module")
def song_file(stems: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_song(stems, tmp_path_factory.mktemp("music") / "song.wav")


def drop(page: Page, *paths: Path) -> None:
    """Drop files on the page, as from a file manager."""
    files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    script = """(files) => {
        const transfer = new DataTransfer();
        for (const [name, text] of files) {
            transfer.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
        }
        for (const kind of ["dragover", "drop"]) {
            const event = new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
            document.querySelector("main").dispatchEvent(event);
        }
    }"""
    page.evaluate(script, files)


def wait_for_player(page: Page) -> None:
    page.wait_for_function("() => player.view?.overviews.length === 2")


def list_items(page: Page) -> list[str]:
    script = "[...document.querySelectorAll('#songs li')].map((item) => item.innerText.split('\\n')[0])"
    found: list[str] = page.evaluate(script)
    return found


def read_tones(path: Path) -> tuple[float, float]:
    """Return the RMS of a downloaded recording, and its length in seconds."""
    samples, rate = soundfile.read(path)
    return float(np.sqrt(np.square(samples).mean())), len(samples) / rate


def test_a_song_that_is_dropped_is_separated_played_and_downloaded(
    open_tab: TabOpener, model: Path, stems: dict[str, np.ndarray], tmp_path: Path
) -> None:
    song = make_song(stems, tmp_path / "my <b>song.wav", 14.0)
    command = [
        sys.executable,
        "-m",
        "vocalsep",
        "serve",
        "--port",
        "0",
        "--no-browser",
        "--folder",
        str(tmp_path / "d"),
    ]
    command += ["-m", str(model), "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=make_environment()) as process:
        try:
            assert process.stdout
            page = open_tab(process.stdout.readline().strip())
            page.wait_for_function("() => window.desk?.about")
            assert "token" not in page.url
            assert page.get_by_role("heading", name="Drop a song here").is_visible()
            drop(page, song)
            wait_for_player(page)
            assert page.get_by_role("heading", level=1).all_inner_texts() == ["my <b>song.wav"]
            page.keyboard.press("Space")
            page.wait_for_function("() => player.engine.position > 0.2")
            assert page.evaluate("player.context.state") == "running"
            page.get_by_role("button", name="Solo vocals").click()
            assert page.evaluate("player.engine.volumes") == [1, 0]
            page.keyboard.press("2")
            assert page.locator("#mix-vocals").get_attribute("aria-pressed") == "true"
            page.keyboard.press("Space")
            page.wait_for_function("() => player.context.state === 'suspended'")
            width = page.locator("#overview").evaluate("element => element.clientWidth")
            page.locator("#overview").click(position={"x": width / 2, "y": 9})
            assert page.evaluate("player.engine.position") == pytest.approx(7, abs=0.1)
            page.evaluate("player.setLoop(9.9, 10.1)")
            page.keyboard.press("Space")
            repeats = "player.engine.session.spans.filter((span) => span.from === 475200).length"
            page.wait_for_function(f"() => {repeats} >= 2")
            page.keyboard.press("Space")
            page.locator("#format").select_option("flac")
            for stem in ("Vocals", "Accompaniment"):
                with page.expect_download() as download:
                    page.locator("#downloads").get_by_role("button", name=stem).click()
                assert download.value.suggested_filename.endswith(f".{stem.lower()}.flac")
                level, seconds = read_tones(download.value.path())
                assert level > 0.01
                assert seconds == pytest.approx(14.0)
            with page.expect_download() as download:
                page.get_by_role("button", name="Labels").click()
            assert re.fullmatch(
                r"(\d+\.\d{6}\t\d+\.\d{6}\tvoice\n)*", download.value.path().read_text(encoding="utf-8")
            )
            page.context.close()  # before the server ends, which would be an error on its console
        finally:
            process.terminate()


def test_files_that_are_chosen_go_through_the_queue(web: Web, song_file: Path, tmp_path: Path) -> None:
    page = web.open()
    web.server.runner.gate.clear()
    others = [Path(shutil.copy(song_file, tmp_path / f"{name}.wav")) for name in ("two", "three")]
    page.locator("#choose").set_input_files([song_file, *others])
    page.locator("li[data-state=working]").wait_for()
    page.wait_for_function("() => document.querySelectorAll('li[data-state=waiting]').length === 2")
    assert list_items(page) == ["song.wav", "two.wav", "three.wav"]
    assert page.get_by_text("Separating: 0:01 of 0:02").is_visible()
    assert page.locator("#work progress").evaluate("element => element.value") == pytest.approx(0.5)
    page.get_by_role("button", name="Stop and remove three.wav").click()
    page.wait_for_function("() => document.querySelectorAll('#songs li').length === 2")
    web.server.runner.gate.set()
    wait_for_player(page)
    page.locator("li[data-state=done]").nth(1).wait_for()
    assert sorted(list_items(page)) == ["song.wav", "two.wav"]
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["song.wav"]


def test_a_song_that_is_in_the_queue_before_its_upload_ends_is_listed_once(web: Web, song_file: Path) -> None:
    page = web.open()
    page.evaluate("""() => {
        window.most = 0;
        const count = () => { window.most = Math.max(window.most, document.querySelectorAll("#songs li").length); };
        new MutationObserver(count).observe(document.getElementById("songs"), { childList: true, subtree: true });
    }""")

    def answer_late(route: Route) -> None:
        answer = route.fetch()
        time.sleep(1)  # the server tells of the song meanwhile
        route.fulfill(response=answer)

    page.route("**/api/songs?*", answer_late)
    drop(page, song_file)
    page.locator("li[data-state=done]").wait_for()
    assert page.evaluate("window.most") == 1
    assert list_items(page) == ["song.wav"]


def test_a_song_can_be_stopped_and_tried_again_with_other_options(web: Web, song_file: Path) -> None:
    page = web.open()
    web.server.runner.gate.clear()
    drop(page, song_file)
    page.get_by_text("Separating").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("Stopped.").wait_for()
    page.locator("#options > summary").click()
    page.get_by_label("Model").select_option("large")
    page.get_by_label("Silence where nobody sings").check()
    web.server.runner.gate.set()
    page.get_by_role("button", name="Try again").click()
    wait_for_player(page)
    assert [work.options for work in web.server.runner.works][-1] == {"model": "large", "gate": "yes"}
    assert page.locator("#command").inner_text() == "separate song.wav large"


def test_what_is_no_song_says_so_and_the_next_one_is_separated(web: Web, song_file: Path, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>.txt"
    (tmp_path / name).write_text("no sound", encoding="utf-8")
    page = web.open()
    drop(page, tmp_path / name, song_file)
    page.locator("li[data-state=failed]").wait_for()
    page.get_by_text(f"{name}: is not a recording").wait_for()
    page.locator("li[data-state=done]").wait_for()
    page.locator("li[data-state=failed] .song").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    wait_for_player(page)
    assert list_items(page) == ["song.wav"]


def test_a_file_beyond_the_limit_is_not_even_sent(tmp_path: Path, open_tab: TabOpener, song_file: Path) -> None:
    with serve(tmp_path / "songs", open_tab, song_limit=1_000) as web:
        page = web.open()
        drop(page, song_file)
        page.get_by_text("larger than 1 kB, the limit for one file").wait_for()
        assert web.server.store.list_songs() == []


def test_a_limit_of_the_server_is_told_at_the_song(tmp_path: Path, open_tab: TabOpener, song_file: Path) -> None:
    with serve(tmp_path / "songs", open_tab, limit=1_000) as web:
        page = web.open(expected="status of 507")
        assert "Up to 100 MB per file, 1 kB in all." in page.locator("#limits").inner_text()
        drop(page, song_file)
        page.get_by_text("no room: all songs together may take 1 kB; remove songs, or raise --limit-gb").wait_for()
        assert web.server.store.list_songs() == []


def test_two_tabs_show_the_same(web: Web, song_file: Path) -> None:
    gone = "status of 404"  # what a player was loading when its song went
    first = web.open(expected=gone)
    second = web.open_tab(f"{web.address}/", context=first.context, expected=gone)
    second.wait_for_function("() => window.desk?.about")
    web.server.runner.gate.clear()
    drop(first, song_file)
    for tab in (first, second):
        tab.get_by_text("Separating: 0:01 of 0:02").wait_for()
    web.server.runner.gate.set()
    for tab in (first, second):
        wait_for_player(tab)
    second.get_by_role("button", name="Remove song.wav").click(force=True)
    second.locator("#ask").get_by_role("button", name="Remove").click()
    for tab in (first, second):
        tab.get_by_role("heading", name="Drop a song here").wait_for()
    assert web.server.store.list_songs() == []


def test_a_page_that_is_reloaded_shows_the_work_in_progress_and_the_same_song(
    web: Web, song_file: Path, tmp_path: Path
) -> None:
    page = web.open()
    drop(page, Path(shutil.copy(song_file, tmp_path / "first.wav")))
    wait_for_player(page)
    web.server.runner.gate.clear()
    drop(page, song_file)
    page.locator("li[data-state=working]").wait_for()
    page.locator("li[data-state=working] .song").click()
    page.reload()
    page.get_by_text("Separating: 0:01 of 0:02").wait_for()
    assert page.get_by_role("heading", level=1).inner_text() == "song.wav"
    assert list_items(page) == ["song.wav", "first.wav"]
    web.server.runner.gate.set()
    wait_for_player(page)
    assert page.evaluate("player.opening") == page.url.partition("#")[2]


def add_done(server: Server, name: str, bundle: Path, seconds: float) -> stores.Song:
    """Put a song with a bundle into the store, as if it had been separated."""
    with server.store.receive(name, {"model": "small", "gate": "no"}) as upload:
        upload.write(b"sound")
        song = upload.finish()
    shutil.copy(bundle, server.store.place(song, "bundle.zip"))
    server.store.change(song, state=stores.DONE, report=make_report(name, seconds))
    return song


def test_a_song_of_60_minutes_plays_anywhere(web: Web, long_bundle: Path) -> None:
    add_done(web.server, "long.flac", long_bundle, 3_600.0)
    page = web.open()
    wait_for_player(page)
    assert page.locator("#length").inner_text() == "1:00:00"
    page.evaluate("player.seek(3500)")
    page.keyboard.press("Space")
    page.wait_for_function("() => player.engine.position > 3500.3")
    for seconds in (10, 1500, 3300):
        page.evaluate(f"player.seek({seconds})")
        page.wait_for_function(f"() => player.engine.position > {seconds + 0.2}")
    assert page.evaluate("player.engine.pieces.size") <= 16
    page.keyboard.press("n")
    assert page.evaluate("player.engine.position") % 10 == pytest.approx(0, abs=0.5)


def test_both_stems_play_the_same_sample(web: Web, song: Any) -> None:
    add_done(web.server, "song.mp3", song.bundle, 24.0)
    page = web.open()
    wait_for_player(page)
    page.keyboard.press("Space")
    page.wait_for_function("() => player.engine.position > 0.2")
    starts = page.evaluate(
        """async () => {
            const starts = [];
            const start = AudioBufferSourceNode.prototype.start;
            AudioBufferSourceNode.prototype.start = function (...times) {
                starts.push(times.slice(0, 2));
                start.apply(this, times);
            };
            player.seek(9.5);
            while (starts.length < 4) await new Promise((resolve) => setTimeout(resolve, 20));
            return starts;
        }"""
    )
    assert starts[0] == starts[1]
    assert starts[2] == starts[3]
    first, second = (when - offset for when, offset in starts[::2])  # where a piece begins on the clock
    assert second - first == pytest.approx(10 - 0.08, abs=1e-6)  # it holds 80 ms of the piece before


def test_a_thousand_songs_are_listed_and_can_all_be_removed(web: Web) -> None:
    web.server.runner.gate.clear()
    for number in range(1_000):
        with web.server.store.receive(f"{number}.wav", {"model": "small", "gate": "no"}) as upload:
            upload.write(b"sound")
            web.server.store.change(upload.finish(), state=stores.STOPPED)
    page = web.open()
    page.wait_for_function("() => document.querySelectorAll('#songs li').length === 1000")
    assert list_items(page)[0] == "999.wav"
    page.get_by_role("button", name="Remove all").click()
    page.locator("#ask").get_by_role("button", name="Remove").click()
    page.get_by_role("heading", name="Drop a song here").wait_for()
    assert web.server.store.list_songs() == []


def test_a_download_that_is_impossible_says_why(web: Web, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "three.wav", np.zeros((4_800, 3)) + 0.1, RATE)
    page = web.open(expected="status of 422")
    drop(page, tmp_path / "three.wav")
    wait_for_player(page)
    page.locator("#format").select_option("mp3")
    page.locator("#downloads").get_by_role("button", name="Vocals").click()
    page.get_by_text("vocals.mp3: mp3 supports up to 2 channels, but the song has 3; choose .wav").wait_for()


def test_a_server_that_ends_is_told(tmp_path: Path, open_tab: TabOpener) -> None:
    with serve(tmp_path / "songs", open_tab) as web:
        page = web.open(expected="ERR_")
        web.contexts.clear()
    page.get_by_text("vocalsep serve does not answer.").wait_for()


def test_everything_that_can_be_used_has_a_name(web: Web, song: Any, song_file: Path) -> None:
    add_done(web.server, "song.mp3", song.bundle, 24.0)
    page = web.open()
    wait_for_player(page)
    page.locator("#options > summary").click()
    snapshot = page.locator("body").aria_snapshot()
    controls = re.findall(r"- (button|slider|combobox|checkbox|progressbar)(.*)", snapshot)
    assert len(controls) > 25
    assert all(re.match(r' ".+"', rest) for _, rest in controls), snapshot


def test_a_phone_shows_everything_in_its_width(web: Web, song: Any) -> None:
    add_done(web.server, "a song with a long name that does not fit.mp3", song.bundle, 24.0)
    page = web.open(**PHONE)
    wait_for_player(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_browser_without_the_token_is_told_what_to_do(web: Web, browser: Any) -> None:
    page = browser.new_page()
    page.goto(web.address)
    assert page.get_by_role("heading").inner_text() == "This browser is not signed in"
    assert "vocalsep serve" in page.locator("body").inner_text()
    page.close()


def test_another_page_cannot_read_or_change_anything(web: Web, browser: Any, song: Any) -> None:
    """A page of another host, in a browser that is signed in, sends what it can."""
    kept = add_done(web.server, "song.mp3", song.bundle, 24.0)
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{web.address}/?token={web.server.guard.token}")
    evil = context.new_page()
    evil.route("http://evil.example/*", lambda route: route.fulfill(body="<p>evil</p>", content_type="text/html"))
    evil.goto("http://evil.example/")
    script = """async ([address, id]) => {
        const tries = [
            fetch(`${address}/api/songs/${id}/bundle/song.json`, { credentials: "include" }),
            fetch(`${address}/api/songs/${id}`, { method: "DELETE", credentials: "include" }),
            fetch(`${address}/api/songs/${id}/stop`, { method: "POST", credentials: "include", mode: "no-cors" }),
            fetch(`${address}/api/songs`, { method: "POST", body: "x", credentials: "include", mode: "no-cors" }),
        ];
        const outcomes = await Promise.allSettled(tries);
        return outcomes.map(({ status, value }) => (status === "rejected" ? "blocked" : value.type));
    }"""
    found = evil.evaluate(script, [web.address, kept.id])
    assert set(found) <= {"blocked", "opaque"}
    assert web.server.store.list_songs() == [kept]
    evil.set_content(f'<iframe src="{web.address}/"></iframe>')
    evil.wait_for_timeout(500)
    assert all(not frame.url.startswith(web.address) or not frame.locator("h1").count() for frame in evil.frames)
    context.close()
