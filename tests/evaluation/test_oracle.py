from __future__ import annotations

import fake_nets
import numpy as np
import pytest
import synthetic_songs

from vocalsep.evaluation.metrics import sdr
from vocalsep.evaluation.oracle import apply_ideal_mask
from vocalsep.features import LogMel
from vocalsep.shapes import Waveform


@pytest.fixture(scope="module")
def stems() -> tuple[Waveform, Waveform]:
    """A mixture and its vocals, ``(2, time)``, at 44.1 kHz."""
    parts = {name: (part.T / 32_768).astype(np.float32) for name, part in synthetic_songs.make_song(4, 3.0).items()}
    return np.stack(list(parts.values())).sum(axis=0), parts["vocals"]


def test_ideal_masks_score_higher_on_finer_grids_and_far_above_the_mixture(
    stems: tuple[Waveform, Waveform],
) -> None:
    mixture, vocals = stems
    linear = sdr(vocals, apply_ideal_mask(mixture, vocals, 44_100).vocals)
    mel = sdr(vocals, apply_ideal_mask(mixture, vocals, 44_100, fake_nets.PAPER).vocals)
    floor = sdr(vocals, mixture)
    assert linear > mel + 0.5
    assert mel > floor + 5
    assert linear > 12


@pytest.mark.parametrize("front_end", [None, fake_nets.PAPER], ids=["linear", "mel"])
def test_the_parts_of_an_ideal_mask_add_up_and_have_the_songs_shape(
    stems: tuple[Waveform, Waveform], front_end: LogMel | None
) -> None:
    mixture, vocals = stems
    before = mixture.copy(), vocals.copy()
    parts = apply_ideal_mask(mixture, vocals, 44_100, front_end)
    assert parts.vocals.shape == mixture.shape
    np.testing.assert_array_equal(parts.vocals + parts.accompaniment, mixture)
    np.testing.assert_array_equal(mixture, before[0])
    np.testing.assert_array_equal(vocals, before[1])


@pytest.mark.parametrize("front_end", [None, fake_nets.PAPER], ids=["linear", "mel"])
def test_the_ideal_mask_is_1_for_vocals_alone_and_0_for_no_vocals(front_end: LogMel | None) -> None:
    mixture = fake_nets.noise(2, 20_000)
    alone = apply_ideal_mask(mixture, mixture, 22_050, front_end)
    assert fake_nets.snr_db(mixture, alone.vocals) > 100
    none = apply_ideal_mask(mixture, np.zeros_like(mixture), 22_050, front_end)
    assert not none.vocals.any()
