from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import zipfile
from pathlib import Path

import fake_nets
import pytest

from vocalsep import listening
from vocalsep.errors import AudioError


class Elements(html.parser.HTMLParser):
    """Collects scripts, styles and hidden texts, those with an id by it, and all that an attribute names to load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.code: list[str] = []
        self.links: list[str] = []
        self._into: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [str(found[name]) for name in ("src", "href") if name in found]
        holds_text = tag in ("script", "style") or (tag == "div" and "hidden" in found)
        self._into = (found.get("id") or "") if holds_text else None

    def handle_data(self, data: str) -> None:
        if self._into:
            self.scripts[self._into] = self.scripts.get(self._into, "") + data
        elif self._into == "":
            self.code.append(data)
            self._into = None

    def handle_endtag(self, _: str) -> None:
        self._into = None


def make_song(folder: Path, name: str = "song.mp3", **changes: object) -> listening.Song:
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(list(folder.iterdir()))}.zip"
    with listening.BundleWriter(path, ["vocals", "accompaniment"], rate=48_000, channels=1) as writer:
        writer.write([fake_nets.noise(1, 4_800)] * 2)
        writer.finish(voice=[])
    values = {"summary": "s", "facts": [("Model", "m")], "command": "vocalsep extract song.mp3 --page"} | changes
    return listening.Song(name=name, bundle=path, **values)  # type: ignore[arg-type]


def test_a_page_holds_the_bundles_of_all_songs(tmp_path: Path) -> None:
    songs = [make_song(tmp_path / "b", "one.mp3"), make_song(tmp_path / "b", "two.mp3")]
    listening.write_page(tmp_path / "page.html", songs)
    page = Elements((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in json.loads(page.scripts["embedded"])] == ["one.mp3", "two.mp3"]
    for number, song in enumerate(songs):
        with zipfile.ZipFile(song.bundle) as bundle:
            for name in bundle.namelist():
                content = base64.b64decode(page.scripts[f"{number}/{name}"])
                assert name == "song.json" or content == bundle.read(name)
        about = json.loads(base64.b64decode(page.scripts[f"{number}/song.json"]))
        assert about["command"] == song.command
        assert about["facts"] == [["Model", "m"]]


def test_a_page_names_nothing_that_is_not_in_it(tmp_path: Path) -> None:
    listening.write_page(tmp_path / "page.html", [make_song(tmp_path / "b")])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(link.startswith(("#", "data:")) for link in Elements(text).links)
    assert set(re.findall(r"\w+://[^/'\"]+", text)) == {"http://www.w3.org"}  # the name space of SVG


def test_the_policy_allows_the_pages_own_code_and_nothing_else(tmp_path: Path) -> None:
    listening.write_page(tmp_path / "page.html", [make_song(tmp_path / "b")])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none';")
    assert "unsafe" not in policy[1]
    digests = {base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in Elements(text).code}
    assert digests == set(re.findall(r"'sha256-([^']+)'", policy[1]))
    assert len(digests) == 5


def test_names_cannot_become_code(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    plain = make_song(tmp_path / "b")
    listening.write_page(tmp_path / "plain.html", [plain])
    listening.write_page(tmp_path / "evil.html", [make_song(tmp_path / "b", name, command=name, facts=[(name, name)])])
    evil, good = (Elements((tmp_path / f"{each}.html").read_text(encoding="utf-8")) for each in ("evil", "plain"))
    assert evil.code == good.code
    assert evil.links == good.links
    assert evil.scripts.keys() == good.scripts.keys()
    assert json.loads(evil.scripts["embedded"])[0]["name"] == name


def test_names_that_are_not_valid_text_are_written(tmp_path: Path) -> None:
    listening.write_page(tmp_path / "page.html", [make_song(tmp_path / "b", "caf\udce9.mp3")])
    page = Elements((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert json.loads(page.scripts["embedded"])[0]["name"] == "caf\udce9.mp3"


def test_a_page_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"page\.html: cannot be written"):
        listening.write_page(tmp_path / "missing" / "page.html", [make_song(tmp_path / "b")])
