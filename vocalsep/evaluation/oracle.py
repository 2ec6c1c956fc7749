"""Apply ideal masks to a song: the upper bound for every net that estimates masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vocalsep import audio, masks, stft
from vocalsep.extraction import Parts
from vocalsep.features import FrontEnd
from vocalsep.shapes import AnyArray, Mask, Waveform
from vocalsep.stft import Grid


def apply_ideal_mask(
    mixture: Waveform,
    vocals: Waveform,
    rate: int,
    front_end: FrontEnd | None = None,
    *,
    mask: Callable[[AnyArray, AnyArray], Mask] = masks.ratio,
) -> Parts:
    """Compute the ideal mask from the true vocals, and apply it to the mixture.

    Args:
        mixture: ``(channel, time)``.
        vocals: The true vocals, of the same shape; the rest of the mixture counts as accompaniment.
        rate: Their sample rate, Hz.
        front_end: Compute the mask on the grid of this front end and project it, as a net's mask would be. By
            default, compute one mask per channel on the song's own STFT, with windows of 4096 samples at 44.1 kHz, and
            of the same duration at other rates.
        mask: Function that computes the mask from the powers of vocals and accompaniment.

    Returns:
        Vocals and accompaniment.
    """
    accompaniment = mixture - vocals
    if front_end is None:
        grid = Grid(rate=44_100, n_fft=4096, hop=1024).at_rate(rate)
        power = [np.square(np.abs(stft.forward(part, grid))) for part in (vocals, accompaniment)]
        ideal = mask(power[0], power[1])
    else:
        grid = front_end.grid.at_rate(rate)
        low = [audio.resample(part, rate, front_end.rate) for part in (vocals, accompaniment)]
        bands = [front_end.measure(stft.forward(part, front_end.grid)) for part in low]
        frames = range(grid.count_frames(mixture.shape[-1]))
        ideal = front_end.project(mask(bands[0], bands[1]), start=0, grid=grid, frames=frames)
    estimate = stft.inverse(masks.apply(ideal, stft.forward(mixture, grid)), grid, mixture.shape[-1])
    return Parts(*masks.split_mixture(mixture, estimate))
