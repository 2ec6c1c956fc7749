from __future__ import annotations

from dataclasses import replace

import fake_nets
import numpy as np
import pytest

from vocalsep.extraction import Extractor
from vocalsep.weights import Model

LEAD = 2  # frames


@pytest.fixture(scope="module")
def model() -> Model:
    """A model of a net whose original puts two frames of silence before a song."""
    made = fake_nets.random_uhnet()
    return replace(made, run=replace(made.run, original_lead=LEAD))


@pytest.mark.parametrize("samples", [1, 63, 5_000])
@pytest.mark.parametrize("rate", [8_000, 11_025])
def test_songs_cut_as_by_the_original_have_silence_before_them_and_no_overlap(
    model: Model, samples: int, rate: int
) -> None:
    song = fake_nets.quantise(fake_nets.noise(2, samples, seed=3), 16)
    hop = model.front_end.grid.at_rate(rate).hop
    padded = np.pad(song, [(0, 0), (LEAD * hop, hop)])
    plain = replace(model, run=replace(model.run, overlap=0.0))
    expected = Extractor(plain, workers=0)(padded, rate).vocals[:, LEAD * hop : LEAD * hop + samples]
    parts = Extractor(model, as_original=True, workers=0)(song, rate)
    assert parts.vocals.shape == song.shape
    np.testing.assert_allclose(parts.vocals, expected, atol=1e-6)
    np.testing.assert_array_equal(parts.vocals + parts.accompaniment, song)


def test_blocks_do_not_change_songs_cut_as_by_the_original(model: Model) -> None:
    song = fake_nets.noise(2, 9_000, seed=4)
    whole = Extractor(model, as_original=True, workers=0)(song, 8_000)
    separator = Extractor(model, as_original=True, workers=2).start(8_000, 2)
    parts = fake_nets.separate_in_blocks(separator, song, [1, 700, 0, 64])
    np.testing.assert_array_equal(parts.vocals, whole.vocals)


def test_models_that_have_no_original_are_cut_as_ever(model: Model) -> None:
    own = replace(model, run=replace(model.run, original_lead=None))
    song = fake_nets.noise(2, 5_000, seed=5)
    vocals = [Extractor(own, as_original=original, workers=0)(song, 8_000).vocals for original in (False, True)]
    np.testing.assert_array_equal(*vocals)
    assert not np.array_equal(vocals[0], Extractor(model, as_original=True, workers=0)(song, 8_000).vocals)
