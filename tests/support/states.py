"""Copy the states of nets and trainers, and compare them bit for bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def copy_state(net: torch.nn.Module) -> dict[str, Tensor]:
    """Copy parameters and buffers by name."""
    return {key: tensor.clone() for key, tensor in net.state_dict().items()}


def copy_parameters(net: torch.nn.Module) -> dict[str, Tensor]:
    """Copy parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def are_identical(one: Any, other: Any) -> bool:
    """Return whether two nested dicts, lists, tensors and plain values are equal, bit for bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_identical(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(are_identical, one, other))
    return bool(one == other)
