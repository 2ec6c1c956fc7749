from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import fakes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocalsep.metrics import framewise_sdr, sdr

RATE = 1_000


def noise_at(reference: Tensor, snr_db: float, seed: int = 1) -> Tensor:
    """Noise that lies so far below the reference in every window of a second."""
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for start in range(0, reference.shape[-1], RATE):
        window = slice(start, start + RATE)
        wanted = reference[:, window].norm() * 10 ** (-snr_db / 20)
        noise[:, window] *= wanted / noise[:, window].norm()
    return noise


@settings(deadline=None, max_examples=25)
@given(snr_db=st.floats(-60, 100), channels=st.integers(1, 3), windows=st.integers(1, 4))
def test_noise_of_a_known_level_scores_that_level(snr_db: float, channels: int, windows: int) -> None:
    reference = fakes.noise(channels, windows * RATE).double()
    estimate = reference + noise_at(reference, snr_db)
    scores = framewise_sdr(reference, estimate, RATE)
    torch.testing.assert_close(scores, torch.full((windows,), snr_db, dtype=torch.float64), rtol=0, atol=1e-6)
    assert sdr(reference, estimate) == pytest.approx(snr_db, abs=1e-6)


def test_an_estimate_of_half_the_level_scores_6_db_and_of_nothing_but_noise_less_than_0() -> None:
    reference = fakes.noise(2, 3 * RATE)
    assert framewise_sdr(reference, reference / 2, RATE).tolist() == pytest.approx([20 * np.log10(2)] * 3)
    assert sdr(reference, reference / 2) == pytest.approx(20 * np.log10(2))
    assert sdr(reference, -reference) == pytest.approx(-20 * np.log10(2))
    assert framewise_sdr(reference, fakes.noise(2, 3 * RATE, seed=5), RATE).max() < 0


def test_a_perfect_estimate_scores_infinity() -> None:
    reference = fakes.noise(1, 2 * RATE)
    assert framewise_sdr(reference, reference.clone(), RATE).tolist() == [torch.inf] * 2
    assert sdr(reference, reference.clone()) == torch.inf


def test_windows_are_scored_each_for_itself() -> None:
    reference = fakes.noise(2, 3 * RATE)
    estimate = reference.clone()
    estimate[:, :RATE] *= 0.9
    estimate[:, RATE : 2 * RATE] *= 0.99
    estimate[:, 2 * RATE :] *= 0.999
    assert framewise_sdr(reference, estimate, RATE).tolist() == pytest.approx([20, 40, 60], abs=1e-2)


@pytest.mark.parametrize(
    ("samples", "windows"), [(1, 1), (999, 1), (1_000, 1), (1_999, 1), (2_000, 2), (2_001, 2), (5_500, 5)]
)
def test_a_last_part_that_is_shorter_is_left_out_unless_it_is_all(samples: int, windows: int) -> None:
    reference = fakes.noise(2, samples)
    scores = framewise_sdr(reference, 0.5 * reference, RATE)
    assert scores.shape == (windows,)
    assert scores.dtype == torch.float64
    estimate = reference / 2
    if samples > RATE:
        estimate[:, windows * RATE :] = 100.0
    assert torch.equal(framewise_sdr(reference, estimate, RATE), scores)


@pytest.mark.parametrize("seconds", [0.25, 0.5, 2.0])
def test_the_window_is_given_in_seconds(seconds: float) -> None:
    reference = fakes.noise(1, 4 * RATE)
    assert framewise_sdr(reference, reference / 2, RATE, window_seconds=seconds).shape == (4 / seconds,)


def test_windows_where_reference_or_estimate_is_silent_are_not_numbers() -> None:
    reference, estimate = fakes.noise(2, 4 * RATE), fakes.noise(2, 4 * RATE, seed=1)
    reference[:, :RATE] = 0
    estimate[:, RATE : 2 * RATE] = 0
    reference[0, 2 * RATE : 3 * RATE] = 0  # one channel alone is no silence
    assert framewise_sdr(reference, estimate, RATE).isnan().tolist() == [True, True, False, False]


def test_inputs_are_not_changed() -> None:
    reference, estimate = fakes.noise(1, 2 * RATE), fakes.noise(1, 2 * RATE, seed=1)
    before = reference.clone(), estimate.clone()
    framewise_sdr(reference, estimate, RATE)
    sdr(reference, estimate)
    assert torch.equal(reference, before[0])
    assert torch.equal(estimate, before[1])


def museval_metrics() -> ModuleType:
    """museval's module of metrics alone: the package itself cannot be imported without ffmpeg."""
    package = importlib.util.find_spec("museval")
    if package is None or package.origin is None:
        pytest.skip("museval is not installed")
    spec = importlib.util.spec_from_file_location("museval_metrics", Path(package.origin).with_name("metrics.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_framewise_sdr_is_musevals() -> None:
    museval = museval_metrics()
    reference, other = fakes.noise(2, 3 * RATE + 400), fakes.noise(2, 3 * RATE + 400, seed=1)
    reference[:, RATE : 2 * RATE] = 0  # a pause of the singer
    estimate = 0.8 * reference + 0.3 * other + fakes.noise(2, 3 * RATE + 400, seed=2, level=0.02)
    mixture = reference + other
    theirs, *_ = museval.bss_eval(
        np.stack([part.numpy().T for part in (reference, other)]),
        np.stack([part.numpy().T for part in (estimate, mixture - estimate)]),
        window=RATE,
        hop=RATE,
        filters_len=16,  # of the parts that SDR is split into, not of SDR itself; 512 takes seconds
        compute_permutation=False,
        framewise_filters=False,
        bsseval_sources_version=False,
    )
    ours = framewise_sdr(reference, estimate, RATE)
    assert ours.shape == theirs[0].shape
    np.testing.assert_allclose(ours.numpy(), theirs[0], atol=1e-3, equal_nan=True)
    assert ours.isnan().tolist() == [False, True, False]
    there = ~np.isnan(theirs[1])  # museval gives no score of any source where one of them is silent
    assert there.tolist() == [True, False, True]
    others = framewise_sdr(other, mixture - estimate, RATE).numpy()
    np.testing.assert_allclose(others[there], theirs[1][there], atol=1e-3)
