from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from vocalsep.training.muon import MOMENTUM, Muon, orthogonalise


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6), (1, 5)])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_singular_values_come_close_to_one_and_directions_stay(shape: tuple[int, int], scale: float) -> None:
    matrix = noise(*shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.mT @ orthogonalise(scale * matrix) @ right.mT
    values = found.diagonal()
    assert values.min() > 0.3  # the smallest ones of a square matrix are still on their way
    assert values.median() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(found, values.diag(), rtol=0, atol=1e-3)


def test_a_matrix_of_zeros_stays_as_it_is() -> None:
    assert not orthogonalise(torch.zeros(3, 4)).any()


def make(lr: float = 0.01) -> tuple[nn.Parameter, nn.Parameter, Muon]:
    kernel, bias = nn.Parameter(noise(4, 2, 3, 3)), nn.Parameter(noise(4))
    return kernel, bias, Muon([kernel], [{"params": [bias], "weight_decay": 0.0}], lr, weight_decay=0.1)


def test_a_first_step_is_orthogonal_and_decays_the_weights() -> None:
    kernel, _, optimiser = make(lr=0.01)
    kernel.grad = noise(4, 2, 3, 3, seed=1)
    before = kernel.detach().clone()
    gradient = kernel.grad.clone()
    optimiser.step()
    change = (kernel.detach() - (1 - 0.01 * 0.1) * before).flatten(1)
    expected = -0.01 * 2.0 * 18**0.5 * orthogonalise(gradient.flatten(1))
    torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(kernel.grad, gradient)


def test_steps_in_half_precision_go_the_same_way() -> None:
    kernel = nn.Parameter(noise(16, 8, 3, 3))
    before = kernel.detach().clone()
    optimiser = Muon([kernel], [], lr=0.01, weight_decay=0.0, iterate_in=torch.bfloat16)
    kernel.grad = noise(16, 8, 3, 3, seed=1)
    optimiser.step()
    change = (kernel.detach() - before).flatten()
    expected = -0.01 * 2.0 * 72**0.5 * orthogonalise(kernel.grad.flatten(1)).flatten()
    assert kernel.dtype == optimiser.state[kernel]["momentum"].dtype == torch.float32
    assert torch.linalg.vector_norm(change - expected) < 0.02 * torch.linalg.vector_norm(expected)
    assert not torch.equal(change, expected)


def test_later_steps_follow_the_momentum() -> None:
    kernel, _, optimiser = make()
    gradients = [noise(4, 2, 3, 3, seed=seed) for seed in (1, 2)]
    for gradient in gradients:
        kernel.grad = gradient.clone()
        before = kernel.detach().clone()
        optimiser.step()
    momentum = (1 - MOMENTUM) * (MOMENTUM * gradients[0] + gradients[1])
    mixed = (1 - MOMENTUM) * gradients[1] + MOMENTUM * momentum
    change = (kernel.detach() - (1 - 0.01 * 0.1) * before).flatten(1)
    torch.testing.assert_close(change, -0.02 * 18**0.5 * orthogonalise(mixed.flatten(1)), rtol=1e-4, atol=1e-6)


def test_all_else_is_changed_as_by_adamw() -> None:
    _, bias, optimiser = make()
    other = nn.Parameter(bias.detach().clone())
    plain = torch.optim.AdamW([other], lr=0.01, weight_decay=0.0)
    for seed in range(3):
        bias.grad, other.grad = noise(4, seed=seed), noise(4, seed=seed)
        optimiser.step()
        plain.step()
    torch.testing.assert_close(bias, other)


def test_parameters_without_gradient_stay() -> None:
    kernel, bias, optimiser = make()
    before = kernel.detach().clone(), bias.detach().clone()
    optimiser.step()
    assert torch.equal(kernel, before[0])
    assert torch.equal(bias, before[1])


def test_a_copy_of_its_state_goes_on_alike() -> None:
    kernel, bias, optimiser = make()
    again, twin, other = make()
    kernel.grad, bias.grad = noise(4, 2, 3, 3, seed=1), noise(4, seed=1)
    optimiser.step()
    with torch.no_grad():
        again.copy_(kernel)
        twin.copy_(bias)
    other.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for parameters, each in (((kernel, bias), optimiser), ((again, twin), other)):
        for parameter in parameters:
            parameter.grad = noise(*parameter.shape, seed=2)
        each.step()
    assert torch.equal(kernel, again)
    assert torch.equal(bias, twin)


def test_a_step_that_a_scaler_skips_changes_nothing() -> None:
    kernel, bias, optimiser = make()
    before = kernel.detach().clone(), bias.detach().clone()
    kernel.grad, bias.grad = torch.full_like(kernel, torch.inf), torch.ones_like(bias)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))  # makes its state
    scaler.unscale_(optimiser)
    scaler.step(optimiser)
    assert torch.equal(kernel, before[0])
    assert torch.equal(bias, before[1])
