"""Masks: the share of each time-frequency bin that is voice.

A mask is a function of seconds and Hz. It is estimated on a net's grid and `project`ed onto whatever grid the song
itself is filtered on; mel to linear, 16 kHz to 44.1 kHz and mono to stereo are all this one function.

Policy above the estimated band: a net at 16 kHz knows nothing above 8 kHz. There the mask goes on with the mean of
its top quarter of the band (6 to 8 kHz), frame by frame, since consonants that are loud at 7 kHz are loud at 10 kHz.
Below the lowest row the mask holds that row's value.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from vocalsep.shapes import Mask, Spectrum, Waveform

_TOP = 0.75  # the mask above the band is the mean of what lies above this share of it


def ratio(vocals: Tensor, accompaniment: Tensor) -> Mask:
    """Proportion mask ("how much the vocal source dominates", UH-net paper, section III.B): ``v / (v + a)``.

    Args:
        vocals: Power of the vocals, not negative.
        accompaniment: Power of the accompaniment, of the same shape.

    Returns:
        In [0, 1]; 0 where both are silent. Used as a gain it is the Wiener filter.
    """
    return vocals / (vocals + accompaniment).clamp_min(torch.finfo(vocals.dtype).tiny)


def binary(vocals: Tensor, accompaniment: Tensor) -> Mask:
    """Binary mask: 1 where the vocals are the louder of the two (UH-net paper, section III.B)."""
    return (vocals > accompaniment).to(vocals.dtype)


def project(mask: Mask, *, rows_hz: Tensor, to_hz: Tensor, seconds: Tensor, to_seconds: Tensor) -> Mask:
    """Carries a mask from one time-frequency grid to another: linear between rows and frames.

    Args:
        mask: ``(..., row, frame)``.
        rows_hz: Hz of the mask's rows, ``(row,)``, ascending.
        to_hz: Hz of the rows wanted, ``(freq,)``, ascending. Above the last of `rows_hz` the policy above holds.
        seconds: Seconds of the mask's frames, ``(frame,)``, ascending. Before the first and after the last frame
            the mask holds.
        to_seconds: Seconds of the frames wanted, ascending.

    Returns:
        ``(..., freq, frame wanted)``. Every value is a weighted mean of mask values: what is constant stays that
        constant, and nothing leaves the mask's range.
    """
    left, share = _between(seconds, to_seconds)
    right = (left + 1).clamp_max(len(seconds) - 1)
    share = share.to(mask)
    frames = mask.index_select(-1, left.to(mask.device)) * (1 - share)
    frames = frames + mask.index_select(-1, right.to(mask.device)) * share
    return spread(frames, rows_hz=rows_hz, to_hz=to_hz)


def spread(mask: Mask, *, rows_hz: Tensor, to_hz: Tensor) -> Mask:
    """What `project` does along frequency, alone.

    Args:
        mask: ``(..., row, frame)``.
        rows_hz: Hz of the mask's rows, ``(row,)``, ascending.
        to_hz: Hz of the rows wanted, ``(freq,)``, ascending.

    Returns:
        ``(..., freq, frame)``. Rows that are wanted just where they are, from the lowest on, are taken as they are.
    """
    count = len(rows_hz)
    if not torch.equal(rows_hz, to_hz[:count]):
        return make_row_matrix(tuple(rows_hz.tolist()), tuple(to_hz.tolist())).to(mask) @ mask
    if count == len(to_hz):
        return mask
    above = mask[..., rows_hz >= _TOP * rows_hz[-1], :].mean(dim=-2, keepdim=True)
    shape = (*mask.shape[:-2], len(to_hz) - count, mask.shape[-1])
    return torch.cat([mask, above.expand(shape)], dim=-2)


def _between(have: Tensor, want: Tensor) -> tuple[Tensor, Tensor]:
    """For each wanted place the index to its left, and how far it lies towards the next: ``(1 - s) left + s right``."""
    left = (torch.searchsorted(have, want, right=True) - 1).clamp(0, max(0, len(have) - 2))
    right = (left + 1).clamp_max(len(have) - 1)
    width = (have[right] - have[left]).clamp_min(1e-12)
    return left, ((want - have[left]) / width).clamp(0, 1)


@functools.lru_cache(maxsize=32)
def make_row_matrix(rows_hz: tuple[float, ...], to_hz: tuple[float, ...]) -> Tensor:
    """The matrix ``(freq, row)`` of `project` along frequency; rows sum to 1 and are not negative."""
    with torch.inference_mode(False):  # what is kept here must serve training, too
        have, want = torch.tensor(rows_hz, dtype=torch.float64), torch.tensor(to_hz, dtype=torch.float64)
        left, share = _between(have, want)
        matrix = torch.zeros(len(want), len(have), dtype=torch.float64)
        index = torch.arange(len(want))
        matrix[index, left] += 1 - share
        matrix[index, (left + 1).clamp_max(len(have) - 1)] += share
        top = (have >= _TOP * have[-1]).to(matrix)
        matrix[want > have[-1]] = top / top.sum()
        return matrix.float()


def apply(mask: Mask, spectrum: Spectrum) -> Spectrum:
    """The vocals' spectrum: the mixture's, each bin times its mask.

    Args:
        mask: ``(..., channel or 1, freq, frame)``; one channel of mask serves all channels of the mixture.
        spectrum: The mixture, ``(..., channel, freq, frame)``.

    Returns:
        The spectrum's shape. Not-a-number never leaves: a mask value that is not finite counts as 0.
    """
    mask = torch.nan_to_num(mask, nan=0.0, posinf=0.0, neginf=0.0)
    return torch.view_as_complex(torch.view_as_real(spectrum) * mask.unsqueeze(-1))  # the mask need not become complex


def split_mixture(mixture: Waveform, vocals: Waveform) -> tuple[Waveform, Waveform]:
    """Splits a mixture into vocals and accompaniment whose float32 sum is the mixture again.

    The accompaniment is the mixture minus the vocals. That difference may not fit into float32, so the vocals give
    way by at most one rounding step. The sum is then exact, bit for bit, wherever that is possible: for every mixture
    from a fixed-point file of up to 24 bits, and for any mixture where the vocals are not larger than it is. (Where a
    mixture sample is finer than the float32 step of the vocals, no pair of numbers can have it as their sum; there
    the sum is off by at most half that step.)

    Args:
        mixture: ``(..., channel, time)``, float32.
        vocals: The same shape.

    Returns:
        Vocals (within one rounding step of those given) and accompaniment.
    """
    accompaniment = mixture - vocals
    return mixture - accompaniment, accompaniment
