"""Inputs for the tests of nets: noise, batches of synthetic excerpts, and nets with known batch statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from vocalsep import nets
from vocalsep.features import FrontEnd

AnyNet = TypeVar("AnyNet", bound=nets.Net)
TONES_HZ = (500.0, 900.0, 1400.0, 2300.0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Draw Gaussian noise, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_batch(
    front_end: FrontEnd,
    *,
    size: int = 4,
    channels: int = 1,
    level: float = 1.0,
    tones_hz: Sequence[float] = TONES_HZ,
    pan: Sequence[float] = (1.0, 1.0),
) -> nets.Batch:
    """Make a batch whose vocals are tones that come and go, and whose accompaniment is noise.

    Args:
        front_end: The front end that computes the features.
        size: Excerpts in the batch, one tone each.
        channels: Channels of each excerpt.
        level: Gain of vocals and accompaniment.
        tones_hz: Frequencies of the tones; they repeat if there are more excerpts than tones.
        pan: Gain of the vocals in each channel.
    """
    samples = nets.count_excerpt_samples(front_end)
    seconds = torch.arange(samples) / front_end.rate
    tones = torch.tensor(tones_hz).repeat(size)[:size].reshape(size, 1, 1)
    gate = torch.sin(2 * torch.pi * 8 * seconds) > 0
    gains = torch.tensor(pan)[:channels].reshape(1, channels, 1)
    vocals = torch.sin(2 * torch.pi * tones * seconds) * gate * gains
    return nets.make_batch(front_end, level * vocals, level * 0.2 * noise(size, channels, samples))


def set_batch_statistics(net: AnyNet, features: Tensor) -> AnyNet:
    """Set a net's batch statistics to those of `features`, so that its masks differ. Return it in evaluation mode."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net(features)
    return net.eval()


def sum_losses(net: nets.Net, batch: nets.Batch) -> Tensor:
    """Compute the training loss: the sum of a net's loss terms."""
    return torch.stack(list(net.loss(batch).values())).sum()


def overfit(net: nets.Net, batch: nets.Batch, *, steps: int) -> tuple[float, float]:
    """Train a net on one batch. Return the loss before, and that of the last step."""
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    before = loss = sum_losses(net, batch)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = sum_losses(net, batch)
        loss.backward()
        optimiser.step()
    return before.item(), loss.item()
