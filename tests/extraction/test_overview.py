from __future__ import annotations

from pathlib import Path

import fake_nets
import numpy as np
import pytest
import synthetic_songs

import vocalsep
from vocalsep.extraction import Parts, overview
from vocalsep.extraction.overview import Overview, OverviewStream

PNG = b"\x89PNG\r\n\x1a\n"


def reduce(vocals: np.ndarray, accompaniment: np.ndarray, rate: int, block: int = 10_000) -> Overview:
    stream = OverviewStream(rate)
    for start in range(0, vocals.shape[-1], block):
        stream.push(Parts(vocals[:, start : start + block], accompaniment[:, start : start + block]))
    return stream.finish()


@pytest.mark.parametrize("rate", [1_000, 8_000, 44_100, 192_000])
def test_a_tone_lies_in_its_row_of_the_vocals_and_of_the_song(rate: int) -> None:
    hz = 0.2 * rate if rate < 44_100 else 3_000.0
    tone = fake_nets.tone(hz, rate, 2, channels=2)
    found = reduce(tone, 1e-3 * fake_nets.noise(2, tone.shape[-1]), rate)
    assert found.seconds == 2
    assert np.all(np.diff(found.hz) > 0)
    for power in (found.song, found.vocals):
        assert found.hz[power.mean(axis=1).argmax()] == pytest.approx(hz, rel=0.06)
    assert found.accompaniment.max() < 0.01 * found.vocals.max()


def test_opposite_channels_do_not_cancel() -> None:
    tone = fake_nets.tone(440, 8_000, 1)
    found = reduce(np.concatenate([tone, -tone]), np.zeros((2, 8_000), np.float32), 8_000)
    mono = reduce(tone, np.zeros((1, 8_000), np.float32), 8_000)
    np.testing.assert_allclose(found.vocals, mono.vocals, rtol=1e-4)


def test_long_songs_have_as_many_columns_as_the_picture_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_COLUMNS", 16)
    rate, hop = 44_100, 1024
    quiet, loud = 0.1 * fake_nets.noise(1, 500 * hop), fake_nets.noise(1, 500 * hop)
    vocals = np.concatenate([quiet, loud], axis=-1)
    found = reduce(vocals, np.zeros_like(vocals), rate)
    assert 8 <= found.vocals.shape[1] <= 17
    levels = found.vocals.mean(axis=0)
    half = len(levels) // 2
    assert 30 < levels[half + 1 :].mean() / levels[: half - 1].mean() < 300
    assert reduce(vocals, np.zeros_like(vocals), rate, block=77_777).vocals == pytest.approx(found.vocals, rel=1e-4)


@pytest.mark.parametrize("samples", [1, 700, 9_000])
def test_songs_of_any_length_are_drawn(tmp_path: Path, samples: int) -> None:
    song = 0.0 * fake_nets.noise(1, samples) if samples == 700 else fake_nets.noise(1, samples)
    path = tmp_path / "p.png"
    reduce(song, song, 8_000).draw(path, name="$a_1$ \udce9\x1b 雨" * 9, model="m", voice=[(0.0, samples / 8_000)])
    assert path.read_bytes().startswith(PNG)


@pytest.mark.slow
def test_extract_draws_a_picture_on_request(tmp_path: Path, model: Path) -> None:
    song = synthetic_songs.write(tmp_path / "song.wav", fake_nets.noise(2, 9_000).T / 4, 8_000)
    report = vocalsep.extract(song, model=model, picture=tmp_path / "p.png")
    assert report.picture == str(tmp_path / "p.png")
    first = (tmp_path / "p.png").read_bytes()
    assert first.startswith(PNG)
    vocalsep.extract(song, model=model, picture=True)
    assert (tmp_path / "song.picture.png").read_bytes() == first
