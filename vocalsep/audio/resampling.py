"""Change the sample rate of recordings, whole or block by block."""

from __future__ import annotations

import numpy as np
import soxr

from vocalsep.audio.formats import interleave
from vocalsep.shapes import Waveform


class Resampler:
    """Resample a stream (soxr, high quality). The output is aligned in time with the input.

    Even the shortest input yields at least one sample.

    Args:
        rate: Sample rate of the input, Hz.
        to_rate: Sample rate of the output, Hz.
        channels: Channel count.
    """

    def __init__(self, rate: int, to_rate: int, channels: int) -> None:
        self._channels = channels
        self._stream = None if rate == to_rate else soxr.ResampleStream(rate, to_rate, channels, dtype="float32")
        self._returned = 0

    def push(self, samples: Waveform, *, last: bool = False) -> Waveform:
        """Take the next ``(channel, time)`` samples and return those that are ready.

        Args:
            samples: Any number of samples, including none.
            last: Whether the input ends here; nothing may be pushed afterwards.
        """
        if self._stream is None:
            return samples
        out = self._stream.resample_chunk(interleave(samples), last=last)
        self._returned += len(out)
        if last and not self._returned:
            return np.zeros((self._channels, 1), np.float32)
        return np.ascontiguousarray(out.reshape(-1, self._channels).T)


def resample(samples: Waveform, rate: int, to_rate: int) -> Waveform:
    """Resample a whole ``(channel, time)`` recording."""
    return Resampler(rate, to_rate, samples.shape[0]).push(samples, last=True)
