from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic_songs
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep.datasets.layouts import mir1k
from vocalsep.errors import DatasetError


def test_mir1k_splits_by_singer(mir1k_root: Path) -> None:
    train, test = mir1k.find(mir1k_root, "train").tracks, mir1k.find(mir1k_root, "test").tracks
    assert {track.group for track in train} == {"abjones", "amy"}
    assert {track.group for track in test} == {"bobon", "davidson"}
    assert len(train) == len(test) == 4
    assert train[0].name == "abjones_1_01"


def test_mir1k_has_the_voice_on_the_right(mir1k_root: Path) -> None:
    for track in mir1k.find(mir1k_root, "train").tracks:
        samples, rate = soundfile.read(mir1k_root / "Wavfile" / f"{track.name}.wav", dtype="float32")
        loaded = track.load(rate, 1)
        np.testing.assert_array_equal(loaded["vocals"][0], samples[:, 1])
        np.testing.assert_array_equal(loaded["accompaniment"][0], samples[:, 0])


def test_mir1k_refuses_a_mono_clip_by_name(tmp_path: Path) -> None:
    path = synthetic_songs.write_constant(tmp_path / "Wavfile" / "amy_1_01.wav", 0.5, 0.1, channels=1)
    track = mir1k.find(tmp_path, "train").tracks[0]
    with pytest.raises(DatasetError) as error:
        track.load(8_000, 1)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message


def test_mir1k_refuses_a_wrong_layout_by_name(dsd100_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as error:
        mir1k.find(dsd100_root, "train")
    message = str(error.value)
    assert str(dsd100_root) in message
    assert "\n" not in message
    synthetic_songs.write_constant(tmp_path / "Wavfile" / "bobon_1_01.wav", 0.5, 0.1)
    with pytest.raises(DatasetError, match="no tracks"):  # none by a training singer
        mir1k.find(tmp_path, "train")


def test_mir1k_finds_labels_where_they_exist(mir1k_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(mir1k_root, tmp_path / "copy")
    synthetic_songs.write_labels(root, ["abjones_1_01"])
    one, two, *_ = mir1k.find(root).tracks
    assert one.pitch == root / "PitchLabel" / "abjones_1_01.pv"
    assert one.voicing == root / "vocal-nonvocalLabel" / "abjones_1_01.vocal"
    assert (two.pitch, two.voicing) == (None, None)


def test_mir1k_names_clips_without_a_singer(mir1k_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(mir1k_root, tmp_path / "copy")
    synthetic_songs.write_constant(root / "Wavfile" / "song.wav", 0.5, 0.1)
    found = mir1k.find(root)
    assert len(found.tracks) == 4
    assert [problem.name for problem in found.problems] == ["song"]


CLIPS = st.dictionaries(st.text("abc_1", min_size=1, max_size=6), st.integers(1, 12), min_size=1, max_size=60)


@settings(deadline=None, max_examples=50)
@given(clips=CLIPS)
def test_the_drnn_split_keeps_songs_whole_and_shares_about_70_20_10(clips: dict[str, int]) -> None:
    songs = [song for song, number in clips.items() for _ in range(number)]
    parts = mir1k.assign_splits(songs)
    assert parts == mir1k.assign_splits(reversed(songs))
    assert set(parts) == set(clips)
    for part, share in mir1k.DRNN_SHARES.items():
        dealt = sum(number for song, number in clips.items() if parts[song] == part)
        assert abs(dealt - share * len(songs)) <= 2 * max(clips.values())


def test_the_drnn_split_loses_no_clip_and_is_marked_as_sharing_singers(tmp_path: Path) -> None:
    for singer in synthetic_songs.SINGERS:
        for song in range(1, 5):
            synthetic_songs.write_constant(tmp_path / "Wavfile" / f"{singer}_{song}_01.wav", 0.5, 0.01)
    found = [mir1k.find(tmp_path, split) for split in mir1k.DRNN_SHARES]
    assert [len(listing.tracks) for listing in found] == [11, 3, 2]
    assert len({track.name for listing in found for track in listing.tracks}) == 16
    assert all(listing.shares_singers for listing in found)
    assert not mir1k.find(tmp_path, "train").shares_singers
