from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic_songs

from vocalsep.datasets.layouts import dsd100
from vocalsep.datasets.tracks import Source
from vocalsep.errors import DatasetError


def test_dsd100_finds_the_songs_of_each_split(dsd100_root: Path) -> None:
    dev, test = dsd100.find(dsd100_root, "Dev").tracks, dsd100.find(dsd100_root, "Test").tracks
    assert [track.name for track in test] == ["001 - Artist 1 - Song 1", "002 - Artist 2 - Song 2"]
    assert [track.group for track in dev] == list(synthetic_songs.ARTISTS)
    assert len({track.name for track in dev + test}) == 8


def test_dsd100_has_vocals_and_the_three_other_stems(dsd100_root: Path) -> None:
    for track in dsd100.find(dsd100_root, "Dev").tracks:
        folder = dsd100_root / "Sources" / "Dev" / track.name
        assert track.vocals == (Source(folder / "vocals.wav"),)
        assert {source.path for source in track.accompaniment} == {
            folder / f"{stem}.wav" for stem in ("bass", "drums", "other")
        }
        assert track.paths == sorted(folder.iterdir())


def test_vocals_and_accompaniment_sum_to_the_mixture(dsd100_root: Path) -> None:
    track = dsd100.find(dsd100_root, "Test").tracks[0]
    loaded = track.load(44_100, 2)
    mixture, _ = soundfile.read(dsd100_root / "Mixtures" / "Test" / track.name / "mixture.wav", dtype="float32")
    assert set(loaded) == {"vocals", "accompaniment"}
    total = loaded["vocals"] + loaded["accompaniment"]
    np.testing.assert_allclose(total.T, mixture, rtol=0, atol=1e-6)


def test_dsd100_names_every_incomplete_song(dsd100_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dsd100_root, tmp_path / "copy")
    songs = sorted((root / "Sources" / "Dev").iterdir())
    (songs[2] / "drums.wav").unlink()
    (songs[3] / "vocals.flac").write_bytes((songs[3] / "vocals.wav").read_bytes())
    shutil.rmtree(songs[4])
    found = dsd100.find(root)
    assert [track.name for track in found.tracks] == [songs[n].name for n in (0, 1, 5)]
    missing, twice, lone = found.problems
    assert (missing.name, twice.name, lone.name) == tuple(songs[n].name for n in (2, 3, 4))
    assert "missing stems: drums" in missing.what
    assert "bass" not in missing.what
    assert "vocals more than once (vocals.flac, vocals.wav)" in twice.what
    assert "a mixture without stems" in lone.what
    assert not any("\n" in str(problem) for problem in found.problems)


def test_dsd100_finds_mixtures_where_they_exist(dsd100_root: Path, tmp_path: Path) -> None:
    track = dsd100.find(dsd100_root, "Test").tracks[0]
    path = dsd100_root / "Mixtures" / "Test" / track.name / "mixture.wav"
    assert track.mixture == Source(path)
    assert path not in track.paths
    shutil.copytree(dsd100_root / "Sources", tmp_path / "Sources")
    assert dsd100.find(tmp_path, "Test").tracks[0].mixture is None


def test_dsd100_test_is_marked_as_sharing_artists_with_dev(dsd100_root: Path) -> None:
    dev, test = dsd100.find(dsd100_root, "Dev"), dsd100.find(dsd100_root, "Test")
    assert (dev.split, dev.shares_singers) == ("Dev", False)
    assert (test.split, test.shares_singers) == ("Test", True)


def test_guests_do_not_make_another_artist(tmp_path: Path) -> None:
    for name in ("096 - Triviul - Angelsaint", "097 - Triviul feat. The Fiend - Widow"):
        for stem in ("bass", "drums", "other", "vocals"):
            synthetic_songs.write_constant(tmp_path / "Sources" / "Dev" / name / f"{stem}.wav", 0.1, 0.1)
    found = dsd100.find(tmp_path).tracks
    assert [track.group for track in found] == ["Triviul", "Triviul"]
    assert found[0].song == "Triviul - Angelsaint"


def test_dsd100_ignores_files_that_are_not_sound(dsd100_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dsd100_root, tmp_path / "copy")
    for song in (root / "Sources" / "Dev").iterdir():
        (song / "vocals.xml").write_text("<lyrics/>", encoding="utf-8")
        (song / "notes.txt").write_text("words", encoding="utf-8")
    (root / "Sources" / "Dev" / "list.txt").write_text("words", encoding="utf-8")
    found = dsd100.find(root, "Dev").tracks
    assert len(found) == 6
    assert {path.suffix for track in found for path in track.paths} == {".wav"}


@pytest.mark.parametrize("layout", ["nothing", "mir1k", "no songs"])
def test_dsd100_refuses_a_wrong_layout_by_name(layout: str, tmp_path: Path, mir1k_root: Path) -> None:
    root = mir1k_root if layout == "mir1k" else tmp_path
    if layout == "no songs":
        (root / "Sources" / "Dev").mkdir(parents=True)
    with pytest.raises(DatasetError) as error:
        dsd100.find(root, "Dev")
    message = str(error.value)
    assert str(root) in message
    assert "\n" not in message
