from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocalsep import masks
from vocalsep.kinds import get_constant
from vocalsep.shapes import Array

UP_TO_8K = np.arange(9) * 1000.0
SECONDS = np.arange(6) * 0.1


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def complex_noise(*shape: int) -> Tensor:
    return torch.complex(uniform(*shape, seed=1) - 0.5, uniform(*shape, seed=2) - 0.5)


@st.composite
def axes(draw: st.DrawFn, most: float) -> Array:
    """Draw up to 12 ascending positions, at least 1e-4 of `most` apart."""
    places = draw(st.lists(st.integers(0, 10_000), min_size=1, max_size=12, unique=True))
    return np.array(sorted(places)) * (most / 10_000)


# ratio and binary


def test_ratio_is_the_share_of_the_power() -> None:
    vocals, accompaniment = torch.tensor([3.0, 0.0, 2.0, 1e-30]), torch.tensor([1.0, 5.0, 0.0, 1e-30])
    torch.testing.assert_close(masks.ratio(vocals, accompaniment), torch.tensor([0.75, 0.0, 1.0, 0.5]))


def test_ratio_of_silence_is_zero() -> None:
    assert torch.equal(masks.ratio(torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2, 3))


power = st.floats(0, 2.0**100, width=32, allow_subnormal=False)


@settings(deadline=None, max_examples=25)
@given(vocals=power, accompaniment=power)
def test_ratio_stays_in_range_and_leaves_the_rest_to_the_other_source(vocals: float, accompaniment: float) -> None:
    voice, rest = torch.tensor(vocals), torch.tensor(accompaniment)
    mask, other = masks.ratio(voice, rest), masks.ratio(rest, voice)
    assert 0 <= mask <= 1
    if vocals + accompaniment > 1e-37:
        assert (mask + other).item() == pytest.approx(1, abs=1e-6)


def test_binary_is_one_where_the_vocals_are_louder() -> None:
    vocals, accompaniment = torch.tensor([2.0, 1.0, 1.0, 0.0]), torch.tensor([1.0, 2.0, 1.0, 0.0])
    mask = masks.binary(vocals, accompaniment)
    assert mask.tolist() == [1, 0, 0, 0]
    assert mask.dtype == vocals.dtype


# project


@settings(deadline=None, max_examples=25)
@given(
    rows=axes(8000),
    to_rows=axes(24_000),
    seconds=axes(1),
    to_seconds=axes(2),
    value=st.floats(0, 1, width=32, allow_subnormal=False),
)
def test_project_keeps_a_constant(rows: Array, to_rows: Array, seconds: Array, to_seconds: Array, value: float) -> None:
    mask = torch.full((2, len(rows), len(seconds)), value)
    projected = masks.project(mask, rows_hz=rows, to_hz=to_rows, seconds=seconds, to_seconds=to_seconds)
    assert projected.shape == (2, len(to_rows), len(to_seconds))
    torch.testing.assert_close(projected, torch.full_like(projected, value), rtol=1e-6, atol=0)


@settings(deadline=None, max_examples=25)
@given(rows=axes(8000), to_rows=axes(24_000), seconds=axes(1), to_seconds=axes(2), seed=st.integers(0, 99))
def test_project_never_leaves_the_range_of_the_mask(
    rows: Array, to_rows: Array, seconds: Array, to_seconds: Array, seed: int
) -> None:
    mask = uniform(1, len(rows), len(seconds), seed=seed).round(decimals=1)
    projected = masks.project(mask, rows_hz=rows, to_hz=to_rows, seconds=seconds, to_seconds=to_seconds)
    assert projected.min() >= mask.min() - 1e-6
    assert projected.max() <= mask.max() + 1e-6


@settings(deadline=None, max_examples=25)
@given(rows=axes(8000), seconds=axes(10), seed=st.integers(0, 99))
def test_project_onto_its_own_grid_changes_nothing(rows: Array, seconds: Array, seed: int) -> None:
    mask = uniform(2, 1, len(rows), len(seconds), seed=seed)
    projected = masks.project(mask, rows_hz=rows, to_hz=rows, seconds=seconds, to_seconds=seconds)
    assert torch.equal(projected, mask)


@settings(deadline=None, max_examples=25)
@given(rows=axes(8000), to_rows=axes(8000), seconds=axes(1), to_seconds=axes(1), seed=st.integers(0, 99))
def test_project_is_linear_between_rows_and_frames(
    rows: Array, to_rows: Array, seconds: Array, to_seconds: Array, seed: int
) -> None:
    to_rows = to_rows[to_rows <= rows[-1]]  # above the last row the mask continues with a mean
    mask = uniform(len(rows), len(seconds), seed=seed)
    projected = masks.project(mask, rows_hz=rows, to_hz=to_rows, seconds=seconds, to_seconds=to_seconds)
    frames = [np.interp(to_seconds, seconds, row) for row in mask.double().numpy()]
    columns = [np.interp(to_rows, rows, column) for column in np.array(frames).T]
    expected = np.array(columns).T.reshape(len(to_rows), len(to_seconds))
    np.testing.assert_allclose(projected.numpy(), expected, rtol=0, atol=1e-6)


def test_project_keeps_the_outermost_values_before_and_after_all_frames_and_below_the_lowest_row() -> None:
    mask = uniform(9, 6)
    projected = masks.project(
        mask,
        rows_hz=UP_TO_8K + 500,
        to_hz=np.array([0.0, 499.0, 500.0]),
        seconds=SECONDS + 1,
        to_seconds=np.array([0.0, 0.9, 1.0, 1.5, 1.6, 100.0]),
    )
    torch.testing.assert_close(projected, mask[0, [0, 0, 0, 5, 5, 5]].expand(3, 6), rtol=0, atol=1e-6)


def test_project_continues_above_the_band_with_the_mean_of_its_top_quarter() -> None:
    mask = uniform(2, 9, 6)
    above = np.array([8000.5, 9000, 22_050])
    projected = masks.project(mask, rows_hz=UP_TO_8K, to_hz=above, seconds=SECONDS, to_seconds=SECONDS)
    expected = mask[:, 6:].mean(dim=1, keepdim=True)  # rows at 6, 7 and 8 kHz
    torch.testing.assert_close(projected, expected.expand(2, 3, 6), rtol=0, atol=1e-6)


# apply


def test_a_mask_of_ones_returns_the_mixture() -> None:
    spectrum = complex_noise(2, 5, 4)
    assert torch.equal(masks.apply(torch.ones(2, 5, 4), spectrum), spectrum)


def test_a_mask_of_zeros_returns_silence() -> None:
    assert masks.apply(torch.zeros(2, 5, 4), complex_noise(2, 5, 4)).abs().max() == 0


def test_mask_weighs_every_bin_and_keeps_its_phase() -> None:
    mask, spectrum = uniform(2, 5, 4), complex_noise(2, 5, 4)
    vocals = masks.apply(mask, spectrum)
    torch.testing.assert_close(vocals.real, spectrum.real * mask)
    torch.testing.assert_close(vocals.imag, spectrum.imag * mask)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_mask_value_that_is_not_finite_counts_as_zero(value: float) -> None:
    mask, spectrum = uniform(2, 5, 4), complex_noise(2, 5, 4)
    mask[0, 2, 3] = value
    vocals = masks.apply(mask, spectrum)
    assert vocals[0, 2, 3] == 0
    mask[0, 2, 3] = 0
    assert torch.equal(vocals, masks.apply(mask, spectrum))


def test_one_channel_of_mask_serves_every_channel_of_the_mixture() -> None:
    mask, spectrum = uniform(3, 1, 5, 4), complex_noise(3, 2, 5, 4)
    vocals = masks.apply(mask, spectrum)
    assert vocals.shape == spectrum.shape
    for channel in range(2):
        assert torch.equal(vocals[:, channel], masks.apply(mask[:, 0], spectrum[:, channel]))


# split_mixture


def step(*parts: Tensor) -> np.ndarray:
    """Return the float32 rounding step at the largest of `parts`."""
    largest = np.max([part.abs().numpy() for part in parts], axis=0)
    return np.spacing(largest).astype(np.float64)


def check_split(mixture: Tensor, vocals: Tensor) -> tuple[Tensor, Tensor]:
    """Check what holds for all inputs, and return the parts."""
    kept, accompaniment = masks.split_mixture(mixture, vocals)
    assert kept.dtype == accompaniment.dtype == torch.float32
    moved = (kept.double() - vocals.double()).abs().numpy()
    assert (moved <= step(mixture, vocals, mixture - vocals)).all()
    off = ((kept + accompaniment).double() - mixture.double()).abs().numpy()
    assert (off <= step(kept, accompaniment) / 2).all()
    return kept, accompaniment


def waves(most: float) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(-most, most, width=32), min_size=20, max_size=20)


@settings(deadline=None, max_examples=50)
@given(levels=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=20, max_size=20), vocals=waves(128))
def test_parts_sum_to_any_16_bit_mixture_bit_for_bit(levels: list[int], vocals: list[float]) -> None:
    mixture = torch.tensor(levels) / 2**15
    kept, accompaniment = check_split(mixture, torch.tensor(vocals))
    assert torch.equal(kept + accompaniment, mixture)


@settings(deadline=None, max_examples=50)
@given(levels=st.lists(st.integers(-(2**23), 2**23 - 1), min_size=20, max_size=20), vocals=waves(1))
@example(levels=[1, -1, 2**23 - 1, -(2**23)] * 5, vocals=[1.0] * 10 + [-1.0] * 10)
def test_parts_sum_to_any_24_bit_mixture_bit_for_bit(levels: list[int], vocals: list[float]) -> None:
    mixture = torch.tensor(levels) / 2**23
    kept, accompaniment = check_split(mixture, torch.tensor(vocals))
    assert torch.equal(kept + accompaniment, mixture)


@settings(deadline=None, max_examples=50)
@given(mixture=waves(2.0**60), shares=waves(1))
def test_parts_sum_to_any_mixture_that_is_at_least_as_large_as_its_vocals(
    mixture: list[float], shares: list[float]
) -> None:
    whole = torch.tensor(mixture)
    kept, accompaniment = check_split(whole, whole * torch.tensor(shares))
    assert torch.equal(kept + accompaniment, whole)


@settings(deadline=None, max_examples=25)
@given(mixture=waves(2.0**60), vocals=waves(2.0**60))
def test_parts_sum_to_any_mixture_within_half_a_step(mixture: list[float], vocals: list[float]) -> None:
    check_split(torch.tensor(mixture), torch.tensor(vocals))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), exponent=st.integers(-30, 30))
def test_parts_sum_to_noise_of_any_level_within_half_a_step(seed: int, exponent: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mixture = torch.randn(500, generator=generator)
    check_split(mixture, torch.randn(500, generator=generator) * 2.0**exponent)


def test_silent_vocals_and_vocals_equal_to_the_mixture_are_kept_exactly() -> None:
    mixture = uniform(2, 1000) - 0.5
    kept, accompaniment = masks.split_mixture(mixture, mixture)
    assert torch.equal(kept, mixture)
    assert not accompaniment.any()
    kept, accompaniment = masks.split_mixture(mixture, torch.zeros_like(mixture))
    assert not kept.any()
    assert torch.equal(accompaniment, mixture)


# inputs and caches


def test_no_function_changes_its_inputs() -> None:
    mask, other, spectrum = uniform(2, 9, 6), uniform(2, 9, 6, seed=3), complex_noise(2, 9, 6)
    mask[0, 0, 0] = float("nan")
    to_seconds = SECONDS / 2
    inputs = [mask, other, spectrum]
    positions = [UP_TO_8K, SECONDS, to_seconds]
    before = [tensor.clone() for tensor in inputs]
    positions_before = [array.copy() for array in positions]
    masks.ratio(mask, other)
    masks.binary(mask, other)
    masks.project(mask, rows_hz=UP_TO_8K, to_hz=UP_TO_8K * 2, seconds=SECONDS, to_seconds=to_seconds)
    masks.apply(mask, spectrum)
    masks.split_mixture(mask, other)
    for tensor, kept in zip(inputs, before, strict=True):
        torch.testing.assert_close(tensor, kept, rtol=0, atol=0, equal_nan=True)
    assert all(map(np.array_equal, positions, positions_before))


def test_a_row_matrix_cached_in_inference_still_serves_training() -> None:
    rows, freqs = (123.0, 456.0), (123.0, 234.0, 345.0)
    mask = uniform(2, 4).requires_grad_()
    with torch.inference_mode():
        get_constant(mask, masks.make_row_matrix, rows, freqs)
    (get_constant(mask, masks.make_row_matrix, rows, freqs) @ mask).sum().backward()
    assert mask.grad is not None
    torch.testing.assert_close(mask.grad.sum(), torch.tensor(12.0))
