"""Train one net with several processes: each takes a share of every batch, and their gradients are averaged.

``torchrun`` starts the processes and numbers them. gloo connects processes on CPUs, nccl those on GPUs. A single
process is a team of one, in which broadcasts and averages change nothing.
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

_TIMEOUT = datetime.timedelta(hours=6)  # the others' longest wait while the leader decodes a data set or validates


@dataclass(frozen=True, kw_only=True)
class Team:
    """The place of this process among those that train together.

    Attributes:
        rank: Number of this process. Number 0 is the leader: it alone validates, reports and writes.
        size: Number of processes.
        device: Device of this process.
    """

    rank: int = 0
    size: int = 1
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process validates, reports and writes."""
        return self.rank == 0

    def broadcast(self, number: float) -> float:
        """Return the leader's number in every process."""
        if self.size == 1:
            return number
        value = torch.tensor(number, dtype=torch.float64, device=self.device)
        distributed.broadcast(value, src=0)
        return float(value)

    def average(self, values: Tensor) -> Tensor:
        """Return the mean over all processes, detached from their graphs."""
        values = values.detach().clone()
        if self.size > 1:
            distributed.all_reduce(values)
        return values / self.size

    def wrap_loss(self, net: Net) -> nn.Module:
        """Return a module that maps a batch to the net's loss, and averages gradients over the team when it trains.

        In a team of several, the net's batch norms are replaced in place by ones that normalise over the whole batch.
        """
        module = LossModule(net)
        if self.size == 1:
            return module
        _share_batch_norms(net)
        device_ids = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=device_ids)

    @contextlib.contextmanager
    def leader_first(self) -> Iterator[None]:
        """Run the block in the leader before it runs in the others, so that they find what the leader has written.

        Raises:
            VocalsepError: In the others, if the block failed in the leader.
        """
        if not self.leads and not self.broadcast(0.0):
            raise VocalsepError("the first process failed; see its error")
        succeeded = 0.0
        try:
            yield
            succeeded = 1.0
        finally:
            if self.leads:
                self.broadcast(succeeded)


class LossModule(nn.Module):
    """Makes a net's loss the forward pass of a module, because that is what `DistributedDataParallel` wraps."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss, as `Net.loss` does."""
        return self.net.loss(batch)


@contextlib.contextmanager
def join_team(device: torch.device) -> Iterator[Team]:
    """Join the team that ``torchrun`` started this process in; without ``torchrun``, a team of one.

    Args:
        device: Device to run on. With several GPUs, each process on a machine takes its own.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or not distributed.is_available():
        yield Team(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Team(rank=distributed.get_rank(), size=size, device=device)
    finally:
        distributed.destroy_process_group()


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation with the mean and variance over all processes. torch's `SyncBatchNorm` needs GPUs."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise ``(batch, channel, ...)``. In evaluation mode this is an ordinary batch norm."""
        if not self.training:
            return super().forward(maps)
        others = [0, *range(2, maps.ndim)]
        along = (-1, *[1] * (maps.ndim - 2))
        count = distributed.get_world_size() * maps.numel() // maps.shape[1]
        mean = _sum_over_processes(maps.float().sum(dim=others)) / count
        centred = maps - mean.view(along)
        variance = _sum_over_processes(centred.float().square().sum(dim=others)) / count
        if self.running_mean is not None and self.running_var is not None:
            momentum = 0.0 if self.momentum is None else self.momentum
            with torch.no_grad():
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * count / max(1, count - 1), momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias.view(along), centred, scale.view(along)).to(maps.dtype)

    def _check_input_dim(self, maps: Tensor) -> None:
        """Accept any number of axes."""


class _SumOverProcesses(torch.autograd.Function):
    """The sum over all processes. Every process's loss depends on it, so its gradient is summed over all as well."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        del ctx
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _SumOverProcesses.forward(ctx, *gradients)


def _share_batch_norms(net: nn.Module) -> None:
    for name, child in net.named_children():
        if isinstance(child, _BatchNorm):
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum).to(child.weight.device)
            shared.load_state_dict(child.state_dict())
            setattr(net, name, shared)
        else:
            _share_batch_norms(child)


def _sum_over_processes(values: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(values)  # type: ignore[no-untyped-call]
    return total
