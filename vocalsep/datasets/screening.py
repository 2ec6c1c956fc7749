"""Decode a data set before the first training step, and report every bad recording, not only the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocalsep.datasets import cache
from vocalsep.datasets.cache import DecodedTrack
from vocalsep.datasets.splits import SplitDataset, join_names
from vocalsep.datasets.tracks import Problem, Track
from vocalsep.errors import DatasetError
from vocalsep.shapes import Array

SILENCE_DB = -60.0
"""A recording is silent if its peak lies below this level, in dBFS."""

_BLOCK = 2**20


def screen(
    tracks: Iterable[Track], rate: int, channels: int, folder: Path | None = None
) -> tuple[list[DecodedTrack], list[Problem]]:
    """Decode tracks, and set aside those that cannot be trained on.

    A track is bad if it cannot be read, if its stems differ in length, or if its vocals or accompaniment are silent.

    Args:
        tracks: The tracks.
        rate: Sample rate of the decoded stems, Hz.
        channels: Their channel count.
        folder: The cache; `files.find_cache_folder` by default.

    Returns:
        The good tracks, and what is wrong with the others, both in the order of `tracks`.
    """
    good, bad = [], []
    for track in tracks:
        try:
            decoded = cache.decode(track, rate, channels, folder)
        except DatasetError as error:
            bad.append(Problem(track.name, str(error).removeprefix(f"track {track.name!r}: ")))
            continue
        silent = [stem for stem, samples in decoded.stems.items() if not is_audible(samples)]
        if silent:
            bad.append(Problem(track.name, f"silent {' and '.join(silent)} (peak below {SILENCE_DB:.0f} dBFS)"))
        else:
            good.append(decoded)
    return good, bad


def is_audible(samples: Array) -> bool:
    """Return whether the peak of ``(channel, time)`` samples reaches `SILENCE_DB`; read no more than needed."""
    floor = 10 ** (SILENCE_DB / 20)
    return any(
        np.abs(samples[:, start : start + _BLOCK]).max() >= floor for start in range(0, samples.shape[1], _BLOCK)
    )


@dataclass(frozen=True, kw_only=True)
class ScreenedDataset:
    """A split data set, decoded and without bad tracks.

    Attributes:
        training: Decoded tracks to train on.
        validation: Decoded tracks held out.
        problems: What is wrong with all others, including files that never became tracks.
    """

    training: list[DecodedTrack]
    validation: list[DecodedTrack]
    problems: list[Problem]


def screen_dataset(dataset: SplitDataset, rate: int, channels: int) -> ScreenedDataset:
    """Screen both parts of a data set; `rate` is in Hz."""
    training, bad = screen(dataset.training, rate, channels)
    validation, bad_validation = screen(dataset.validation, rate, channels)
    problems = [*dataset.problems, *bad, *bad_validation]
    return ScreenedDataset(training=training, validation=validation, problems=problems)


def report_bad_tracks(lines: Sequence[str], *, skip: bool, report: Callable[[str], None]) -> None:
    """Report bad tracks, or refuse to go on with them.

    Args:
        lines: One line for each bad track; without lines, nothing happens.
        skip: Whether to train on the rest.
        report: Receives one line if `skip` is true.

    Raises:
        DatasetError: If there are bad tracks and `skip` is false. The message names the first ten.
    """
    if not lines:
        return
    count = f"{len(lines)} bad track{'s' if len(lines) > 1 else ''}"
    if not skip:
        raise DatasetError(f"{count}: {join_names(lines)}. See 'vocalsep data check'; --skip-bad trains on the rest")
    report(f"skipped {count}: {join_names(lines)}")
