"""Resampling: the same samples for any blocks, in phase, and no aliases."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from fake_nets import noise, tone
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep import audio
from vocalsep.shapes import Waveform

RATES = [(44_100, 16_000), (16_000, 44_100), (48_000, 44_100), (8_000, 48_000), (44_100, 22_050)]


def compute_peak_db(error: Waveform) -> float:
    """Return the largest absolute value, dB relative to full scale."""
    return 20 * float(np.log10(max(1e-15, float(np.abs(error).max()))))


def split_at(samples: Waveform, cuts: list[int]) -> Iterator[Waveform]:
    places = [0, *sorted(cuts), samples.shape[-1]]
    for start, stop in itertools.pairwise(places):
        yield samples[:, start:stop]


@settings(deadline=None, max_examples=30)
@given(
    rates=st.sampled_from([*RATES, (44_100, 44_100)]),
    samples=st.integers(1, 20_000),
    channels=st.integers(1, 3),
    data=st.data(),
)
def test_the_resampler_gives_the_same_samples_for_any_blocks(
    rates: tuple[int, int], samples: int, channels: int, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, samples), max_size=8))
    mixture = noise(channels, samples)
    stream = audio.Resampler(*rates, channels)
    parts = [stream.push(piece) for piece in split_at(mixture, cuts)]
    parts.append(stream.push(mixture[:, :0], last=True))
    streamed, whole = np.concatenate(parts, axis=-1), audio.resample(mixture, *rates)
    assert streamed.shape == whole.shape
    assert streamed.dtype == np.float32
    if whole.size:
        assert compute_peak_db(streamed - whole) < -100
    assert abs(whole.shape[-1] - samples * rates[1] / rates[0]) <= 1


@pytest.mark.parametrize(("rate", "to_rate"), RATES)
@pytest.mark.parametrize("hz", [100.0, 3_000.0])
def test_a_sine_stays_in_phase(rate: int, to_rate: int, hz: float) -> None:
    got, expected = audio.resample(tone(hz, rate, 1.0), rate, to_rate), tone(hz, to_rate, 1.0)
    assert got.shape == expected.shape
    inside = slice(to_rate // 10, -to_rate // 10)
    assert compute_peak_db((got - expected)[:, inside]) < -90


@pytest.mark.parametrize("to_rate", [16_000, 44_100])
def test_frequencies_above_half_the_new_rate_are_removed(to_rate: int) -> None:
    got = audio.resample(tone(23_000, 48_000, 1.0), 48_000, to_rate)
    assert compute_peak_db(got[:, to_rate // 10 : -to_rate // 10]) < -90


def test_the_same_rate_changes_nothing() -> None:
    mixture = noise(2, 1_000)
    np.testing.assert_array_equal(audio.resample(mixture, 44_100, 44_100), mixture)
    stream = audio.Resampler(8_000, 8_000, 2)
    parts = [stream.push(mixture[:, :300]), stream.push(mixture[:, 300:], last=True)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=-1), mixture)


def test_channels_do_not_mix_and_the_input_stays_unchanged() -> None:
    mixture = noise(3, 5_000)
    kept = mixture.copy()
    together = audio.resample(mixture, 44_100, 16_000)
    apart = np.concatenate([audio.resample(mixture[i : i + 1], 44_100, 16_000) for i in range(3)])
    np.testing.assert_array_equal(mixture, kept)
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rate", "to_rate"), RATES)
@pytest.mark.parametrize("samples", [1, 2])
def test_the_shortest_recordings_keep_a_sample(rate: int, to_rate: int, samples: int) -> None:
    assert audio.resample(noise(2, samples), rate, to_rate).shape[-1] >= 1


def test_silence_stays_silence() -> None:
    assert np.count_nonzero(audio.resample(np.zeros((2, 4_410), np.float32), 44_100, 16_000)) == 0
