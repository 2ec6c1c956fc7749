"""Is a data set complete and sound? Reads every file to its end, block by block, and says all that is wrong."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vocalsep.datasets import LAYOUTS, dsd100, mir1k
from vocalsep.datasets.inspection import TrackCheck, inspect
from vocalsep.datasets.tracks import Listing, Problem
from vocalsep.errors import DatasetError

SPLITS = {"dsd100": tuple(dsd100.COMPLETE), "mir1k": tuple(mir1k.COMPLETE), "stems": ("all",)}
_RATES = {"dsd100": dsd100.RATE, "mir1k": mir1k.RATE}
_COMPLETE = {"dsd100": dsd100.COMPLETE, "mir1k": mir1k.COMPLETE}


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over a split.

    Attributes:
        split: Its name.
        tracks: Tracks whose files are all there.
        complete: Tracks of the complete data set; None if there is no such number.
        groups: Artists or singers.
        minutes: Length of all tracks.
        rates: Sampling rates, Hz.
        pitch: Tracks with pitch labels.
        voicing: Tracks with voicing labels.
        bad: Tracks with problems, also those that lack files.
        voice_db: Median level of the vocals against the accompaniment, over the tracks without problems.
        voice_spread_db: Its standard deviation.
        worst_residual_db: The largest residual of a mixture.
    """

    split: str
    tracks: int
    complete: int | None
    groups: int
    minutes: float
    rates: tuple[int, ...]
    pitch: int
    voicing: int
    bad: int
    voice_db: float | None
    voice_spread_db: float | None
    worst_residual_db: float | None


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found in a data set.

    Attributes:
        dataset: A key of `SPLITS`.
        root: Its folder.
        totals: A row for each split.
        tracks: All tracks.
        problems: Everything that is wrong, by name.
        notes: What is missing against the complete data set, which is not wrong.
    """

    dataset: str
    root: str
    totals: tuple[Totals, ...]
    tracks: tuple[TrackCheck, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return asdict(self)


def check(dataset: str, root: Path, progress: Callable[[str, int, int], None] = lambda *_: None) -> Check:
    """Inspects every file of a data set, in constant memory.

    Args:
        dataset: A key of `SPLITS`.
        root: Its folder.
        progress: Receives, before each track, its name, how many are done, and how many there are.

    Raises:
        DatasetError: If the layout is another, so that there is nothing to inspect.
    """
    listings, notes = _listings(dataset, root)
    count = sum(len(listing.tracks) for listing in listings)
    tracks: list[TrackCheck] = []
    problems: list[Problem] = []
    totals = []
    for listing in listings:
        checked: list[TrackCheck] = []
        for track in listing.tracks:
            progress(track.name, len(tracks) + len(checked), count)
            checked.append(inspect(track, listing.split, _RATES.get(dataset)))
        tracks += checked
        problems += listing.problems
        problems += [Problem(track.name, what) for track in checked for what in track.problems]
        row = _total(listing, checked, _COMPLETE.get(dataset, {}).get(listing.split))
        totals.append(row)
        if row.complete and row.tracks < row.complete:
            notes.append(f"{row.split}: {row.tracks} of the {row.complete} tracks of the complete data set")
        notes += [
            f"{row.split}: {kind} labels of {number} of {row.tracks} tracks"
            for kind, number in (("pitch", row.pitch), ("voicing", row.voicing))
            if 0 < number < row.tracks
        ]
    return Check(
        dataset=dataset,
        root=str(root),
        totals=tuple(totals),
        tracks=tuple(tracks),
        problems=tuple(dict.fromkeys(problems)),  # a file of no known split is in the listings of all
        notes=tuple(notes),
    )


def _listings(dataset: str, root: Path) -> tuple[list[Listing], list[str]]:
    listings, notes = [], []
    errors: list[DatasetError] = []
    for split in SPLITS[dataset]:
        try:
            listings.append(LAYOUTS[dataset](root, split))
        except DatasetError as error:
            errors.append(error)
            notes.append(f"{split}: nothing of it there ({error})")
    if not listings:
        raise errors[0]
    if dataset == "dsd100":
        notes += [
            f"{listing.split}: no folder Mixtures/{listing.split}; sums not checked"
            for listing in listings
            if listing.tracks and not listing.tracks[0].mixture
        ]
    return listings, notes


def _total(listing: Listing, checked: list[TrackCheck], complete: int | None) -> Totals:
    voices = [track.voice_db for track in checked if track.voice_db is not None and not track.problems]
    residuals = [track.residual_db for track in checked if track.residual_db is not None]
    bad = {track.name for track in checked if track.problems} | {problem.name for problem in listing.problems}
    return Totals(
        split=listing.split,
        tracks=len(checked),
        complete=complete,
        groups=len({track.group for track in checked}),
        minutes=round(sum(track.seconds for track in checked) / 60, 2),
        rates=tuple(sorted({rate for track in checked for rate in track.rates})),
        pitch=sum(track.pitch for track in checked),
        voicing=sum(track.voicing for track in checked),
        bad=len(bad),
        voice_db=round(statistics.median(voices), 1) if voices else None,
        voice_spread_db=round(statistics.pstdev(voices), 1) if voices else None,
        worst_residual_db=max(residuals, default=None),
    )
