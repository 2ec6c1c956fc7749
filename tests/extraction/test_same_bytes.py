"""The same song gives the same vocals, bit for bit, whichever way it comes and however many threads there are."""

from __future__ import annotations

import io
from pathlib import Path

import fake_nets
import numpy as np
import pytest
import synthetic_songs
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep import weights
from vocalsep.extraction import Extractor, extract
from vocalsep.release import DEFAULT_MODEL


@pytest.mark.parametrize("rate", [8_000, 22_050])
@settings(deadline=None, max_examples=8)
@given(
    sizes=st.lists(st.integers(0, 9_000), min_size=1, max_size=5).filter(lambda sizes: max(sizes) > 500),
    low_delay=st.booleans(),
)
def test_blocks_of_any_size_give_the_same_bits(
    random_extractor: Extractor, rate: int, sizes: list[int], low_delay: bool
) -> None:
    mixture = fake_nets.noise(2, 2 * rate + 77, seed=3)
    whole = random_extractor(mixture, rate)
    cut = fake_nets.separate_in_blocks(random_extractor.start(rate, 2, low_delay=low_delay), mixture, sizes)
    assert np.array_equal(cut.vocals, whole.vocals)
    assert np.array_equal(cut.accompaniment, whole.accompaniment)


@pytest.mark.parametrize(("rate", "size"), [(8_000, 50), (22_050, 64), (44_100, 441)])
def test_tiny_blocks_give_the_same_bits(random_extractor: Extractor, rate: int, size: int) -> None:
    mixture = fake_nets.noise(2, rate, seed=4)
    cut = fake_nets.separate_in_blocks(random_extractor.start(rate, 2), mixture, [size])
    assert np.array_equal(cut.vocals, random_extractor(mixture, rate).vocals)


@pytest.mark.slow
@pytest.mark.parametrize("name", [DEFAULT_MODEL, "unet"])
@pytest.mark.parametrize("gate", [False, True])
def test_a_file_and_a_pipe_give_the_same_bytes_with_any_number_of_threads(
    tmp_path: Path, name: str, gate: bool
) -> None:
    rate, model = 44_100, weights.load(name)
    sound = synthetic_songs.make_voice(1, 9.3, rate) + sum(synthetic_songs.make_backing(1, 9.3, rate).values())
    song = synthetic_songs.write(tmp_path / "song.wav", 0.3 * np.stack([sound, np.roll(sound, 99)]).T, rate)
    found = set()
    for workers in (0, 1, 3):
        extractor = Extractor(model, workers=workers, gate=gate)
        for source in (song, io.BytesIO(song.read_bytes())):
            extract(source, tmp_path / "vocals.wav", accompaniment=tmp_path / "rest.wav", extractor=extractor)
            found.add((tmp_path / "vocals.wav").read_bytes() + (tmp_path / "rest.wav").read_bytes())
    assert len(found) == 1
