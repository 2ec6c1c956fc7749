"""The order of channels: libsndfile leaves those of Vorbis as the file has them, everybody else uses wav's."""

from __future__ import annotations

from torch import Tensor

_WAV_FROM_VORBIS = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
"""By channel count: which channel of Vorbis comes first in wav, and so on. Other counts have one order."""


def to_wav(samples: Tensor, subtype: str) -> Tensor:
    """Gives ``(channel, time)`` samples as libsndfile reads them the order of wav.

    Args:
        samples: The samples.
        subtype: What they were stored as, in libsndfile's words.
    """
    order = _WAV_FROM_VORBIS.get(samples.shape[0]) if subtype == "VORBIS" else None
    return samples[list(order)] if order else samples


def from_wav(samples: Tensor, subtype: str) -> Tensor:
    """The inverse of `to_wav`."""
    order = _WAV_FROM_VORBIS.get(samples.shape[0]) if subtype == "VORBIS" else None
    return samples[[order.index(channel) for channel in range(len(order))]] if order else samples
