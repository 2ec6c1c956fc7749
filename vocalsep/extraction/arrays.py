"""Songs as arrays of any kind, and their parts likewise: numpy or torch, one channel or more, float or fixed point."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocalsep import masks
from vocalsep.errors import AudioError
from vocalsep.shapes import Waveform

Samples = TypeVar("Samples", npt.NDArray[Any], Tensor)

_FIXED = {torch.int16: 2.0**15, torch.int32: 2.0**31}  # full scale
_CHANNELS = 1_024  # no recording has more; what has is ``(time, channel)``


class Array:
    """A song in an array, and how to make arrays of the same shape and kind of its parts.

    Args:
        samples: ``(time,)`` or ``(channel, time)``, at least one sample; float of any width with full scale 1, or int16
            or int32 PCM. It is not changed.

    Attributes:
        waveform: The song, ``(channel, time)`` float32.

    Raises:
        AudioError: If it is none of these.
    """

    def __init__(self, samples: npt.NDArray[Any] | Tensor) -> None:
        if isinstance(samples, np.ndarray):
            kind = np.dtype(samples.dtype)
            if kind.kind not in "fi":
                raise AudioError(_refused(kind.name))
            wide = np.float64 if kind.kind == "f" and kind.itemsize > 8 else kind.newbyteorder("=")
            with np.errstate(over="ignore"):  # what is too large becomes infinite
                given = torch.from_numpy(np.array(samples, dtype=wide, order="C"))  # a copy: it may be read-only
        else:
            given = samples.detach().cpu()
        if given.ndim not in (1, 2) or 0 in given.shape:
            shape = tuple(given.shape)
            raise AudioError(f"samples of shape {shape}; expected (time,) or (channel, time), neither empty")
        if given.ndim == 2 and given.shape[0] > _CHANNELS:
            raise AudioError(f"samples of {given.shape[0]} channels; expected (channel, time): transpose the array")
        if not given.is_floating_point() and given.dtype not in _FIXED:
            raise AudioError(_refused(str(given.dtype).removeprefix("torch.")))
        self._given, self._like = given, samples
        scaled = given.double() / _FIXED.get(given.dtype, 1.0)
        self.waveform: Waveform = scaled.float().reshape(-1, given.shape[-1])

    def parts(self, vocals: Waveform) -> tuple[Tensor, Tensor]:
        """Vocals and accompaniment, of the song's shape and type.

        They add up to the song: exactly in fixed point, in floating point as `masks.split_mixture` says. Where a part would
        exceed what the type holds, the vocals give way. Samples that are not finite count as silence.

        Args:
            vocals: ``(channel, time)``, float32.
        """
        kind = self._given.dtype
        limits = torch.iinfo(kind) if kind in _FIXED else torch.finfo(kind)
        song = torch.where(self._given.float().isfinite(), self._given, 0).double()
        found = vocals.reshape(song.shape).double() * _FIXED.get(kind, 1.0)
        found = found.round() if kind in _FIXED else found
        found = found.clamp((song - limits.max).clamp_min(limits.min), (song - limits.min).clamp_max(limits.max))
        return masks.split_mixture(song.to(kind), found.to(kind))

    def like(self, part: Tensor) -> Any:
        """A part as what the song came as: a numpy array of its type, or a tensor on its device."""
        if isinstance(self._like, np.ndarray):
            return part.numpy().astype(self._like.dtype, copy=False)
        return part.to(self._like.device)


def _refused(kind: str) -> str:
    return f"samples of type {kind}; expected float, int16 or int32"
