"""The two kinds of arrays: numpy's, and torch's tensors.

The signal core is written once, over the array API standard: a function takes arrays of either kind, asks for their
namespace and calls what both have. This module holds the few things that the two do differently. It does not import
torch; a tensor brings its namespace along.

numpy arrays get numpy's own namespace. That of array-api-compat wraps it, and takes as long to import as numpy itself.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any

import array_api_compat
import numpy as np
from array_api_compat import device as get_device
from array_api_compat import is_torch_array

from vocalsep.errors import AudioError
from vocalsep.shapes import AnyArray, Array, Spectrum

__all__ = [
    "MAX_CHANNELS",
    "array_namespace",
    "copy_frame_by_frame",
    "get_constant",
    "get_device",
    "is_torch_array",
    "matmul",
    "multiply",
    "multiply_rows",
    "silence_non_finite",
    "slide",
    "to_array",
    "to_numpy_signal",
]


MAX_CHANNELS = 1_024
"""An array with more channels is taken for ``(time, channel)``."""


def array_namespace(*arrays: AnyArray) -> Any:
    """Return the module that works on these arrays, all of one kind: numpy, or array-api-compat's for torch."""
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np
    return array_api_compat.array_namespace(*arrays)


def copy_frame_by_frame(values: AnyArray) -> AnyArray:
    """Return the same ``(..., row, frame)`` with its frames one after another in memory, as in a spectrum."""
    xp = array_namespace(values)
    columns = xp.matrix_transpose(values)
    return xp.matrix_transpose(columns.contiguous() if is_torch_array(values) else np.ascontiguousarray(columns))


def to_array(values: Any, what: str = "samples") -> AnyArray:
    """Return numbers as an array: arrays and tensors as they are, lists as numpy arrays.

    Args:
        values: An array, a tensor, or anything that numpy makes an array of numbers from.
        what: What they are, for messages.

    Raises:
        AudioError: If they are lists of different lengths.
        TypeError: If they are no numbers.
    """
    if is_torch_array(values) or isinstance(values, np.ndarray):
        return values
    kind = type(values).__name__
    if isinstance(values, str | bytes | os.PathLike):
        raise TypeError(
            f"{what} must be an array or a list of numbers, not {kind}; to read a file, use vocalsep.extract"
        )
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise AudioError(f"{what}: lists of different lengths; expected channels of the same length") from error
    if array.dtype.kind not in "bifuc":
        raise TypeError(f"{what} must be an array or a list of numbers, not {kind}")
    return array


def to_numpy_signal(values: Any, what: str, dimensions: int = 2) -> Array:
    """Return a signal as a numpy array of floats: ``(channel, time)``, or with more axes before.

    Args:
        values: As in `to_array`; a tensor may be on any device. The channel axis may be missing.
        what: What it is, for messages.
        dimensions: Number of axes of the result.

    Raises:
        AudioError: If the shape is another one, or the numbers are complex.
        TypeError: If they are no numbers.
    """
    array = to_array(values, what)
    array = np.asarray(array.detach().cpu() if is_torch_array(array) else array)
    if array.dtype.kind not in "fiu":
        raise AudioError(f"{what} of type {array.dtype.name}; expected real numbers")
    if array.ndim == dimensions - 1:
        array = array[..., None, :]
    if array.ndim != dimensions or 0 in array.shape:
        axes = ("source, " if dimensions == 3 else "") + "channel, time"
        raise AudioError(f"{what} of shape {array.shape}; expected ({axes}), at least one sample")
    if array.shape[-2] > MAX_CHANNELS:
        raise AudioError(f"{what} of {array.shape[-2]} channels; expected (channel, time): transpose the array")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def get_constant(like: AnyArray, make: Callable[..., Array], *arguments: Hashable) -> AnyArray:
    """Return a constant as an array of the kind, type and device of another.

    A tensor is made once per device and serves training even if extraction asked for it first.

    Args:
        like: A real array.
        make: Returns the constant as a float32 numpy array, always the same for the same arguments.
        arguments: Arguments of `make`.
    """
    constant: AnyArray = make(*arguments)
    if is_torch_array(like):
        constant = _place(make, arguments, array_namespace(like), like.device)
    return constant if constant.dtype == like.dtype else array_namespace(like).astype(constant, like.dtype)


_products = threading.Lock()  # the number of threads is one for the whole process


@functools.cache
def _control_blas() -> Any:
    """Return what limits the threads of numpy's linear algebra; None if it has only one."""
    if all(os.environ.get(f"{library}_NUM_THREADS") == "1" for library in ("OMP", "OPENBLAS", "MKL")):
        return None  # as in our commands
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas")
    return found if any(library.num_threads > 1 for library in found.lib_controllers) else None


def matmul(left: AnyArray, right: AnyArray) -> AnyArray:
    """Return ``left @ right``, in numpy computed by one thread.

    OpenBLAS would wake a thread for each core, even for products that take less than a millisecond. If numpy was
    imported before vocalsep, they then spin for longer than that, and take the cores from the net.
    """
    control = None if is_torch_array(left) else _control_blas()
    if control is None:
        return left @ right
    with _products, control.limit(limits=1):
        return left @ right


def multiply_rows(values: AnyArray, make: Callable[..., Array], *arguments: Hashable) -> AnyArray:
    """Return ``matrix @ values``, with its frames one after another in memory, as in a spectrum.

    Args:
        values: ``(..., row, frame)``, real.
        make: Returns the matrix; see `get_constant`.
        arguments: Arguments of `make`.
    """
    xp, matrix = array_namespace(values), get_constant(values, make, *arguments)
    return xp.matrix_transpose(matmul(xp.matrix_transpose(values), matrix.T))


@functools.lru_cache(maxsize=64)
def _place(make: Callable[..., Array], arguments: tuple[Hashable, ...], xp: Any, device: Any) -> AnyArray:
    with xp.inference_mode(False):  # a tensor made in inference mode cannot be used in training
        return xp.asarray(make(*arguments), device=device, copy=True)


def slide(samples: AnyArray, size: int, step: int) -> AnyArray:
    """Return a view of the last axis as windows, ``(..., window, size)``.

    Args:
        samples: ``(..., time)``, at least `size` long.
        size: Length of each window.
        step: Distance between the starts of windows.
    """
    if is_torch_array(samples):
        return samples.unfold(-1, size, step)
    return np.lib.stride_tricks.sliding_window_view(samples, size, axis=-1)[..., ::step, :]


def multiply(spectrum: Spectrum, gains: AnyArray) -> Spectrum:
    """Multiply a complex array by a real one."""
    if is_torch_array(spectrum):  # torch would keep the gains as complex numbers for the way back
        xp = array_namespace(spectrum)
        return xp.view_as_complex(xp.view_as_real(spectrum) * gains[..., None])
    return spectrum * gains


def silence_non_finite(values: AnyArray) -> AnyArray:
    """Return an array with NaN and infinity replaced by 0; the array itself if it has none and is numpy's."""
    if is_torch_array(values):  # no check first: it would wait for CUDA
        return array_namespace(values).nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, values.dtype.type(0))
