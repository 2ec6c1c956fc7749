"""Scores without filters: plain energy ratios in dB, and scores of masks. For scores with filters see `bsseval`.

Signals are ``(time,)`` or ``(channel, time)``: arrays, tensors or lists of the same shape. All channels count as one
long signal. The score of a silent reference is NaN; an estimate without any error scores infinity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vocalsep.errors import AudioError
from vocalsep.kinds import to_numpy_signal
from vocalsep.shapes import Array, Mask, Waveform

Floats = npt.NDArray[np.float64]

_BLOCK = 2**16  # samples
_VOICE = 0.5  # a bin whose mask lies above this is voice


def framewise_sdr(reference: Waveform, estimate: Waveform, rate: int, *, window_seconds: float = 1.0) -> Floats:
    """Return the signal-to-distortion ratio of every window: BSS Eval v4, as museval computes it for images.

    ``SDR = 10 log10(sum r^2 / sum (r - e)^2)`` over all channels and samples of a window (Vincent, Gribonval and
    Fevotte, 2006; version 4: Stoter, Liutkus and Ito, "The 2018 signal separation evaluation campaign", 2018). Windows
    do not overlap. A shorter remainder at the end is left out, unless the whole song is shorter than a window.

    Args:
        reference: The true vocals, ``(time,)`` or ``(channel, time)``.
        estimate: The estimate, of the same shape.
        rate: Their sample rate, Hz.
        window_seconds: Length of a window.

    Returns:
        ``(window,)``, float64, dB; NaN where the reference or the estimate is silent. museval also leaves out windows
        in which another source is silent.
    """
    reference, estimate = _to_signals(reference, estimate)
    window = min(round(window_seconds * rate), reference.shape[-1])
    count = reference.shape[-1] // window
    true, made = (
        part[:, : count * window].astype(np.float64).reshape(len(part), count, window) for part in (reference, estimate)
    )
    signal, noise = np.square(true).sum(axis=(0, 2)), np.square(true - made).sum(axis=(0, 2))
    silent = (signal == 0) | (np.square(made).sum(axis=(0, 2)) == 0)
    return np.where(silent, np.nan, to_decibels(signal, noise))


def sdr(reference: Waveform, estimate: Waveform) -> float:
    """Return the signal-to-distortion ratio of a whole song, dB, as in the music demixing challenges.

    ``SDR = 10 log10(sum r^2 / sum (r - e)^2)`` (Mitsufuji et al., "Music Demixing Challenge 2021", 2022), but without
    the small constant that they add to both sums. A silent estimate scores 0.

    Args:
        reference: The true vocals, ``(time,)`` or ``(channel, time)``.
        estimate: The estimate, of the same shape.
    """
    reference, estimate = _to_signals(reference, estimate)
    if not reference.any():
        return float("nan")
    signal, error = (
        np.einsum("ct,ct->", part, part, dtype=np.float64) for part in (reference, reference - estimate)
    )  # without a copy in float64
    return float(to_decibels(signal, error))


def si_sdr(reference: Waveform, estimate: Waveform) -> float:
    """Return the scale-invariant SDR of a whole song, dB (Le Roux et al., "SDR - half-baked or well done?", 2019).

    ``SI-SDR = 10 log10(sum (a r)^2 / sum (a r - e)^2)`` with ``a = sum e r / sum r^2``; the mean is not subtracted. A
    silent estimate scores NaN.

    Args:
        reference: The true vocals, ``(time,)`` or ``(channel, time)``.
        estimate: The estimate, of the same shape.
    """
    reference, estimate = _to_signals(reference, estimate)
    return gain_ratios(reference[None], estimate, 0).sdr


class GainRatios(NamedTuple):
    """Energy ratios in dB of the gain-only form of BSS Eval."""

    sdr: float
    sir: float
    sar: float


def gain_ratios(references: Waveform, estimate: Waveform, source: int) -> GainRatios:
    """Return the ratios of BSS Eval 2.1 with gains instead of filters, the main scores of the MIR-1K literature.

    ``own`` is the projection of the estimate onto its own reference, ``every`` that onto the span of all references
    (``bss_decomp_gain``; Fevotte, Gribonval and Vincent, "BSS_EVAL toolbox user guide", 2005):

        SDR = |own|^2 / |estimate - own|^2, the same as `si_sdr`
        SIR = |own|^2 / |every - own|^2
        SAR = |every|^2 / |estimate - every|^2

    A sum of the references, such as the mixture, has no artifacts: rounding alone limits its SAR.

    Args:
        references: The true sources, ``(source, time)`` or ``(source, channel, time)``.
        estimate: The estimate of one of them, without the source axis.
        source: Index of that reference.

    Returns:
        The ratios; NaN if a reference or the estimate is silent.
    """
    references, estimate = to_numpy_signal(references, "references", 3), to_numpy_signal(estimate, "estimate")
    _check_shape(references.shape[1:], estimate)
    count = len(references)
    products = np.zeros((count + 1, count + 1))
    for signals in _iterate_blocks(references, estimate):
        products += signals @ signals.T
    if (products.diagonal() == 0).any():
        return GainRatios(*[float("nan")] * 3)
    parts = np.zeros((3, count + 1))  # own, every and the estimate, as weights of the signals
    parts[0, source] = products[source, -1] / products[source, source]
    parts[1, :-1] = np.linalg.lstsq(products[:-1, :-1], products[:-1, -1], rcond=None)[0]
    parts[2, -1] = 1
    own, every, made = parts
    wanted = np.stack([own, made - own, every - own, every, made - every])
    energy = np.zeros(len(wanted))
    for signals in _iterate_blocks(references, estimate):
        energy += np.square(wanted @ signals).sum(axis=1)
    ratios = to_decibels(energy[[0, 0, 3]], energy[[1, 2, 4]])
    return GainRatios(*ratios.tolist())


def iou(estimate: Mask, target: Mask) -> Floats:
    """Return the intersection over union of the bins with voice, those above 0.5 (UH-net paper, V.B.1, eq. 1).

    Args:
        estimate: ``(chunk, ...)``, in [0, 1].
        target: The ideal mask, of the same shape.

    Returns:
        ``(chunk,)``, in [0, 1]; 1 where neither mask has bins with voice.
    """
    found, wanted = (_flatten(mask) > _VOICE for mask in (estimate, target))
    union = (found | wanted).sum(axis=1)
    return np.where(union == 0, 1.0, (found & wanted).sum(axis=1) / np.maximum(union, 1))


def pixel_accuracy(estimate: Mask, target: Mask) -> Floats:
    """Return the share of bins in which both masks lie on the same side of 0.5; the UH-net paper's code calls it IoU.

    Args:
        estimate: ``(chunk, ...)``, in [0, 1].
        target: The ideal mask, of the same shape.

    Returns:
        ``(chunk,)``, in [0, 1].
    """
    right: Floats = ((_flatten(estimate) > _VOICE) == (_flatten(target) > _VOICE)).mean(axis=1)
    return right


def psnr(estimate: Mask, target: Mask) -> Floats:
    """Return the peak signal-to-noise ratio of masks, dB: ``10 log10(R^2 / MSE)``, R = 1 (UH-net paper, V.B.2).

    Args:
        estimate: ``(chunk, ...)``, in [0, 1].
        target: The ideal mask, of the same shape.

    Returns:
        ``(chunk,)``; infinite if there is no error.
    """
    return to_decibels(1.0, np.square(_flatten(estimate) - _flatten(target), dtype=np.float64).mean(axis=1))


def _to_signals(reference: Waveform, estimate: Waveform) -> tuple[Array, Array]:
    """Return a reference and its estimate as ``(channel, time)`` numpy arrays.

    Raises:
        AudioError: If their shapes differ or are no shapes of signals.
        TypeError: If one of them is no array, tensor or list of numbers.
    """
    signals = to_numpy_signal(reference, "reference"), to_numpy_signal(estimate, "estimate")
    _check_shape(signals[0].shape, signals[1])
    return signals


def _check_shape(expected: tuple[int, ...], estimate: Array) -> None:
    if estimate.shape != expected:
        raise AudioError(f"estimate of shape {estimate.shape}; expected {expected}, like the reference")


def _flatten(mask: Mask) -> Mask:
    values = np.asarray(mask)
    return values.reshape(len(values), -1)


def _iterate_blocks(references: Waveform, estimate: Waveform) -> Iterator[Floats]:
    """Yield references and estimate block by block, ``(signal, samples)``, float64, to save memory."""
    signals = [*references, estimate]
    for start in range(0, estimate.shape[-1], _BLOCK):
        yield np.stack([signal[:, start : start + _BLOCK].ravel() for signal in signals], dtype=np.float64)


def to_decibels(signal: Floats | float, error: Floats) -> Floats:
    """Return the ratio of two energies in dB: infinite if there is no error, NaN if both are zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(signal / error)
