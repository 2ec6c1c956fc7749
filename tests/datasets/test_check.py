from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic_songs

from vocalsep.datasets import check
from vocalsep.datasets.tracks import Source, Track
from vocalsep.errors import DatasetError


@pytest.fixture(scope="module")
def short_dsd100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short DSD100, shared by all tests: do not change it."""
    return synthetic_songs.write_dsd100(tmp_path_factory.mktemp("short"), dev=6, test=2, seconds=0.6)


@pytest.fixture
def root(short_dsd100: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(short_dsd100, tmp_path / "copy")


def list_songs(root: Path, split: str = "Dev") -> list[Path]:
    return sorted((root / "Sources" / split).iterdir())


def find_problems(dataset: str, root: Path) -> dict[str, str]:
    found = check.check_dataset(dataset, root).problems
    assert not any("\n" in str(problem) for problem in found)
    return {problem.name: problem.what for problem in found}


def test_a_sound_data_set_has_no_problems_and_is_counted(short_dsd100: Path) -> None:
    found = check.check_dataset("dsd100", short_dsd100)
    assert found.problems == ()
    dev, test = found.totals
    assert (dev.split, dev.tracks, dev.complete, dev.groups, dev.rates, dev.bad) == ("Dev", 6, 50, 5, (44_100,), 0)
    assert (test.split, test.tracks, test.groups) == ("Test", 2, 2)
    assert dev.minutes == pytest.approx(6 * 0.6 / 60, abs=0.01)
    assert dev.worst_residual_db == check.EXACT_DB  # mixtures are the exact sums here
    assert list(found.notes) == [
        "Dev: 6 of the 50 tracks of the complete data set",
        "Test: 2 of the 50 tracks of the complete data set",
    ]


def test_every_problem_is_listed_by_name(root: Path) -> None:
    one, two, three, four, five, six = list_songs(root)
    (one / "vocals.wav").write_text("words", encoding="utf-8")
    synthetic_songs.write(two / "drums.wav", np.zeros((26_460, 2)), 44_100)
    synthetic_songs.write(three / "bass.wav", np.full((13_230, 2), 0.1), 44_100)
    synthetic_songs.write(four / "other.wav", np.full((13_230, 2), 0.1), 22_050)
    (five / "other.wav").unlink()
    synthetic_songs.write(six / "bass.wav", np.zeros((0, 2)), 44_100)
    last, first = list_songs(root, "Test")
    for stem in first.iterdir():
        samples, _ = soundfile.read(stem)
        synthetic_songs.write(stem, samples, 48_000)
    synthetic_songs.write(root / "Mixtures" / "Test" / first.name / "mixture.wav", np.full((26_460, 2), 0.1), 48_000)
    (root / "Mixtures" / "Test" / last.name / "mixture.wav").unlink()
    found = find_problems("dsd100", root)
    expected = {
        one: "vocals.wav: not an audio file",
        two: "drums.wav: silent (all samples are zero)",
        three: "different lengths: bass.wav has 0.30 s",
        four: "different rates: ",
        five: "missing stems: other in",
        six: "the recording is empty",
        last: "no such file",
        first: "has 48000 Hz; expected 44100 Hz",
    }
    assert set(found) == {song.name for song in expected}
    for song in set(expected) - {two, three, first}:
        assert expected[song] in found[song.name]
    everything = [str(problem) for problem in check.check_dataset("dsd100", root).problems]
    for song, what in expected.items():
        assert any(line.startswith(f"{song.name}: ") and what in line for line in everything), what
    assert [row.bad for row in check.check_dataset("dsd100", root).totals] == [6, 2]


@pytest.mark.parametrize(("gain", "fine"), [(0.999, True), (0.97, False), (-1.0, False)])
def test_a_mixture_must_be_the_sum_of_its_stems(root: Path, gain: float, fine: bool) -> None:
    name = list_songs(root)[0].name
    path = root / "Mixtures" / "Dev" / name / "mixture.wav"
    samples, rate = soundfile.read(path)
    synthetic_songs.write(path, gain * samples, rate)
    found = next(track for track in check.check_dataset("dsd100", root).tracks if track.name == name)
    assert found.residual_db == pytest.approx(20 * np.log10(abs(1 / gain - 1)), abs=1.5)
    assert bool(found.problems) is not fine
    assert fine or f"residual of {found.residual_db:.1f} dB" in found.problems[0]


def test_a_missing_split_is_a_note(root: Path) -> None:
    shutil.rmtree(root / "Sources" / "Test")
    shutil.rmtree(root / "Mixtures")
    found = check.check_dataset("dsd100", root)
    assert found.problems == ()
    assert [row.split for row in found.totals] == ["Dev"]
    assert any(note.startswith("Test: not found") for note in found.notes)
    assert any("sums of stems are not checked" in note for note in found.notes)


def test_a_wrong_layout_is_refused(mir1k_root: Path, short_dsd100: Path) -> None:
    for dataset, root in (("dsd100", mir1k_root), ("mir1k", short_dsd100)):
        with pytest.raises(DatasetError, match="expected the layout of"):
            check.check_dataset(dataset, root)


def test_mir1k_is_checked_channel_by_channel_and_its_labels_are_counted(mir1k_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(mir1k_root, tmp_path / "copy")
    synthetic_songs.write_labels(root, ["amy_2_01", "bobon_3_01"])
    sound = synthetic_songs.make_voice(1, 0.5, 16_000)
    synthetic_songs.write(root / "Wavfile" / "amy_2_01.wav", np.stack([sound, 0 * sound], 1), 16_000)
    synthetic_songs.write(root / "Wavfile" / "amy_2_02.wav", sound, 16_000)
    synthetic_songs.write(root / "Wavfile" / "odd.wav", sound, 16_000)
    found = check.check_dataset("mir1k", root)
    assert [(row.split, row.tracks, row.groups, row.pitch, row.voicing) for row in found.totals] == [
        ("train", 4, 2, 1, 1),
        ("test", 4, 2, 1, 1),
    ]
    lines = [str(problem) for problem in found.problems if "labels cover" not in problem.what]
    assert len(lines) == 3
    assert any("amy_2_01.wav, channel 2: silent" in line for line in lines)
    assert any("amy_2_02.wav: has no channel 2" in line for line in lines)
    assert any(line.startswith("odd: ") for line in lines)
    voices = {track.name: track.voice_db for track in found.tracks}
    assert voices["amy_2_01"] is None
    assert voices["amy_2_02"] is None
    assert np.isfinite(voices["bobon_3_01"])
    assert "train: 1 of 4 tracks have pitch labels" in found.notes


@pytest.mark.parametrize("kind", ["files", "channels", "song minus voice", "mono voice", "voice in two files"])
def test_the_level_of_the_voice_is_relative_to_the_accompaniment(tmp_path: Path, kind: str) -> None:
    voice, rest = synthetic_songs.make_voice(1, 0.5, 16_000), synthetic_songs.make_voice(2, 0.5, 16_000)
    expected = 10 * np.log10(np.mean(voice**2) / np.mean(rest**2))
    files = {"v": np.stack([voice] * 2, 1), "a": np.stack([rest] * 2, 1), "half": np.stack([voice / 2] * 2, 1)}
    files |= {"mono": voice, "sides": np.stack([rest, voice], 1), "song": np.stack([voice + rest] * 2, 1)}
    paths = {
        name: synthetic_songs.write(tmp_path / f"{name}.wav", part, 16_000, "FLOAT") for name, part in files.items()
    }
    vocals, accompaniment = {
        "files": ([Source(paths["v"])], [Source(paths["a"])]),
        "channels": ([Source(paths["sides"], channel=1)], [Source(paths["sides"], channel=0)]),
        "song minus voice": ([Source(paths["v"])], [Source(paths["song"]), Source(paths["v"], weight=-1.0)]),
        "mono voice": ([Source(paths["mono"])], [Source(paths["a"])]),
        "voice in two files": ([Source(paths["half"])] * 2, [Source(paths["a"])]),
    }[kind]
    track = Track(name="x", group="x", vocals=tuple(vocals), accompaniment=tuple(accompaniment))
    assert check.check_track(track).voice_db == pytest.approx(expected, abs=0.06)
    assert check.check_track(Track(name="x", group="x", vocals=tuple(vocals))).voice_db is None


def test_each_split_has_a_median_level_of_voices(root: Path) -> None:
    found = check.check_dataset("dsd100", root)
    levels = [track.voice_db for track in found.tracks if track.split == "Dev"]
    assert found.totals[0].voice_db == pytest.approx(np.median(levels), abs=0.051)
    assert found.totals[0].voice_spread_db == pytest.approx(np.std(levels), abs=0.051)
    louder = list_songs(root)[0] / "vocals.wav"
    samples, rate = soundfile.read(louder)
    synthetic_songs.write(louder, samples / 4, rate)
    (list_songs(root)[1] / "bass.wav").write_text("words", encoding="utf-8")
    again = check.check_dataset("dsd100", root)
    sound = [track.voice_db for track in again.tracks if track.split == "Dev" and not track.problems]
    assert 0 < len(sound) < len(levels)
    assert again.totals[0].voice_db == pytest.approx(np.median(sound), abs=0.051)
    changed = next(track for track in again.tracks if track.name == louder.parent.name)
    before = next(track for track in found.tracks if track.name == louder.parent.name)
    assert changed.voice_db == pytest.approx(before.voice_db - 12.04, abs=0.15)


def test_labels_of_another_length_or_kind_are_problems(mir1k_root: Path, tmp_path: Path) -> None:
    root = synthetic_songs.write_labels(
        shutil.copytree(mir1k_root, tmp_path / "copy"), ["amy_2_01", "amy_2_02", "bobon_3_01"]
    )
    assert check.check_dataset("mir1k", root).problems == ()
    (root / "PitchLabel" / "amy_2_01.pv").write_text("61.5\n" * 75, encoding="utf-8")
    (root / "vocal-nonvocalLabel" / "bobon_3_01.vocal").write_text("la la la", encoding="utf-8")
    lines = [str(problem) for problem in check.check_dataset("mir1k", root).problems]
    assert len(lines) == 2
    assert "amy_2_01.pv: labels cover 1.50 s of a recording of 3.00 s" in lines[0]
    assert "bobon_3_01.vocal: not a label file" in lines[1]


def test_stems_of_any_rate_and_format_are_fine(stems_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(stems_root, tmp_path / "copy")
    folder = root / "Band 4 - Song 4"
    for name, seed in (("vocals.flac", 1), ("mixture.aiff", 2)):
        synthetic_songs.write(folder / name, synthetic_songs.make_voice(seed, 0.5, 22_050), 22_050)
    found = check.check_dataset("stems", root)
    assert found.problems == ()
    assert found.totals[0].rates == (22_050, 44_100)
    assert (found.totals[0].complete, found.notes) == (None, ())


def test_quiet_is_not_silent(tmp_path: Path) -> None:
    for level_db, silent in ((-58.0, False), (-62.0, True)):
        path = synthetic_songs.write(tmp_path / "v.wav", np.full(800, 10 ** (level_db / 20)), 8_000, "FLOAT")
        found = check.check_track(Track(name="x", group="x", vocals=(Source(path),)))
        assert bool(found.problems) is silent
        assert not silent or "peak -62 dBFS" in found.problems[0]


def test_samples_that_are_not_numbers_are_a_problem(tmp_path: Path) -> None:
    path = synthetic_songs.write(tmp_path / "v.wav", np.array([0.1, np.nan, 0.1]), 8_000, "FLOAT")
    found = check.check_track(Track(name="x", group="x", vocals=(Source(path),)))
    assert "NaN or infinite samples" in found.problems[0]


def test_files_are_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocalsep.audio.BLOCK_SECONDS", 0.1)
    root = synthetic_songs.write_dsd100(tmp_path, dev=1, test=1, seconds=0.65)
    found = check.check_dataset("dsd100", root)
    assert found.problems == ()
    assert {track.seconds for track in found.tracks} == {0.65}
    assert {track.residual_db for track in found.tracks} == {check.EXACT_DB}
