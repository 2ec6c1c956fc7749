"""The streaming separator: the one implementation of extraction. Its memory use does not grow with the song.

An estimator turns blocks of the song into vocals, whatever kind of model it runs. All that holds for every model is
here: the accompaniment is the mixture minus the vocals, the gate, and where somebody sings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vocalsep import masks
from vocalsep.errors import AudioError
from vocalsep.extraction.chunks import Buffer
from vocalsep.extraction.estimators import Estimator
from vocalsep.extraction.voice import Gate, LevelMeter, Segment, VoiceDetector
from vocalsep.kinds import silence_non_finite
from vocalsep.shapes import Waveform

_HUGE = 1e12  # the power of samples beyond this multiple of full scale may overflow
_METER_SECONDS = 0.02  # between the levels of vocals whose estimator has no spectrum to take them from


class Parts(NamedTuple):
    """Vocals and accompaniment of a song or of a part of it, ``(channel, time)``. Their float32 sum is the mixture."""

    vocals: Waveform
    accompaniment: Waveform


class StreamingSeparator:
    """Separates one song, block by block. `Extractor.start` makes one.

    Args:
        estimator: Estimates the song's vocals.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels.
        gate: Whether the vocals fade out where nobody sings.

    Attributes:
        has_invalid_output: Whether the net has returned NaN or infinity, which count as 0. It stays False for songs so
            loud that their power overflows.
    """

    def __init__(self, estimator: Estimator, rate: int, channels: int, *, gate: bool = False) -> None:
        self._estimator, self._rate, self._channels = estimator, rate, channels
        self._mixture = Buffer()  # samples of the song whose vocals are not yet returned
        self._estimated = 0  # samples of vocals so far, including those the gate holds back
        self._detector = estimator.detector or VoiceDetector(round(_METER_SECONDS * rate) / rate)
        self._meter = None if estimator.detector else LevelMeter(self._detector, round(_METER_SECONDS * rate))
        self._gate = Gate(rate, self._detector) if gate else None
        self.has_invalid_output = self._huge = False
        self._finished = False

    @property
    def seconds(self) -> float:
        """Length of the song so far, in seconds."""
        return self._mixture.total / self._rate

    @property
    def voice(self) -> list[Segment]:
        """Segments in which somebody sings, as (start, end) in seconds. After `finish` the list is complete."""
        return self._detector.segments

    @property
    def voice_share(self) -> float:
        """Share of the song so far that these segments take, in [0, 1]."""
        return sum(end - start for start, end in self.voice) / max(self.seconds, 1 / self._rate)

    def push(self, block: Waveform) -> Parts:
        """Take the next block of the song and return the samples that are ready. The rest follows later.

        Args:
            block: ``(channel, time)``, float32, any length. NaN and infinity count as silence.

        Returns:
            Vocals and accompaniment, ``(channel, time)``; possibly no samples.

        Raises:
            AudioError: If the block does not have this shape.
        """
        shape = np.shape(block)
        if len(shape) != 2 or shape[0] != self._channels:
            raise AudioError(f"a block of shape {shape}; expected ({self._channels}, time)")
        block = silence_non_finite(np.array(block, dtype=np.float32))  # a copy: the caller may use the array again
        self._huge = self._huge or bool(np.max(np.abs(block), initial=0) > _HUGE)
        self._mixture.push(block)
        with np.errstate(all="ignore"):
            return self._split(self._estimator.push(block))

    def finish(self) -> Parts:
        """Return the rest of the song.

        Raises:
            AudioError: If the song had no samples, or `finish` was called before.
        """
        if self._finished:
            raise AudioError("the song has already ended")
        if self._mixture.total == 0:
            raise AudioError("a song needs at least one sample")
        self._finished = True
        with np.errstate(all="ignore"):
            return self._split(self._estimator.finish())

    def _split(self, vocals: Waveform) -> Parts:
        """Subtract the next vocals from the mixture, as far as the gate lets them through."""
        if self._estimator.is_invalid and not self._huge:
            self.has_invalid_output = True
        if self._meter:
            start = self._estimated - self._mixture.start
            self._meter.push(vocals, self._mixture.peek(start, start + vocals.shape[-1]))
        self._estimated += vocals.shape[-1]
        if self._finished:
            if self._meter:
                self._meter.finish()
            self._detector.finish(self.seconds)
        if self._gate:
            vocals = self._gate.push(vocals)
        return Parts(*masks.split_mixture(self._mixture.pop(vocals.shape[-1]), vocals))
