"""Inversion: turn the vocals' spectrum back into sound.

There are two ways:

- Mixture phase: a masked spectrum carries the phase of the mixture, so all it needs is the inverse STFT.
- Griffin-Lim: discard the phase and search for one that fits the magnitudes (Griffin and Lim, 1984; with momentum:
  Perraudin, Balazs and Sondergaard, "A fast Griffin-Lim algorithm", 2013).

Both papers used Griffin-Lim. It sounds phasier and scores far worse, because a phase that fits the magnitudes need not
be the singer's. It is here for comparison with the papers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from vocalsep import stft
from vocalsep.extraction.chunks import join
from vocalsep.kinds import array_namespace, get_device
from vocalsep.shapes import Magnitude, Spectrum, Waveform
from vocalsep.stft import Grid

ITERATIONS = 32
MOMENTUM = 0.99
_PIECE, _CONTEXT = 256, 32  # frames whose phases one run determines, and frames it sees on either side of them


class Inversion(Protocol):
    """Streaming inversion: frames of the vocals' spectrum in, samples out. `stft.Synthesis` is one."""

    def push(self, spectrum: Spectrum) -> Waveform:
        """Take the next frames and return the samples that are complete."""

    def finish(self) -> Waveform:
        """Return the remaining samples."""


def griffin_lim(
    magnitude: Magnitude,
    grid: Grid,
    phase: Spectrum,
    *,
    iterations: int = ITERATIONS,
    momentum: float = MOMENTUM,
) -> Spectrum:
    """Search for phases with which the given magnitudes become (nearly) the STFT of a sound.

    With ``G(X) = STFT(ISTFT(X))``, ``M`` the magnitudes and ``m`` the momentum, one round is

        Y_k = G(X_k),    Z = Y_k - m / (1 + m) Y_{k-1},    X_{k+1} = M Z / |Z|

    Args:
        magnitude: ``(..., channel, freq, frame)``, at least two frames.
        grid: Grid of the spectrum.
        phase: Phases to start from: complex numbers of the same shape; only their angles count.
        iterations: Number of rounds.
        momentum: 0 for the method of 1984, 0.99 for the fast one.

    Returns:
        A complex spectrum with the given magnitudes. Its inverse STFT equals the result of `librosa.griffinlim` for
        the same starting phases.
    """
    length = (magnitude.shape[-1] - 1) * grid.hop
    spectrum, before = _with_magnitude(phase, magnitude), None
    for _ in range(iterations):
        rebuilt = stft.forward(stft.inverse(spectrum, grid, length), grid)
        ahead = rebuilt if before is None else rebuilt - momentum / (1 + momentum) * before
        before = rebuilt
        spectrum = _with_magnitude(ahead, magnitude)
    return spectrum


def _with_magnitude(phase: Spectrum, magnitude: Magnitude) -> Spectrum:
    xp = array_namespace(phase)
    return phase * (1 / (xp.abs(phase) + xp.finfo(magnitude.dtype).smallest_normal)) * magnitude


class GriffinLim:
    """Streaming Griffin-Lim, from random phases or from those of the spectrum.

    It works on pieces of fixed length. Each run also sees the end of the previous piece, and starts from the phases
    that the previous run found for the frames ahead. Therefore no seams are audible. The result does not depend on how
    the song was cut into blocks, and the random phases are the same each time.

    Args:
        grid: The song's grid.
        keep_phase: Whether to start from the spectrum's own phases, which in a masked mixture are those of the mixture.
            (The DRNN paper, section 2.3, tried those of the true vocals.)
    """

    def __init__(self, grid: Grid, *, keep_phase: bool = False) -> None:
        self.grid, self._keep_phase = grid, keep_phase
        self._synthesis = stft.Synthesis(grid)
        self._random = np.random.RandomState(0)  # the draws of torch.rand with seed 0, with which models were scored
        self._waiting: Any = None  # frames whose phases are not yet determined, complex
        self._before: Any = None  # the last frames whose phases have been determined, complex
        self._ahead: Any = None  # a first guess for the next frames, complex

    def push(self, spectrum: Spectrum) -> Waveform:
        """Take the next frames and return the samples that are complete; see `Inversion.push`.

        Args:
            spectrum: ``(channel, freq, frame)``. Without `keep_phase` only its magnitudes count.
        """
        self._waiting = spectrum if self._waiting is None else join([self._waiting, spectrum])
        out = [self._synthesis.push(spectrum[..., :0])]
        while self._waiting.shape[-1] >= _PIECE + _CONTEXT:
            out.append(self._synthesis.push(self._run(_PIECE)))
        return join(out)

    def finish(self) -> Waveform:
        """Return the remaining samples; see `Inversion.finish`.

        Raises:
            ValueError: If nothing was pushed.
        """
        if self._waiting is None:
            raise ValueError("a spectrum needs at least one frame")
        rest = self._run(self._waiting.shape[-1])
        return join([self._synthesis.push(rest), self._synthesis.finish()])

    def _run(self, frames: int) -> Spectrum:
        """Determine the phases of the next frames, and remove these frames from `_waiting`."""
        assert self._waiting is not None
        start = self._waiting[..., : frames + _CONTEXT]
        xp = array_namespace(start)
        magnitude = xp.abs(start)
        phase = xp.asarray(start, copy=True) if self._keep_phase else self._draw_phases(start)
        if self._ahead is not None and not self._keep_phase:  # the spectrum's own phases continue across cuts
            known = min(self._ahead.shape[-1], phase.shape[-1])
            phase[..., :known] = self._ahead[..., :known]
        if self._before is not None:
            magnitude = join([xp.abs(self._before), magnitude])
            phase = join([self._before, phase])
        first = 0 if self._before is None else self._before.shape[-1]
        found = griffin_lim(magnitude, self.grid, phase)
        self._waiting = self._waiting[..., frames:]
        self._ahead = found[..., first + frames :]
        piece = found[..., first : first + frames]
        self._before = piece[..., -_CONTEXT:]
        return piece

    def _draw_phases(self, like: Spectrum) -> Spectrum:
        shares = self._random.randint(0, 2**24, tuple(like.shape), dtype=np.uint32).astype(np.float32) / 2**24
        phases = np.exp(np.complex64(2j * np.pi) * shares)
        return array_namespace(like).asarray(phases, device=get_device(like))


INVERSIONS: dict[str, Callable[[Grid], Inversion]] = {
    "phase": stft.Synthesis,
    "griffin-lim": GriffinLim,
    "griffin-lim-phase": functools.partial(GriffinLim, keep_phase=True),
}
