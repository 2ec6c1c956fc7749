"""Where in a song there is a voice, found while the song streams by; and a gate that closes where there is none.

A frame's level is that of the vocals against the mixture, in dB, on average over a moment. A stretch with voice begins
where the level has come up to `ON_DB`, or before, where it came up to `OFF_DB`; it lasts until the level falls below
that. Stretches with less than a breath between them are one, and what is shorter than a syllable is none. All of that
is decided within `DELAY_SECONDS`, so that only the stretches themselves take memory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vocalsep.extraction.chunks import Buffer
from vocalsep.shapes import Waveform

ON_DB, OFF_DB = -12.0, -15.0
_LOWEST_DB = -30.0  # what lies deeper, and silence, counts as this
_SILENCE_DB = -60.0  # a frame so far below the loudest before it is silence
_MOMENT_SECONDS = 0.1
_REACH_SECONDS = 0.3  # how long before it reaches `ON_DB` a stretch begins at most
_BREATH_SECONDS = 0.3
_SYLLABLE_SECONDS = 0.2
_LEAD_SECONDS, _RAMP_SECONDS = 0.06, 0.04  # the gate is open before and after a stretch; it opens and closes within
DELAY_SECONDS = _MOMENT_SECONDS / 2 + _REACH_SECONDS + _BREATH_SECONDS + _SYLLABLE_SECONDS
"""What comes so much earlier is decided."""

Segment = tuple[float, float]


class VoiceDetector:
    """Stretches with voice.

    Args:
        step: Seconds between frames. Frame ``t`` is centred on second ``t * step``.

    Attributes:
        stretches: Those that are complete, as (start, end) in seconds.
    """

    def __init__(self, step: float) -> None:
        self.stretches: list[Segment] = []
        self._step, self._loudest = step, 0.0
        self._half = max(1, round(_MOMENT_SECONDS / 2 / step))
        self._reach, self._breath, self._syllable = (
            max(1, round(seconds / step)) for seconds in (_REACH_SECONDS, _BREATH_SECONDS, _SYLLABLE_SECONDS)
        )
        self._levels: Tensor | None = None  # the last ones, to average with those that come
        self._frame = 0  # the next to be looked at
        self._above: int | None = None  # since which frame the level has been above OFF_DB
        self._sung = False  # whether it has reached ON_DB since
        self._finished = False
        self._open: list[int] | None = None  # first frame, and the one after the last, of a stretch that may go on

    def push(self, voice: Tensor, whole: Tensor) -> None:
        """Takes the next frames.

        Args:
            voice: Power of the vocals, ``(frame,)``.
            whole: Power of the mixture, ``(frame,)``.
        """
        if not len(whole):
            return
        loudest = torch.cat([whole.new_tensor([self._loudest]), whole]).cummax(dim=0).values[1:]
        self._loudest = float(loudest[-1])
        level = 10 * torch.log10(voice.double() / whole.double())
        heard = (whole > 0) & (whole >= 10 ** (_SILENCE_DB / 10) * loudest)
        level = torch.nan_to_num(level.where(heard, _LOWEST_DB), nan=_LOWEST_DB).clamp(_LOWEST_DB, 0)
        if self._levels is None:  # before the first frame it was as there
            self._levels = level[:1].expand(self._half)
        self._average(level)

    def finish(self, seconds: float) -> None:
        """Ends the song.

        Args:
            seconds: Its length.
        """
        if self._levels is not None:
            self._average(self._levels[-1:].expand(self._half))
        if self._open:
            self._close(self._open)
            self._open = None
        self.stretches = [(start, min(end, seconds)) for start, end in self.stretches if start < seconds]
        self._finished = True

    @property
    def decided(self) -> float:
        """Seconds up to which it is known where there is a voice."""
        if self._finished:
            return math.inf
        if not self._open:
            return self._seconds(self._earliest)
        return self._seconds(self._open[1] if self._lasting(self._open) else self._open[0])

    def later(self, since: float) -> list[Segment]:
        """The stretches that end after so many seconds, the last one first; it may be without its end."""
        found = [self._stretch(self._open)] if self._open and self._lasting(self._open) else []
        for stretch in reversed(self.stretches):
            if stretch[1] <= since:
                break
            found.append(stretch)
        return found

    def _average(self, levels: Tensor) -> None:
        assert self._levels is not None
        held = torch.cat([self._levels, levels])
        width = 2 * self._half + 1
        if len(held) >= width:
            for level in held.unfold(0, width, 1).mean(dim=-1).tolist():
                self._step_on(level)
        self._levels = held[max(0, len(held) - width + 1) :]

    def _step_on(self, level: float) -> None:
        frame = self._frame
        self._frame += 1
        if level < OFF_DB:
            self._above, self._sung = None, False
        else:
            self._above = frame if self._above is None else self._above
            if level >= ON_DB and not self._sung:
                self._sung = True
                self._begin(max(self._above, frame - self._reach))
            if self._sung and self._open:
                self._open[1] = frame + 1
        if self._open and not self._sung and self._earliest - self._open[1] > self._breath:
            self._close(self._open)
            self._open = None

    def _begin(self, start: int) -> None:
        if self._open and start - self._open[1] > self._breath:
            self._close(self._open)
            self._open = None
        self._open = self._open or [start, start]

    def _close(self, stretch: list[int]) -> None:
        if self._lasting(stretch):
            self.stretches.append(self._stretch(stretch))

    def _lasting(self, stretch: list[int]) -> bool:
        return stretch[1] - stretch[0] >= self._syllable

    @property
    def _earliest(self) -> int:
        """The first frame that a later stretch could have."""
        return self._frame if self._above is None else max(self._above, self._frame - self._reach)

    def _stretch(self, frames: list[int]) -> Segment:
        return self._seconds(frames[0]), self._seconds(frames[1])

    def _seconds(self, frame: int) -> float:
        return max(0.0, (frame - 0.5) * self._step)


class Gate:
    """Fades vocals out where there is no voice; the gate is open a moment before and after each stretch, too.

    Args:
        rate: The song's rate, Hz.
        timeline: Of the song, which must be told of the frames before the gate sees their sound.
    """

    def __init__(self, rate: int, timeline: VoiceDetector) -> None:
        self._rate, self._timeline, self._vocals = rate, timeline, Buffer()

    def push(self, vocals: Waveform) -> Waveform:
        """Takes the next ``(channel, time)`` vocals and gives what is decided, gated; all of them at the song's end."""
        self._vocals.push(vocals)
        known = self._timeline.decided - _LEAD_SECONDS - _RAMP_SECONDS
        first, ready = self._vocals.start, self._vocals.length
        if math.isfinite(known):
            ready = max(0, min(ready, math.floor(known * self._rate) - first))
        seconds = torch.arange(first, first + ready, dtype=torch.float64) / self._rate
        return self._vocals.pop(ready) * self._opening(seconds).to(vocals.dtype)

    def _opening(self, seconds: Tensor) -> Tensor:
        """How far the gate is open, 0 to 1."""
        opening = torch.zeros_like(seconds)
        if not len(seconds):
            return opening
        margin = _LEAD_SECONDS + _RAMP_SECONDS
        for start, end in self._timeline.later(float(seconds[0]) - margin):
            within = torch.minimum(seconds - (start - margin), (end + margin) - seconds)
            opening = opening.maximum((within / _RAMP_SECONDS).clamp(0, 1))
        return torch.sin(torch.pi / 2 * opening).square()
