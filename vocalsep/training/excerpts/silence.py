"""Cut the stretches in which nobody sings, from vocals and accompaniment alike, as the papers do.

The cut works on frames, with crossfades at the joins. (The UH-net paper's code deletes every single sample near zero,
including those at the zero crossings of a sung tone.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vocalsep.shapes import Array

Frames = npt.NDArray[np.intp]

FRAME_SECONDS = 0.064
FADE_SECONDS = 0.01
_SECTION = 2_000  # frames measured at a time, so that memory does not grow with the track


def compute_frame_and_fade(rate: int) -> tuple[int, int]:
    """Return the length of a frame and of a crossfade, in samples."""
    return max(1, round(FRAME_SECONDS * rate)), max(1, round(FADE_SECONDS * rate))


def find_sung_frames(vocals: Array, frame: int, silence_db: float) -> Frames:
    """Return the numbers of the frames that are not silent. Samples after the last whole frame are ignored.

    Args:
        vocals: ``(channel, time)``.
        frame: Samples in a frame.
        silence_db: Level relative to the loudest frame, negative. A frame at or below it is silent.
    """
    count = vocals.shape[1] // frame
    power = np.zeros(count)
    for first in range(0, count, _SECTION):
        last = min(count, first + _SECTION)
        part = vocals[:, first * frame : last * frame].astype(np.float32)
        power[first:last] = np.square(part).reshape(len(part), last - first, frame).mean(axis=(0, 2))
    return np.flatnonzero(power > power.max(initial=0.0) * 10 ** (silence_db / 10))


def join_frames(stem: Array, frames: Frames, frame: int, fade: int) -> Array:
    """Join frames of a stem, with an equal-power crossfade wherever two of them are not neighbours.

    At such a join the earlier frame continues past its end and fades out while the later one fades in.

    Args:
        stem: ``(channel, time)``.
        frames: Numbers of the frames, ascending, at least one.
        frame: Samples in a frame.
        fade: Samples in a crossfade, at most `frame`.

    Returns:
        ``(channel, time)``, as long as the frames together.
    """
    rise = np.sin(0.5 * np.pi * (np.arange(fade) + 0.5) / fade).astype(np.float32)
    joined = np.empty((stem.shape[0], len(frames) * frame), np.float32)
    place, tail = 0, None
    for run in np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1):
        start, end = run[0] * frame, (run[-1] + 1) * frame
        piece = joined[:, place : place + end - start]
        piece[:] = stem[:, start:end]
        if tail is not None:
            piece[:, :fade] = piece[:, :fade] * rise + tail
        place += end - start
        beyond = stem[:, end : end + fade]
        tail = beyond * rise[::-1] if beyond.shape[1] == fade else None  # None: the stem ends here, so does the loop
    return joined
