from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from net_batches import noise
from torch import Tensor
from torch.nn import functional as F

from vocalsep.nets import losses


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


def test_cross_entropy_is_smallest_at_the_target() -> None:
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


def split_and_mask(mask: Tensor, mixture: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Compute both losses of a masked mixture from complex spectra."""
    whole, part = losses.split_parts(mixture), losses.split_parts(reference)
    powers = (whole.square().sum(0), (whole * part).sum(0), part.square().sum(0))
    return losses.masked_l1(mask, whole, part), losses.masked_log_error(mask, *powers)


def test_losses_of_a_masked_mixture_are_their_definitions() -> None:
    mixture, reference = (complex_noise(3, 2, 4, 5, seed=seed) for seed in range(2))
    mask = noise(3, 2, 4, 5, seed=2).sigmoid()
    l1, log_error = split_and_mask(mask, mixture, reference)
    torch.testing.assert_close(l1, losses.spectral_l1(mask * mixture, reference, mixture))
    error, level = ((mask * mixture - reference).abs().square().sum((1, 2, 3)), mixture.abs().square().sum((1, 2, 3)))
    torch.testing.assert_close(log_error, (error / level + 1e-3).log10().mean())


def test_the_log_error_falls_by_a_bel_where_the_error_falls_by_10_db_and_ends_at_30_db() -> None:
    mixture = complex_noise(2, 2, 4, 5)
    far, near, exact = (
        split_and_mask(torch.full(mixture.shape, 0.5 + error), mixture, 0.5 * mixture)[1].item()
        for error in (0.3, 0.3 / math.sqrt(10), 0.0)
    )
    assert far - near == pytest.approx(1, abs=0.05)
    assert exact == pytest.approx(-3, abs=1e-3)


def test_silent_mixtures_leave_losses_of_masks_finite() -> None:
    silence = torch.zeros(1, 1, 4, 3, dtype=torch.complex64)
    mask = torch.full((1, 1, 4, 3), 0.5, requires_grad=True)
    for loss in split_and_mask(mask, silence, silence):
        mask.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.isfinite()
        assert mask.grad is not None
        assert mask.grad.isfinite().all()


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
    split_and_mask(noise(2, 1, 4, 3).sigmoid(), *spectra[:2])
    losses.binary_cross_entropy(logits, target)
    for tensor, kept in zip((*spectra, logits, target), before, strict=True):
        assert torch.equal(tensor, kept)


def test_weights_of_bins_are_the_mixtures_magnitude_relative_to_its_mean() -> None:
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
    """One bin of voice, nine of silence: the best constant mask is 0.1 for cross-entropy and 0 for L1."""
    target = torch.tensor([1.0] + [0.0] * 9)
    grid = torch.linspace(0.001, 0.999, 999)
    crossed = torch.stack([losses.binary_cross_entropy(torch.logit(mask).expand(10), target) for mask in grid])
    distance = torch.stack([(mask - target).abs().mean() for mask in grid])
    assert float(grid[crossed.argmin()]) == pytest.approx(0.1, abs=0.002)
    assert float(grid[distance.argmin()]) == pytest.approx(0.001)


# deep clustering


def unit_vectors(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(noise(*shape, seed=seed), dim=-1)


def one_hot(batch: int, bins: int, columns: int = 2, seed: int = 0) -> Tensor:
    """Assign bins to a source at random. A single column is the voice's."""
    voice = (noise(batch, bins, 1, seed=seed + 50) > 0).float()
    return torch.cat([voice, 1 - voice], dim=-1)[..., :columns]


def positive_weights(batch: int, bins: int, seed: int = 0) -> Tensor:
    return noise(batch, bins, seed=seed + 60).abs()


def naive_affinity(embedding: Tensor, assignment: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum over all pairs of bins, in float64."""
    v, y = embedding.double(), assignment.double()
    share = torch.ones(v.shape[:2]).double() if weight is None else weight.double()
    share = share / share.sum(dim=1, keepdim=True)
    difference = v @ v.transpose(1, 2) - y @ y.transpose(1, 2)
    return (share[:, :, None] * share[:, None, :] * difference.square()).sum(dim=(1, 2)).mean()


@settings(deadline=None, max_examples=50)
@given(
    batch=st.integers(1, 3),
    bins=st.integers(1, 30),
    dimensions=st.integers(1, 6),
    columns=st.integers(1, 2),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_factored_affinity_is_the_one_of_all_pairs_of_bins(
    batch: int, bins: int, dimensions: int, columns: int, weighted: bool, seed: int
) -> None:
    embedding, assignment = unit_vectors(batch, bins, dimensions, seed=seed), one_hot(batch, bins, columns, seed)
    weight = positive_weights(batch, bins, seed) if weighted else None
    found = losses.affinity(embedding, assignment, weight)
    torch.testing.assert_close(found.double(), naive_affinity(embedding, assignment, weight), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("voice", "rest"), [(3, 4), (1, 1), (5, 0)])
@pytest.mark.parametrize("dimensions", [2, 7])
def test_affinity_is_smallest_when_the_sources_have_orthogonal_embeddings(
    voice: int, rest: int, dimensions: int
) -> None:
    assignment = torch.eye(2)[[0] * voice + [1] * rest][None]
    turn = torch.linalg.qr(noise(dimensions, dimensions))[0]
    for places in (turn[:2], -turn[[1, 0]]):  # any orthogonal pair
        assert losses.affinity(assignment @ places, assignment).item() == pytest.approx(0, abs=1e-6)


def test_affinity_counts_the_pairs_of_a_misplaced_bin() -> None:
    assignment = torch.eye(2)[[0] * 3 + [1] * 4][None]
    embedding = assignment.clone()
    # The bin is wrong in its pairs with two bins of its source and four of the other, in both orders.
    embedding[0, 0] = torch.tensor([0.0, 1.0])
    assert losses.affinity(embedding, assignment).item() == pytest.approx(2 * 6 / 7**2)


def test_one_column_pushes_bins_of_the_accompaniment_apart_and_two_columns_form_a_cluster() -> None:
    assignment = torch.eye(2)[[0] * 3 + [1] * 4][None]
    cluster = torch.eye(5)[[0] * 3 + [1] * 4][None]
    apart = torch.eye(5)[[0] * 3 + [1, 2, 3, 4]][None]
    found = [
        [losses.affinity(embedding, assignment[..., :columns]).item() for embedding in (cluster, apart)]
        for columns in (1, 2)
    ]
    assert found[0] == pytest.approx([4 * 4 / 7**2, 4 / 7**2])  # a bin is not orthogonal to itself
    assert found[1] == pytest.approx([0, 4 * 3 / 7**2], abs=1e-6)


def test_bins_count_by_their_weight_and_bins_without_weight_not_at_all() -> None:
    embedding, assignment = unit_vectors(1, 7, 4), one_hot(1, 7)
    weight = torch.tensor([[3.0, 0.0, 1.0, 0.5, 2.0, 1.0, 0.1]])
    expected = losses.affinity(embedding, assignment, weight)
    moved = embedding.clone()
    moved[0, 1] = unit_vectors(4, seed=9)  # has no weight
    torch.testing.assert_close(losses.affinity(moved, assignment, weight), expected)
    moved[0, 0] = unit_vectors(4, seed=9)
    assert (losses.affinity(moved, assignment, weight) - expected).abs() > 1e-3
    twice = [torch.cat([part, part[:, :1]], dim=1) for part in (embedding, assignment, weight)]
    twice[2][0, [0, -1]] /= 2
    torch.testing.assert_close(losses.affinity(*twice), expected)


def test_only_the_proportions_of_weights_matter() -> None:
    embedding, assignment, weight = unit_vectors(3, 20, 4), one_hot(3, 20), positive_weights(3, 20)
    expected = losses.affinity(embedding, assignment, weight)
    factors = torch.tensor([[1e-2], [1.0], [1e3]])
    torch.testing.assert_close(losses.affinity(embedding, assignment, factors * weight), expected)
    alike = losses.affinity(embedding, assignment)
    torch.testing.assert_close(losses.affinity(embedding, assignment, factors.expand(3, 20)), alike)
    assert (alike - expected).abs() > 1e-3


def test_the_order_of_bins_and_of_sources_does_not_matter() -> None:
    embedding, assignment, weight = unit_vectors(2, 30, 4), one_hot(2, 30), positive_weights(2, 30)
    expected = losses.affinity(embedding, assignment, weight)
    torch.testing.assert_close(losses.affinity(embedding, assignment.flip(-1), weight), expected)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    shuffled = [part[:, order] for part in (embedding, assignment, weight)]
    torch.testing.assert_close(losses.affinity(*shuffled), expected)
    assert (losses.affinity(shuffled[0], assignment, weight) - expected).abs() > 1e-2


def test_every_excerpt_counts_the_same_whatever_its_weights() -> None:
    parts = unit_vectors(3, 20, 4), one_hot(3, 20), positive_weights(3, 20) * torch.tensor([[1.0], [100.0], [0.1]])
    each = [losses.affinity(*(part[i : i + 1] for part in parts)) for i in range(3)]
    torch.testing.assert_close(losses.affinity(*parts), torch.stack(each).mean())


def remove_voice(embedding: Tensor, assignment: Tensor, weight: Tensor) -> None:
    assignment[:] = torch.tensor([0.0, 1.0])


def remove_sound(embedding: Tensor, assignment: Tensor, weight: Tensor) -> None:
    weight[:] = 0


def collapse_embeddings(embedding: Tensor, assignment: Tensor, weight: Tensor) -> None:
    embedding[:] = embedding[:, :1].clone()


@pytest.mark.parametrize("distort", [remove_voice, remove_sound, collapse_embeddings])
def test_degenerate_excerpts_leave_gradients_finite_and_those_of_others_unchanged(
    distort: Callable[[Tensor, Tensor, Tensor], None],
) -> None:
    parts = unit_vectors(2, 30, 4), one_hot(2, 30), positive_weights(2, 30)

    def gradient() -> Tensor:
        leaf = parts[0].clone().requires_grad_()
        losses.affinity(leaf, *parts[1:]).backward()
        assert leaf.grad is not None
        return leaf.grad

    before = gradient()
    distort(*(part[1:] for part in parts))
    after = gradient()
    assert after.isfinite().all()
    torch.testing.assert_close(after[0], before[0])


def test_the_affinity_of_silence_is_zero() -> None:
    assert losses.affinity(unit_vectors(1, 9, 3), one_hot(1, 9), torch.zeros(1, 9)) == 0


def test_the_affinity_leaves_its_inputs_alone() -> None:
    inputs = unit_vectors(2, 9, 3), one_hot(2, 9), positive_weights(2, 9)
    before = [tensor.clone() for tensor in inputs]
    losses.affinity(*inputs)
    assert all(map(torch.equal, inputs, before))
