from __future__ import annotations

import base64
import html.parser
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import evaluation_run
import pytest
from evaluation_run import MARKUP, ONE, ROWS, SDR, SILENT, SONG, TWO, UNHEARD

from vocalsep.errors import DatasetError
from vocalsep.evaluation.page import Run, check_page, write_page
from vocalsep.evaluation.passages import Store


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluation_run.make_run(tmp_path_factory.mktemp("run") / "passages")


@pytest.fixture(scope="module")
def page(run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "new" / "page.html"
    write_page(path, run)
    return path.read_text(encoding="utf-8")


class Document(html.parser.HTMLParser):
    """Collects all elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def read_run(page: str) -> Any:
    found = re.search(r'id="run">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def read_bytes(page: str, name: str) -> bytes:
    found = re.search(f'<div hidden id="{re.escape(name)}">(.*?)</div>', page)
    assert found is not None, name
    return base64.b64decode(found[1])


def list_parts(page: str) -> list[str]:
    return re.findall(r'<div hidden id="([^"]+)">', page)


def test_the_scores_of_all_songs_and_rows_are_on_the_page(page: str, run: Run) -> None:
    shown = read_run(page)
    assert [row["name"] for row in shown["rows"]] == list(ROWS)
    assert [row["kind"] for row in shown["rows"]] == ["floor", "model", "model", "ceiling", "ceiling"]
    assert {song["name"]: [row[0][0] for row in song["scores"]] for song in shown["songs"]} == {
        name: list(values) for name, values in SDR.items()
    }
    assert shown["summary"][1][0][0] == {"median": 4.0, "mean": pytest.approx(10 / 3, abs=1e-3)}
    assert shown["command"] == run.command


def test_each_song_has_its_passages_and_every_source_of_them(page: str) -> None:
    heard = [song["heard"] for song in read_run(page)["songs"]]
    assert heard == [True, True, True, False]
    for number, name in enumerate((SONG, MARKUP, SILENT)):
        about = json.loads(read_bytes(page, f"{number}/song.json"))
        assert about["stems"] == ["mixture", "reference", "estimate-1", "error-1", "estimate-2", "error-2"]
        assert [source["row"] for source in about["sources"]] == [0, 0, 1, 1, 2, 2]
        assert all(len(source["gains"]) == len(about["passages"]) for source in about["sources"]), name
        for stem in about["stems"]:
            for piece in range(about["grid"]["pieces"]):
                assert read_bytes(page, f"{number}/{stem}/{piece}.opus").startswith(b"OggS")
    kinds = [[each["kind"] for each in json.loads(read_bytes(page, f"{n}/song.json"))["passages"]] for n in range(3)]
    assert kinds == [["worst", "median", "best"], ["whole"], ["loudest"]]
    assert not any(part.startswith("3/") for part in list_parts(page))


def test_the_worst_passage_is_where_the_first_model_is_worst(page: str) -> None:
    about = json.loads(read_bytes(page, "0/song.json"))
    worst, median, best = about["passages"]
    assert (worst["from"], worst["to"]) == (0, 10)
    assert best["to"] == 24
    assert worst["from"] < median["from"] < best["from"]
    estimate = about["sources"][2]
    assert estimate["sdr"] == sorted(estimate["sdr"])
    assert [frames["row"] for frames in about["frames"]] == [1, 2, 0, 4]
    assert all(len(frames["sdr"]) == 24 for frames in about["frames"])


def test_gains_match_levels(page: str) -> None:
    about = json.loads(read_bytes(page, "0/song.json"))
    gains = {stem: source["gains"][0] for stem, source in zip(about["stems"], about["sources"], strict=True)}
    assert gains["estimate-2"] - gains["reference"] == pytest.approx(6, abs=0.1)
    assert gains["mixture"] < gains["reference"]
    assert gains["error-1"] > gains["reference"]


def test_a_song_without_a_voice_has_no_sdr_and_keeps_its_levels(page: str) -> None:
    about = json.loads(read_bytes(page, "2/song.json"))
    assert about["silent"] == [True]
    assert all(source["gains"] == [0] for source in about["sources"])
    assert about["sources"][2]["sdr"] == [None]
    assert all(value is None for frames in about["frames"] for value in frames["sdr"])


def test_a_page_loads_nothing_and_names_cannot_become_code(page: str) -> None:
    elements = Document(page).elements
    assert not [tag for tag, _ in elements if tag in ("img", "iframe", "object", "b", "i")]
    links = [str(found[name]) for _, found in elements for name in ("src", "href") if name in found]
    assert all(link.startswith(("#", "data:")) for link in links)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none';")
    assert "unsafe" not in policy[1]
    assert len(re.findall("'sha256-", policy[1])) == 10  # two style sheets, eight scripts
    assert MARKUP not in page
    assert TWO not in page


def test_a_page_can_be_written_again_but_never_over_another_file(page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    check_page(path)
    path.write_text(page, encoding="utf-8")
    check_page(path)
    path.write_text("<p>my own</p>", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"page\.html: already exists, and is not a page of 'vocalsep eval'"):
        check_page(path)
    with pytest.raises(DatasetError):
        check_page(tmp_path)


def test_damaged_passages_are_an_error_in_words(run: Run, tmp_path: Path) -> None:
    made = evaluation_run.make_run(tmp_path / "passages", {MARKUP: evaluation_run.make_songs()[MARKUP]})
    Store(made.passages, MARKUP).locate_song(ONE).write_bytes(b"no bundle")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_page(tmp_path / "page.html", made)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_passages(run: Run, tmp_path: Path) -> None:
    """Fifty songs on one page take as much memory as one, apart from their names and scores."""

    def measure(songs: int) -> int:
        lines = []
        for number in range(songs):
            track = f"song {number}"
            lines += [line | {"track": track} for line in run.lines[:5]]
            for fingerprint in (ONE, TWO):
                old, new = Store(run.passages, SONG), Store(tmp_path, track)
                passages = old.read_passages(ONE)
                assert passages is not None
                tmp_path.mkdir(exist_ok=True)
                pairs = [(old.locate_estimate(fingerprint, passages), new.locate_estimate(fingerprint, passages))]
                pairs += [(old.locate_song(ONE), new.locate_song(ONE))]
                for source, target in pairs:
                    target.write_bytes(source.read_bytes())
        many = Run(**(vars(run) | {"lines": lines, "passages": tmp_path}))
        tracemalloc.start()
        write_page(tmp_path / "page.html", many)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    measure(1)
    one, size = measure(1), (tmp_path / "page.html").stat().st_size
    many = measure(20)
    assert (tmp_path / "page.html").stat().st_size > 12 * size
    assert many < one + 2_000_000


def test_a_song_that_no_model_was_scored_on_is_only_in_the_table(run: Run, tmp_path: Path) -> None:
    lines = [line for line in run.lines if line["row"] not in (ONE, TWO)]
    write_page(tmp_path / "page.html", Run(**(vars(run) | {"lines": lines})))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert [song["name"] for song in read_run(text)["songs"]] == [SONG, MARKUP, SILENT, UNHEARD]
    assert read_run(text)["songs"][0]["scores"][1] is None
    assert list_parts(text) == []
