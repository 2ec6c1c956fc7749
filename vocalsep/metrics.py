"""Scores of estimated vocals against the true ones."""

from __future__ import annotations

import torch
from torch import Tensor

from vocalsep.shapes import Waveform


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
    return torch.where(silent, torch.nan, 10 * torch.log10(signal / noise))


def sdr(reference: Waveform, estimate: Waveform) -> float:
    """Signal-to-distortion ratio of a whole song, dB, as in the music demixing challenges.

    Args:
        reference: The true vocals, ``(channel, time)``, not silent.
        estimate: The estimate, of the same shape.
    """
    true, made = reference.double(), estimate.double()
    return float(10 * torch.log10(true.square().sum() / (true - made).square().sum()))
