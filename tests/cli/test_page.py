from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import fake_nets
import numpy as np
import pytest
import synthetic_songs
from command_line import list_files, read_misuse, read_objects, run


@pytest.fixture
def song(tmp_path: Path) -> Path:
    (tmp_path / "songs").mkdir()
    return write(tmp_path / "songs" / "song.wav")


def write(path: Path, seed: int = 0) -> Path:
    return synthetic_songs.write(path, np.clip(fake_nets.noise(2, 6_000, seed), -0.99, 0.99).T, 8_000)


def read_names(page: Path) -> list[str]:
    found = re.search(r'id="embedded">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found is not None
    return [entry["name"] for entry in json.loads(found[1])]


def read_song(page: Path, number: int = 0) -> dict[str, object]:
    found = re.search(f'id="{number}/song.json">(.*?)</div>', page.read_text(encoding="utf-8"))
    assert found is not None
    about: dict[str, object] = json.loads(base64.b64decode(found[1]))
    return about


def test_the_page_of_one_song_goes_beside_the_vocals(song: Path, model: Path, tmp_path: Path) -> None:
    result = run("extract", song, "-o", tmp_path / "out" / "v.wav", "-m", model, "--page")
    page = tmp_path / "out" / "song.html"
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out' / 'v.wav'}\n{page}\n"), result.stderr
    assert list_files(tmp_path / "out") == ["song.html", "v.wav"]
    assert read_names(page) == ["song.wav"]


def test_the_page_tells_model_numbers_and_command(song: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run("extract", song, "-m", model, "--page", page, "--gate")
    about = read_song(page)
    assert about["command"] == f"vocalsep extract {song} -m {model} --page {page} --gate"
    facts = dict(about["facts"])  # type: ignore[call-overload]
    assert facts["Model"].startswith("narrow, vocalsep ")
    assert {"Voice", "Speed"} <= facts.keys()
    assert about["stems"] == ["vocals", "accompaniment"]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_several_songs_go_on_one_page_in_their_order(song: Path, model: Path, tmp_path: Path, jobs: int) -> None:
    other = write(song.with_name("other.wav"), 1)
    result = run("extract", song, other, "-o", tmp_path / "out", "-m", model, "--page", "--jobs", jobs)
    assert result.stdout.splitlines()[-1] == f"{tmp_path / 'out' / 'songs.html'}"
    assert read_names(tmp_path / "out" / "songs.html") == ["song.wav", "other.wav"]
    assert list_files(tmp_path / "out") == ["other.vocals.wav", "song.vocals.wav", "songs.html"]


def test_songs_that_fail_are_not_on_the_page(song: Path, model: Path, tmp_path: Path) -> None:
    bad = song.with_name("bad.wav")
    bad.write_bytes(b"no sound")
    result = run("extract", bad, song, "-m", model, "--page", tmp_path / "page.html")
    assert result.exit_code == 1
    assert read_names(tmp_path / "page.html") == ["song.wav"]


def test_there_is_no_page_without_songs(song: Path, model: Path, tmp_path: Path) -> None:
    song.write_bytes(b"no sound")
    result = run("extract", song, "-m", model, "--page", tmp_path / "page.html")
    assert (result.exit_code, result.stdout) == (1, "")
    assert not (tmp_path / "page.html").exists()


def test_an_existing_page_stays_unless_it_may_be_overwritten(song: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine", encoding="utf-8")
    result = run("extract", song, "-m", model, "--page", page)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "already exists" in result.stderr
    assert page.read_text(encoding="utf-8") == "mine"
    assert list_files(song.parent) == ["song.wav"]
    assert run("extract", song, "-m", model, "--page", page, "--overwrite").exit_code == 0
    assert read_names(page) == ["song.wav"]


def test_json_results_end_with_the_page(song: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run("extract", song, "-m", model, "--page", page, "--json", "--progress", "json")
    assert read_objects(result.stdout)[-1] == {"page": str(page)}
    assert read_objects(result.stderr)[-1]["page"] == str(page)


def test_a_dry_run_names_the_page_and_writes_nothing(song: Path, tmp_path: Path) -> None:
    result = run("extract", song, "--page", tmp_path / "page.html", "--dry-run")
    assert result.stdout.splitlines()[-1] == str(tmp_path / "page.html")
    assert list_files(tmp_path) == ["songs", "songs/song.wav"]


def test_sound_on_standard_output_stays_alone_there(song: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run("extract", song, "-o", "-", "-m", model, "--page", page)
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes.startswith(b"RIFF")
    assert b"page.html" not in result.stdout_bytes
    assert read_names(page) == ["song.wav"]


def test_a_page_of_standard_input_needs_a_path(model: Path) -> None:
    message = read_misuse(run("extract", "-", "-o", "-", "-m", model, "--page"))
    assert "--page needs a path" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--page", "song.wav"], "ends in .html"),
        (["--page", "-"], "needs a file"),
        (["--page", "{song}.html"], "no fields in braces"),
        (["--page", "page.html", "--skip-existing"], "cannot be combined"),
    ],
)
def test_misuse_is_found_before_the_work(song: Path, arguments: list[str], message: str) -> None:
    assert message in read_misuse(run("extract", song, *arguments))
    assert list_files(song.parent) == ["song.wav"]
