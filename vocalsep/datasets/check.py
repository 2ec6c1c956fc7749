"""Is a data set complete and sound? Reads every file to its end, block by block, and says all that is wrong."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from vocalsep import audio
from vocalsep.datasets.layouts import LAYOUTS, dsd100, mir1k
from vocalsep.datasets.screening import SILENCE_DB
from vocalsep.datasets.tracks import TOLERANCE_SECONDS, Listing, Problem, Source, Track
from vocalsep.errors import AudioError, DatasetError
from vocalsep.shapes import Waveform

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


SUM_TOLERANCE_DB = -40.0
"""A mixture is the sum of its stems if what is left of it without them lies below this, against the mixture.

Rounding to 16 bits leaves -60 dB or less; a gain that is wrong by 0.1 dB leaves -39 dB.
"""
LABEL_TOLERANCE_SECONDS = 0.5
EXACT_DB = -200.0  # stands for nothing left at all


@dataclass(frozen=True, kw_only=True)
class TrackCheck:
    """What was found in one track.

    Attributes:
        name: The track's.
        group: Its artist or singer.
        split: The part of the data set it belongs to.
        seconds: Length of its longest file.
        rates: Sampling rates of its files, Hz.
        voice_db: Level of the vocals against the accompaniment; None if there are not both, or a file cannot be
            read to its end.
        residual_db: What is left of the mixture without the stems, against the mixture; None if there is no mixture
            or the files do not fit together.
        pitch: Whether there are pitch labels.
        voicing: Whether there are voicing labels.
        problems: What is wrong, a line each; empty if all is well.
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


def inspect(track: Track, split: str = "all", rate: int | None = None) -> TrackCheck:
    """Reads all files of a track, side by side.

    Args:
        track: The track.
        split: The part of the data set it belongs to.
        rate: The rate that its files should have, Hz; None if any will do.
    """
    sources = [*track.vocals, *track.accompaniment, *([track.mixture] if track.mixture else [])]
    files = {source.path: _File(source.path) for source in sources}
    powers = _Powers(track)
    for blocks in zip_longest(*(file.blocks() for file in files.values())):
        if len({file.rate for file in files.values()}) == 1:
            powers.add(dict(zip(files, blocks, strict=True)))
    whole = [file for file in files.values() if not file.trouble]
    problems = [f"{file.path}: {file.trouble}" for file in files.values() if file.trouble]
    problems += _levels(dict.fromkeys(sources), files)
    problems += _lengths_and_rates(whole, rate)
    problems += _labels(track, max((file.seconds for file in whole), default=0.0))
    voice, residual = (powers.voice_db, powers.residual_db) if len(whole) == len(files) else (None, None)
    if residual is not None and residual > SUM_TOLERANCE_DB:
        problems.append(
            f"the mixture is not the sum of the stems: a residual of {residual:.1f} dB; "
            f"expected at most {SUM_TOLERANCE_DB:.0f} dB"
        )
    return TrackCheck(
        name=track.name,
        group=track.group,
        split=split,
        seconds=round(max((file.seconds for file in whole), default=0.0), 3),
        rates=tuple(sorted({file.rate for file in whole})),
        voice_db=None if voice is None else round(voice, 1),
        residual_db=None if residual is None else round(residual, 1),
        pitch=track.pitch is not None,
        voicing=track.voicing is not None,
        problems=tuple(problems),
    )


@dataclass
class _File:
    """What is known of a file so far."""

    path: Path
    rate: int = 0
    samples: int = 0
    peaks: list[float] = field(default_factory=list)
    trouble: str = ""

    @property
    def seconds(self) -> float:
        return self.samples / self.rate

    def blocks(self) -> Iterator[Waveform]:
        """The file's blocks; an error ends them and is noted."""
        try:
            with audio.Reader(self.path) as reader:
                self.rate, self.peaks = reader.rate, [0.0] * reader.channels
                for block in reader:
                    self.samples += block.shape[-1]
                    peaks = block.abs().amax(dim=-1).tolist()
                    self.peaks = [max(pair) for pair in zip(self.peaks, peaks, strict=True)]
                    if not all(map(math.isfinite, peaks)):
                        self.trouble = "holds samples that are no finite numbers"
                    yield block
                stated = None if reader.estimated else reader.samples / reader.rate
        except AudioError as error:
            self.trouble = str(error).removeprefix(f"{self.path}: ")
            return
        if self.samples < 1:
            self.trouble = "the recording is empty"
        elif stated is not None and abs(stated - self.seconds) > TOLERANCE_SECONDS:
            self.trouble = f"says that it holds {stated:.2f} s, but ends after {self.seconds:.2f} s"


def _levels(sources: dict[Source, None], files: dict[Path, _File]) -> Iterator[str]:
    """Channels that are not there, and silence. A source that is taken away stands in the list as itself, too."""
    for source in sources:
        file = files[source.path]
        if file.trouble or source.weight < 0:
            continue
        if source.channel is not None and source.channel >= len(file.peaks):
            yield f"{source.path}: has no channel {source.channel + 1}"
            continue
        peak = max(file.peaks) if source.channel is None else file.peaks[source.channel]
        if peak < 10 ** (SILENCE_DB / 20):
            where = "" if source.channel is None else f", channel {source.channel + 1}"
            level = f"peak {20 * math.log10(peak):.0f} dBFS" if peak else "no sound at all"
            yield f"{source.path}{where}: silent ({level})"


def _lengths_and_rates(files: list[_File], rate: int | None) -> Iterator[str]:
    if not files:
        return
    short, long = min(files, key=lambda file: file.seconds), max(files, key=lambda file: file.seconds)
    if long.seconds - short.seconds > TOLERANCE_SECONDS:
        yield (
            f"different lengths: {short.path.name} has {short.seconds:.2f} s, {long.path.name} has {long.seconds:.2f} s"
        )
    rates = sorted({file.rate for file in files})
    if len(rates) > 1:
        yield f"different rates: {', '.join(f'{file.path.name} {file.rate} Hz' for file in files)}"
    elif rate and rates[0] != rate:
        yield f"has {rates[0]} Hz; expected {rate} Hz"


def _labels(track: Track, seconds: float) -> Iterator[str]:
    """Labels that cannot be read, or are of another length than the recording of so many seconds."""
    for path in filter(None, (track.pitch, track.voicing)):
        try:
            covered = len(mir1k.read_labels(path)) * mir1k.LABEL_SECONDS
        except DatasetError as error:
            yield str(error)
            continue
        if abs(covered - seconds) > LABEL_TOLERANCE_SECONDS:
            yield f"{path}: labels of {covered:.2f} s for a recording of {seconds:.2f} s"


class _Powers:
    """Powers of a track's stems, and of its mixture with and without them, summed over blocks."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self._vocals = self._accompaniment = self._mixture = self._left = 0.0
        self._ended = False

    def add(self, blocks: dict[Path, Waveform | None]) -> None:
        """Takes the next block of each file; the end of the shortest file is the end."""
        present = {path: block for path, block in blocks.items() if block is not None}
        if self._ended or len(present) < len(blocks):
            self._ended = True
            return
        samples = min(block.shape[-1] for block in present.values())
        self._ended = samples < max(block.shape[-1] for block in present.values())
        mixture = self._track.mixture
        whole = [mixture] if mixture else [*self._track.vocals, *self._track.accompaniment]
        channels = max(1 if source.channel is not None else len(present[source.path]) for source in whole)
        pieces = {path: block[:, :samples].double() for path, block in present.items()}

        def part(source: Source) -> Waveform:
            return source.part(pieces[source.path], channels)

        try:
            vocals, accompaniment = (
                sum(map(part, stem), torch.zeros(channels, samples))
                for stem in (self._track.vocals, self._track.accompaniment)
            )
        except AudioError:  # `_levels` tells of a channel that is missing
            self._ended = True
            return
        self._vocals += vocals.square().sum().item()
        self._accompaniment += accompaniment.square().sum().item()
        if mixture:
            heard = part(mixture)
            self._mixture += heard.square().sum().item()
            self._left += (heard - vocals - accompaniment).square().sum().item()

    @property
    def voice_db(self) -> float | None:
        """Level of the vocals against the accompaniment, dB; None if either is silent."""
        if not (self._vocals > 0 and self._accompaniment > 0):  # neither where a channel is missing
            return None
        return 10 * math.log10(self._vocals / self._accompaniment)

    @property
    def residual_db(self) -> float | None:
        """What is left of the mixture, against it, dB; None if there is none, or no block was complete."""
        if not self._mixture and not self._left:
            return None
        if not self._left:
            return EXACT_DB
        return max(EXACT_DB, 10 * math.log10(self._left / max(self._mixture, 1e-20)))
