"""A method for the tools of MUSDB18: ``musdb`` calls it with a track, ``museval`` scores what it returns.

Neither package is imported here.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vocalsep.extraction.extractor import Extractor
from vocalsep.release import DEFAULT_MODEL
from vocalsep.weights import Model


class MusdbTrack(Protocol):
    """A track of ``musdb``, as far as it is needed here.

    Attributes:
        audio: The mixture, ``(time, channel)``, full scale 1.
        rate: Its sample rate in Hz.
    """

    audio: npt.NDArray[Any]
    rate: float


def musdb_method(
    track: MusdbTrack, *, model: Model | Extractor | str | Path = DEFAULT_MODEL
) -> dict[str, npt.NDArray[Any]]:
    """Separate a track of ``musdb`` into what ``museval.eval_mus_track`` scores.

    A model given by name is loaded once and kept, so this can be called for one track after another.

    Args:
        track: A track of ``musdb``, or any object with ``audio``, ``(time, channel)``, and ``rate``.
        model: As for `separate`; or an `Extractor`, for other options.

    Returns:
        "vocals" and "accompaniment", ``(time, channel)`` like the track. They add up to it.

    Raises:
        AudioError: If the track's audio has an unsupported shape or type.
        ModelError: If the model cannot be loaded or fails on this track.
        TypeError: If `track` is no track.
    """
    if not (hasattr(track, "audio") and hasattr(track, "rate")):
        raise TypeError(f"track must have audio and rate, as tracks of musdb have, not be {type(track).__name__}")
    if isinstance(model, Extractor):
        extractor = model
    else:
        extractor = Extractor(model) if isinstance(model, Model) else _keep_extractor(model)
    parts = extractor.separate(np.asarray(track.audio).T, track.rate)
    return dict(zip(("vocals", "accompaniment"), (np.asarray(part).T for part in parts), strict=True))


@functools.lru_cache(maxsize=1)
def _keep_extractor(model: str | Path) -> Extractor:
    return Extractor(model)
