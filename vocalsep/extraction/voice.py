"""Voice activity: find where somebody sings while the song is streamed, and close a gate everywhere else.

The level of a frame is that of the vocals relative to the mixture in dB, averaged over 0.1 s. The rules are:

- A segment starts when the level reaches `ON_DB`, or up to 0.3 s earlier, when it rose above `OFF_DB`.
- It ends when the level falls below `OFF_DB`.
- Two segments with a pause of at most 0.3 s between them (a breath) are joined.
- A segment shorter than 0.2 s (a syllable) is dropped.

All of this is decided within `DELAY_SECONDS`, so memory use grows only with the number of segments.
"""

from __future__ import annotations

import math

import numpy as np

from vocalsep.extraction.chunks import Buffer
from vocalsep.shapes import Array, Waveform

ON_DB, OFF_DB = -12.0, -15.0
_LOWEST_DB = -30.0  # lower levels, and silence, count as this
_SILENCE_DB = -60.0  # a frame this far below the loudest one so far is silent
_AVERAGE_SECONDS = 0.1
_REACH_SECONDS = 0.3  # a segment starts at most this long before its level reaches `ON_DB`
_BREATH_SECONDS = 0.3
_SYLLABLE_SECONDS = 0.2
_MARGIN_SECONDS, _FADE_SECONDS = 0.06, 0.04  # the gate stays open this long around a segment, then fades this long
DELAY_SECONDS = _AVERAGE_SECONDS / 2 + _REACH_SECONDS + _BREATH_SECONDS + _SYLLABLE_SECONDS
"""How much more of the song vocalsep needs before it knows whether somebody sings at a given time."""

Segment = tuple[float, float]
"""Start and end of a passage with a voice, in seconds."""


class VoiceDetector:
    """Finds the segments of a song in which somebody sings.

    Args:
        step: Seconds between frames. Frame ``t`` is centred on second ``t * step``.

    Attributes:
        segments: Those that are complete, in order.
    """

    def __init__(self, step: float) -> None:
        self.segments: list[Segment] = []
        self._step, self._loudest = step, 0.0
        self._half = max(1, round(_AVERAGE_SECONDS / 2 / step))
        self._reach, self._breath, self._syllable = (
            max(1, round(seconds / step)) for seconds in (_REACH_SECONDS, _BREATH_SECONDS, _SYLLABLE_SECONDS)
        )
        self._levels: Array | None = None  # the last levels, needed to average the next ones
        self._frame = 0  # the next frame to decide on
        self._above: int | None = None  # the frame at which the level rose above OFF_DB, while it stays there
        self._singing = False  # whether the level has reached ON_DB since then
        self._finished = False
        self._open: list[int] | None = None  # a segment that may go on: its first frame, and the one after its last

    def push(self, voice: Array, whole: Array) -> None:
        """Take the next frames.

        Args:
            voice: Power of the vocals, ``(frame,)``.
            whole: Power of the mixture, ``(frame,)``.
        """
        if not len(whole):
            return
        loudest = np.maximum.accumulate(np.concatenate([[self._loudest], whole]))[1:]
        self._loudest = float(loudest[-1])
        with np.errstate(divide="ignore", invalid="ignore"):
            level = 10 * np.log10(voice.astype(np.float64) / whole.astype(np.float64))
        audible = (whole > 0) & (whole >= 10 ** (_SILENCE_DB / 10) * loudest)
        level = np.clip(np.nan_to_num(np.where(audible, level, _LOWEST_DB), nan=_LOWEST_DB), _LOWEST_DB, 0)
        if self._levels is None:  # before the song, assume the level of its first frame
            self._levels = np.repeat(level[:1], self._half)
        self._average(level)

    def finish(self, seconds: float) -> None:
        """End the song, and cut off segments at its end.

        Args:
            seconds: Length of the song.
        """
        if self._levels is not None:
            self._average(np.repeat(self._levels[-1:], self._half))
        if self._open:
            self._close(self._open)
            self._open = None
        self.segments = [(start, min(end, seconds)) for start, end in self.segments if start < seconds]
        self._finished = True

    @property
    def decided_seconds(self) -> float:
        """Time in seconds up to which the detector knows where somebody sings."""
        if self._finished:
            return math.inf
        if not self._open:
            return self._to_seconds(self._earliest_start)
        return self._to_seconds(self._open[1] if self._is_long_enough(self._open) else self._open[0])

    def list_segments_after(self, seconds: float) -> list[Segment]:
        """Return the segments that end after a time, the last one first. That one may still be going on."""
        found = [self._to_segment(self._open)] if self._open and self._is_long_enough(self._open) else []
        for segment in reversed(self.segments):
            if segment[1] <= seconds:
                break
            found.append(segment)
        return found

    def _average(self, levels: Array) -> None:
        assert self._levels is not None
        held = np.concatenate([self._levels, levels])
        width = 2 * self._half + 1
        if len(held) >= width:
            for level in np.lib.stride_tricks.sliding_window_view(held, width).mean(axis=-1).tolist():
                self._decide(level)
        self._levels = held[max(0, len(held) - width + 1) :].copy()  # without the rest

    def _decide(self, level: float) -> None:
        """Take the averaged level of the next frame."""
        frame = self._frame
        self._frame += 1
        if level < OFF_DB:
            self._above, self._singing = None, False
        else:
            self._above = frame if self._above is None else self._above
            if level >= ON_DB and not self._singing:
                self._singing = True
                self._begin(max(self._above, frame - self._reach))
            if self._singing and self._open:
                self._open[1] = frame + 1
        if self._open and not self._singing and self._earliest_start - self._open[1] > self._breath:
            self._close(self._open)
            self._open = None

    def _begin(self, start: int) -> None:
        """Start a segment, or continue the open one after a breath."""
        if self._open and start - self._open[1] > self._breath:
            self._close(self._open)
            self._open = None
        self._open = self._open or [start, start]

    def _close(self, frames: list[int]) -> None:
        if self._is_long_enough(frames):
            self.segments.append(self._to_segment(frames))

    def _is_long_enough(self, frames: list[int]) -> bool:
        return frames[1] - frames[0] >= self._syllable

    @property
    def _earliest_start(self) -> int:
        """The first frame at which the next segment can start."""
        return self._frame if self._above is None else max(self._above, self._frame - self._reach)

    def _to_segment(self, frames: list[int]) -> Segment:
        return self._to_seconds(frames[0]), self._to_seconds(frames[1])

    def _to_seconds(self, frame: int) -> float:
        return max(0.0, (frame - 0.5) * self._step)


class LevelMeter:
    """Measures levels in samples for a voice detector, where there is no spectrum to take them from.

    Frame ``t`` covers the samples from one step before its centre to one step after it.

    Args:
        detector: Takes the levels. Its step is that of the meter.
        step: Samples between frames.
    """

    def __init__(self, detector: VoiceDetector, step: int) -> None:
        self._detector, self._step = detector, step
        self._samples = Buffer()  # vocals and mixture side by side, as far as they do not fill a step
        self._before = np.zeros((2, 1))  # their energies in the step before

    def push(self, vocals: Waveform, mixture: Waveform) -> None:
        """Take the next samples of a song.

        Args:
            vocals: ``(channel, time)``.
            mixture: Same shape.
        """
        self._samples.push(np.stack([np.einsum("ct,ct->t", x, x, dtype=np.float64) for x in (vocals, mixture)]))
        count = self._samples.length // self._step
        energies = self._samples.pop(count * self._step).reshape(2, count, self._step).sum(axis=-1)
        steps = np.concatenate([self._before, energies], axis=-1)
        self._before = steps[:, -1:]
        self._detector.push(*(steps[:, 1:] + steps[:, :-1]))

    def finish(self) -> None:
        """End the song. It counts as silent after its end."""
        silence = np.zeros((1, -self._samples.length % self._step + self._step), np.float32)
        self.push(silence, silence)


class Gate:
    """Fades the vocals out where nobody sings. It stays open for a moment before and after each segment.

    Args:
        rate: The song's sample rate in Hz.
        detector: The song's voice detector. It must get each frame before the gate gets the samples.
    """

    def __init__(self, rate: int, detector: VoiceDetector) -> None:
        self._rate, self._detector, self._vocals = rate, detector, Buffer()

    def push(self, vocals: Waveform) -> Waveform:
        """Take the next ``(channel, time)`` vocals and return, gated, those that the detector has decided on.

        After the detector's `finish`, that is all of them.
        """
        self._vocals.push(vocals)
        known = self._detector.decided_seconds - _MARGIN_SECONDS - _FADE_SECONDS
        first, ready = self._vocals.start, self._vocals.length
        if math.isfinite(known):
            ready = max(0, min(ready, math.floor(known * self._rate) - first))
        gain = self._compute_gain(np.arange(first, first + ready) / self._rate)
        return self._vocals.pop(ready) * gain.astype(vocals.dtype)

    def _compute_gain(self, seconds: Array) -> Array:
        """Return the gain of the gate at these times, in [0, 1]."""
        opening = np.zeros_like(seconds)
        if not len(seconds):
            return opening
        margin = _MARGIN_SECONDS + _FADE_SECONDS
        for start, end in self._detector.list_segments_after(float(seconds[0]) - margin):
            within = np.minimum(seconds - (start - margin), (end + margin) - seconds)
            opening = np.maximum(opening, np.clip(within / _FADE_SECONDS, 0, 1))
        gain: Array = np.square(np.sin(np.pi / 2 * opening))
        return gain
