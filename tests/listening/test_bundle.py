from __future__ import annotations

import json
import tracemalloc
import zipfile
from pathlib import Path

import fake_nets
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vocalsep import audio
from vocalsep.errors import AudioError
from vocalsep.listening import BundleWriter
from vocalsep.listening.bundle import BEFORE, FADE, PIECE


def write_bundle(path: Path, parts: list[np.ndarray], rate: int, *, block: int = 50_000) -> zipfile.ZipFile:
    names = ["vocals", "accompaniment"][: len(parts)]
    with BundleWriter(path, names, rate=rate, channels=parts[0].shape[0]) as writer:
        for start in range(0, parts[0].shape[1], block):
            writer.write([part[:, start : start + block] for part in parts])
        writer.finish(voice=[(1.0, 2.0)])
    return zipfile.ZipFile(path)


def read_sound(bundle: zipfile.ZipFile, name: str, folder: Path) -> np.ndarray:
    path = folder / "piece.opus"
    path.write_bytes(bundle.read(name))
    return audio.read(path)[0]


def make_tone(seconds: float, rate: int = 48_000, channels: int = 2) -> np.ndarray:
    """A chirp, so that a shift by a few samples shows."""
    times = np.arange(round(seconds * rate)) / rate
    wave = 0.4 * np.sin(2 * np.pi * (200 * times + 40 * times**2))
    return np.tile(wave.astype(np.float32), (channels, 1))


def measure_snr_db(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum()))


def test_pieces_hold_the_song_with_some_of_the_neighbouring_pieces(tmp_path: Path) -> None:
    song = make_tone(21.0)
    bundle = write_bundle(tmp_path / "b.zip", [song, song / 2], 48_000)
    grid = json.loads(bundle.read("song.json"))["grid"]
    assert (grid["samples"], grid["pieces"], grid["piece"]) == (21 * 48_000, 3, PIECE)
    for piece, (start, end) in enumerate([(0, PIECE + FADE), (PIECE - BEFORE, 2 * PIECE + FADE)]):
        for stem, part in (("vocals", song), ("accompaniment", song / 2)):
            sound = read_sound(bundle, f"{stem}/{piece}.opus", tmp_path)
            assert sound.shape == (2, end - start)
            assert measure_snr_db(sound, part[:, start:end]) > 15
    assert read_sound(bundle, "vocals/2.opus", tmp_path).shape == (2, BEFORE + 48_000)


def test_where_pieces_overlap_they_agree(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.zip", [make_tone(12.0)], 48_000)
    first, second = (read_sound(bundle, f"vocals/{piece}.opus", tmp_path) for piece in (0, 1))
    assert measure_snr_db(first[:, PIECE : PIECE + FADE], second[:, BEFORE : BEFORE + FADE]) > 15


@pytest.mark.parametrize("samples", [1, PIECE, PIECE + 1])
def test_songs_of_any_length_have_a_bundle(tmp_path: Path, samples: int) -> None:
    bundle = write_bundle(tmp_path / "b.zip", [np.full((1, samples), 0.1, np.float32)], 48_000)
    song = json.loads(bundle.read("song.json"))
    pieces = -(-samples // PIECE)
    assert song["grid"]["pieces"] == pieces
    assert set(bundle.namelist()) == {
        "song.json",
        "vocals/overview.view",
        *(f"vocals/{piece}.{kind}" for piece in range(pieces) for kind in ("opus", "view")),
    }
    assert song["voice"] == [[1.0, 2.0]]


@pytest.mark.parametrize(("rate", "highest"), [(8_000, 4_000), (44_100, 16_000), (96_000, 16_000)])
def test_any_sample_rate_becomes_48_khz(tmp_path: Path, rate: int, highest: int) -> None:
    song = make_tone(1.0, rate)
    bundle = write_bundle(tmp_path / "b.zip", [song], rate)
    grid = json.loads(bundle.read("song.json"))["grid"]
    assert abs(grid["samples"] - 48_000) <= 1
    assert grid["highestHz"] == highest
    assert measure_snr_db(read_sound(bundle, "vocals/0.opus", tmp_path)[:, :48_000], make_tone(1.0)) > 15


def test_the_blocks_in_which_a_song_arrives_do_not_matter(tmp_path: Path) -> None:
    song = fake_nets.noise(2, PIECE + 100_000) / 4
    one = write_bundle(tmp_path / "1.zip", [song], 48_000, block=7_001)
    other = write_bundle(tmp_path / "2.zip", [song], 48_000, block=song.shape[1])
    assert one.namelist() == other.namelist()
    assert all(one.read(name) == other.read(name) for name in one.namelist())


@pytest.mark.parametrize("channels", [3, 6, 8, 11])
def test_many_channels_are_mixed_down_to_two_without_a_larger_peak(tmp_path: Path, channels: int) -> None:
    song = make_tone(1.0, channels=channels)
    sound = read_sound(write_bundle(tmp_path / "b.zip", [song], 48_000), "vocals/0.opus", tmp_path)
    assert sound.shape[0] == 2
    assert measure_snr_db(sound, song[:2]) > 15


def test_the_rear_left_of_a_surround_song_is_heard_on_the_left(tmp_path: Path) -> None:
    song = make_tone(1.0, channels=6)
    song[[0, 1, 2, 3, 5]] = 0
    left, right = read_sound(write_bundle(tmp_path / "b.zip", [song], 48_000), "vocals/0.opus", tmp_path)
    assert np.abs(left).max() > 0.1
    assert_allclose(right, 0, atol=1e-3)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_song(tmp_path: Path) -> None:
    def measure(pieces: int) -> int:
        block = np.zeros((1, PIECE), np.float32)
        with BundleWriter(tmp_path / f"{pieces}.zip", ["vocals"], rate=48_000, channels=1) as writer:
            writer.write([block])
            writer.write([block])  # the first piece is complete now, so everything is loaded
            tracemalloc.start()
            for _ in range(pieces):
                writer.write([block])
            writer.finish()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return peak

    assert measure(4) < measure(2) + 1_000_000


def test_a_failure_leaves_no_bundle(tmp_path: Path) -> None:
    def fail() -> None:
        with BundleWriter(tmp_path / "b.zip", ["vocals"], rate=48_000, channels=1) as writer:
            writer.write([make_tone(1.0, channels=1)])
            raise AudioError("stop")

    with pytest.raises(AudioError, match="stop"):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot be written"):
        BundleWriter(tmp_path / "missing" / "b.zip", ["vocals"], rate=48_000, channels=1)
