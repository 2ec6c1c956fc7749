"""From the vocals' spectrum to their sound.

Two ways: the mixture's phase, which a masked mixture spectrum carries already, needs nothing but the inverse STFT;
Griffin-Lim throws the phase away and looks for one that fits the magnitudes (Griffin and Lim, 1984; with momentum:
Perraudin, Balazs and Sondergaard, "A fast Griffin-Lim algorithm", 2013). Both papers used Griffin-Lim. It sounds
phasier and scores far worse, since no phase that fits the magnitudes need be the singer's; it is here for
comparison with them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from vocalsep import stft
from vocalsep.shapes import Magnitude, Spectrum, Waveform
from vocalsep.stft import Grid

ITERATIONS = 32
MOMENTUM = 0.99
_SEGMENT, _CONTEXT = 256, 32  # frames that one run of Griffin-Lim settles, and that it sees on either side


class Inversion(Protocol):
    """Streaming inversion, as `stft.Synthesis`."""

    def push(self, spectrum: Spectrum) -> Waveform:
        """Takes the next frames of the vocals' spectrum and gives the samples that are complete."""

    def finish(self) -> Waveform:
        """Gives the samples that are left."""


def griffin_lim(
    magnitude: Magnitude,
    grid: Grid,
    phase: Tensor,
    *,
    iterations: int = ITERATIONS,
    momentum: float = MOMENTUM,
) -> Spectrum:
    """Looks for phases with which the magnitudes are (nearly) the STFT of a sound.

    Args:
        magnitude: ``(..., channel, freq, frame)``, at least two frames.
        grid: Their grid.
        phase: Where to start: complex numbers whose angles count, of the same shape.
        iterations: Rounds of inverse and forward transform.
        momentum: 0 is the method of 1984, 0.99 the fast one.

    Returns:
        Complex spectrum with the given magnitudes. Its inverse STFT is what `librosa.griffinlim` gives for the same
        start.
    """
    length = (magnitude.shape[-1] - 1) * grid.hop
    spectrum, before = _with_magnitude(phase, magnitude), None
    for _ in range(iterations):
        rebuilt = stft.forward(stft.inverse(spectrum, grid, length), grid)
        ahead = rebuilt if before is None else rebuilt - momentum / (1 + momentum) * before
        before = rebuilt
        spectrum = _with_magnitude(ahead, magnitude)
    return spectrum


def _with_magnitude(phase: Tensor, magnitude: Magnitude) -> Spectrum:
    return phase / (phase.abs() + torch.finfo(magnitude.dtype).tiny) * magnitude


class GriffinLim:
    """Streaming Griffin-Lim, from random phases or from those that it is given.

    It works on segments of a fixed grid, each with the end of the one before as its context and start, so that no
    seam is heard and the answer does not depend on how the song was cut. The random phases are the same each time.

    Args:
        grid: The song's grid.
        given: Whether to start from the spectrum's own phases; in a masked mixture they are the mixture's. (The DRNN
            paper, section 2.3, tried those of the true vocals.)
    """

    def __init__(self, grid: Grid, *, given: bool = False) -> None:
        self.grid, self._given = grid, given
        self._synthesis = stft.Synthesis(grid)
        self._generator = torch.Generator().manual_seed(0)
        self._waiting: Tensor | None = None  # frames not yet settled, complex
        self._settled: Tensor | None = None  # the last frames that were, complex
        self._ahead: Tensor | None = None  # a first guess for the next ones, complex

    def push(self, spectrum: Spectrum) -> Waveform:
        """See `Inversion.push`; without `given` only the spectrum's magnitudes count."""
        self._waiting = spectrum if self._waiting is None else torch.cat([self._waiting, spectrum], dim=-1)
        out = [self._synthesis.push(spectrum[..., :0])]
        while self._waiting.shape[-1] >= _SEGMENT + _CONTEXT:
            out.append(self._synthesis.push(self._settle(_SEGMENT)))
        return torch.cat(out, dim=-1)

    def finish(self) -> Waveform:
        """See `Inversion.finish`."""
        if self._waiting is None:
            raise ValueError("a spectrum needs at least one frame")
        rest = self._settle(self._waiting.shape[-1])
        return torch.cat([self._synthesis.push(rest), self._synthesis.finish()], dim=-1)

    def _settle(self, frames: int) -> Spectrum:
        assert self._waiting is not None
        start = self._waiting[..., : frames + _CONTEXT]
        magnitude = start.abs()
        phase = start.clone() if self._given else self._random(magnitude)
        if self._ahead is not None and not self._given:  # what is given is not from the cut end of a segment
            known = min(self._ahead.shape[-1], phase.shape[-1])
            phase[..., :known] = self._ahead[..., :known]
        if self._settled is not None:
            magnitude = torch.cat([self._settled.abs(), magnitude], dim=-1)
            phase = torch.cat([self._settled, phase], dim=-1)
        first = 0 if self._settled is None else self._settled.shape[-1]
        found = griffin_lim(magnitude, self.grid, phase)
        self._waiting = self._waiting[..., frames:]
        self._ahead = found[..., first + frames :]
        settled = found[..., first : first + frames]
        self._settled = settled[..., -_CONTEXT:]
        return settled

    def _random(self, magnitude: Magnitude) -> Tensor:
        angle = 2 * torch.pi * torch.rand(magnitude.shape, generator=self._generator)
        return torch.polar(torch.ones_like(angle), angle).to(magnitude.device)


INVERSIONS: dict[str, Callable[[Grid], Inversion]] = {
    "phase": stft.Synthesis,
    "griffin-lim": GriffinLim,
    "griffin-lim-phase": functools.partial(GriffinLim, given=True),
}
