from __future__ import annotations

from pathlib import Path

import numpy as np
import synthetic_songs

from vocalsep import audio
from vocalsep.datasets.layouts import stems, teacher


def write_voices(root: Path, *paths: str) -> Path:
    for place, path in enumerate(paths):
        synthetic_songs.write(root / path, synthetic_songs.make_voice(place, 0.3, 8_000), 8_000)
    return root


def test_songs_are_matched_with_the_vocals_of_their_teacher(tmp_path: Path) -> None:
    songs = write_voices(tmp_path / "songs", "a/one.wav", "a/two.flac", "b/two.wav")
    estimates = write_voices(tmp_path / "teacher", "one.vocals.wav", "a/two.vocals.flac", "b/two.vocals.wav")
    found = teacher.find(songs, vocals=estimates)
    assert found.problems == ()
    assert {track.name: track.vocals[0].path.relative_to(estimates).as_posix() for track in found.tracks} == {
        "a/one.wav": "one.vocals.wav",
        "a/two.flac": "a/two.vocals.flac",
        "b/two.wav": "b/two.vocals.wav",
    }


def test_the_accompaniment_is_the_song_minus_the_vocals_of_the_teacher(tmp_path: Path) -> None:
    root = write_voices(tmp_path, "song.wav", "song.vocals.wav", "song.accompaniment.wav")
    (track,) = teacher.find(root).tracks
    loaded = track.load(8_000, 1)
    mixture, _ = audio.read(root / "song.wav")
    np.testing.assert_allclose(loaded["vocals"] + loaded["accompaniment"], mixture, rtol=0, atol=1e-6)
    assert (track.song, track.group) == ("song", ".")


def test_songs_named_after_a_stem_take_the_name_of_their_folder(tmp_path: Path) -> None:
    root = write_voices(
        tmp_path, *(f"00{n} - Ada - Song {n}/mixture{end}.wav" for n in (1, 2) for end in ("", ".vocals"))
    )
    found = teacher.find(root)
    assert found.problems == ()
    assert [(track.group, track.song) for track in found.tracks] == [("Ada", "Ada - Song 1"), ("Ada", "Ada - Song 2")]
    (lone,) = stems.find_voices(write_voices(tmp_path / "voices", "Ada feat. Bo - One/vocals.wav")).tracks
    assert (lone.group, lone.song) == ("Ada", "Ada feat. Bo - One")


def test_a_song_without_vocals_or_with_two_is_named(tmp_path: Path) -> None:
    songs = write_voices(tmp_path / "songs", "a/one.wav", "b/one.wav", "two.wav", "three.wav")
    estimates = write_voices(tmp_path / "teacher", "one.vocals.wav", "two.vocals.wav", "two.vocals.flac")
    problems = {problem.name: problem.what for problem in teacher.find(songs, vocals=estimates).problems}
    assert problems.keys() == {
        "a/one.wav",
        "b/one.wav",
        "two.wav",
        "three.wav",
    }  # one.vocals.wav could be for either song called one
    assert "2 files two.vocals.*" in problems["two.wav"]
    assert "no file three.vocals.*" in problems["three.wav"]
