"""Scores that need no filters: plain ratios of energies, in dB, and scores of masks. `bsseval` has those that do.

Signals are ``(channel, time)``; all channels count as one long signal. A silent reference has no score: it is
not-a-number. Where there is no error at all the score is infinite.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vocalsep.shapes import Mask, Waveform

_BLOCK = 2**16  # samples
_VOICE = 0.5  # a bin of a mask above it is voice


def framewise_sdr(reference: Waveform, estimate: Waveform, rate: int, *, window_seconds: float = 1.0) -> Tensor:
    """Signal-to-distortion ratio of every window: BSS Eval v4 as museval computes it for images.

    ``SDR = 10 log10(sum r^2 / sum (r - e)^2)`` over all channels and samples of a window; windows follow each other
    without overlap, and a last part that is shorter is left out, unless it is all there is. (Vincent, Gribonval and
    Fevotte, 2006; version 4: Stoter, Liutkus and Ito, "The 2018 signal separation evaluation campaign", 2018.)

    Args:
        reference: The true vocals, ``(channel, time)``.
        estimate: The estimate, of the same shape.
        rate: Their rate, Hz.
        window_seconds: Length of a window.

    Returns:
        ``(window,)``, float64, dB; not-a-number where the reference or the estimate is silent. (museval leaves out
        windows in which any other source is silent, too.)
    """
    window = min(round(window_seconds * rate), reference.shape[-1])
    count = reference.shape[-1] // window
    true, made = (
        part[:, : count * window].double().reshape(part.shape[0], count, window) for part in (reference, estimate)
    )
    signal, noise = true.square().sum(dim=(0, 2)), (true - made).square().sum(dim=(0, 2))
    silent = (signal == 0) | (made.square().sum(dim=(0, 2)) == 0)
    return torch.where(silent, torch.nan, decibels(signal, noise))


def sdr(reference: Waveform, estimate: Waveform) -> float:
    """Signal-to-distortion ratio of a whole song, dB, as in the music demixing challenges.

    ``SDR = 10 log10(sum r^2 / sum (r - e)^2)`` (Mitsufuji et al., "Music Demixing Challenge 2021", 2022; without the
    small number that they add to both sums). A silent estimate scores 0.

    Args:
        reference: The true vocals, ``(channel, time)``.
        estimate: The estimate, of the same shape.
    """
    if not reference.any():
        return float("nan")
    signal, error = (
        torch.linalg.vector_norm(part, dtype=torch.float64) ** 2 for part in (reference, reference - estimate)
    )
    return float(decibels(signal, error))


def si_sdr(reference: Waveform, estimate: Waveform) -> float:
    """Scale-invariant SDR of a whole song, dB (Le Roux et al., "SDR - half-baked or well done?", 2019).

    ``SI-SDR = 10 log10(sum (a r)^2 / sum (a r - e)^2)`` with ``a = sum e r / sum r^2``; the mean is not taken away.
    A silent estimate has no score.

    Args:
        reference: The true vocals, ``(channel, time)``.
        estimate: The estimate, of the same shape.
    """
    return gain_ratios(reference[None], estimate, 0).sdr


class GainRatios(NamedTuple):
    """Energy ratios in dB of BSS Eval's gain-only form."""

    sdr: float
    sir: float
    sar: float


def gain_ratios(references: Tensor, estimate: Waveform, source: int) -> GainRatios:
    """BSS Eval 2.1 with gains in place of filters, the main score of the MIR-1K literature.

    The estimate is projected onto its own reference, ``own``, and onto the plane of all references, ``every``; then
    SDR is ``own`` against ``estimate - own``, SIR is ``own`` against ``every - own`` and SAR is ``every`` against
    ``estimate - every`` (``bss_decomp_gain``; Fevotte, Gribonval and Vincent, "BSS_EVAL toolbox user guide", 2005).
    Its SDR is `si_sdr`. A mixture, a sum of the references, has no artifacts: its SAR is as high as rounding lets it.

    Args:
        references: The true sources, ``(source, channel, time)``.
        estimate: The estimate of one of them, ``(channel, time)``.
        source: Which one.

    Returns:
        Not-a-number where a reference or the estimate is silent.
    """
    count = len(references)
    products = torch.zeros(count + 1, count + 1, dtype=torch.float64)
    for signals in _blocks(references, estimate):
        products += signals @ signals.T
    if (products.diagonal() == 0).any():
        return GainRatios(*[float("nan")] * 3)
    parts = torch.zeros(3, count + 1, dtype=torch.float64)  # own, every and the estimate, as sums of signals
    parts[0, source] = products[source, -1] / products[source, source]
    parts[1, :-1] = torch.linalg.lstsq(products[:-1, :-1], products[:-1, -1:], driver="gelsd").solution[:, 0]
    parts[2, -1] = 1
    own, every, made = parts
    wanted = torch.stack([own, made - own, every - own, every, made - every])
    energy = torch.zeros(len(wanted), dtype=torch.float64)
    for signals in _blocks(references, estimate):
        energy += (wanted @ signals).square().sum(dim=1)
    ratios = decibels(energy[[0, 0, 3]], energy[[1, 2, 4]])
    return GainRatios(*ratios.tolist())


def iou(estimate: Mask, target: Mask) -> Tensor:
    """Intersection over union of the bins that are voice, those above a half (UH-net paper, section V.B.1, eq. 1).

    Args:
        estimate: ``(chunk, ...)``, in [0, 1].
        target: The ideal mask, of the same shape.

    Returns:
        ``(chunk,)``, in [0, 1]; 1 where neither has any voice.
    """
    found, wanted = (mask.flatten(1) > _VOICE for mask in (estimate, target))
    union = (found | wanted).sum(dim=1)
    return torch.where(union == 0, 1.0, (found & wanted).sum(dim=1) / union.clamp_min(1))


def pixel_accuracy(estimate: Mask, target: Mask) -> Tensor:
    """Share of bins that are on the right side of a half: what the UH-net paper's code computed under the name of IoU.

    Args:
        estimate: ``(chunk, ...)``, in [0, 1].
        target: The ideal mask, of the same shape.

    Returns:
        ``(chunk,)``, in [0, 1].
    """
    return ((estimate.flatten(1) > _VOICE) == (target.flatten(1) > _VOICE)).double().mean(dim=1)


def psnr(estimate: Mask, target: Mask) -> Tensor:
    """Peak signal-to-noise ratio of masks, dB: ``10 log10(R^2 / MSE)`` with R = 1 (UH-net paper, section V.B.2).

    Args:
        estimate: ``(chunk, ...)``, in [0, 1].
        target: The ideal mask, of the same shape.

    Returns:
        ``(chunk,)``; infinite without error.
    """
    return -10 * torch.log10((estimate - target).flatten(1).double().square().mean(dim=1))


def _blocks(references: Tensor, estimate: Waveform) -> Iterator[Tensor]:
    """References and estimate piece by piece, ``(signal, samples)``, float64; a song at once would take much memory."""
    pieces = (torch.split(part, _BLOCK, dim=-1) for part in (references, estimate[None]))
    return (torch.cat(piece).flatten(1).double() for piece in zip(*pieces, strict=True))


def decibels(signal: Tensor, error: Tensor) -> Tensor:
    """Ratio of two energies in dB; infinite without error, not-a-number without both."""
    return 10 * torch.log10(signal / error)
