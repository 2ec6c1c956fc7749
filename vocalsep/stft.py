"""Short-time Fourier transform (STFT), forward and inverse, for whole signals and for streams.

Frame ``t`` is centred on sample ``t * hop``. The signal ``x`` counts as zero outside its samples:

    X[f, t] = sum_n  w[n]  x[t * hop - n_fft / 2 + n]  e^(-2 pi j f n / n_fft),   0 <= n < n_fft

A signal of ``n`` samples has ``1 + ceil(n / hop)`` frames. Every sample then lies between two frame centres, so the
inverse is exact for every length. It is the least-squares inverse (Griffin and Lim, "Signal estimation from modified
short-time Fourier transform", 1984, eq. 6), where ``x_t`` is the inverse FFT of frame ``t`` at its place in time:

    x[n] = sum_t w_t[n] x_t[n]  /  sum_t w_t[n]^2

`forward` and `inverse` push everything at once through the streaming forms `Analysis` and `Synthesis`. There is no
other implementation, so the way a signal is cut into blocks changes the result by rounding errors at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import scipy.fft
import torch
from torch import Tensor

from vocalsep.errors import ConfigError
from vocalsep.shapes import Spectrum, Waveform

_TINY = 1e-8  # smaller sums of squared windows occur only outside the signal


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A time-frequency grid: the settings of an STFT, and where its rows and columns lie in Hz and seconds.

    Attributes:
        rate: Sample rate in Hz.
        n_fft: FFT size and window length in samples, a multiple of `hop`.
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
        if self.rate < 1 or self.hop < 1 or self.n_fft % 2 or self.n_fft % self.hop or self.n_fft < 2 * self.hop:
            raise ConfigError(
                f"rate {self.rate}, n_fft {self.n_fft}, hop {self.hop}: "
                "an STFT needs an even n_fft that is at least twice hop and a multiple of it"
            )

    @property
    def freqs(self) -> int:
        """Number of rows."""
        return self.n_fft // 2 + 1

    @property
    def hz(self) -> Tensor:
        """Centre of every row in Hz, ``(freq,)``, float64."""
        return torch.arange(self.freqs, dtype=torch.float64) * (self.rate / self.n_fft)

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
        return Grid(rate=rate, n_fft=hop * (self.n_fft // self.hop), hop=hop, window=self.window)

    def make_window(self) -> Tensor:
        """Return the window ``w``, ``(n_fft,)``, periodic."""
        return (torch.hamming_window if self.window == "hamming" else torch.hann_window)(self.n_fft, periodic=True)


def next_fast_length(length: int, *, multiple_of: int = 2) -> int:
    """Return the smallest length with a fast FFT that is not below `length`.

    A length is fast when its only prime factors are 2, 3 and 5.

    Args:
        length: In samples, at least 1.
        multiple_of: The result is a multiple of this, which must be a fast length itself.
    """
    return multiple_of * int(scipy.fft.next_fast_len(-(-length // multiple_of), real=True))


def nearest_fast_length(length: float) -> int:
    """Return the even length with a fast FFT that lies nearest to `length`, at least 2; see `next_fast_length`."""
    above = next_fast_length(max(1, math.ceil(length)))
    below = next((n for n in range(above - 2, 0, -2) if n <= length and next_fast_length(n) == n), above)
    return min(below, above, key=lambda candidate: abs(candidate - length))


class Analysis:
    """Streaming forward transform: samples in, frames out.

    Args:
        grid: The grid of the spectrum.

    Attributes:
        samples: Number of samples pushed so far, per channel.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._window = grid.make_window()
        self._held: Tensor | None = None
        self.samples = 0
        self._frames = 0

    def push(self, samples: Waveform) -> Spectrum:
        """Take the next samples and return all frames that are complete.

        Args:
            samples: ``(..., channel, time)``, float32; any number of samples, including none.

        Returns:
            ``(..., channel, freq, frame)``, complex64; possibly no frames.
        """
        if self._held is None:
            self._held = samples.new_zeros((*samples.shape[:-1], self.grid.n_fft // 2))
        self.samples += samples.shape[-1]
        return self._transform(samples)

    def finish(self) -> Spectrum:
        """Return the remaining frames. The signal counts as zero after its end.

        Raises:
            ValueError: If nothing was pushed.
        """
        if self._held is None or self.samples == 0:
            raise ValueError("a signal needs at least one sample")
        missing = self.grid.count_frames(self.samples) - self._frames
        need = (missing - 1) * self.grid.hop + self.grid.n_fft - self._held.shape[-1]
        return self._transform(self._held.new_zeros((*self._held.shape[:-1], need)))

    def _transform(self, samples: Waveform) -> Spectrum:
        assert self._held is not None
        held = torch.cat([self._held, samples], dim=-1)
        count = max(0, (held.shape[-1] - self.grid.n_fft) // self.grid.hop + 1)
        self._held = held[..., count * self.grid.hop :]
        self._frames += count
        if count == 0:
            return held.new_zeros((*held.shape[:-1], self.grid.freqs, 0), dtype=torch.complex64)
        frames = held.unfold(-1, self.grid.n_fft, self.grid.hop)  # (..., channel, frame, n_fft)
        spectrum: Spectrum = torch.fft.rfft(frames * self._window.to(held)).transpose(-1, -2)
        return spectrum


class Synthesis:
    """Streaming inverse transform: frames in, samples out.

    Args:
        grid: The grid of the spectrum.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._window = grid.make_window()
        self._sum: Tensor | None = None  # sum_t w_t x_t of the next samples so far, (..., channel, n_fft - hop)
        self._weight = torch.zeros(grid.n_fft - grid.hop)  # sum_t w_t^2 of the same samples
        self._skip = grid.n_fft // 2  # samples before the start of the signal that are still to be dropped

    def push(self, spectrum: Spectrum) -> Waveform:
        """Take the next frames and return all samples that are complete.

        Args:
            spectrum: ``(..., channel, freq, frame)``, complex64; any number of frames, including none.

        Returns:
            ``(..., channel, time)``, float32; possibly no samples.
        """
        grid = self.grid
        window = self._window.to(spectrum.device)
        if spectrum.shape[-1] == 0:  # an FFT needs at least one frame
            return spectrum.real.new_zeros((*spectrum.shape[:-2], 0))
        frames = torch.fft.irfft(spectrum.transpose(-1, -2), n=grid.n_fft) * window
        if self._sum is None:
            self._sum = frames.new_zeros((*frames.shape[:-2], grid.n_fft - grid.hop))
            self._weight = self._weight.to(frames)
        total = _overlap_add(frames, grid.hop, self._sum)
        weight = _overlap_add((window * window).expand(frames.shape[-2], -1), grid.hop, self._weight)
        done = frames.shape[-2] * grid.hop
        self._sum, self._weight = total[..., done:], weight[done:]
        return self._divide(total[..., :done], weight[:done])

    def finish(self) -> Waveform:
        """Return the remaining samples. They may run past the signal's end, so the caller must cut them there.

        Raises:
            ValueError: If no frame was pushed.
        """
        if self._sum is None:
            raise ValueError("a spectrum needs at least one frame")
        return self._divide(self._sum, self._weight)

    def _divide(self, total: Waveform, weight: Tensor) -> Waveform:
        first = min(self._skip, total.shape[-1])
        self._skip -= first
        return total[..., first:] / weight[first:].clamp_min(_TINY)


def _overlap_add(frames: Tensor, hop: int, carried: Tensor) -> Tensor:
    """Overlap-add ``(..., frame, n_fft)`` frames, and add the sum `carried` over from earlier frames."""
    *lead, count, n_fft = frames.shape
    parts = n_fft // hop
    split = frames.reshape(*lead, count, parts, hop)
    total = frames.new_zeros((*lead, count + parts - 1, hop))
    total[..., : parts - 1, :] += carried.reshape(*lead, parts - 1, hop)
    for part in range(parts):
        total[..., part : part + count, :] += split[..., part, :]
    return total.reshape(*lead, -1)


def forward(samples: Waveform, grid: Grid) -> Spectrum:
    """Transform a whole signal.

    Args:
        samples: ``(..., channel, time)``, at least one sample.
        grid: The grid of the spectrum.

    Returns:
        ``(..., channel, freq, frame)`` with ``grid.count_frames(time)`` frames. Gradients flow through.

    Raises:
        ValueError: If there are no samples.
    """
    analysis = Analysis(grid)
    return torch.cat([analysis.push(samples), analysis.finish()], dim=-1)


def inverse(spectrum: Spectrum, grid: Grid, length: int) -> Waveform:
    """Transform a whole spectrum back; ``inverse(forward(x, grid), grid, len(x))`` is ``x``.

    Args:
        spectrum: ``(..., channel, freq, frame)``.
        grid: The grid of the spectrum.
        length: Number of samples to return. The frames cover at most ``(frames - 1) * hop``.

    Returns:
        ``(..., channel, time)``.

    Raises:
        ValueError: If there are no frames.
    """
    synthesis = Synthesis(grid)
    return torch.cat([synthesis.push(spectrum), synthesis.finish()], dim=-1)[..., :length]
