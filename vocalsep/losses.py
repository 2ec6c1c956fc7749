"""Losses: pure functions of tensors, each the mean over all its elements, smaller is better."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vocalsep.shapes import Mask, Spectrum


def binary_cross_entropy(logits: Tensor, target: Mask) -> Tensor:
    """BCE between a mask before its sigmoid and a target in [0, 1] (UH-net paper, section V.A)."""
    return F.binary_cross_entropy_with_logits(logits, target)


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
