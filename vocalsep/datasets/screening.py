"""Bad recordings, found before the first step: all of them, not the first one only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocalsep.datasets import cache
from vocalsep.datasets.cache import Array, Decoded
from vocalsep.datasets.splits import Parts, shown
from vocalsep.datasets.tracks import Problem, Track
from vocalsep.errors import DatasetError

SILENCE_DB = -60.0
"""A recording whose peak lies below this, in dBFS, is silent."""

_BLOCK = 2**20


def screen(
    tracks: Iterable[Track], rate: int, channels: int, folder: Path | None = None
) -> tuple[list[Decoded], list[Problem]]:
    """Decodes tracks, and sets those apart that cannot be trained on.

    These are tracks that cannot be read, stems of different lengths, and silent vocals or accompaniments.

    Args:
        tracks: The tracks.
        rate: Rate of the decoded stems, Hz.
        channels: Their channel count.
        folder: The cache; `cache.cache_folder` by default.

    Returns:
        What can be used, and what is wrong with the rest, both in the order of `tracks`.
    """
    good, bad = [], []
    for track in tracks:
        try:
            decoded = cache.decode(track, rate, channels, folder)
        except DatasetError as error:
            bad.append(Problem(track.name, str(error).removeprefix(f"track {track.name!r}: ")))
            continue
        silent = [stem for stem, samples in decoded.stems.items() if not audible(samples)]
        if silent:
            bad.append(Problem(track.name, f"silent {' and '.join(silent)} (peak below {SILENCE_DB:.0f} dBFS)"))
        else:
            good.append(decoded)
    return good, bad


def audible(samples: Array) -> bool:
    """Whether the peak of ``(channel, time)`` samples is not below `SILENCE_DB`; reads no further than it must."""
    floor = 10 ** (SILENCE_DB / 20)
    return any(
        np.abs(samples[:, start : start + _BLOCK]).max() >= floor for start in range(0, samples.shape[1], _BLOCK)
    )


@dataclass(frozen=True, kw_only=True)
class Screened:
    """A data set that can be trained on.

    Attributes:
        training: Decoded tracks to train on.
        validation: Decoded tracks held out.
        problems: What is wrong with the rest, also with what was never a track.
    """

    training: list[Decoded]
    validation: list[Decoded]
    problems: list[Problem]


def screen_parts(parts: Parts, rate: int, channels: int) -> Screened:
    """Screens both parts of a data set; `rate` is in Hz."""
    training, bad = screen(parts.training, rate, channels)
    validation, worse = screen(parts.validation, rate, channels)
    return Screened(training=training, validation=validation, problems=[*parts.problems, *bad, *worse])


def report_bad(lines: Sequence[str], *, skip: bool, report: Callable[[str], None]) -> None:
    """Says what is bad, if anything is.

    Args:
        lines: A line for each bad track.
        skip: Whether the rest is to be used.
        report: Receives a line in that case.

    Raises:
        DatasetError: If there are bad tracks that are not to be skipped; names the first ten.
    """
    if not lines:
        return
    count = f"{len(lines)} bad track{'s' if len(lines) > 1 else ''}"
    if not skip:
        raise DatasetError(f"{count}: {shown(lines)}. See 'vocalsep data check'; --skip-bad trains on the rest")
    report(f"skipped {count}: {shown(lines)}")
