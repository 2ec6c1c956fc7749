"""Losses: pure functions of tensors, each the mean over all its elements, smaller is better."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vocalsep.shapes import Mask, Spectrum


def binary_cross_entropy(logits: Tensor, target: Mask, weight: Tensor | None = None) -> Tensor:
    """BCE between a mask before its sigmoid and a target in [0, 1] (UH-net paper, section V.A).

    Unlike an L1 distance, whose least is the median, it does not prefer an empty mask where the voice is uncertain.

    Args:
        logits: The mask before its sigmoid.
        target: Of the same shape.
        weight: How much each bin counts, against a mean of 1; all alike by default.
    """
    return F.binary_cross_entropy_with_logits(logits, target, weight)


def magnitude_weight(power: Tensor) -> Tensor:
    """Weights of bins by their magnitude against its mean in each excerpt.

    Source: Wang, Le Roux and Hershey, "Alternative objective functions for deep clustering", 2018, section 2.2, where
    the weights of the bins sum to 1.

    Args:
        power: Of the mixture, or the sum of its sources', ``(batch, channel, row, frame)``.
    """
    magnitude = power.sqrt()
    return magnitude / magnitude.mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-9)


def spectral_l1(estimate: Spectrum, reference: Spectrum, mixture: Spectrum) -> Tensor:
    """L1 distance of real and imaginary parts, relative to each excerpt's level.

    Unlike a loss on masks it counts a bin as much as it sounds, and takes into account that the mixture's phase is
    not the voice's.

    Args:
        estimate: ``(batch, channel, freq, frame)``.
        reference: The truth, of the same shape.
        mixture: What both came from; its root mean square per excerpt is the unit. Must not be silent.
    """
    difference = torch.view_as_real(estimate - reference).abs().mean(dim=(1, 2, 3, 4))
    level = torch.view_as_real(mixture).square().mean(dim=(1, 2, 3, 4)).sqrt()
    return (difference / level.clamp_min(1e-6)).mean()


def affinity(embedding: Tensor, assignment: Tensor, weight: Tensor | None = None) -> Tensor:
    """Deep clustering: how far the embeddings' affinities are from those of the true sources.

    ``|V V^T - Y Y^T|^2`` in its factored form ``|V^T V|^2 - 2 |V^T Y|^2 + |Y^T Y|^2`` (UH-net paper, section V.A.1),
    which needs no matrix of bins by bins. Both V and Y are scaled by the root of the bins' weights, whose sum is 1
    (Wang, Le Roux and Hershey, 2018, eq. 3 and section 2.2); without weights that is the division by the number of
    bins, squared.

    Args:
        embedding: V, ``(batch, bin, dimension)``, of unit length.
        assignment: Y, ``(batch, bin, source)``. One-hot over two sources; the paper's single column, 1 for voice, asks
            bins of the accompaniment to have nothing in common.
        weight: ``(batch, bin)``, not negative, up to a factor; all alike by default.
    """
    v, y = _scaled(embedding, assignment, weight)
    own, cross, true = (left.transpose(1, 2) @ right for left, right in ((v, v), (v, y), (y, y)))
    distance: Tensor = _square(own) - 2 * _square(cross) + _square(true)
    return distance.mean()


def _scaled(embedding: Tensor, assignment: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """V and Y, each bin's by the root of its share of all weights."""
    if weight is None:
        weight = embedding.new_ones(embedding.shape[:2])
    root = (weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-9)).sqrt().unsqueeze(-1)
    return root * embedding, root * assignment


def _square(matrices: Tensor) -> Tensor:
    """Squared Frobenius norm of each matrix."""
    return matrices.square().sum((1, 2))
