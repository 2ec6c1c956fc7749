"""The papers' silence cut: the stretches in which nobody sings are left out, together with their accompaniment.

It is made by frames with cross-fades at the joins. (The UH-net paper's code deletes every single sample near zero, also
those at the zero crossings of a sung tone.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Frames = npt.NDArray[np.intp]

FRAME_SECONDS = 0.064
FADE_SECONDS = 0.01
_SECTION = 2_000  # frames looked at in one go, so that memory does not grow with the track


def frame_and_fade(rate: int) -> tuple[int, int]:
    """Samples of a frame, and of the cross-fade at a join."""
    return max(1, round(FRAME_SECONDS * rate)), max(1, round(FADE_SECONDS * rate))


def sung(vocals: Array, frame: int, silence_db: float) -> Frames:
    """Numbers of the frames that are not silent; samples after the last whole frame count for nothing.

    Args:
        vocals: ``(channel, time)``.
        frame: Samples of a frame.
        silence_db: A frame is silent if its level is this far (a negative number) from the loudest frame's, or
            further.
    """
    count = vocals.shape[1] // frame
    power = np.zeros(count)
    for first in range(0, count, _SECTION):
        last = min(count, first + _SECTION)
        part = vocals[:, first * frame : last * frame].astype(np.float32)
        power[first:last] = np.square(part).reshape(len(part), last - first, frame).mean(axis=(0, 2))
    return np.flatnonzero(power > power.max(initial=0.0) * 10 ** (silence_db / 10))


def join(stem: Array, frames: Frames, frame: int, fade: int) -> Array:
    """Strings frames of a stem together.

    Where frames are not neighbours the one before goes on beyond its end, and fades out as the next fades in (with
    equal power).

    Args:
        stem: ``(channel, time)``.
        frames: Rising numbers of the frames wanted, at least one.
        frame: Samples of a frame.
        fade: Samples of a cross-fade, at most `frame`.

    Returns:
        ``(channel, time)``, as long as its frames.
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
        tail = beyond * rise[::-1] if beyond.shape[1] == fade else None  # else the stem ends here: no join comes
    return joined
