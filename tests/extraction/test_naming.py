from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import synthetic_songs

import vocalsep
from vocalsep.errors import AudioError, ConfigError
from vocalsep.extraction.naming import name_outputs

OUTPUTS = ("vocals", "accompaniment", "labels", "picture")


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return synthetic_songs.write(tmp_path / "a.song.wav", fake_nets.noise(2, 6_000).T / 4, 8_000)


def name_all(song: Any, *places: Any) -> list[Any]:
    filled = (*places, *[None] * (len(OUTPUTS) - len(places)))
    return list(name_outputs(song, dict(zip(OUTPUTS, filled, strict=True))).values())


def test_true_stands_for_a_file_beside_the_song_or_the_vocals(song: Path, tmp_path: Path) -> None:
    names = ["a.song.vocals.wav", "a.song.accompaniment.wav", "a.song.labels.txt", "a.song.picture.png"]
    assert name_all(str(song), True, True, True, True) == [song.with_name(name) for name in names]
    other = tmp_path / "out" / "v.flac"
    assert name_all(song, other, True, True) == [
        other,
        other.with_name("a.song.accompaniment.flac"),
        other.with_name("a.song.labels.txt"),
        None,
    ]


def test_a_folder_stands_for_a_file_in_it(song: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    vocals = tmp_path / "out" / "a.song.vocals.wav"
    assert name_all(song, str(tmp_path / "out"), True)[:2] == [vocals, vocals.with_name("a.song.accompaniment.wav")]


@pytest.mark.parametrize(
    ("given", "places", "message"),
    [
        (np.zeros(9), [True], "the song must be a path or an open binary file, not ndarray; to separate an array, use"),
        ([0.5], [True], "not list; to separate an array, use vocalsep.separate"),
        (io.StringIO(), [True], "the song must be open in binary mode"),
        (5, [True], "the song must be a path or an open binary file, not int"),
        (io.BytesIO(), [5], "the place for the vocals must be a path or an open binary file, not int"),
    ],
)
def test_other_types_are_type_errors(given: Any, places: list[Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        name_all(given, *places)


def test_an_open_file_has_no_name_to_derive_others_from(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="the vocals need a path, because the song is an open file"):
        name_all(io.BytesIO(), True)
    with pytest.raises(AudioError, match="is a folder, but the song is an open file"):
        name_all(io.BytesIO(), tmp_path)


def test_extract_has_defaults(song: Path, model: Path) -> None:
    report = vocalsep.extract(song, model=model)
    assert report.vocals == str(song.with_name("a.song.vocals.wav"))
    assert (report.accompaniment, report.labels, report.picture, report.model) == (None, None, None, "narrow")
    report = vocalsep.extract(str(song), model=str(model), accompaniment=True, labels=True)
    for part in ("accompaniment", "labels"):
        assert Path(getattr(report, part)).stat().st_size
    with pytest.raises(ConfigError, match="cannot be combined"):
        vocalsep.extract(song, model=model, extractor=vocalsep.Extractor(model))


def test_a_missing_song_is_found_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        vocalsep.extract(tmp_path / "missing.mp3", model="no such model")


def test_folders_that_do_not_exist_and_pictures_of_other_formats_are_refused(song: Path) -> None:
    with pytest.raises(AudioError, match="none/: no such folder"):
        name_all(song, "none/")
    with pytest.raises(AudioError, match=r"p\.jpg: pictures are PNG files"):
        name_all(song, True, None, None, "p.jpg")


def test_the_accompaniment_can_be_had_alone(song: Path, model: Path) -> None:
    both = vocalsep.extract(song, model=model, accompaniment=True)
    alone = vocalsep.extract(song, None, model=model, accompaniment=song.with_name("alone.wav"))
    assert alone.vocals is None
    assert Path(str(alone.accompaniment)).read_bytes() == Path(str(both.accompaniment)).read_bytes()
    with pytest.raises(ConfigError, match="nothing to write"):
        vocalsep.extract(song, None, model=model)
