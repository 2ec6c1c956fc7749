from __future__ import annotations

import zlib

import numpy as np
import pytest
from numpy.testing import assert_allclose

from vocalsep.listening import drawing
from vocalsep.listening.drawing import HOP, N_FFT, PEAKS, RATE, ROWS, Overview, draw


def make_sine(hz: float, samples: int, amplitude: float = 1.0) -> np.ndarray:
    times = np.arange(-N_FFT // 2, samples + N_FFT // 2) / RATE
    return amplitude * np.sin(2 * np.pi * hz * times, dtype=np.float32)[None].astype(np.float32)


def find_row(hz: float) -> int:
    edges = np.geomspace(drawing.LOWEST_HZ, drawing.HIGHEST_HZ, ROWS + 1)
    return int(np.searchsorted(edges, hz)) - 1


@pytest.mark.parametrize("hz", [110.0, 1_003.0, 5_000.0, 12_000.0])
def test_a_sine_at_full_scale_is_loudest_in_its_own_row_at_0_db(hz: float) -> None:
    picture = draw(make_sine(hz, 10 * HOP), 10 * HOP, drawing.HIGHEST_HZ)
    assert picture.power.shape == (ROWS, 10)
    assert abs(int(picture.power[:, 5].argmax()) - find_row(hz)) <= 1
    assert abs(10 * np.log10(picture.power[:, 5].max())) < 2.5
    far = np.abs(np.arange(ROWS) - find_row(hz)) > 16
    assert picture.power[far, 5].max() < 1e-4


def test_the_waveform_has_peaks_and_mean_squares() -> None:
    picture = draw(make_sine(1_000, 4 * HOP, 0.5), 4 * HOP, drawing.HIGHEST_HZ)
    assert picture.peaks.shape == picture.squares.shape == (4 * PEAKS,)
    assert_allclose(picture.peaks, 0.5, rtol=0.01)
    assert_allclose(picture.squares, 0.125, rtol=0.01)


def test_channels_in_opposite_phase_do_not_cancel() -> None:
    sine = make_sine(1_000, 4 * HOP)
    both = draw(np.concatenate([sine, -sine]), 4 * HOP, drawing.HIGHEST_HZ)
    assert_allclose(both.power, draw(sine, 4 * HOP, drawing.HIGHEST_HZ).power, rtol=1e-5)


def test_the_last_column_may_be_incomplete() -> None:
    picture = draw(make_sine(1_000, HOP + 1), HOP + 1, drawing.HIGHEST_HZ)
    assert picture.power.shape == (ROWS, 2)
    assert np.isfinite(picture.power).all()


def test_an_overview_of_a_short_song_is_the_picture_of_its_pieces() -> None:
    picture = draw(make_sine(500, 6 * HOP), 6 * HOP, drawing.HIGHEST_HZ)
    overview = Overview()
    overview.push(picture)
    overview.push(picture)
    whole = overview.finish()
    assert overview.step == 1
    assert_allclose(whole.power, np.tile(picture.power, 2), rtol=1e-6)
    assert_allclose(whole.peaks, np.tile(picture.peaks.reshape(-1, PEAKS).max(axis=1), 2))


def test_an_overview_of_a_long_song_has_at_most_2048_columns_with_the_same_mean_and_peak() -> None:
    rng = np.random.default_rng(0)
    overview = Overview()
    pieces = [
        drawing.Picture(rng.random((ROWS, 250)), rng.random(250 * PEAKS), rng.random(250 * PEAKS)) for _ in range(37)
    ]
    for piece in pieces:
        overview.push(piece)
    whole = overview.finish()
    columns = whole.power.shape[1]
    assert 1_024 <= columns <= 2_048
    assert overview.step == 8
    counts = np.minimum(8, 37 * 250 - 8 * np.arange(columns))
    assert_allclose((whole.power * counts).sum(axis=1), sum(piece.power.sum(axis=1) for piece in pieces))
    assert whole.peaks.max() == max(piece.peaks.max() for piece in pieces)


def test_a_packed_picture_unpacks_to_its_levels_and_amplitudes() -> None:
    rng = np.random.default_rng(1)
    picture = drawing.Picture(10 ** -rng.uniform(0, 10, (ROWS, 3)), rng.random(12), rng.random(12) ** 2)
    content = np.frombuffer(zlib.decompress(drawing.pack(picture)), np.uint8)
    steps = content[: ROWS * 3].reshape(ROWS, 3).cumsum(axis=1, dtype=np.uint8)
    step_db = (drawing.CEILING_DB - drawing.FLOOR_DB) / (drawing.LEVELS - 1)
    assert_allclose(steps * step_db + drawing.FLOOR_DB, 10 * np.log10(picture.power), atol=step_db / 2 + 1e-9)
    peaks, roots = ((content[ROWS * 3 :] / 255) ** 2).reshape(2, 12)
    assert_allclose(peaks, picture.peaks, atol=0.005)
    assert_allclose(roots, np.sqrt(picture.squares), atol=0.005)


def test_silence_has_the_lowest_level() -> None:
    picture = draw(np.zeros((2, 2 * HOP + N_FFT), np.float32), 2 * HOP, drawing.HIGHEST_HZ)
    assert not any(zlib.decompress(drawing.pack(picture)))
