from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic_songs

from vocalsep.datasets.tracks import Source, Track
from vocalsep.errors import DatasetError


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
        error = loaded[stem] - sine(16_000, hz)
        assert np.abs(error[:, 1_600:-1_600]).max() < 1e-4


def test_load_sums_the_sources_of_a_stem(tmp_path: Path) -> None:
    values = {"a": 0.125, "b": 0.25, "v": 0.5}
    paths = {
        name: synthetic_songs.write_constant(tmp_path / f"{name}.wav", value, 0.1) for name, value in values.items()
    }
    backing = (Source(paths["a"]), Source(paths["b"]))
    track = Track(name="x", group="x", vocals=(Source(paths["v"]),), accompaniment=backing)
    loaded = track.load(8_000, 2)
    np.testing.assert_array_equal(loaded["vocals"], np.full((2, 800), 0.5))
    np.testing.assert_array_equal(loaded["accompaniment"], np.full((2, 800), 0.375))


@pytest.mark.parametrize(("have", "want"), [(1, 2), (2, 2), (2, 1), (6, 2), (6, 1), (1, 1)])
def test_load_copies_mono_to_all_channels_and_averages_other_counts(tmp_path: Path, have: int, want: int) -> None:
    values = np.tile(np.arange(1, have + 1) / 16, (800, 1))
    track = Track(
        name="x", group="x", vocals=(Source(synthetic_songs.write(tmp_path / "v.wav", values, 8_000, "FLOAT")),)
    )
    vocals = track.load(8_000, want)["vocals"]
    expected = values.T if have == want else np.tile(values.mean(axis=1), (want, 1))
    np.testing.assert_allclose(vocals, expected, rtol=0, atol=1e-7)


def pair(folder: Path, vocals_seconds: float, accompaniment_seconds: float) -> Track:
    return Track(
        name="a song",
        group="x",
        vocals=(Source(synthetic_songs.write_constant(folder / "v.wav", 0.5, vocals_seconds)),),
        accompaniment=(Source(synthetic_songs.write_constant(folder / "a.wav", 0.25, accompaniment_seconds)),),
    )


@pytest.mark.parametrize(("vocals", "accompaniment"), [(1.0, 1.09), (1.09, 1.0), (1.0, 1.0)])
def test_lengths_within_the_tolerance_are_cut_to_the_shorter(
    tmp_path: Path, vocals: float, accompaniment: float
) -> None:
    loaded = pair(tmp_path, vocals, accompaniment).load(8_000, 2)
    assert {samples.shape[-1] for samples in loaded.values()} == {8_000}


@pytest.mark.parametrize(("vocals", "accompaniment"), [(1.0, 1.2), (2.0, 1.0)])
def test_lengths_beyond_the_tolerance_are_refused_by_name(tmp_path: Path, vocals: float, accompaniment: float) -> None:
    with pytest.raises(DatasetError) as error:
        pair(tmp_path, vocals, accompaniment).load(8_000, 2)
    message = str(error.value)
    assert "\n" not in message
    assert "a song" in message
    assert f"{vocals:.2f}" in message
    assert f"{accompaniment:.2f}" in message


def test_a_stem_that_cannot_be_read_is_named_with_its_track(tmp_path: Path) -> None:
    track = pair(tmp_path, 1.0, 1.0)
    (tmp_path / "a.wav").write_text("words", encoding="utf-8")
    with pytest.raises(DatasetError) as error:
        track.load(8_000, 2)
    message = str(error.value)
    assert "\n" not in message
    assert "a song" in message
    assert str(tmp_path / "a.wav") in message
