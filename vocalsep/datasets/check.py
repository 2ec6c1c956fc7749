"""Check whether a data set is complete and intact: read every file to its end in blocks, and list every problem.

`check_dataset` goes through the splits of a data set, `check_track` through the files of a track.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from vocalsep import audio
from vocalsep.datasets.layouts import LAYOUTS, mir1k
from vocalsep.datasets.screening import SILENCE_DB
from vocalsep.datasets.tracks import TOLERANCE_SECONDS, Listing, Problem, Source, Track
from vocalsep.errors import AudioError, DatasetError
from vocalsep.shapes import Waveform

SPLITS = {name: tuple(layout.complete) or ("all",) for name, layout in LAYOUTS.items() if layout.scoring_splits}
"""The data sets that can be checked, and their splits."""

SUM_TOLERANCE_DB = -40.0
"""The largest residual of a mixture that counts as the sum of its stems, relative to the mixture.

Rounding to 16 bits leaves -60 dB or less; a gain that is off by 0.1 dB leaves -39 dB.
"""
LABEL_TOLERANCE_SECONDS = 0.5
EXACT_DB = -200.0
"""The level that stands for no residual at all."""


@dataclass(frozen=True, kw_only=True)
class TrackCheck:
    """The result of checking one track.

    Attributes:
        name: Name of the track.
        group: Its artist or singer.
        split: The split it belongs to.
        seconds: Length of its longest file.
        rates: Sample rates of its files, Hz.
        voice_db: Level of the vocals relative to the accompaniment; None if the track lacks one of them, or if a file
            cannot be read to the end.
        residual_db: Level of the mixture minus the stems, relative to the mixture; None if there is no mixture, or if
            the files do not fit together.
        pitch: Whether it has pitch labels.
        voicing: Whether it has voicing labels.
        problems: What is wrong, one line each.
    """

    name: str
    group: str
    split: str
    seconds: float
    rates: tuple[int, ...]
    voice_db: float | None
    residual_db: float | None
    pitch: bool
    voicing: bool
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The result of checking one split.

    Attributes:
        split: Name of the split.
        tracks: Number of tracks with all their files.
        complete: Number of tracks in the complete data set; None if there is no such number.
        groups: Number of artists or singers.
        minutes: Length of all tracks.
        rates: Sample rates, Hz.
        pitch: Number of tracks with pitch labels.
        voicing: Number of tracks with voicing labels.
        bad: Number of tracks with problems, including those that lack files.
        voice_db: Median level of the vocals relative to the accompaniment, over the tracks without problems.
        voice_spread_db: Standard deviation of that level.
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
class DatasetCheck:
    """The result of checking a data set.

    Attributes:
        dataset: A key of `SPLITS`.
        root: Its folder.
        totals: One entry per split.
        tracks: All tracks.
        problems: Everything that is wrong, with the name of the track or file.
        notes: What the complete data set has and this copy lacks. These are not problems.
    """

    dataset: str
    root: str
    totals: tuple[Totals, ...]
    tracks: tuple[TrackCheck, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return asdict(self)


def check_dataset(
    dataset: str, root: Path, progress: Callable[[str, int, int], None] = lambda *_: None
) -> DatasetCheck:
    """Check every file of a data set. Memory use does not grow with the length of the files.

    Args:
        dataset: A key of `SPLITS`.
        root: Its folder.
        progress: Called before each track with its name, the number of tracks done, and the total number.

    Raises:
        DatasetError: If the folder does not have the data set's layout, so that there is nothing to check.
    """
    listings, notes = _list_splits(dataset, root)
    count = sum(len(listing.tracks) for listing in listings)
    tracks: list[TrackCheck] = []
    problems: list[Problem] = []
    all_totals = []
    for listing in listings:
        checked: list[TrackCheck] = []
        for track in listing.tracks:
            progress(track.name, len(tracks) + len(checked), count)
            checked.append(check_track(track, listing.split, LAYOUTS[dataset].rate))
        tracks += checked
        problems += listing.problems
        problems += [Problem(track.name, what) for track in checked for what in track.problems]
        totals = _add_up(listing, checked, LAYOUTS[dataset].complete.get(listing.split))
        all_totals.append(totals)
        if totals.complete and totals.tracks < totals.complete:
            notes.append(f"{totals.split}: {totals.tracks} of the {totals.complete} tracks of the complete data set")
        notes += [
            f"{totals.split}: {number} of {totals.tracks} tracks have {kind} labels"
            for kind, number in (("pitch", totals.pitch), ("voicing", totals.voicing))
            if 0 < number < totals.tracks
        ]
    return DatasetCheck(
        dataset=dataset,
        root=str(root),
        totals=tuple(all_totals),
        tracks=tuple(tracks),
        problems=tuple(dict.fromkeys(problems)),  # a file that belongs to no split is listed with every split
        notes=tuple(notes),
    )


def _list_splits(dataset: str, root: Path) -> tuple[list[Listing], list[str]]:
    """List the splits that are there, and note those that are not."""
    listings, notes = [], []
    errors: list[DatasetError] = []
    for split in SPLITS[dataset]:
        try:
            listings.append(LAYOUTS[dataset].find(root, split))
        except DatasetError as error:
            errors.append(error)
            notes.append(f"{split}: not found ({error})")
    if not listings:
        raise errors[0]
    if dataset == "dsd100":
        notes += [
            f"{listing.split}: no folder Mixtures/{listing.split}, so the sums of stems are not checked"
            for listing in listings
            if listing.tracks and not listing.tracks[0].mixture
        ]
    return listings, notes


def _add_up(listing: Listing, checked: list[TrackCheck], complete: int | None) -> Totals:
    levels = [track.voice_db for track in checked if track.voice_db is not None and not track.problems]
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
        voice_db=round(statistics.median(levels), 1) if levels else None,
        voice_spread_db=round(statistics.pstdev(levels), 1) if levels else None,
        worst_residual_db=max(residuals, default=None),
    )


def check_track(track: Track, split: str = "all", rate: int | None = None) -> TrackCheck:
    """Read all files of a track side by side, and list what is wrong with them.

    Args:
        track: The track.
        split: The split it belongs to.
        rate: The sample rate that its files should have, Hz; None if any will do.
    """
    sources = [*track.vocals, *track.accompaniment, *([track.mixture] if track.mixture else [])]
    files = {source.path: _File(source.path) for source in sources}
    energies = _Energies(track)
    for blocks in zip_longest(*(file.read_blocks() for file in files.values())):
        if len({file.rate for file in files.values()}) == 1:
            energies.add(dict(zip(files, blocks, strict=True)))
    readable = [file for file in files.values() if not file.problem]
    seconds = max((file.seconds for file in readable), default=0.0)
    problems = [f"{file.path}: {file.problem}" for file in files.values() if file.problem]
    problems += _check_levels(dict.fromkeys(sources), files)
    problems += _check_lengths_and_rates(readable, rate)
    problems += _check_labels(track, seconds)
    all_readable = len(readable) == len(files)
    voice_db, residual_db = (energies.voice_db, energies.residual_db) if all_readable else (None, None)
    if residual_db is not None and residual_db > SUM_TOLERANCE_DB:
        problems.append(
            f"the mixture is not the sum of its stems: residual of {residual_db:.1f} dB; "
            f"expected at most {SUM_TOLERANCE_DB:.0f} dB"
        )
    return TrackCheck(
        name=track.name,
        group=track.group,
        split=split,
        seconds=round(seconds, 3),
        rates=tuple(sorted({file.rate for file in readable})),
        voice_db=None if voice_db is None else round(voice_db, 1),
        residual_db=None if residual_db is None else round(residual_db, 1),
        pitch=track.pitch is not None,
        voicing=track.voicing is not None,
        problems=tuple(problems),
    )


@dataclass
class _File:
    """What is known about a file so far."""

    path: Path
    rate: int = 0
    samples: int = 0
    peaks: list[float] = field(default_factory=list)  # one per channel
    problem: str = ""

    @property
    def seconds(self) -> float:
        return self.samples / self.rate

    def read_blocks(self) -> Iterator[Waveform]:
        """Yield the blocks of the file. Stop at an error, and keep it as the file's problem."""
        try:
            with audio.Reader(self.path) as reader:
                self.rate, self.peaks = reader.rate, [0.0] * reader.channels
                for block in reader:
                    self.samples += block.shape[-1]
                    peaks = np.abs(block).max(axis=-1).tolist()
                    self.peaks = [max(pair) for pair in zip(self.peaks, peaks, strict=True)]
                    if not all(map(math.isfinite, peaks)):
                        self.problem = "contains NaN or infinite samples"
                    yield block
                stated = None if reader.estimated else reader.samples / reader.rate
        except AudioError as error:
            self.problem = str(error).removeprefix(f"{self.path}: ")
            return
        if self.samples < 1:
            self.problem = "the recording is empty"
        elif stated is not None and abs(stated - self.seconds) > TOLERANCE_SECONDS:
            self.problem = f"header says {stated:.2f} s, but the audio ends after {self.seconds:.2f} s"


def _check_levels(sources: dict[Source, None], files: dict[Path, _File]) -> Iterator[str]:
    """Report missing channels and silence. Skip subtracted sources: each is also listed with a positive weight."""
    for source in sources:
        file = files[source.path]
        if file.problem or source.weight < 0:
            continue
        if source.channel is not None and source.channel >= len(file.peaks):
            yield f"{source.path}: has no channel {source.channel + 1}"
            continue
        peak = max(file.peaks) if source.channel is None else file.peaks[source.channel]
        if peak < 10 ** (SILENCE_DB / 20):
            channel = "" if source.channel is None else f", channel {source.channel + 1}"
            level = f"peak {20 * math.log10(peak):.0f} dBFS" if peak else "all samples are zero"
            yield f"{source.path}{channel}: silent ({level})"


def _check_lengths_and_rates(files: list[_File], rate: int | None) -> Iterator[str]:
    """Report files that differ in length or sample rate, and a rate other than `rate`."""
    if not files:
        return
    short, long = min(files, key=lambda file: file.seconds), max(files, key=lambda file: file.seconds)
    if long.seconds - short.seconds > TOLERANCE_SECONDS:
        yield (
            f"different lengths: {short.path.name} lasts {short.seconds:.2f} s, {long.path.name} {long.seconds:.2f} s"
        )
    rates = sorted({file.rate for file in files})
    if len(rates) > 1:
        yield f"different sample rates: {', '.join(f'{file.path.name} {file.rate} Hz' for file in files)}"
    elif rate and rates[0] != rate:
        yield f"sample rate is {rates[0]} Hz; expected {rate} Hz"


def _check_labels(track: Track, seconds: float) -> Iterator[str]:
    """Report label files that cannot be read, or do not cover a recording of this length."""
    for path in filter(None, (track.pitch, track.voicing)):
        try:
            covered = len(mir1k.read_labels(path)) * mir1k.LABEL_SECONDS
        except DatasetError as error:
            yield str(error)
            continue
        if abs(covered - seconds) > LABEL_TOLERANCE_SECONDS:
            yield f"{path}: labels cover {covered:.2f} s of a recording of {seconds:.2f} s"


def _compute_energy(samples: Waveform) -> float:
    return float(np.vdot(samples, samples))


class _Energies:
    """Energies of the stems of a track, of its mixture and of the residual, summed over blocks."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self._vocals = self._accompaniment = self._mixture = self._residual = 0.0
        self._ended = False

    def add(self, blocks: dict[Path, Waveform | None]) -> None:
        """Add the next block of each file, up to the end of the shortest file."""
        present = {path: block for path, block in blocks.items() if block is not None}
        if self._ended or len(present) < len(blocks):
            self._ended = True
            return
        samples = min(block.shape[-1] for block in present.values())
        self._ended = samples < max(block.shape[-1] for block in present.values())
        mixture = self._track.mixture
        sources = [mixture] if mixture else [*self._track.vocals, *self._track.accompaniment]
        channels = max(1 if source.channel is not None else len(present[source.path]) for source in sources)
        pieces = {path: block[:, :samples].astype(np.float64) for path, block in present.items()}

        def read(source: Source) -> Waveform:
            return source.apply_to(pieces[source.path], channels)

        try:
            vocals, accompaniment = (
                sum(map(read, stem), np.zeros((channels, samples)))
                for stem in (self._track.vocals, self._track.accompaniment)
            )
        except AudioError:  # a missing channel, which `_check_levels` reports
            self._ended = True
            return
        self._vocals += _compute_energy(vocals)
        self._accompaniment += _compute_energy(accompaniment)
        if mixture:
            mixed = read(mixture)
            self._mixture += _compute_energy(mixed)
            self._residual += _compute_energy(mixed - vocals - accompaniment)

    @property
    def voice_db(self) -> float | None:
        """Level of the vocals relative to the accompaniment, dB; None if either is silent or NaN, or was not read."""
        if not (self._vocals > 0 and self._accompaniment > 0):
            return None
        return 10 * math.log10(self._vocals / self._accompaniment)

    @property
    def residual_db(self) -> float | None:
        """Level of the mixture minus the stems, relative to the mixture, dB; None if no block had all files."""
        if not self._mixture and not self._residual:
            return None
        if not self._residual:
            return EXACT_DB
        return max(EXACT_DB, 10 * math.log10(self._residual / max(self._mixture, 1e-20)))
