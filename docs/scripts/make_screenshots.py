"""Take the pictures of the listening page and the server in the README, and with --dsd100 that of an evaluation's page.

    python docs/scripts/make_screenshots.py [--out docs/pictures] [--dsd100 DSD100]

The listening page is shown on a desktop in light colours, and on a phone in dark ones. Needs Playwright and Chromium;
see docs/CONTRIBUTING.md.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[2]
SONG = ROOT / "docs" / "demo" / "orphanage.ogg"
DESKTOP = {"viewport": {"width": 1180, "height": 780}, "color_scheme": "light"}
SERVER = DESKTOP | {"viewport": {"width": 1180, "height": 810}}
WIDE = DESKTOP | {"viewport": {"width": 1360, "height": 1085}}
COMPARED = ["-m", "uhnet-hd-mir1k", "-m", "drnn-stft"]  # not trained on DSD100
PLAYER, EVALUATION = "player.view?.overviews.length === 2", "evaluation.deck.view?.overviews.length"
PHONE = {
    "viewport": {"width": 390, "height": 780},
    "color_scheme": "dark",
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


def take(
    browser: Browser,
    address: str,
    path: Path,
    script: str,
    options: dict[str, object],
    ready: str = PLAYER,
    songs: Sequence[Path] = (),
) -> None:
    """Open a page, give it songs to separate, run a script in it, and save what it shows as WebP."""
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(120_000)  # on a busy machine
    page.goto(address)
    if songs:
        page.wait_for_function("() => desk.about")
        page.locator("#choose").set_input_files(songs)
        page.wait_for_function(
            "(count) => document.querySelectorAll('[data-state=done]').length === count", arg=len(songs)
        )
    page.wait_for_function(f"() => {ready}")
    page.evaluate(script)
    page.wait_for_timeout(1_000)
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, quality=82, method=6)
    page.context.close()


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--dsd100", type=Path, help="folder of the data set")
    arguments = parser.parse_args()
    out = arguments.out
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        song = Path(shutil.copy(SONG, folder))
        command = [sys.executable, "-m", "vocalsep", "extract", song.name, "--page"]
        subprocess.run(command, check=True, cwd=folder)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        address = song.with_suffix(".html").as_uri()
        take(browser, address, out / "page.webp", "player.seek(9.9), player.setLoop(8, 12)", DESKTOP)
        take(browser, address, out / "page-phone.webp", "player.seek(7)", PHONE)
        songs = [
            Path(shutil.copy(song, Path(folder) / f"{name}.ogg"))
            for name in ("Rehearsal", "Live in March", "Orphanage")
        ]
        serve = [
            sys.executable,
            "-m",
            "vocalsep",
            "serve",
            "--port",
            "0",
            "--no-browser",
            "--folder",
            f"{folder}/songs",
        ]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            address = server.stdout.readline().strip()
            script = "document.querySelector('#options').open = true, player.seek(9.9)"
            take(browser, address, out / "serve.webp", script, SERVER, songs=songs)
            server.terminate()
        if arguments.dsd100:
            root = arguments.dsd100.resolve()
            given = ["--dataset", "dsd100", "--root", root, "--split", "dev", "--limit", "10", *COMPARED]
            command = [sys.executable, "-m", "vocalsep", "eval", *map(str, given), "--out", "run", "--page"]
            subprocess.run(command, check=True, cwd=folder)
            script = "document.querySelector('header').hidden = true"
            address = Path(folder, "run", "page.html").as_uri()
            take(browser, address, out / "evaluation.webp", script, WIDE, EVALUATION)
        browser.close()


if __name__ == "__main__":
    main()
