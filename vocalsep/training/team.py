"""Several processes that train one net: each takes a share of every batch, and their gradients are averaged.

Started by ``torchrun``, which says to each process who it is. gloo connects processes on CPUs, nccl those on GPUs. A
process on its own is a team of one, for which all of this does nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vocalsep.errors import VocalsepError
from vocalsep.nets import Batch, Net

_PATIENCE = datetime.timedelta(hours=6)  # for the leader to decode a data set, or to validate


@dataclass(frozen=True, kw_only=True)
class Team:
    """Who this process is among those that train together.

    Attributes:
        rank: Its number; the one with 0 leads: it alone validates, reports and writes.
        size: How many there are.
        device: Where it computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the process that validates, reports and writes."""
        return self.rank == 0

    def shared(self, number: float) -> float:
        """The leader's number, for all."""
        if self.size == 1:
            return number
        held = torch.tensor(number, dtype=torch.float64, device=self.device)
        distributed.broadcast(held, src=0)
        return float(held)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of everybody's values, without their gradients, for all."""
        values = values.detach().clone()
        if self.size > 1:
            distributed.all_reduce(values)
        return values / self.size

    def joined(self, net: Net) -> nn.Module:
        """What is called with a batch to train `net`: gradients are averaged over the team, and so are statistics.

        Its batch norms are changed in place into those of the whole team's batch.
        """
        module = LossModule(net)
        if self.size == 1:
            return module
        _share_norms(net)
        ours = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=ours)

    @contextlib.contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader goes through the block before the others do, so that these find what it has made.

        Raises:
            VocalsepError: In the others, if the leader failed.
        """
        if not self.leads and not self.shared(0.0):
            raise VocalsepError("the first process failed; see what it says")
        passed = 0.0
        try:
            yield
            passed = 1.0
        finally:
            if self.leads:
                self.shared(passed)


class LossModule(nn.Module):
    """Calls a net's loss as a module's forward pass, which is what `DistributedDataParallel` wraps."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the terms of the loss, as `Net.loss` does."""
        return self.net.loss(batch)


@contextlib.contextmanager
def gathered(device: torch.device) -> Iterator[Team]:
    """The team that ``torchrun`` has started this process in; a team of one without it.

    Args:
        device: Where to compute; of several GPUs each process on a machine takes its own.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or not distributed.is_available():
        yield Team(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Team(rank=distributed.get_rank(), size=size, device=device)
    finally:
        distributed.destroy_process_group()


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation by the mean and variance of all processes' maps. torch's own does this on GPUs only."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalises ``(batch, channel, ...)``; in evaluation it is an ordinary batch norm."""
        if not self.training:
            return super().forward(maps)
        others = [0, *range(2, maps.ndim)]
        along = (-1, *[1] * (maps.ndim - 2))
        count = distributed.get_world_size() * maps.numel() // maps.shape[1]
        mean = _total(maps.float().sum(dim=others)) / count
        centred = maps - mean.view(along)
        variance = _total(centred.float().square().sum(dim=others)) / count
        if self.running_mean is not None and self.running_var is not None:
            step = 0.0 if self.momentum is None else self.momentum
            with torch.no_grad():
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
                self.running_mean.lerp_(mean, step)
                self.running_var.lerp_(variance * count / max(1, count - 1), step)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias.view(along), centred, scale.view(along)).to(maps.dtype)

    def _check_input_dim(self, maps: Tensor) -> None:
        """Any number of axes will do."""


class _Total(torch.autograd.Function):
    """The sum over all processes. Each one's loss depends on it, so its gradient is the sum over them, too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        del ctx
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Total.forward(ctx, *gradients)


def _share_norms(net: nn.Module) -> None:
    for name, child in net.named_children():
        if isinstance(child, _BatchNorm):
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum).to(child.weight.device)
            shared.load_state_dict(child.state_dict())
            setattr(net, name, shared)
        else:
            _share_norms(child)


def _total(values: Tensor) -> Tensor:
    total: Tensor = _Total.apply(values)  # type: ignore[no-untyped-call]
    return total
