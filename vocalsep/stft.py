"""Short-time Fourier transform, forward and inverse, whole or streaming: the one place for windows and padding.

Frames are centred: frame ``t`` is centred on sample ``t * hop``, and the signal counts as zero before its first and
after its last sample. A signal of ``n`` samples has ``1 + ceil(n / hop)`` frames, so that every sample lies between
two frame centres and the inverse is exact for every length. The inverse divides by the sum of squared windows (the
least-squares inverse: Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984, eq. 6).

The streaming forms are the only implementation; `forward` and `inverse` push everything in one go. Cutting a signal
differently therefore cannot change the answer by more than rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vocalsep.errors import ConfigError
from vocalsep.shapes import Spectrum, Waveform

_TINY = 1e-8  # window sums below this lie outside the signal


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A time-frequency grid: where the rows and columns of an STFT lie in Hz and seconds.

    Attributes:
        rate: Sampling rate in Hz.
        n_fft: FFT size and window length in samples, a multiple of `hop`.
        hop: Samples between frames.
        window: "hann" or "hamming".

    Raises:
        ConfigError: Where no exact inverse exists.
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
        """Number of frames of a signal of `samples` samples (at least 1)."""
        return 1 + -(-samples // self.hop)

    def at_rate(self, rate: int) -> Grid:
        """The grid for another sampling rate with (nearly) the same rows and columns in Hz and seconds.

        The hop is rounded to an even product of 2, 3 and 5, for which FFTs are fast; at its own rate a grid with such
        a hop gives itself.
        """
        hop = _smooth(self.hop * rate / self.rate)
        return Grid(rate=rate, n_fft=hop * (self.n_fft // self.hop), hop=hop, window=self.window)

    def make_window(self) -> Tensor:
        """The window, ``(n_fft,)``, periodic."""
        return (torch.hamming_window if self.window == "hamming" else torch.hann_window)(self.n_fft, periodic=True)


def _smooth(value: float) -> int:
    """The product of powers of 2, 3 and 5 that is nearest to `value`; even, so that n_fft is."""
    top = max(2, round(value * 2))
    products = (
        2**i * 3**j * 5**k
        for i in range(1, top.bit_length() + 1)
        for j in range(top.bit_length())
        for k in range(top.bit_length())
    )
    return int(min((p for p in products if p <= top), key=lambda p: abs(p - value)))


class Analysis:
    """Streaming forward transform.

    Args:
        grid: The grid of the spectrum.

    Attributes:
        samples: Pushed so far, of each channel.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._window = grid.make_window()
        self._held: Tensor | None = None
        self.samples = 0
        self._frames = 0

    def push(self, samples: Waveform) -> Spectrum:
        """Takes the next samples and gives all frames that are complete.

        Args:
            samples: ``(..., channel, time)``, float32; any number of samples, also none.

        Returns:
            ``(..., channel, freq, frame)``, complex64; perhaps no frame.
        """
        if self._held is None:
            self._held = samples.new_zeros((*samples.shape[:-1], self.grid.n_fft // 2))
        self.samples += samples.shape[-1]
        return self._transform(samples)

    def finish(self) -> Spectrum:
        """Gives the remaining frames; the signal counts as zero after its end.

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
        pieces = held.unfold(-1, self.grid.n_fft, self.grid.hop)  # (..., channel, frame, n_fft)
        spectrum: Spectrum = torch.fft.rfft(pieces * self._window.to(held)).transpose(-1, -2)
        return spectrum


class Synthesis:
    """Streaming inverse transform.

    Args:
        grid: The grid of the spectrum.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._window = grid.make_window()
        self._sum: Tensor | None = None  # what the next samples have received so far, (..., channel, n_fft - hop)
        self._weight = torch.zeros(grid.n_fft - grid.hop)
        self._skip = grid.n_fft // 2

    def push(self, spectrum: Spectrum) -> Waveform:
        """Takes the next frames and gives all samples that are complete.

        Args:
            spectrum: ``(..., channel, freq, frame)``, complex64; perhaps no frame.

        Returns:
            ``(..., channel, time)``, float32; perhaps no sample.
        """
        grid = self.grid
        window = self._window.to(spectrum.device)
        if spectrum.shape[-1] == 0:  # nothing that an FFT could take
            return spectrum.real.new_zeros((*spectrum.shape[:-2], 0))
        pieces = torch.fft.irfft(spectrum.transpose(-1, -2), n=grid.n_fft) * window
        if self._sum is None:
            self._sum = pieces.new_zeros((*pieces.shape[:-2], grid.n_fft - grid.hop))
            self._weight = self._weight.to(pieces)
        total = _overlap_add(pieces, grid.hop, self._sum)
        weight = _overlap_add((window * window).expand(pieces.shape[-2], -1), grid.hop, self._weight)
        done = pieces.shape[-2] * grid.hop
        self._sum, self._weight = total[..., done:], weight[done:]
        return self._cut(total[..., :done], weight[:done])

    def finish(self) -> Waveform:
        """Gives the samples that are left; those past the signal's end are for the caller to cut off."""
        if self._sum is None:
            raise ValueError("a spectrum needs at least one frame")
        return self._cut(self._sum, self._weight)

    def _cut(self, total: Waveform, weight: Tensor) -> Waveform:
        first = min(self._skip, total.shape[-1])
        self._skip -= first
        return total[..., first:] / weight[first:].clamp_min(_TINY)


def _overlap_add(pieces: Tensor, hop: int, carried: Tensor) -> Tensor:
    """Adds ``(..., frame, n_fft)`` pieces, each `hop` later than the one before, onto what was `carried` over."""
    *lead, frames, n_fft = pieces.shape
    parts = n_fft // hop
    split = pieces.reshape(*lead, frames, parts, hop)
    total = pieces.new_zeros((*lead, frames + parts - 1, hop))
    total[..., : parts - 1, :] += carried.reshape(*lead, parts - 1, hop)
    for part in range(parts):
        total[..., part : part + frames, :] += split[..., part, :]
    return total.reshape(*lead, -1)


def forward(samples: Waveform, grid: Grid) -> Spectrum:
    """Transforms a whole signal.

    Args:
        samples: ``(..., channel, time)``, at least one sample.
        grid: The grid of the spectrum.

    Returns:
        ``(..., channel, freq, frame)`` with ``grid.count_frames(samples)`` frames. Gradients flow.
    """
    analysis = Analysis(grid)
    return torch.cat([analysis.push(samples), analysis.finish()], dim=-1)


def inverse(spectrum: Spectrum, grid: Grid, length: int) -> Waveform:
    """Transforms back; ``inverse(forward(x, grid), grid, len(x))`` is ``x``.

    Args:
        spectrum: ``(..., channel, freq, frame)``.
        grid: The grid of the spectrum.
        length: Samples wanted; at most ``(frames - 1) * hop`` of them are covered by the frames.

    Returns:
        ``(..., channel, time)``.
    """
    synthesis = Synthesis(grid)
    return torch.cat([synthesis.push(spectrum), synthesis.finish()], dim=-1)[..., :length]
