"""Muon: steps whose matrices are orthogonal, so that no direction of the gradient dominates.

Source: Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, "Muon: an optimizer for hidden layers in neural
networks", 2024. The size of the step follows Liu et al., "Muon is scalable for LLM training", 2025, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
_STEP_SIZE = 2.0  # root mean square of the change of an N x N matrix, times the root of N, at a learning rate of 1
_ITERATIONS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)  # these coefficients bring all singular values to between 0.7 and 1.2


class Muon(torch.optim.AdamW):
    """Muon for matrices and kernels, AdamW for all else.

    Args:
        matrices: Parameters that Muon changes. Kernels count as matrices with one row per first index.
        groups: Groups of parameters that AdamW changes.
        lr: Learning rate of both.
        weight_decay: Weight decay of the matrices.
        iterate_in: Precision in which matrices are made orthogonal. The source uses bfloat16.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        groups: Sequence[dict[str, Any]],
        lr: float,
        weight_decay: float,
        iterate_in: torch.dtype = torch.float32,
    ) -> None:
        self.iterate_in = iterate_in
        muon = {"params": list(matrices), "weight_decay": weight_decay, "muon": True}
        super().__init__([muon, *({"muon": False} | group for group in groups)], lr=lr, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Make a step. A gradient scaler that has found gradients that are not finite skips it."""
        found = getattr(self, "found_inf", None)
        gradients: dict[nn.Parameter, Tensor] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                if group["muon"] and parameter.grad is not None:
                    gradients[parameter], parameter.grad = parameter.grad, None  # AdamW leaves it alone
                    if found is None or not found:
                        self._change(parameter, gradients[parameter], group["lr"], group["weight_decay"])
        super().step(closure)
        for parameter, gradient in gradients.items():
            parameter.grad = gradient

    def _change(self, parameter: nn.Parameter, gradient: Tensor, lr: float, weight_decay: float) -> None:
        state = self.state[parameter]
        if not state:  # AdamW expects a step count
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(parameter)}
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        matrix = torch.lerp(gradient, momentum, MOMENTUM).flatten(1)
        size = lr * _STEP_SIZE * max(matrix.shape) ** 0.5
        change = orthogonalise(matrix.to(self.iterate_in)).view(parameter.shape)
        parameter.mul_(1 - lr * weight_decay).sub_(change, alpha=size)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Bring all singular values of a matrix close to 1, by iterations of Newton and Schulz.

    Args:
        matrix: Of any shape and scale.

    Returns:
        The same shape, with singular values between about 0.7 and 1.2. A matrix of zeros stays as it is.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    found = matrix if wide else matrix.mT
    found = found / found.norm().clamp_min(1e-30)
    first, second, third = _QUINTIC
    for _ in range(_ITERATIONS):
        square = found @ found.mT
        found = torch.addmm(found, torch.addmm(square, square, square, beta=second, alpha=third), found, beta=first)
    return found if wide else found.mT
