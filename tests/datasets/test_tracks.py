from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic_songs
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep import audio
from vocalsep.datasets import layouts, tracks
from vocalsep.datasets.layouts import dsd100, mir1k, stems
from vocalsep.datasets.tracks import Listing, Source, Track
from vocalsep.errors import DatasetError


def refusal(error: pytest.ExceptionInfo[DatasetError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def constant(path: Path, value: float, seconds: float, rate: int = 8_000, channels: int = 2) -> Path:
    return synthetic_songs.write(path, np.full((round(seconds * rate), channels), value), rate, "FLOAT")


# DSD100


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
    np.testing.assert_allclose(total.numpy().T, mixture, rtol=0, atol=1e-6)


def test_dsd100_names_every_song_that_is_not_whole(dsd100_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dsd100_root, tmp_path / "copy")
    songs = sorted((root / "Sources" / "Dev").iterdir())
    (songs[2] / "drums.wav").unlink()
    (songs[3] / "vocals.flac").write_bytes((songs[3] / "vocals.wav").read_bytes())
    shutil.rmtree(songs[4])
    found = dsd100.find(root)
    assert [track.name for track in found.tracks] == [songs[n].name for n in (0, 1, 5)]
    missing, twice, lone = found.problems
    assert (missing.name, twice.name, lone.name) == tuple(songs[n].name for n in (2, 3, 4))
    assert "no drums" in missing.what
    assert "bass" not in missing.what
    assert "vocals more than once (vocals.flac, vocals.wav)" in twice.what
    assert "a mixture without stems" in lone.what
    assert not any("\n" in str(problem) for problem in found.problems)


def test_dsd100_knows_its_mixtures_where_they_are(dsd100_root: Path, tmp_path: Path) -> None:
    track = dsd100.find(dsd100_root, "Test").tracks[0]
    path = dsd100_root / "Mixtures" / "Test" / track.name / "mixture.wav"
    assert track.mixture == Source(path)
    assert path not in track.paths
    shutil.copytree(dsd100_root / "Sources", tmp_path / "Sources")
    assert dsd100.find(tmp_path, "Test").tracks[0].mixture is None


def test_dsd100_says_that_its_parts_share_artists(dsd100_root: Path) -> None:
    dev, test = dsd100.find(dsd100_root, "Dev"), dsd100.find(dsd100_root, "Test")
    assert (dev.split, dev.shares_singers) == ("Dev", False)
    assert (test.split, test.shares_singers) == ("Test", True)


def test_guests_of_an_artist_do_not_make_another_artist(tmp_path: Path) -> None:
    for name in ("096 - Triviul - Angelsaint", "097 - Triviul feat. The Fiend - Widow"):
        for stem in ("bass", "drums", "other", "vocals"):
            constant(tmp_path / "Sources" / "Dev" / name / f"{stem}.wav", 0.1, 0.1)
    found = dsd100.find(tmp_path).tracks
    assert [track.group for track in found] == ["Triviul", "Triviul"]
    assert found[0].song == "Triviul - Angelsaint"


def test_files_that_are_not_sound_do_not_matter(dsd100_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dsd100_root, tmp_path / "copy")
    for song in (root / "Sources" / "Dev").iterdir():
        (song / "vocals.xml").write_text("<lyrics/>", encoding="utf-8")
        (song / "notes.txt").write_text("words", encoding="utf-8")
    (root / "Sources" / "Dev" / "list.txt").write_text("words", encoding="utf-8")
    found = dsd100.find(root, "Dev").tracks
    assert len(found) == 6
    assert {path.suffix for track in found for path in track.paths} == {".wav"}


@pytest.mark.parametrize("layout", ["nothing", "mir1k", "no songs"])
def test_dsd100_names_a_wrong_layout(layout: str, tmp_path: Path, mir1k_root: Path) -> None:
    root = mir1k_root if layout == "mir1k" else tmp_path
    if layout == "no songs":
        (root / "Sources" / "Dev").mkdir(parents=True)
    with pytest.raises(DatasetError) as error:
        dsd100.find(root, "Dev")
    assert str(root) in refusal(error)


# MIR-1K


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
        np.testing.assert_array_equal(loaded["vocals"].numpy()[0], samples[:, 1])
        np.testing.assert_array_equal(loaded["accompaniment"].numpy()[0], samples[:, 0])


def test_mir1k_refuses_a_mono_clip_by_name(tmp_path: Path) -> None:
    path = constant(tmp_path / "Wavfile" / "amy_1_01.wav", 0.5, 0.1, channels=1)
    track = mir1k.find(tmp_path, "train").tracks[0]
    with pytest.raises(DatasetError) as error:
        track.load(8_000, 1)
    assert str(path) in refusal(error)


def test_mir1k_names_a_wrong_layout(dsd100_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as error:
        mir1k.find(dsd100_root, "train")
    assert str(dsd100_root) in refusal(error)
    constant(tmp_path / "Wavfile" / "bobon_1_01.wav", 0.5, 0.1)
    with pytest.raises(DatasetError, match="no tracks"):  # of the training singers there are none
        mir1k.find(tmp_path, "train")


def test_mir1k_knows_its_labels_where_they_are(mir1k_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(mir1k_root, tmp_path / "copy")
    synthetic_songs.write_labels(root, ["abjones_1_01"])
    one, two, *_ = mir1k.find(root).tracks
    assert one.pitch == root / "PitchLabel" / "abjones_1_01.pv"
    assert one.voicing == root / "vocal-nonvocalLabel" / "abjones_1_01.vocal"
    assert (two.pitch, two.voicing) == (None, None)


def test_mir1k_names_clips_of_which_the_singer_is_not_known(mir1k_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(mir1k_root, tmp_path / "copy")
    constant(root / "Wavfile" / "song.wav", 0.5, 0.1)
    found = mir1k.find(root)
    assert len(found.tracks) == 4
    assert [problem.name for problem in found.problems] == ["song"]


CLIPS = st.dictionaries(st.text("abc_1", min_size=1, max_size=6), st.integers(1, 12), min_size=1, max_size=60)


@settings(deadline=None, max_examples=50)
@given(clips=CLIPS)
def test_the_drnn_split_deals_songs_out_whole_and_about_70_20_10(clips: dict[str, int]) -> None:
    songs = [song for song, number in clips.items() for _ in range(number)]
    parts = mir1k.deal(songs)
    assert parts == mir1k.deal(reversed(songs))
    assert set(parts) == set(clips)
    for part, share in mir1k.DRNN_SHARES.items():
        dealt = sum(number for song, number in clips.items() if parts[song] == part)
        assert abs(dealt - share * len(songs)) <= 2 * max(clips.values())


def test_the_drnn_split_loses_no_clip_and_is_marked(tmp_path: Path) -> None:
    for singer in synthetic_songs.SINGERS:
        for song in range(1, 5):
            constant(tmp_path / "Wavfile" / f"{singer}_{song}_01.wav", 0.5, 0.01)
    found = [mir1k.find(tmp_path, split) for split in mir1k.DRNN_SHARES]
    assert [len(listing.tracks) for listing in found] == [11, 3, 2]
    assert len({track.name for listing in found for track in listing.tracks}) == 16
    assert all(listing.shares_singers for listing in found)
    assert not mir1k.find(tmp_path, "train").shares_singers


def test_an_unknown_split_is_refused(dsd100_root: Path, mir1k_root: Path, stems_root: Path) -> None:
    for name, root in (("dsd100", dsd100_root), ("mir1k", mir1k_root), ("stems", stems_root), ("voices", stems_root)):
        with pytest.raises(DatasetError, match="no split 'train2'"):
            layouts.LAYOUTS[name](root, "train2")


# Stems and pools


def test_stems_takes_the_accompaniment_or_else_all_other_stems(stems_root: Path) -> None:
    one, two, three = stems.find(stems_root).tracks
    assert [track.name for track in (one, two, three)] == [f"Band {n} - Song {n}" for n in (1, 2, 3)]
    assert [track.group for track in (one, two, three)] == ["Band 1", "Band 2", "Band 3"]
    assert [source.path.name for source in one.accompaniment] == ["accompaniment.wav"]
    assert sorted(s.path.name for s in two.accompaniment) == ["bass.wav", "drums.wav", "other.wav"]
    assert [source.path.name for source in two.vocals] == ["vocals.wav"]


def test_stems_without_the_mixture_sum_to_the_mixture(stems_root: Path) -> None:
    track = stems.find(stems_root).tracks[1]
    mixture, _ = soundfile.read(stems_root / track.name / "mixture.wav", dtype="float32")
    total = torch.stack(list(track.load(44_100, 2).values())).sum(dim=0)
    np.testing.assert_allclose(total.numpy().T, mixture, rtol=0, atol=1e-6)


def test_stems_may_lie_in_folders_of_folders(tmp_path: Path, stems_root: Path) -> None:
    shutil.copytree(stems_root, tmp_path / "a" / "b")
    assert [track.name for track in stems.find(tmp_path).tracks] == [f"a/b/Band {n} - Song {n}" for n in (1, 2, 3)]


def test_stems_ignores_files_that_are_not_sound(tmp_path: Path, stems_root: Path) -> None:
    root = shutil.copytree(stems_root, tmp_path / "copy")
    (root / "Band 1 - Song 1" / "vocals.txt").write_text("la la la", encoding="utf-8")
    found = stems.find(root).tracks
    assert len(found) == 3
    assert {path.suffix for track in found for path in track.paths} == {".wav"}


def test_stems_names_every_song_that_is_not_whole(tmp_path: Path) -> None:
    for name in ("lone/vocals.wav", "half/Mixture.wav", "good/vocals.wav", "good/bass.wav", "drumkit/snare.wav"):
        constant(tmp_path / name, 0.5, 0.1)
    for name in ("twice/vocals.wav", "twice/vocals.aiff", "twice/accompaniment.wav", "good/._bass.wav"):
        constant(tmp_path / name, 0.5, 0.1)
    found = stems.find(tmp_path)
    assert [track.name for track in found.tracks] == ["good"]
    assert [problem.name for problem in found.problems] == ["half", "lone", "twice"]
    half, lone, twice = (problem.what for problem in found.problems)
    assert "no vocals beside Mixture.wav" in half
    assert "neither accompaniment, mixture nor other stems" in lone
    assert "vocals more than once (vocals.aiff, vocals.wav)" in twice


def test_stems_takes_the_vocals_away_from_a_mixture_of_another_format(tmp_path: Path) -> None:
    parts = synthetic_songs.song(1, 1.0)
    vocals = parts.pop("vocals")
    synthetic_songs.write(tmp_path / "song" / "vocals.flac", vocals, 44_100)
    synthetic_songs.write(tmp_path / "song" / "MIXTURE.aiff", sum(parts.values()) + vocals, 44_100)
    track = stems.find(tmp_path).tracks[0]
    assert [(source.path.name, source.weight) for source in track.accompaniment] == [
        ("MIXTURE.aiff", 1.0),
        ("vocals.flac", -1.0),
    ]
    loaded = track.load(44_100, 2)
    np.testing.assert_allclose(loaded["vocals"].numpy().T, vocals / 32_768, rtol=0, atol=1e-6)
    np.testing.assert_allclose(loaded["accompaniment"].numpy().T, sum(parts.values()) / 32_768, rtol=0, atol=1e-6)


def test_a_folder_without_tracks_is_refused_by_name(tmp_path: Path) -> None:
    for find in (stems.find, stems.voices):
        with pytest.raises(DatasetError) as error:
            find(tmp_path)
        assert str(tmp_path) in refusal(error)


def taught(root: Path, *paths: str) -> Path:
    for place, path in enumerate(paths):
        synthetic_songs.write(root / path, synthetic_songs.voice(place, 0.3, 8_000), 8_000)
    return root


def test_a_song_goes_with_what_its_teacher_has_found_in_it(tmp_path: Path) -> None:
    songs = taught(tmp_path / "songs", "a/one.wav", "a/two.flac", "b/two.wav")
    teacher = taught(tmp_path / "teacher", "one.vocals.wav", "a/two.vocals.flac", "b/two.vocals.wav")
    found = stems.taught(songs, vocals=teacher)
    assert found.problems == ()
    assert {track.name: track.vocals[0].path.relative_to(teacher).as_posix() for track in found.tracks} == {
        "a/one.wav": "one.vocals.wav",
        "a/two.flac": "a/two.vocals.flac",
        "b/two.wav": "b/two.vocals.wav",
    }


def test_the_accompaniment_is_the_song_without_what_the_teacher_has_found(tmp_path: Path) -> None:
    root = taught(tmp_path, "song.wav", "song.vocals.wav", "song.accompaniment.wav")
    (track,) = stems.taught(root).tracks
    loaded = track.load(8_000, 1)
    mixture, _ = audio.read(root / "song.wav")
    torch.testing.assert_close(loaded["vocals"] + loaded["accompaniment"], mixture)
    assert (track.song, track.group) == ("song", ".")


def test_songs_that_are_called_after_their_stem_are_called_after_their_folder(tmp_path: Path) -> None:
    root = taught(tmp_path, *(f"00{n} - Ada - Song {n}/mixture{end}.wav" for n in (1, 2) for end in ("", ".vocals")))
    found = stems.taught(root)
    assert found.problems == ()
    assert [(track.group, track.song) for track in found.tracks] == [("Ada", "Ada - Song 1"), ("Ada", "Ada - Song 2")]
    (lone,) = stems.voices(taught(tmp_path / "voices", "Ada feat. Bo - One/vocals.wav")).tracks
    assert (lone.group, lone.song) == ("Ada", "Ada feat. Bo - One")


def test_a_song_without_a_teacher_or_with_two_is_told(tmp_path: Path) -> None:
    songs = taught(tmp_path / "songs", "a/one.wav", "b/one.wav", "two.wav", "three.wav")
    teacher = taught(tmp_path / "teacher", "one.vocals.wav", "two.vocals.wav", "two.vocals.flac")
    told = {problem.name: problem.what for problem in stems.taught(songs, vocals=teacher).problems}
    assert told.keys() == {"a/one.wav", "b/one.wav", "two.wav", "three.wav"}  # whose is one.vocals.wav?
    assert "2 files two.vocals.*" in told["two.wav"]
    assert "no file three.vocals.*" in told["three.wav"]


@pytest.mark.parametrize(("stem", "other"), [("vocals", "accompaniment"), ("accompaniment", "vocals")])
def test_a_pool_has_one_stem_only(tmp_path: Path, stem: str, other: str) -> None:
    for name in ("b/two.wav", "a/one.flac", "a/Three.WAV"):
        synthetic_songs.write(tmp_path / name, np.full(800, 0.25), 8_000)
    (tmp_path / "a" / "read me.txt").write_text("words", encoding="utf-8")
    found = (stems.voices if stem == "vocals" else stems.instrumentals)(tmp_path).tracks
    assert [track.name for track in found] == ["a/Three.WAV", "a/one.flac", "b/two.wav"]
    assert [track.group for track in found] == ["a", "a", "b"]
    for track in found:
        assert getattr(track, other) == ()
        loaded = track.load(8_000, 2)
        assert list(loaded) == [stem]
        torch.testing.assert_close(loaded[stem], torch.full((2, 800), 0.25))


# Loading


def test_load_resamples_each_stem_in_time(tmp_path: Path) -> None:
    def sine(rate: int, hz: float) -> np.ndarray:
        return 0.3 * np.sin(2 * np.pi * hz * np.arange(rate) / rate)

    track = Track(
        name="x",
        group="x",
        vocals=(Source(synthetic_songs.write(tmp_path / "v.wav", sine(44_100, 500.0), 44_100, "FLOAT")),),
        accompaniment=(Source(synthetic_songs.write(tmp_path / "a.wav", sine(48_000, 900.0), 48_000, "FLOAT")),),
    )
    loaded = track.load(16_000, 2)
    assert {stem: tuple(samples.shape) for stem, samples in loaded.items()} == {
        "vocals": (2, 16_000),
        "accompaniment": (2, 16_000),
    }
    for stem, hz in (("vocals", 500.0), ("accompaniment", 900.0)):
        error = loaded[stem].numpy() - sine(16_000, hz)
        assert np.abs(error[:, 1_600:-1_600]).max() < 1e-4


def test_load_sums_the_sources_of_a_stem(tmp_path: Path) -> None:
    values = {"a": 0.125, "b": 0.25, "v": 0.5}
    paths = {name: constant(tmp_path / f"{name}.wav", value, 0.1) for name, value in values.items()}
    backing = (Source(paths["a"]), Source(paths["b"]))
    track = Track(name="x", group="x", vocals=(Source(paths["v"]),), accompaniment=backing)
    loaded = track.load(8_000, 2)
    assert torch.equal(loaded["vocals"], torch.full((2, 800), 0.5))
    assert torch.equal(loaded["accompaniment"], torch.full((2, 800), 0.375))


@pytest.mark.parametrize(("have", "want"), [(1, 2), (2, 2), (2, 1), (6, 2), (6, 1), (1, 1)])
def test_load_spreads_mono_and_averages_more(tmp_path: Path, have: int, want: int) -> None:
    values = np.tile(np.arange(1, have + 1) / 16, (800, 1))
    track = Track(
        name="x", group="x", vocals=(Source(synthetic_songs.write(tmp_path / "v.wav", values, 8_000, "FLOAT")),)
    )
    vocals = track.load(8_000, want)["vocals"]
    expected = values.T if have == want else np.tile(values.mean(axis=1), (want, 1))
    np.testing.assert_allclose(vocals.numpy(), expected, rtol=0, atol=1e-7)


def pair(folder: Path, vocals_seconds: float, accompaniment_seconds: float) -> Track:
    return Track(
        name="a song",
        group="x",
        vocals=(Source(constant(folder / "v.wav", 0.5, vocals_seconds)),),
        accompaniment=(Source(constant(folder / "a.wav", 0.25, accompaniment_seconds)),),
    )


@pytest.mark.parametrize(("vocals", "accompaniment"), [(1.0, 1.09), (1.09, 1.0), (1.0, 1.0)])
def test_the_shorter_length_counts_within_the_tolerance(tmp_path: Path, vocals: float, accompaniment: float) -> None:
    loaded = pair(tmp_path, vocals, accompaniment).load(8_000, 2)
    assert {samples.shape[-1] for samples in loaded.values()} == {8_000}


@pytest.mark.parametrize(("vocals", "accompaniment"), [(1.0, 1.2), (2.0, 1.0)])
def test_lengths_that_differ_more_are_refused_by_name(tmp_path: Path, vocals: float, accompaniment: float) -> None:
    with pytest.raises(DatasetError) as error:
        pair(tmp_path, vocals, accompaniment).load(8_000, 2)
    message = refusal(error)
    assert "a song" in message
    assert f"{vocals:.2f}" in message
    assert f"{accompaniment:.2f}" in message


def test_a_stem_that_cannot_be_read_is_named_with_its_track(tmp_path: Path) -> None:
    track = pair(tmp_path, 1.0, 1.0)
    (tmp_path / "a.wav").write_text("words", encoding="utf-8")
    with pytest.raises(DatasetError) as error:
        track.load(8_000, 2)
    message = refusal(error)
    assert "a song" in message
    assert str(tmp_path / "a.wav") in message


# Holding out


def listed(groups: list[str]) -> list[Track]:
    return [Track(name=str(number), group=group) for number, group in enumerate(groups)]


@settings(deadline=None, max_examples=60)
@given(groups=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30), every=st.integers(1, 9))
def test_hold_out_never_splits_a_group_and_loses_nothing(groups: list[str], every: int) -> None:
    found = listed(groups)
    training, validation, shares = tracks.hold_out(found, every)
    assert sorted(track.name for track in training + validation) == sorted(track.name for track in found)
    if len(set(groups)) >= every:
        assert not shares
        assert {track.group for track in training}.isdisjoint(track.group for track in validation)
        assert len({track.group for track in validation}) == len(set(groups)) // every
    else:  # every track is a song of its own
        assert shares == (not {t.group for t in training}.isdisjoint(t.group for t in validation))
        assert len(validation) == max(len(found) // every, min(1, len(found) - 1))


@settings(deadline=None, max_examples=30)
@given(
    groups=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30),
    every=st.integers(1, 9),
    data=st.data(),
)
def test_hold_out_depends_on_the_names_alone(groups: list[str], every: int, data: st.DataObject) -> None:
    found = listed(groups)
    shuffled = data.draw(st.permutations(found))
    _, validation, _ = tracks.hold_out(found, every)
    _, again, _ = tracks.hold_out(iter(shuffled), every)
    assert {track.name for track in validation} == {track.name for track in again}


def test_of_too_few_singers_whole_songs_are_held_out() -> None:
    clips = [
        Track(name=f"amy_{song}_{clip}", group="amy", song=f"amy_{song}") for song in range(6) for clip in range(3)
    ]
    training, validation, shares = tracks.hold_out(clips, 3)
    assert shares
    assert {track.song for track in validation} == {"amy_2", "amy_5"}
    assert len(validation) == 6
    assert {track.song for track in training}.isdisjoint(track.song for track in validation)


def test_hold_out_takes_no_notice_of_how_an_artist_is_spelled() -> None:
    found = [Track(name=str(n), group=group) for n, group in enumerate(["Ada", "ADA!", "Brahe", "Curie", "ada"])]
    _, validation, shares = tracks.hold_out(found, 3)
    assert ([track.group for track in validation], shares) == (["Curie"], False)
    _, validation, _ = tracks.hold_out([*found, Track(name="5", group="AAA")], 2)
    assert {track.name for track in validation} == {"0", "1", "3", "4"}


def test_hold_out_keeps_the_songs_of_an_artist_together(dsd100_root: Path) -> None:
    training, validation, _ = tracks.hold_out(dsd100.find(dsd100_root, "Dev").tracks, 5)
    assert [track.group for track in validation] == ["Euler"]
    assert [track.group for track in training] == ["Ada", "Ada", "Brahe", "Curie", "Dirac"]


@pytest.mark.skipif(os.name == "nt", reason="links want rights there")
def test_linked_folders_hold_recordings_as_any_others_do(stems_root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(stems_root)
    linked, plain = stems.find(tmp_path).tracks, stems.find(stems_root).tracks
    assert [track.group for track in linked] == [track.group for track in plain]
    assert len(stems.voices(tmp_path).tracks) == len(stems.voices(stems_root).tracks) > 3


def test_what_extract_has_written_beside_a_song_is_no_stem_of_it(tmp_path: Path) -> None:
    for name in ("vocals", "mixture", "mixture.vocals", "mixture.accompaniment"):
        synthetic_songs.write(tmp_path / "A - B" / f"{name}.wav", np.full(800, 0.25), 8_000)
    (track,) = stems.find(tmp_path).tracks
    assert [(source.path.name, source.weight) for source in track.accompaniment] == [
        ("mixture.wav", 1.0),
        ("vocals.wav", -1.0),
    ]
    for name in ("bass", "backing.vocals"):  # of this one there is no song
        synthetic_songs.write(tmp_path / "A - B" / f"{name}.wav", np.full(800, 0.25), 8_000)
    (track,) = stems.find(tmp_path).tracks
    assert [source.path.name for source in track.accompaniment] == ["backing.vocals.wav", "bass.wav"]


def test_a_folder_that_is_a_song_itself_has_its_name(tmp_path: Path) -> None:
    for name in ("vocals", "accompaniment"):
        synthetic_songs.write(tmp_path / "A - B" / f"{name}.wav", np.full(800, 0.25), 8_000)
    assert [track.name for track in stems.find(tmp_path / "A - B").tracks] == ["A - B"]


@pytest.mark.parametrize("find", [stems.find, lambda root: dsd100.find(root, "Dev")], ids=["stems", "dsd100"])
def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, dsd100_root: Path, monkeypatch: pytest.MonkeyPatch, find: Callable[[Path], Listing]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(dsd100_root, root)
    closed = str(next((root / "Sources" / "Dev").iterdir()))

    def scandir(path: object = ".", of: Callable[..., object] = os.scandir) -> object:
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return of(path)

    def listdir(path: object = ".", of: Callable[..., object] = os.listdir) -> object:
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return of(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(DatasetError, match=r"cannot be listed \(Permission denied\)"):
        find(root)
