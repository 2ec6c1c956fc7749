"""Masks: the voice's share of each time-frequency bin.

A mask is a function of time and frequency. A net estimates it on its own grid, and `project` maps it to the grid on
which the song is masked: from mel to linear rows, from 16 kHz to 44.1 kHz, from mono to stereo.

Above the band that a net sees, the mask continues with its mean over the top quarter of that band, frame by frame. A
net at 16 kHz sees nothing above 8 kHz, but consonants that are loud at 7 kHz are loud at 10 kHz too. Below the net's
lowest row the mask keeps that row's value.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from vocalsep.shapes import Mask, Spectrum, Waveform

_TOP = 0.75  # the mask above the band is the mean of the rows above this share of it


def ratio(vocals: Tensor, accompaniment: Tensor) -> Mask:
    """Return the ratio mask ``v / (v + a)`` (proportion mask, UH-net paper, section III.B).

    Args:
        vocals: Power of the vocals, not negative.
        accompaniment: Power of the accompaniment, same shape.

    Returns:
        The mask in [0, 1], 0 where both are silent. Applied as a gain, it is the Wiener filter.
    """
    return vocals / (vocals + accompaniment).clamp_min(torch.finfo(vocals.dtype).tiny)


def binary(vocals: Tensor, accompaniment: Tensor) -> Mask:
    """Return the binary mask: 1 where the vocals are louder, else 0 (UH-net paper, section III.B).

    Args:
        vocals: Power of the vocals, not negative.
        accompaniment: Power of the accompaniment, same shape.
    """
    return (vocals > accompaniment).to(vocals.dtype)


def project(mask: Mask, *, rows_hz: Tensor, to_hz: Tensor, seconds: Tensor, to_seconds: Tensor) -> Mask:
    """Map a mask from one time-frequency grid to another by linear interpolation between rows and frames.

    Args:
        mask: ``(..., row, frame)``.
        rows_hz: Frequencies of the mask's rows in Hz, ``(row,)``, ascending.
        to_hz: Frequencies of the rows to return in Hz, ``(freq,)``, ascending. The module's docstring says what happens
            above and below `rows_hz`.
        seconds: Times of the mask's frames in seconds, ``(frame,)``, ascending. Before the first and after the last
            frame, the mask keeps that frame's value.
        to_seconds: Times of the frames to return in seconds, ascending.

    Returns:
        ``(..., len(to_hz), len(to_seconds))``. Every value is a weighted mean of mask values: a constant mask stays
        constant, and no value leaves the mask's range.
    """
    left, share = _interpolate(seconds, to_seconds)
    right = (left + 1).clamp_max(len(seconds) - 1)
    share = share.to(mask)
    frames = mask.index_select(-1, left.to(mask.device)) * (1 - share)
    frames = frames + mask.index_select(-1, right.to(mask.device)) * share
    return spread(frames, rows_hz=rows_hz, to_hz=to_hz)


def spread(mask: Mask, *, rows_hz: Tensor, to_hz: Tensor) -> Mask:
    """Map a mask to other rows, as `project` does, and keep its frames.

    Args:
        mask: ``(..., row, frame)``.
        rows_hz: Frequencies of the mask's rows in Hz, ``(row,)``, ascending.
        to_hz: Frequencies of the rows to return in Hz, ``(freq,)``, ascending.

    Returns:
        ``(..., freq, frame)``.
    """
    count = len(rows_hz)
    if not torch.equal(rows_hz, to_hz[:count]):
        return make_row_matrix(tuple(rows_hz.tolist()), tuple(to_hz.tolist())).to(mask) @ mask
    if count == len(to_hz):
        return mask
    above = mask[..., rows_hz >= _TOP * rows_hz[-1], :].mean(dim=-2, keepdim=True)
    shape = (*mask.shape[:-2], len(to_hz) - count, mask.shape[-1])
    return torch.cat([mask, above.expand(shape)], dim=-2)


def _interpolate(have: Tensor, want: Tensor) -> tuple[Tensor, Tensor]:
    """Find the given positions between which each wanted position lies.

    Returns:
        For each position the index ``i`` to its left and the share ``s``, so that the value there is
        ``(1 - s) * value[i] + s * value[i + 1]``.
    """
    left = (torch.searchsorted(have, want, right=True) - 1).clamp(0, max(0, len(have) - 2))
    right = (left + 1).clamp_max(len(have) - 1)
    width = (have[right] - have[left]).clamp_min(1e-12)
    return left, ((want - have[left]) / width).clamp(0, 1)


@functools.lru_cache(maxsize=32)
def make_row_matrix(rows_hz: tuple[float, ...], to_hz: tuple[float, ...]) -> Tensor:
    """Return the matrix of `spread`, ``(freq, row)``. No element is negative, and each row sums to 1.

    Args:
        rows_hz: Frequencies of the mask's rows in Hz, ascending.
        to_hz: Frequencies of the rows wanted in Hz, ascending.
    """
    with torch.inference_mode(False):  # training must be able to use the cached matrix
        have, want = torch.tensor(rows_hz, dtype=torch.float64), torch.tensor(to_hz, dtype=torch.float64)
        left, share = _interpolate(have, want)
        matrix = torch.zeros(len(want), len(have), dtype=torch.float64)
        index = torch.arange(len(want))
        matrix[index, left] += 1 - share
        matrix[index, (left + 1).clamp_max(len(have) - 1)] += share
        top = (have >= _TOP * have[-1]).to(matrix)
        matrix[want > have[-1]] = top / top.sum()
        return matrix.float()


def apply(mask: Mask, spectrum: Spectrum) -> Spectrum:
    """Multiply a spectrum by a mask, bin by bin.

    Args:
        mask: ``(..., channel or 1, freq, frame)``. A mask with one channel applies to all channels.
        spectrum: The mixture, ``(..., channel, freq, frame)``.

    Returns:
        The vocals' spectrum, same shape as `spectrum`. NaN and infinity in the mask count as 0.
    """
    mask = torch.nan_to_num(mask, nan=0.0, posinf=0.0, neginf=0.0)
    return torch.view_as_complex(torch.view_as_real(spectrum) * mask.unsqueeze(-1))  # keeps the mask real


def split_mixture(mixture: Waveform, vocals: Waveform) -> tuple[Waveform, Waveform]:
    """Split a mixture into vocals and accompaniment that add up to it exactly.

    The accompaniment is ``a = mixture - vocals``, which float32 may have to round. Therefore the vocals
    become ``mixture - a``, at most one rounding step away from those given.

    The float32 sum of the two is the mixture, bit for bit, in two cases: the mixture comes from a fixed-point file of
    up to 24 bits, or the vocals are not larger than the mixture. Otherwise there may be no pair of float32 numbers
    with that sum; the sum is then off by at most half a rounding step of the vocals.

    Args:
        mixture: ``(..., channel, time)``, float32.
        vocals: Same shape.

    Returns:
        Vocals and accompaniment, same shape.
    """
    accompaniment = mixture - vocals
    return mixture - accompaniment, accompaniment
