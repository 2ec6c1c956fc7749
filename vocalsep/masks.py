"""Masks: the voice's share of each time-frequency bin.

A mask is a function of time and frequency. A net estimates it on its own grid, and `project` maps it to the grid on
which the song is masked: from mel to linear rows, from 16 kHz to 44.1 kHz, from mono to stereo.

Above the band that a net sees, the mask continues with its mean over the top quarter of that band, frame by frame. A
net at 16 kHz sees nothing above 8 kHz, but consonants that are loud at 7 kHz are loud at 10 kHz too. A model may want a
mask of 0 there instead. Below the net's lowest row the mask keeps that row's value.

Masks, spectra and sound are numpy arrays or torch tensors; positions in Hz and seconds are numpy arrays.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

from vocalsep.kinds import array_namespace, get_device, multiply, multiply_rows, silence_non_finite
from vocalsep.shapes import AnyArray, Array, Mask, Spectrum, Waveform

Above = Literal["mean", "zero"]
"""How a mask continues above its highest row: with the mean of its top quarter, or with 0."""

_MAX_ROWS = (
    256  # a mask with at most this many rows is multiplied by a matrix, one with more is interpolated row by row
)
_TOP = 0.75  # the mask above the band is the mean of the rows above this share of it


def ratio(vocals: AnyArray, accompaniment: AnyArray) -> Mask:
    """Return the ratio mask ``v / (v + a)`` (proportion mask, UH-net paper, section III.B).

    Args:
        vocals: Power of the vocals, not negative.
        accompaniment: Power of the accompaniment, same shape.

    Returns:
        The mask in [0, 1], 0 where both are silent. Applied as a gain, it is the Wiener filter.
    """
    tiny = array_namespace(vocals).finfo(vocals.dtype).smallest_normal
    return vocals / (vocals + accompaniment).clip(float(tiny))


def binary(vocals: AnyArray, accompaniment: AnyArray) -> Mask:
    """Return the binary mask: 1 where the vocals are louder, else 0 (UH-net paper, section III.B).

    Args:
        vocals: Power of the vocals, not negative.
        accompaniment: Power of the accompaniment, same shape.
    """
    return array_namespace(vocals).astype(vocals > accompaniment, vocals.dtype)


def project(
    mask: Mask, *, rows_hz: Array, to_hz: Array, seconds: Array, to_seconds: Array, above: Above = "mean"
) -> Mask:
    """Map a mask from one time-frequency grid to another by linear interpolation between rows and frames.

    Args:
        mask: ``(..., row, frame)``.
        rows_hz: Frequencies of the mask's rows in Hz, ``(row,)``, ascending.
        to_hz: Frequencies of the rows to return in Hz, ``(freq,)``, ascending. The module's docstring says what happens
            above and below `rows_hz`.
        seconds: Times of the mask's frames in seconds, ``(frame,)``, ascending. Before the first and after the last
            frame, the mask keeps that frame's value.
        to_seconds: Times of the frames to return in seconds, ascending.
        above: The mask above `rows_hz`; see `Above`.

    Returns:
        ``(..., len(to_hz), len(to_seconds))``. Every value is a weighted mean of mask values, or 0 above `rows_hz` if
        `above` says so: a constant mask stays constant, and no value leaves the mask's range.
    """
    xp = array_namespace(mask)
    columns = xp.matrix_transpose(mask)  # frame by frame, as spectra lie in memory
    columns = _take_between(columns, seconds, to_seconds, axis=-2)
    return spread(xp.matrix_transpose(columns), rows_hz=rows_hz, to_hz=to_hz, above=above)


def spread(mask: Mask, *, rows_hz: Array, to_hz: Array, above: Above = "mean") -> Mask:
    """Map a mask to other rows, as `project` does, and keep its frames.

    Args:
        mask: ``(..., row, frame)``.
        rows_hz: Frequencies of the mask's rows in Hz, ``(row,)``, ascending.
        to_hz: Frequencies of the rows to return in Hz, ``(freq,)``, ascending.
        above: The mask above `rows_hz`; see `Above`.

    Returns:
        ``(..., freq, frame)``.
    """
    count, same = len(rows_hz), np.array_equal(rows_hz, to_hz[: len(rows_hz)])
    if same and count == len(to_hz):
        return mask
    if not same and count <= _MAX_ROWS:
        return multiply_rows(mask, make_row_matrix, tuple(rows_hz.tolist()), tuple(to_hz.tolist()), above)
    xp = array_namespace(mask)
    columns = xp.matrix_transpose(mask)  # frame by frame, as spectra lie in memory
    inside = columns if same else _take_between(columns, rows_hz, to_hz[to_hz <= rows_hz[-1]], axis=-1)
    shape = (*columns.shape[:-1], len(to_hz) - inside.shape[-1])
    if above == "zero":
        outside = xp.zeros(shape, dtype=columns.dtype, device=get_device(columns))
    else:
        top = int(np.searchsorted(rows_hz, _TOP * rows_hz[-1]))
        outside = xp.broadcast_to(xp.mean(columns[..., top:], axis=-1, keepdims=True), shape)
    return xp.matrix_transpose(xp.concat([inside, outside], axis=-1))


def _take_between(values: AnyArray, have: Array, want: Array, *, axis: int) -> AnyArray:
    """Interpolate along one of the last two axes, from the positions at hand to those wanted."""
    xp, device = array_namespace(values), get_device(values)
    left, share = _interpolate(have, want)
    right = np.minimum(left + 1, len(have) - 1)
    share = xp.asarray(share if axis == -1 else share[:, None], dtype=values.dtype, device=device)
    taken = (xp.take(values, xp.asarray(index, device=device), axis=axis) for index in (left, right))
    return next(taken) * (1 - share) + next(taken) * share


def _interpolate(have: Array, want: Array) -> tuple[AnyArray, Array]:
    """Find the given positions between which each wanted position lies.

    Returns:
        For each position the index ``i`` to its left and the share ``s``, so that the value there is
        ``(1 - s) * value[i] + s * value[i + 1]``.
    """
    left = (np.searchsorted(have, want, side="right") - 1).clip(0, max(0, len(have) - 2))
    right = np.minimum(left + 1, len(have) - 1)
    width = (have[right] - have[left]).clip(1e-12)
    return left, ((want - have[left]) / width).clip(0, 1)


@functools.lru_cache(maxsize=32)
def make_row_matrix(rows_hz: tuple[float, ...], to_hz: tuple[float, ...], above: Above = "mean") -> Array:
    """Return the matrix of `spread`, ``(freq, row)``. No element is negative; each row sums to 1, or to 0 above.

    Args:
        rows_hz: Frequencies of the mask's rows in Hz, ascending.
        to_hz: Frequencies of the rows wanted in Hz, ascending.
        above: The mask above `rows_hz`; see `Above`.
    """
    have, want = np.array(rows_hz), np.array(to_hz)
    left, share = _interpolate(have, want)
    matrix = np.zeros((len(want), len(have)))
    index = np.arange(len(want))
    matrix[index, left] += 1 - share
    matrix[index, np.minimum(left + 1, len(have) - 1)] += share
    top = have >= _TOP * have[-1]
    matrix[want > have[-1]] = top / top.sum() if above == "mean" else 0
    return matrix.astype(np.float32)


def apply(mask: Mask, spectrum: Spectrum) -> Spectrum:
    """Multiply a spectrum by a mask, bin by bin.

    Args:
        mask: ``(..., channel or 1, freq, frame)``. A mask with one channel applies to all channels.
        spectrum: The mixture, ``(..., channel, freq, frame)``.

    Returns:
        The vocals' spectrum, same shape as `spectrum`. NaN and infinity in the mask count as 0.
    """
    return multiply(spectrum, silence_non_finite(mask))


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
