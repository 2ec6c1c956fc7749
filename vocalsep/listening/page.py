"""Make one HTML file of the player and any number of songs. It opens from disk, and loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from vocalsep import files
from vocalsep.errors import AudioError, describe_error

_STATIC = resources.files("vocalsep.listening") / "static"


@dataclass(frozen=True, kw_only=True)
class Song:
    """A song on a page.

    Attributes:
        name: The name that people see.
        bundle: The bundle; see `bundle.BundleWriter`.
        summary: A line below the name.
        facts: What to tell about the song: labels and texts.
        command: The command line that gives the same result.
    """

    name: str
    bundle: Path
    summary: str
    facts: Sequence[tuple[str, str]]
    command: str

    def describe(self) -> dict[str, Any]:
        """Return the ``song.json`` of the bundle, with the attributes of this object added."""
        with zipfile.ZipFile(self.bundle) as bundle:
            stored: dict[str, Any] = files.parse_json(bundle.read("song.json"))
        return stored | {"summary": self.summary, "facts": list(self.facts), "command": self.command}


def write_page(path: Path, songs: Sequence[Song]) -> None:
    """Write a page. Its parts are copied one by one, so the memory use does not depend on the songs.

    Args:
        path: The file to write or replace. Its folder must exist.
        songs: The songs, at least one, in order.

    Raises:
        AudioError: If the page cannot be written.
    """
    write_texts(path, _generate(songs))


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """Write the parts of a page one by one.

    Args:
        path: The file to write or replace. Its folder must exist.
        texts: The parts.

    Raises:
        AudioError: If the page cannot be written.
    """
    try:
        with files.write_atomically(path) as temporary, temporary.open("wb") as file:
            for text in texts:
                file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise AudioError(f"{path}: cannot be written ({describe_error(error)})") from error


def _generate(songs: Sequence[Song]) -> Iterator[str]:
    described = [song.describe() for song in songs]
    listed = [
        {"id": str(number), "name": song.name, "seconds": about["grid"]["samples"] / about["grid"]["rate"]}
        for number, (song, about) in enumerate(zip(songs, described, strict=True))
    ]
    head, body, end = read_template("player.html", songs[0].name if len(songs) == 1 else f"{len(songs)} songs")
    yield f"{head}{embed_json('embedded', listed)}{body}"
    for number, (song, about) in enumerate(zip(songs, described, strict=True)):
        yield embed_bytes(f"{number}/song.json", files.dump_json(about).encode())
        with zipfile.ZipFile(song.bundle) as bundle:
            for name in sorted(bundle.namelist(), key=lambda name: "/overview." not in name):  # needed first
                if name != "song.json":
                    yield embed_bytes(f"{number}/{name}", bundle.read(name))
    yield end


def read_template(name: str, title: str) -> tuple[str, str, str]:
    """Read a page, with its style sheets and scripts inside, and a policy that forbids everything else.

    Args:
        name: A file in ``static``.
        title: What the window is called, before the name of vocalsep.

    Returns:
        The page in three parts. Values for its scripts go after the first part, and hidden bytes after the second.
    """
    page = _inline((_STATIC / name).read_text(encoding="utf-8"))
    page = page.replace("<title>vocalsep</title>", f"<title>{html.escape(title)} · vocalsep</title>")
    start, stop = page.index("<script>"), page.index("</body>")
    return page[:start], page[start:stop], page[stop:]


def _inline(page: str) -> str:
    """Put style sheet and scripts into the page, and forbid everything else."""
    hashes: dict[str, list[str]] = {"style": [], "script": []}

    def inline(found: re.Match[str]) -> str:
        name = found["style"] or found["script"]
        kind = "style" if found["style"] else "script"
        text = "\n" + (_STATIC / name).read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
        return f"<{kind}>{text}</{kind}>"

    links = r'<link rel="stylesheet" href="(?P<style>[\w.]+)">|<script src="(?P<script>[\w.]+)"></script>'
    page = re.sub(links, inline, re.sub(r"<!-- \S+ -->\n", "", page))
    sources = "; ".join(f"{kind}-src {' '.join(values)}" for kind, values in hashes.items())
    policy = f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; {sources}"
    charset = '<meta charset="utf-8">'
    return page.replace(charset, f'{charset}\n<meta http-equiv="Content-Security-Policy" content="{policy}">')


def embed_json(name: str, value: object) -> str:
    """Return an element that holds a value for scripts, and that no text in the value can end."""
    text = files.dump_json(value).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def embed_bytes(name: str, content: bytes) -> str:
    """Return a hidden element that holds bytes."""
    # Browsers read long texts in other elements faster than in scripts.
    return f'<div hidden id="{name}">{base64.b64encode(content).decode()}</div>\n'
