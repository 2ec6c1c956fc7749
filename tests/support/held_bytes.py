"""How much a separator holds while a song goes through it."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from vocalsep.extraction import StreamingSeparator
from vocalsep.shapes import Waveform


def count_bytes(thing: Any, seen: set[int]) -> int:
    """Count the bytes of all arrays that an object holds, directly or through its attributes."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return thing.nbytes if thing.base is None else count_bytes(thing.base, seen)
    if isinstance(thing, dict | list | tuple | deque):
        return sum(count_bytes(entry, seen) for entry in (thing.values() if isinstance(thing, dict) else thing))
    return count_bytes(vars(thing), seen) if type(thing).__module__.startswith("vocalsep") else 0


def push_repeatedly(
    song: StreamingSeparator, rate: int, seconds: float, block: Waveform
) -> tuple[list[int], list[int]]:
    """Push the same block over and over; return the bytes held and the samples missing after each push."""
    held, missing, pushed, got = [], [], 0, 0
    while pushed < seconds * rate:
        got += song.push(block).vocals.shape[-1]
        pushed += block.shape[-1]
        held.append(count_bytes(song, set()))
        missing.append(pushed - got)
    assert got + song.finish().vocals.shape[-1] == pushed
    return held, missing
