"""Short-time Fourier transform (STFT), forward and inverse, for whole signals and for streams.

Frame ``t`` is centred on sample ``t * hop``. The signal ``x`` counts as zero outside its samples:

    X[f, t] = sum_n  w[n]  x[t * hop - n_fft / 2 + n]  e^(-2 pi j f n / n_fft),   0 <= n < n_fft

A signal of ``n`` samples has ``1 + ceil(n / hop)`` frames. Every sample then lies between two frame centres, so the
inverse is exact for every length. It is the least-squares inverse (Griffin and Lim, "Signal estimation from modified
short-time Fourier transform", 1984, eq. 6), where ``x_t`` is the inverse FFT of frame ``t`` at its place in time:

    x[n] = sum_t w_t[n] x_t[n]  /  sum_t w_t[n]^2

`forward` and `inverse` push everything at once through the streaming forms `Analysis` and `Synthesis`. There is no
other implementation, so the way a signal is cut into blocks changes the result by rounding errors at most.

Signals and spectra are numpy arrays or torch tensors (see `vocalsep.kinds`). In memory, a spectrum's frames follow one
another, each with its rows side by side: FFTs leave them so, and streams of frames are appended that way.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vocalsep.errors import ConfigError
from vocalsep.kinds import array_namespace, get_constant, get_device, slide, to_array
from vocalsep.shapes import AnyArray, Array, Spectrum, Waveform

_TINY = 1e-8  # smaller sums of squared windows occur only outside the signal


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A time-frequency grid: the settings of an STFT, and where its rows and columns lie in Hz and seconds.

    Attributes:
        rate: Sample rate in Hz.
        n_fft: FFT size and window length in samples, even and at least twice `hop`.
        hop: Samples between frames.
        window: "hann" or "hamming".

    Raises:
        ConfigError: If no exact inverse exists for these values.
    """

    rate: int
    n_fft: int
    hop: int
    window: Literal["hann", "hamming"] = "hann"

    def __post_init__(self) -> None:
        if self.rate < 1 or self.hop < 1 or self.n_fft % 2 or self.n_fft < 2 * self.hop:
            raise ConfigError(
                f"rate {self.rate}, n_fft {self.n_fft}, hop {self.hop}: "
                "an STFT needs an even n_fft that is at least twice hop"
            )

    @property
    def freqs(self) -> int:
        """Number of rows."""
        return self.n_fft // 2 + 1

    @property
    def hz(self) -> Array:
        """Centre of every row in Hz, ``(freq,)``, float64."""
        return np.arange(self.freqs, dtype=np.float64) * (self.rate / self.n_fft)

    @property
    def frame_seconds(self) -> float:
        """Seconds between frames."""
        return self.hop / self.rate

    def count_frames(self, samples: int) -> int:
        """Return the number of frames of a signal with this many samples, at least 1."""
        return 1 + -(-samples // self.hop)

    def at_rate(self, rate: int) -> Grid:
        """Return the grid at another sample rate whose rows and columns lie at (nearly) the same Hz and seconds.

        The hop becomes the nearest even length with a fast FFT. At its own rate, a grid whose hop already is such a
        length is returned unchanged.

        Args:
            rate: Sample rate in Hz.
        """
        hop = nearest_fast_length(self.hop * rate / self.rate)
        n_fft = hop * self.parts if self.n_fft % self.hop == 0 else 2 * round(hop * self.n_fft / self.hop / 2)
        return Grid(rate=rate, n_fft=n_fft, hop=hop, window=self.window)

    @property
    def parts(self) -> int:
        """Number of hops that a window reaches into."""
        return -(-self.n_fft // self.hop)

    def make_window(self) -> Array:
        """Return the window ``w``, ``(n_fft,)``, periodic, float32."""
        return _make_window(self)


def next_fast_length(length: int, *, multiple_of: int = 2) -> int:
    """Return the smallest length with a fast FFT that is not below `length`.

    A length is fast when its only prime factors are 2, 3 and 5.

    Args:
        length: In samples, at least 1.
        multiple_of: The result is a multiple of this, which must be a fast length itself.
    """
    least = -(-length // multiple_of)
    return multiple_of * next(fast for fast in itertools.count(least) if _is_fast(fast))


def _is_fast(length: int) -> bool:
    for prime in (2, 3, 5):
        while length % prime == 0:
            length //= prime
    return length == 1


def nearest_fast_length(length: float) -> int:
    """Return the even length with a fast FFT that lies nearest to `length`, at least 2; see `next_fast_length`."""
    above = next_fast_length(max(1, math.ceil(length)))
    below = next((n for n in range(above - 2, 0, -2) if n <= length and next_fast_length(n) == n), above)
    return min(below, above, key=lambda candidate: abs(candidate - length))


@functools.lru_cache(maxsize=32)
def _make_window(grid: Grid) -> Array:
    edge = 0.08 if grid.window == "hamming" else 0.0
    swing = (1 - edge) / 2 * np.cos(2 * np.pi * np.arange(grid.n_fft) / grid.n_fft)
    return _freeze(((1 + edge) / 2 - swing).astype(np.float32))


@functools.lru_cache(maxsize=32)
def _make_forward_window(grid: Grid) -> Array:
    """Return the window times `n_fft`, which the forward transform divides by."""
    return _freeze(grid.make_window() * np.float32(grid.n_fft))


@functools.lru_cache(maxsize=32)
def _make_weights(grid: Grid, frames: int) -> Array:
    """Return ``sum_t w_t^2`` for a number of frames, hop by hop, ``(frames + parts - 1, hop)``."""
    squares = np.zeros((grid.parts, grid.hop))
    squares.ravel()[: grid.n_fft] = np.square(grid.make_window(), dtype=np.float64)
    weights = np.zeros((frames + grid.parts - 1, grid.hop))
    for frame in range(frames):
        weights[frame : frame + grid.parts] += squares
    return _freeze(np.maximum(weights, _TINY).astype(np.float32))


def _freeze(constant: Array) -> Array:
    """Make an array read-only, because a cache hands it to everyone."""
    constant.setflags(write=False)
    return constant


def transform_frames(frames: AnyArray, grid: Grid) -> AnyArray:
    """Return the windowed FFT of frames of samples.

    Args:
        frames: ``(..., frame, n_fft)``, real.
        grid: The grid, with the window.

    Returns:
        ``(..., frame, freq)``, complex. The frames of spectra come last instead.
    """
    window = get_constant(frames, _make_forward_window, grid)
    # numpy computes in double precision, at twice the time, unless the transform is normalised.
    return array_namespace(frames).fft.rfft(frames * window, norm="forward")


class Analysis:
    """Streaming forward transform: samples in, frames out.

    Args:
        grid: The grid of the spectrum.

    Attributes:
        samples: Number of samples pushed so far, per channel.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._held: AnyArray | None = None
        self.samples = 0
        self._frames = 0

    def push(self, samples: Waveform) -> Spectrum:
        """Take the next samples and return all frames that are complete.

        Args:
            samples: ``(..., channel, time)``, float32; any number of samples, including none.

        Returns:
            ``(..., channel, freq, frame)``, complex64; possibly no frames.
        """
        return self._transform(samples, 0)

    def finish(self, samples: Waveform | None = None) -> Spectrum:
        """Return the remaining frames. The signal counts as zero after its end.

        Args:
            samples: The last samples, as for `push`, if some are left.

        Raises:
            ValueError: If nothing was pushed.
        """
        if samples is None and self._held is not None:
            samples = self._held[..., :0]
        total = self.samples + (0 if samples is None else samples.shape[-1])
        if samples is None or total == 0:
            raise ValueError("a signal needs at least one sample")
        end = (self.grid.count_frames(total) - 1) * self.grid.hop + self.grid.n_fft // 2  # of the last frame
        return self._transform(samples, end - total)

    def preview(self, count: int) -> Spectrum:
        """Return the next frames, which are not complete yet, as if the signal ended here. It may go on.

        Args:
            count: Number of frames.

        Raises:
            ValueError: If nothing was pushed.
        """
        if self._held is None:
            raise ValueError("a signal needs at least one sample")
        held, grid = self._held, self.grid
        missing = (count - 1) * grid.hop + grid.n_fft - held.shape[-1]
        held = array_namespace(held).concat([held, _make_zeros(held, missing)], axis=-1)
        frames = slide(held, grid.n_fft, grid.hop)
        return array_namespace(held).matrix_transpose(transform_frames(frames, grid))

    def _transform(self, samples: Waveform, zeros: int) -> Spectrum:
        """Transform the next samples and a number of zeros after them."""
        xp, grid = array_namespace(samples), self.grid
        held = self._held
        if held is None:
            held = _make_zeros(samples, grid.n_fft // 2)
        held = xp.concat([held, samples, _make_zeros(samples, zeros)] if zeros else [held, samples], axis=-1)
        count = max(0, (held.shape[-1] - grid.n_fft) // grid.hop + 1)
        self._held = held[..., count * grid.hop :]
        self.samples += samples.shape[-1]
        self._frames += count
        if count == 0:
            shape = (*held.shape[:-1], grid.freqs, 0)
            return xp.zeros(shape, dtype=xp.complex64, device=get_device(held))
        frames = slide(held, grid.n_fft, grid.hop)  # (..., channel, frame, n_fft)
        return xp.matrix_transpose(transform_frames(frames, grid))


class Synthesis:
    """Streaming inverse transform: frames in, samples out.

    Args:
        grid: The grid of the spectrum.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._sum: AnyArray | None = None  # sum_t w_t x_t of the next hops so far, (..., channel, parts - 1, hop)
        self._frames = 0
        self._hops = 0  # hops returned so far
        self._skip = grid.n_fft // 2  # samples before the start of the signal that are still to be dropped

    def push(self, spectrum: Spectrum) -> Waveform:
        """Take the next frames and return all samples that are complete.

        Args:
            spectrum: ``(..., channel, freq, frame)``, complex64; any number of frames, including none.

        Returns:
            ``(..., channel, time)``, float32; possibly no samples.
        """
        count = spectrum.shape[-1]
        if count == 0:  # an FFT needs at least one frame
            return _make_zeros(spectrum.real[..., 0, :], 0)
        total = self._add(spectrum)
        self._sum = total[..., count:, :]
        return self._divide(total[..., :count, :])

    def finish(self, spectrum: Spectrum | None = None) -> Waveform:
        """Return the remaining samples. They may run past the signal's end, so the caller must cut them there.

        Args:
            spectrum: The last frames, as for `push`, if some are left.

        Raises:
            ValueError: If no frame was pushed.
        """
        if spectrum is not None and spectrum.shape[-1]:
            self._sum = self._add(spectrum)
        if self._sum is None:
            raise ValueError("a spectrum needs at least one frame")
        return self._divide(self._sum)

    def _add(self, spectrum: Spectrum) -> AnyArray:
        """Add ``w_t x_t`` of the next frames to those of the frames before, ``(..., channel, hop number, hop)``."""
        xp, grid = array_namespace(spectrum), self.grid
        frames = xp.fft.irfft(xp.matrix_transpose(spectrum), n=grid.n_fft)
        frames *= get_constant(frames, _make_window, grid)
        *lead, count, size = frames.shape
        if size % grid.hop:
            frames = xp.concat([frames, _make_zeros(frames, -size % grid.hop)], axis=-1)
        split = xp.reshape(frames, (*lead, count, grid.parts, grid.hop))
        total = xp.zeros((*lead, count + grid.parts - 1, grid.hop), dtype=frames.dtype, device=get_device(frames))
        if self._sum is not None:
            total[..., : grid.parts - 1, :] = self._sum
        for part in reversed(range(grid.parts)):  # each hop adds its oldest frame first, however the frames were cut
            total[..., part : part + count, :] += split[..., part, :]
        self._frames += count
        return total

    def _divide(self, total: AnyArray) -> Waveform:
        """Divide the next hops by the sum of their squared windows."""
        parts, frames = self.grid.parts, self._frames
        known = min(frames, parts)
        weights = get_constant(total, _make_weights, self.grid, known)
        start, stop = self._hops, self._hops + total.shape[-2]
        first = min(max(start, parts - 1), stop)  # from here to `last`, all frames that reach a hop are known
        last = max(first, min(stop, frames))
        total[..., first - start : last - start, :] /= weights[min(parts, len(weights)) - 1]
        for hop in (*range(start, first), *range(last, stop)):
            total[..., hop - start, :] /= weights[hop if hop < known else hop - frames + known]
        self._hops = stop
        samples = array_namespace(total).reshape(total, (*total.shape[:-2], -1))
        skipped = min(self._skip, samples.shape[-1])
        self._skip -= skipped
        return samples[..., skipped:]


def _make_zeros(like: AnyArray, count: int) -> AnyArray:
    """Return a number of zeros for each channel, of the kind of other samples."""
    return array_namespace(like).zeros((*like.shape[:-1], count), dtype=like.dtype, device=get_device(like))


def forward(samples: Waveform, grid: Grid) -> Spectrum:
    """Transform a whole signal.

    Args:
        samples: ``(time,)``, ``(channel, time)`` or with more axes before, at least one sample: an array, a tensor or a
            list.
        grid: The grid of the spectrum.

    Returns:
        ``(..., channel, freq, frame)`` with ``grid.count_frames(time)`` frames. Gradients flow through.

    Raises:
        ValueError: If there are no samples.
    """
    return Analysis(grid).finish(to_array(samples))


def inverse(spectrum: Spectrum, grid: Grid, length: int) -> Waveform:
    """Transform a whole spectrum back; ``inverse(forward(x, grid), grid, len(x))`` is ``x``.

    Args:
        spectrum: ``(..., channel, freq, frame)``: an array, a tensor or a list.
        grid: The grid of the spectrum.
        length: Number of samples to return. The frames cover at most ``(frames - 1) * hop``.

    Returns:
        ``(..., channel, time)``.

    Raises:
        ValueError: If there are no frames.
    """
    return Synthesis(grid).finish(to_array(spectrum, "spectrum"))[..., :length]
