from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vocalsep import losses


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def complex_noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.complex(noise(*shape, seed=seed), noise(*shape, seed=seed + 100))


def test_cross_entropy_is_its_definition() -> None:
    logits, target = noise(2, 1, 4, 5) * 3, noise(2, 1, 4, 5, seed=1).sigmoid()
    p = torch.sigmoid(logits.double())
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(losses.binary_cross_entropy(logits, target), expected.float())


@pytest.mark.parametrize(
    ("logit", "target", "expected"),
    [
        (0.0, 0.0, math.log(2)),
        (0.0, 0.3, math.log(2)),
        (0.0, 1.0, math.log(2)),
        (200.0, 1.0, 0),
        (200.0, 0.0, 200),
    ],
)
def test_cross_entropy_of_known_cases(logit: float, target: float, expected: float) -> None:
    shape = (2, 1, 3, 3)
    loss = losses.binary_cross_entropy(torch.full(shape, logit), torch.full(shape, target))
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_cross_entropy_is_least_at_the_target() -> None:
    target = torch.tensor([0.1, 0.5, 0.8])
    logits = torch.logit(target).requires_grad_()
    losses.binary_cross_entropy(logits, target).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros(3), rtol=0, atol=1e-7)


def test_spectral_distance_of_a_known_case() -> None:
    shape = (2, 2, 4, 3)
    mixture = torch.full(shape, 3 + 1j)  # mean square of the parts: (9 + 1) / 2
    estimate = torch.full(shape, 1 - 2j)
    reference = torch.full(shape, 0.5 + 0j)
    expected = (0.5 + 2) / 2 / math.sqrt(5)
    assert losses.spectral_l1(estimate, reference, mixture).item() == pytest.approx(expected, rel=1e-6)


def test_spectral_distance_is_zero_only_at_the_truth() -> None:
    reference, mixture = complex_noise(2, 1, 4, 3), complex_noise(2, 1, 4, 3, seed=1)
    assert losses.spectral_l1(reference, reference, mixture) == 0
    for wrong in (0.99 * reference, -reference, reference.conj().resolve_conj(), 1j * reference):
        assert losses.spectral_l1(wrong, reference, mixture) > 0


def test_spectral_distance_is_symmetric_and_grows_with_the_error() -> None:
    estimate, reference, mixture = (complex_noise(2, 1, 4, 3, seed=seed) for seed in range(3))
    there = losses.spectral_l1(estimate, reference, mixture)
    torch.testing.assert_close(losses.spectral_l1(reference, estimate, mixture), there)
    further = reference + 2 * (estimate - reference)
    torch.testing.assert_close(losses.spectral_l1(further, reference, mixture), 2 * there)


def test_every_excerpt_counts_the_same_at_any_level() -> None:
    parts = [complex_noise(3, 2, 4, 5, seed=seed) for seed in range(3)]
    each = [losses.spectral_l1(*(part[i : i + 1] for part in parts)) for i in range(3)]
    gains = torch.tensor([1e-2, 1.0, 1e3]).reshape(3, 1, 1, 1)
    together = losses.spectral_l1(*(part * gains for part in parts))
    torch.testing.assert_close(together, torch.stack(each).mean())


def test_silent_excerpt_leaves_the_loss_finite() -> None:
    silence = torch.zeros(1, 1, 4, 3, dtype=torch.complex64)
    estimate = torch.zeros(1, 1, 4, 3, dtype=torch.complex64, requires_grad=True)
    loss = losses.spectral_l1(estimate, silence, silence)
    loss.backward()
    assert loss == 0
    assert estimate.grad is not None
    assert torch.view_as_real(estimate.grad).isfinite().all()


def test_losses_leave_their_inputs_alone() -> None:
    spectra = [complex_noise(2, 1, 4, 3, seed=seed) for seed in range(3)]
    logits, target = noise(2, 3), noise(2, 3, seed=1).sigmoid()
    before = [tensor.clone() for tensor in (*spectra, logits, target)]
    losses.spectral_l1(*spectra)
    losses.binary_cross_entropy(logits, target)
    for tensor, kept in zip((*spectra, logits, target), before, strict=True):
        assert torch.equal(tensor, kept)


def test_weights_of_bins_are_the_mixtures_magnitude_against_its_mean() -> None:
    power = torch.tensor([1.0, 4.0, 9.0, 4.0]).reshape(1, 1, 2, 2)
    torch.testing.assert_close(losses.magnitude_weight(power).flatten(), torch.tensor([0.5, 1.0, 1.5, 1.0]))
    louder = losses.magnitude_weight(torch.cat([power, 100 * power]))
    torch.testing.assert_close(louder[0], louder[1])
    assert not losses.magnitude_weight(torch.zeros(1, 1, 2, 2)).any()


def test_a_weighted_cross_entropy_counts_bins_by_their_weight() -> None:
    logits, target = torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.0])
    single = [losses.binary_cross_entropy(logits[i], target[i]) for i in range(2)]
    weighted = losses.binary_cross_entropy(logits, target, torch.tensor([0.5, 1.5]))
    torch.testing.assert_close(weighted, (0.5 * single[0] + 1.5 * single[1]) / 2)


def test_where_the_voice_is_uncertain_cross_entropy_keeps_it_and_an_l1_distance_drops_it() -> None:
    """Nine bins of silence to one of voice: the best constant mask is a tenth, or none."""
    target = torch.tensor([1.0] + [0.0] * 9)
    grid = torch.linspace(0.001, 0.999, 999)
    crossed = torch.stack([losses.binary_cross_entropy(torch.logit(mask).expand(10), target) for mask in grid])
    distance = torch.stack([(mask - target).abs().mean() for mask in grid])
    assert float(grid[crossed.argmin()]) == pytest.approx(0.1, abs=0.002)
    assert float(grid[distance.argmin()]) == pytest.approx(0.001)
