from __future__ import annotations

from pathlib import Path

import pytest

from vocalsep.datasets import names


@pytest.mark.parametrize(
    ("name", "artist", "song"),
    [
        ("Ada - One", "Ada", "Ada - One"),
        ("007 - Ada - One", "Ada", "Ada - One"),
        ("007 - Ada - One - Live", "Ada", "Ada - One - Live"),
        ("Ada feat. Bo - One", "Ada", "Ada feat. Bo - One"),
        ("Ada Ft. Bo - One", "Ada", "Ada Ft. Bo - One"),
        ("Softly - One", "Softly", "Softly - One"),
        ("311 - Amber", "311", "311 - Amber"),
        ("demo", "demo", "demo"),
    ],
)
def test_a_name_has_artist_and_song(name: str, artist: str, song: str) -> None:
    assert names.parse_name(name) == (artist, song)


@pytest.mark.parametrize(
    ("path", "artist", "song"),
    [
        ("pop/Ada - One.wav", "Ada", "Ada - One"),
        ("pop/one.wav", "pop", "one"),
        ("one.wav", ".", "one"),
        ("007 - Ada - One/mixture.wav", "Ada", "Ada - One"),
        ("album/demo/Vocals.flac", "album/demo", "demo"),
        ("mixture.wav", ".", "mixture"),
    ],
)
def test_a_path_has_artist_and_song(path: str, artist: str, song: str) -> None:
    assert names.parse_path(Path("/music") / path, Path("/music")) == (artist, song)


@pytest.mark.parametrize(
    ("one", "two"), [("Ada - One", "ADA: one!"), ("001 - Ada - One", "Ada - One"), ("Motörhead", "MOTÖRHEAD")]
)
def test_spelling_does_not_count(one: str, two: str) -> None:
    assert names.normalise_name(one) == names.normalise_name(two) != ""


@pytest.mark.parametrize("name", ["", "01", "99 - 3", "..."])
def test_names_without_letters_identify_nothing(name: str) -> None:
    assert names.normalise_name(name) == ""
