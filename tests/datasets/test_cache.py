from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic_songs

from vocalsep.datasets.cache import decode
from vocalsep.datasets.layouts import mir1k
from vocalsep.datasets.layouts.stems import find as find_stems
from vocalsep.datasets.tracks import Source, Track
from vocalsep.errors import DatasetError
from vocalsep.shapes import Waveform


@pytest.fixture
def track(stems_root: Path, tmp_path: Path) -> Track:
    """A song in a folder that a test may change."""
    source = find_stems(stems_root).tracks[0]
    copies = [tmp_path / source.path.name for source in source.vocals + source.accompaniment]
    for original, copy in zip(source.vocals + source.accompaniment, copies, strict=True):
        copy.write_bytes(original.path.read_bytes())
    return Track(name="a song", group="x", vocals=(Source(copies[0]),), accompaniment=(Source(copies[1]),))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the names of tracks that are read from their files."""
    names: list[str] = []
    load: Callable[[Track, int, int], dict[str, Waveform]] = Track.load

    def load_and_count(self: Track, rate: int, channels: int) -> dict[str, Waveform]:
        names.append(self.name)
        return load(self, rate, channels)

    monkeypatch.setattr(Track, "load", load_and_count)
    return names


def test_decoded_stems_equal_the_loaded_ones(track: Track) -> None:
    cached, loaded = decode(track, 16_000, 2), track.load(16_000, 2)
    assert cached.samples == 48_000
    assert set(cached.stems) == {"vocals", "accompaniment"}
    for stem, samples in loaded.items():
        assert cached.stems[stem].shape == (2, 48_000)
        np.testing.assert_allclose(cached.stems[stem], samples, rtol=1e-3, atol=1e-7)


def test_a_track_is_decoded_once(track: Track, loads: list[str], cache: Path) -> None:
    first, second = decode(track, 16_000, 2), decode(track, 16_000, 2)
    assert loads == ["a song"]
    for stem, samples in first.stems.items():
        np.testing.assert_array_equal(second.stems[stem], samples)
    assert len(list(cache.iterdir())) == 2


def test_cached_stems_are_memory_mapped(track: Track) -> None:
    assert all(isinstance(samples, np.memmap) for samples in decode(track, 16_000, 2).stems.values())


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 2), (16_000, 1)])
def test_another_rate_or_channel_count_is_decoded_separately(
    track: Track, loads: list[str], rate: int, channels: int
) -> None:
    decode(track, 16_000, 2)
    other = decode(track, rate, channels)
    assert len(loads) == 2
    assert other.stems["vocals"].shape == (channels, 3 * rate)


def test_a_changed_file_is_decoded_again(track: Track, loads: list[str]) -> None:
    before = np.array(decode(track, 16_000, 2).stems["vocals"])
    path, stat = track.vocals[0].path, track.vocals[0].path.stat()
    synthetic_songs.write(path, synthetic_songs.make_song(77)["vocals"], 44_100)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    after = decode(track, 16_000, 2).stems["vocals"]
    assert len(loads) == 2
    assert not np.array_equal(before, after)


def test_each_channel_of_a_file_has_its_own_place_in_the_cache(mir1k_root: Path) -> None:
    one = mir1k.find(mir1k_root).tracks[0]
    turned = replace(one, vocals=one.accompaniment, accompaniment=one.vocals)
    first, second = decode(one, 16_000, 2), decode(turned, 16_000, 2)
    np.testing.assert_array_equal(first.stems["vocals"], second.stems["accompaniment"])
    np.testing.assert_array_equal(first.stems["accompaniment"], second.stems["vocals"])
    assert not np.array_equal(first.stems["vocals"], second.stems["vocals"])


def test_a_missing_file_is_named(track: Track) -> None:
    track.vocals[0].path.unlink()
    with pytest.raises(DatasetError) as error:
        decode(track, 16_000, 2)
    assert "a song" in str(error.value)
    assert str(track.vocals[0].path) in str(error.value)


def test_a_cache_that_cannot_be_written_or_read_is_one_line(track: Track, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"file/cache: cannot be written \(Not a directory\)"):
        decode(track, 16_000, 2, tmp_path / "file" / "cache")
    decode(track, 16_000, 2)
    next(cache.glob("*.vocals.npy")).write_bytes(b"")
    with pytest.raises(DatasetError, match="the cache of track 'a song' is damaged"):
        decode(track, 16_000, 2)


def test_a_file_that_cannot_be_read_leaves_nothing_in_the_cache(track: Track, cache: Path) -> None:
    track.accompaniment[0].path.write_text("words", encoding="utf-8")
    with pytest.raises(DatasetError, match="a song"):
        decode(track, 16_000, 2)
    assert not cache.exists() or list(cache.iterdir()) == []
