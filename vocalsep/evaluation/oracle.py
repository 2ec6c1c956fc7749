"""What ideal masks make of a song: the ceilings of nets that answer with masks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vocalsep import audio, masks, stft
from vocalsep.extraction import Parts
from vocalsep.features import FrontEnd
from vocalsep.shapes import Mask, Waveform
from vocalsep.stft import Grid


def oracle(
    mixture: Waveform,
    vocals: Waveform,
    rate: int,
    front_end: FrontEnd | None = None,
    *,
    mask: Callable[[Tensor, Tensor], Mask] = masks.ratio,
) -> Parts:
    """What an ideal mask makes of a song: the ceiling of every net that answers with such masks.

    Args:
        mixture: ``(channel, time)``.
        vocals: The true vocals, of the same shape; the rest of the mixture counts as accompaniment.
        rate: Their rate, Hz.
        front_end: Whose grid the mask lives on before it is projected, as a net's would. By default the mask lives
            on the song's own STFT of 4096 samples at 44.1 kHz (or as long at other rates), a mask to each channel.
        mask: From power of vocals and accompaniment to their mask.

    Returns:
        Vocals and accompaniment.
    """
    accompaniment = mixture - vocals
    if front_end is None:
        grid = Grid(rate=44_100, n_fft=4096, hop=1024).at_rate(rate)
        power = [stft.forward(part, grid).abs().square() for part in (vocals, accompaniment)]
        ideal = mask(power[0], power[1])
    else:
        grid = front_end.grid.at_rate(rate)
        low = [audio.resample(part, rate, front_end.rate) for part in (vocals, accompaniment)]
        bands = [front_end.analyse(stft.forward(part, front_end.grid)) for part in low]
        frames = range(grid.count_frames(mixture.shape[-1]))
        ideal = front_end.project(mask(bands[0], bands[1]), start=0, grid=grid, frames=frames)
    estimate = stft.inverse(masks.apply(ideal, stft.forward(mixture, grid)), grid, mixture.shape[-1])
    return Parts(*masks.split_mixture(mixture, estimate))
