from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from player_song import RATE, SECONDS, VOICE, Opener, TabOpener

from vocalsep import listening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def stems() -> dict[str, np.ndarray]:
    """Two chirps, ``(2, time)``, at 48 kHz: a shift of either by a few samples shows."""
    times = np.arange(round(SECONDS * RATE)) / RATE
    chirps = {"vocals": (300, 25.0), "accompaniment": (1_500, -20.0)}
    waves = {name: 0.3 * np.sin(2 * np.pi * (hz * times + rise * times**2)) for name, (hz, rise) in chirps.items()}
    return {name: np.stack([wave, wave * 0.8]).astype(np.float32) for name, wave in waves.items()}


@pytest.fixture(scope="session")
def song(stems: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> listening.Song:
    path = tmp_path_factory.mktemp("bundles") / "song.zip"
    with listening.BundleWriter(path, list(stems), rate=RATE, channels=2) as writer:
        writer.write(list(stems.values()))
        writer.finish(voice=VOICE)
    return listening.Song(
        name="song.mp3",
        bundle=path,
        summary="uhnet-hd · voice in 44 % of the song",
        facts=[("Model", "uhnet-hd, vocalsep 0.1.0")],
        command="vocalsep extract 'my song.mp3' --page",
    )


@pytest.fixture(scope="session")
def page_file(song: listening.Song, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with two songs."""
    path = tmp_path_factory.mktemp("page") / "songs.html"
    listening.write_page(path, [song, dataclasses.replace(song, name="<b>other</b> & more.flac")])
    return path


@pytest.fixture(scope="session")
def long_bundle(song: listening.Song, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a song of 60 minutes, made of the pieces of the short one."""
    path = tmp_path_factory.mktemp("long") / "long.zip"
    with zipfile.ZipFile(song.bundle) as short, zipfile.ZipFile(path, "w") as made:
        about = json.loads(short.read("song.json"))
        about["grid"] |= {"samples": 3_600 * RATE, "pieces": 360, "overviewHop": 1_920 * 48}
        about["voice"] = [(10.0 * number, 10.0 * number + 4) for number in range(360)]
        made.writestr("song.json", json.dumps(about))
        for stem in about["stems"]:
            made.writestr(f"{stem}/overview.view", short.read(f"{stem}/overview.view"))
            for piece in range(360):
                for kind in ("opus", "view"):
                    made.writestr(f"{stem}/{piece}.{kind}", short.read(f"{stem}/{min(piece, 1)}.{kind}"))
    return path


@pytest.fixture(scope="session")
def long_page_file(song: listening.Song, long_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a song of 60 minutes."""
    path = tmp_path_factory.mktemp("long") / "page.html"
    listening.write_page(path, [dataclasses.replace(song, bundle=long_bundle)])
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("there is no Chromium; try: apt-get install chromium")
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[TabOpener]:
    """Opens tabs. The test fails if one asks another host for anything, or has an unexpected error on its console."""
    problems: list[str] = []
    contexts: list[BrowserContext] = []

    def open_address(address: str, context: BrowserContext | None = None, expected: str = "", **options: Any) -> Page:
        if context is None:
            context = browser.new_context(**options)
            contexts.append(context)
        page = context.new_page()
        own = address.partition("?")[0] if address.startswith("http") else "file:"

        def check_request(url: str) -> None:
            if not url.startswith((own, "data:")):
                problems.append(f"request to {url}")

        def check_message(message: ConsoleMessage) -> None:
            if message.type == "error" and not (expected and expected in message.text):
                problems.append(message.text)

        page.set_default_timeout(120_000)  # on a busy machine
        page.on("request", lambda request: check_request(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", check_message)
        page.goto(address, wait_until="commit")
        return page

    yield open_address
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def open_page(open_tab: TabOpener) -> Opener:
    """Opens pages from disk, as `open_tab` does."""

    def open_file(path: Path, ready: str = "window.player?.view?.overviews.length === 2", **options: Any) -> Page:
        page: Page = open_tab(path.as_uri(), **options)
        page.wait_for_function(f"() => {ready}")
        return page

    return open_file
