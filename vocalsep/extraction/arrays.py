"""Songs in arrays of any kind: numpy or torch, mono or not, floating or fixed point. The parts come back likewise."""

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

_FULL_SCALE = {torch.int16: 2.0**15, torch.int32: 2.0**31}
_MAX_CHANNELS = 1_024  # an array with more is taken for ``(time, channel)``


class ArraySong:
    """A song in an array, and the way back to arrays of the same shape and type.

    Args:
        samples: ``(time,)`` or ``(channel, time)``, at least one sample; float of any width with full scale 1, or int16
            or int32 PCM. It is not changed.

    Attributes:
        waveform: The song, ``(channel, time)``, float32.

    Raises:
        AudioError: If `samples` has another shape or type.
    """

    def __init__(self, samples: npt.NDArray[Any] | Tensor) -> None:
        if isinstance(samples, np.ndarray):
            kind = np.dtype(samples.dtype)
            if kind.kind not in "fi":
                raise AudioError(_describe_wrong_type(kind.name))
            wide = np.float64 if kind.kind == "f" and kind.itemsize > 8 else kind.newbyteorder("=")
            with np.errstate(over="ignore"):  # values beyond float64 become infinity
                song = torch.from_numpy(np.array(samples, dtype=wide, order="C"))  # `samples` may be read-only
        else:
            song = samples.detach().cpu()
        if song.ndim not in (1, 2) or 0 in song.shape:
            shape = tuple(song.shape)
            raise AudioError(f"samples of shape {shape}; expected (time,) or (channel, time), neither empty")
        if song.ndim == 2 and song.shape[0] > _MAX_CHANNELS:
            raise AudioError(f"samples of {song.shape[0]} channels; expected (channel, time): transpose the array")
        if not song.is_floating_point() and song.dtype not in _FULL_SCALE:
            raise AudioError(_describe_wrong_type(str(song.dtype).removeprefix("torch.")))
        self._song, self._samples = song, samples
        scaled = song.double() / _FULL_SCALE.get(song.dtype, 1.0)
        self.waveform: Waveform = scaled.float().reshape(-1, song.shape[-1])

    def split(self, vocals: Waveform) -> tuple[Tensor, Tensor]:
        """Split the song into vocals and accompaniment of its own shape and type.

        They add up to the song: exactly in fixed point, and as `masks.split_mixture` says in floating point. If a part
        would exceed the range of the type, the vocals change so that both fit. NaN and infinity in the song count as
        silence.

        Args:
            vocals: ``(channel, time)``, float32.

        Returns:
            Vocals and accompaniment as tensors on the CPU.
        """
        kind = self._song.dtype
        limits = torch.iinfo(kind) if kind in _FULL_SCALE else torch.finfo(kind)
        song = torch.where(self._song.float().isfinite(), self._song, 0).double()
        share = vocals.reshape(song.shape).double() * _FULL_SCALE.get(kind, 1.0)
        share = share.round() if kind in _FULL_SCALE else share
        share = share.clamp((song - limits.max).clamp_min(limits.min), (song - limits.min).clamp_max(limits.max))
        return masks.split_mixture(song.to(kind), share.to(kind))

    def restore(self, part: Tensor) -> Any:
        """Return a part as what the song came in: a numpy array of its type, or a tensor on its device."""
        if isinstance(self._samples, np.ndarray):
            return part.numpy().astype(self._samples.dtype, copy=False)
        return part.to(self._samples.device)


def _describe_wrong_type(kind: str) -> str:
    return f"samples of type {kind}; expected float, int16 or int32"
