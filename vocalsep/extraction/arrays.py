"""Convert arrays of any kind to songs, and parts back: numpy or torch, any channels, floating or fixed point.

Torch is not imported here: a tensor brings its own namespace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from array_api_compat import is_numpy_array

from vocalsep import masks
from vocalsep.errors import AudioError
from vocalsep.kinds import MAX_CHANNELS, array_namespace, is_torch_array, to_array
from vocalsep.shapes import Waveform

if TYPE_CHECKING:
    from torch import Tensor

Samples = TypeVar("Samples", npt.NDArray[Any], "Tensor")

_FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31}


class ArraySong:
    """A song in an array. Its parts can be converted back to the shape and type of that array.

    Args:
        samples: ``(time,)`` or ``(channel, time)``, at least one sample; float of any width with full scale 1, or int16
            or int32 PCM. It is not changed. A list counts as a numpy array.

    Attributes:
        waveform: The song, ``(channel, time)``, float32.

    Raises:
        AudioError: If the shape or type of `samples` is not one of these.
        TypeError: If `samples` is no array, list or tensor of numbers.
    """

    def __init__(self, samples: npt.NDArray[Any] | Tensor) -> None:
        song: Any = samples
        self._samples = song
        if is_torch_array(song):
            song = song.detach().cpu()
            if not song.is_floating_point() and _name_type(song) not in _FULL_SCALE:
                raise AudioError(_describe_wrong_type(_name_type(song)))
        else:
            self._samples = song = to_array(song)
            if song.dtype.kind not in "fi" or (song.dtype.kind == "i" and _name_type(song) not in _FULL_SCALE):
                raise AudioError(_describe_wrong_type(_name_type(song)))
            wide = np.float64 if song.dtype.kind == "f" and song.dtype.itemsize > 8 else song.dtype.newbyteorder("=")
            with np.errstate(over="ignore"):  # values beyond float64 become infinity
                song = np.asarray(song, dtype=wide)
        if song.ndim not in (1, 2) or 0 in song.shape:
            shape = tuple(song.shape)
            raise AudioError(f"samples of shape {shape}; expected (time,) or (channel, time), at least one sample")
        if song.ndim == 2 and song.shape[0] > MAX_CHANNELS:
            raise AudioError(f"samples of {song.shape[0]} channels; expected (channel, time): transpose the array")
        self._song, self._full_scale = song, _FULL_SCALE.get(_name_type(song))
        with np.errstate(over="ignore"):
            single = np.asarray(song.float() if is_torch_array(song) else song, dtype=np.float32, order="C")
        self.waveform: Waveform = single.reshape(-1, song.shape[-1])
        if self._full_scale:
            self.waveform = self.waveform / np.float32(self._full_scale)

    def split(self, vocals: Waveform) -> tuple[Any, Any]:
        """Split the song into vocals and accompaniment of its own shape and type.

        They add up to the song: exactly in fixed point, to within rounding in floating point (see
        `masks.split_mixture`). If a part would exceed the range of the type, the vocals change so that both fit. NaN
        and infinity in the song count as silence.

        Args:
            vocals: ``(channel, time)``, float32.

        Returns:
            Vocals and accompaniment, numpy arrays or tensors on the CPU.
        """
        xp = array_namespace(self._song)
        kind = self._song.dtype
        share = xp.astype(xp.asarray(vocals), xp.float64).reshape(self._song.shape)
        song = xp.astype(self._song, xp.float64)
        if self._full_scale:
            limits, share = xp.iinfo(kind), xp.round(share * self._full_scale)
        else:
            finite = np.isfinite(self.waveform).reshape(tuple(song.shape))
            limits, song = xp.finfo(kind), xp.where(xp.asarray(finite), song, 0.0)
        least, most = float(limits.min), float(limits.max)
        with np.errstate(over="ignore"):  # what overflows here is clipped
            share = xp.clip(share, xp.clip(song - most, min=least), xp.clip(song - least, max=most))
        parts: tuple[Any, Any] = masks.split_mixture(xp.astype(song, kind), xp.astype(share, kind))
        return parts

    def restore(self, part: Any) -> Any:
        """Convert a part to the kind of the original array: a numpy array of its type, or a tensor on its device."""
        if is_numpy_array(part):
            return part.astype(self._samples.dtype, copy=False)
        return part.to(self._samples.device)


def _name_type(samples: Any) -> str:
    return samples.dtype.name if is_numpy_array(samples) else str(samples.dtype).removeprefix("torch.")


def _describe_wrong_type(kind: str) -> str:
    return f"samples of type {kind}; expected float, int16 or int32"
