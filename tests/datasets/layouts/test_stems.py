from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic_songs

from vocalsep.datasets.layouts import stems
from vocalsep.errors import DatasetError


def test_stems_uses_the_accompaniment_or_else_all_other_stems(stems_root: Path) -> None:
    one, two, three = stems.find(stems_root).tracks
    assert [track.name for track in (one, two, three)] == [f"Band {n} - Song {n}" for n in (1, 2, 3)]
    assert [track.group for track in (one, two, three)] == ["Band 1", "Band 2", "Band 3"]
    assert [source.path.name for source in one.accompaniment] == ["accompaniment.wav"]
    assert sorted(s.path.name for s in two.accompaniment) == ["bass.wav", "drums.wav", "other.wav"]
    assert [source.path.name for source in two.vocals] == ["vocals.wav"]


def test_stems_without_the_mixture_sum_to_the_mixture(stems_root: Path) -> None:
    track = stems.find(stems_root).tracks[1]
    mixture, _ = soundfile.read(stems_root / track.name / "mixture.wav", dtype="float32")
    total = sum(track.load(44_100, 2).values())
    np.testing.assert_allclose(total.T, mixture, rtol=0, atol=1e-6)


def test_stems_may_lie_in_subfolders(tmp_path: Path, stems_root: Path) -> None:
    shutil.copytree(stems_root, tmp_path / "a" / "b")
    assert [track.name for track in stems.find(tmp_path).tracks] == [f"a/b/Band {n} - Song {n}" for n in (1, 2, 3)]


def test_stems_ignores_files_that_are_not_sound(tmp_path: Path, stems_root: Path) -> None:
    root = shutil.copytree(stems_root, tmp_path / "copy")
    (root / "Band 1 - Song 1" / "vocals.txt").write_text("la la la", encoding="utf-8")
    found = stems.find(root).tracks
    assert len(found) == 3
    assert {path.suffix for track in found for path in track.paths} == {".wav"}


def test_stems_names_every_incomplete_song(tmp_path: Path) -> None:
    for name in ("lone/vocals.wav", "half/Mixture.wav", "good/vocals.wav", "good/bass.wav", "drumkit/snare.wav"):
        synthetic_songs.write_constant(tmp_path / name, 0.5, 0.1)
    for name in ("twice/vocals.wav", "twice/vocals.aiff", "twice/accompaniment.wav", "good/._bass.wav"):
        synthetic_songs.write_constant(tmp_path / name, 0.5, 0.1)
    found = stems.find(tmp_path)
    assert [track.name for track in found.tracks] == ["good"]
    assert [problem.name for problem in found.problems] == ["half", "lone", "twice"]
    half, lone, twice = (problem.what for problem in found.problems)
    assert "no vocals beside Mixture.wav" in half
    assert "neither accompaniment, mixture nor other stems" in lone
    assert "vocals more than once (vocals.aiff, vocals.wav)" in twice


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            "vox.opus inst.opus",
            "inst.opus: did you mean accompaniment.opus?; vox.opus: did you mean vocals.opus?",
        ),
        ("Lead_Vox_01.wav bass.wav", "Lead_Vox_01.wav: did you mean vocals.wav?"),
        ("vocls.wav bass.wav", "vocls.wav: did you mean vocals.wav?"),
        ("mixture.wav voice.flac", "voice.flac: did you mean vocals.flac?"),
        ("vocals.wav mix.wav", "mix.wav: did you mean mixture.wav?"),
        ("vocals.wav no_vocals.wav bass.wav", "no_vocals.wav: did you mean accompaniment.wav?"),
        ("vocals.wav vox.wav bass.wav", "vox.wav: did you mean vocals.wav?"),
        ("vocals.wav no_vocals.wav", ""),
        ("vocals.wav backing_vocals.wav bass.wav", ""),
        ("vocals.wav accompaniment.wav mix.wav", ""),
        ("vocals.wav mixture.wav", ""),
        ("guitar.wav bass.wav", ""),
    ],
)
def test_stems_suggests_names_for_files_that_it_does_not_understand(tmp_path: Path, files: str, message: str) -> None:
    for name in (*(f"song/{name}" for name in files.split()), "good/vocals.wav", "good/bass.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    problems = [problem.what for problem in stems.find(tmp_path).problems]
    if message:
        assert [problem[-len(message) :] for problem in problems] == [message]
    else:
        assert problems == []


def test_a_folder_without_songs_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "take 1.wav").touch()
    with pytest.raises(DatasetError, match=r"no tracks found; expected folders with vocals\.\* and accompaniment"):
        stems.find(tmp_path)


def test_stems_subtracts_the_vocals_from_a_mixture_in_another_format(tmp_path: Path) -> None:
    parts = synthetic_songs.make_song(1, 1.0)
    vocals = parts.pop("vocals")
    synthetic_songs.write(tmp_path / "song" / "vocals.flac", vocals, 44_100)
    synthetic_songs.write(tmp_path / "song" / "MIXTURE.aiff", sum(parts.values()) + vocals, 44_100)
    track = stems.find(tmp_path).tracks[0]
    assert [(source.path.name, source.weight) for source in track.accompaniment] == [
        ("MIXTURE.aiff", 1.0),
        ("vocals.flac", -1.0),
    ]
    loaded = track.load(44_100, 2)
    np.testing.assert_allclose(loaded["vocals"].T, vocals / 32_768, rtol=0, atol=1e-6)
    np.testing.assert_allclose(loaded["accompaniment"].T, sum(parts.values()) / 32_768, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("stem", "other"), [("vocals", "accompaniment"), ("accompaniment", "vocals")])
def test_voices_and_instrumentals_have_one_stem_only(tmp_path: Path, stem: str, other: str) -> None:
    for name in ("b/two.wav", "a/one.flac", "a/Three.WAV"):
        synthetic_songs.write(tmp_path / name, np.full(800, 0.25), 8_000)
    (tmp_path / "a" / "read me.txt").write_text("words", encoding="utf-8")
    found = (stems.find_voices if stem == "vocals" else stems.find_instrumentals)(tmp_path).tracks
    assert [track.name for track in found] == ["a/Three.WAV", "a/one.flac", "b/two.wav"]
    assert [track.group for track in found] == ["a", "a", "b"]
    for track in found:
        assert getattr(track, other) == ()
        loaded = track.load(8_000, 2)
        assert list(loaded) == [stem]
        np.testing.assert_allclose(loaded[stem], np.full((2, 800), 0.25), rtol=0, atol=1e-6)


def test_outputs_of_extract_beside_a_song_are_not_stems(tmp_path: Path) -> None:
    for name in ("vocals", "mixture", "mixture.vocals", "mixture.accompaniment"):
        synthetic_songs.write(tmp_path / "A - B" / f"{name}.wav", np.full(800, 0.25), 8_000)
    (track,) = stems.find(tmp_path).tracks
    assert [(source.path.name, source.weight) for source in track.accompaniment] == [
        ("mixture.wav", 1.0),
        ("vocals.wav", -1.0),
    ]
    for name in ("bass", "backing.vocals"):  # no song that it could be an output of
        synthetic_songs.write(tmp_path / "A - B" / f"{name}.wav", np.full(800, 0.25), 8_000)
    (track,) = stems.find(tmp_path).tracks
    assert [source.path.name for source in track.accompaniment] == ["backing.vocals.wav", "bass.wav"]


def test_a_root_that_is_itself_a_song_gives_it_its_name(tmp_path: Path) -> None:
    for name in ("vocals", "accompaniment"):
        synthetic_songs.write(tmp_path / "A - B" / f"{name}.wav", np.full(800, 0.25), 8_000)
    assert [track.name for track in stems.find(tmp_path / "A - B").tracks] == ["A - B"]
