"""Resampling: the same samples for any blocks, in phase, and no aliases."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from fake_nets import noise, tone
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocalsep import audio

RATES = [(44_100, 16_000), (16_000, 44_100), (48_000, 44_100), (8_000, 48_000), (44_100, 22_050)]


def compute_peak_db(error: Tensor) -> float:
    """Return the largest absolute value, dB relative to full scale."""
    return 20 * float(np.log10(max(1e-15, float(error.abs().max()))))


def split_at(samples: Tensor, cuts: list[int]) -> Iterator[Tensor]:
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
    streamed, whole = torch.cat(parts, dim=-1), audio.resample(mixture, *rates)
    assert streamed.shape == whole.shape
    assert streamed.dtype == torch.float32
    if whole.numel():
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
    assert torch.equal(audio.resample(mixture, 44_100, 44_100), mixture)
    stream = audio.Resampler(8_000, 8_000, 2)
    parts = [stream.push(mixture[:, :300]), stream.push(mixture[:, 300:], last=True)]
    assert torch.equal(torch.cat(parts, dim=-1), mixture)


def test_channels_do_not_mix_and_the_input_stays_unchanged() -> None:
    mixture = noise(3, 5_000)
    kept = mixture.clone()
    together = audio.resample(mixture, 44_100, 16_000)
    apart = torch.cat([audio.resample(mixture[i : i + 1], 44_100, 16_000) for i in range(3)])
    assert torch.equal(mixture, kept)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rate", "to_rate"), RATES)
@pytest.mark.parametrize("samples", [1, 2])
def test_the_shortest_recordings_keep_a_sample(rate: int, to_rate: int, samples: int) -> None:
    assert audio.resample(noise(2, samples), rate, to_rate).shape[-1] >= 1


def test_silence_stays_silence() -> None:
    assert audio.resample(torch.zeros(2, 4_410), 44_100, 16_000).count_nonzero() == 0
