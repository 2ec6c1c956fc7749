"""Loss functions: pure functions of tensors. Each returns a mean over the batch; smaller is better."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vocalsep.shapes import Mask, Spectrum

_LOG_FLOOR = 1e-3  # share of the mixture's energy below which an error hardly counts any more: 30 dB


def binary_cross_entropy(logits: Tensor, target: Mask, weight: Tensor | None = None) -> Tensor:
    """Compute the binary cross-entropy of a mask (UH-net paper, section V.A).

    Cross-entropy is smallest at the mean of the targets, an L1 distance at their median. Where the voice is
    uncertain, the median is an empty mask.

    Args:
        logits: The mask before its sigmoid.
        target: The ideal mask, in [0, 1], of the same shape.
        weight: Weight of each bin, with a mean of 1. By default all bins weigh the same.
    """
    return F.binary_cross_entropy_with_logits(logits, target, weight)


def magnitude_weight(power: Tensor) -> Tensor:
    """Return a weight for each bin: its magnitude relative to the mean magnitude of its excerpt.

    Source: Wang, Le Roux and Hershey, "Alternative objective functions for deep clustering", 2018, section 2.2. There,
    the weights of all bins sum to 1; here, their mean is 1.

    Args:
        power: Power of the mixture, or the summed power of its sources, ``(batch, channel, row, frame)``.
    """
    magnitude = power.sqrt()
    return magnitude / magnitude.mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-9)


def spectral_l1(estimate: Spectrum, reference: Spectrum, mixture: Spectrum) -> Tensor:
    """Compute the L1 distance of real and imaginary parts, relative to the level of each excerpt.

    Unlike a loss on masks, it weights each bin by its loudness, and it accounts for the error of using the mixture's
    phase for the voice.

    Args:
        estimate: ``(batch, channel, freq, frame)``.
        reference: The truth, of the same shape.
        mixture: The mixture, whose root mean square is the unit of each excerpt. The loss of a silent mixture is
            finite but has no meaning.
    """
    difference = torch.view_as_real(estimate - reference).abs().mean(dim=(1, 2, 3, 4))
    level = torch.view_as_real(mixture).square().mean(dim=(1, 2, 3, 4)).sqrt()
    return (difference / level.clamp_min(1e-6)).mean()


def split_parts(spectrum: Spectrum) -> Tensor:
    """Return real and imaginary parts one after the other, ``(2, *shape)``, which are faster than complex numbers.

    Args:
        spectrum: ``(batch, channel, freq, frame)``.
    """
    return torch.view_as_real(spectrum).movedim(-1, 0).contiguous()


def masked_l1(mask: Mask, mixture: Tensor, reference: Tensor) -> Tensor:
    """Compute `spectral_l1` of a masked mixture.

    Args:
        mask: ``(batch, channel, freq, frame)``.
        mixture: Parts of the mixture's spectrum, as from `split_parts`.
        reference: Parts of the truth, of the same shape.
    """
    difference = (mask * mixture).sub_(reference).abs().mean(dim=(0, 2, 3, 4))
    level = mixture.square().mean(dim=(0, 2, 3, 4)).sqrt()
    relative: Tensor = difference / level.clamp_min(1e-6)
    return relative.mean()


def masked_log_error(mask: Mask, mixture: Tensor, cross: Tensor, reference: Tensor) -> Tensor:
    """Compute the decimal logarithm of the energy of a masked mixture's error, relative to the mixture's energy.

    Apart from sign and constants, it is the mean SDR of the excerpts. All count alike, however large their error is.

    Args:
        mask: ``(batch, channel, freq, frame)``.
        mixture: Power of the mixture, of the same shape.
        cross: Real part of the product of the truth and the conjugate mixture.
        reference: Power of the truth. The error's power is ``mask^2 mixture - 2 mask cross + reference``.
    """
    error = (mask * (mask * mixture - 2 * cross)).add_(reference).mean(dim=(1, 2, 3))
    level = mixture.mean(dim=(1, 2, 3)).clamp_min(1e-12)
    relative: Tensor = error / level
    return (relative + _LOG_FLOOR).log10().mean()


def affinity(embedding: Tensor, assignment: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute the deep-clustering loss: the distance between the estimated and the true affinities of all bin pairs.

    The loss ``|V V^T - Y Y^T|^2`` is computed in its factored form ``|V^T V|^2 - 2 |V^T Y|^2 + |Y^T Y|^2`` (UH-net
    paper, section V.A.1), which needs no matrix of bins by bins. V and Y are scaled by the root of the bins' weights,
    which sum to 1 (Wang, Le Roux and Hershey, 2018, eq. 3 and section 2.2). With equal weights, this divides the loss
    by the squared number of bins.

    Args:
        embedding: V, ``(batch, bin, dimension)``, of unit length.
        assignment: Y, ``(batch, bin, source)``, one-hot over two sources. The paper has a single column, 1 for voice,
            which pushes the bins of the accompaniment apart.
        weight: ``(batch, bin)``, not negative. Only proportions matter. By default all bins weigh the same.
    """
    v, y = _scale_by_weight(embedding, assignment, weight)
    own, cross, true = (left.transpose(1, 2) @ right for left, right in ((v, v), (v, y), (y, y)))
    distance: Tensor = _compute_squared_norm(own) - 2 * _compute_squared_norm(cross) + _compute_squared_norm(true)
    return distance.mean()


def _scale_by_weight(embedding: Tensor, assignment: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scale each bin of V and Y by the root of its share of the total weight."""
    if weight is None:
        weight = embedding.new_ones(embedding.shape[:2])
    root = (weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-9)).sqrt().unsqueeze(-1)
    return root * embedding, root * assignment


def _compute_squared_norm(matrices: Tensor) -> Tensor:
    """Compute the squared Frobenius norm of each matrix."""
    return matrices.square().sum((1, 2))
