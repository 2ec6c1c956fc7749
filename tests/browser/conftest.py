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
from player_song import RATE, SECONDS, VOICE, Opener

from vocalsep import listening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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
def long_page_file(song: listening.Song, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a song of 60 minutes, made of the pieces of the short one."""
    folder = tmp_path_factory.mktemp("long")
    with zipfile.ZipFile(song.bundle) as short, zipfile.ZipFile(folder / "long.zip", "w") as made:
        about = json.loads(short.read("song.json"))
        about["grid"] |= {"samples": 3_600 * RATE, "pieces": 360, "overviewHop": 1_920 * 48}
        about["voice"] = [(10.0 * number, 10.0 * number + 4) for number in range(360)]
        made.writestr("song.json", json.dumps(about))
        for stem in about["stems"]:
            made.writestr(f"{stem}/overview.view", short.read(f"{stem}/overview.view"))
            for piece in range(360):
                for kind in ("opus", "view"):
                    made.writestr(f"{stem}/{piece}.{kind}", short.read(f"{stem}/{min(piece, 1)}.{kind}"))
    path = folder / "page.html"
    listening.write_page(path, [dataclasses.replace(song, bundle=folder / "long.zip")])
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
def open_page(browser: Browser) -> Iterator[Opener]:
    """Opens pages from disk. The test fails if one asks for anything else, or has an error on its console."""
    problems: list[str] = []
    contexts = []

    def report_request(url: str) -> None:
        if not url.startswith(("file:", "data:")):
            problems.append(f"request to {url}")

    def open_file(path: Path, ready: str = "window.player?.view?.overviews.length === 2", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)  # on a busy machine
        page.on("request", lambda request: report_request(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto(path.as_uri(), wait_until="commit")
        page.wait_for_function(f"() => {ready}")
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not problems
