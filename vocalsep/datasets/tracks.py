"""Tracks: songs with their stems.

A track knows which files, or which channels of a file, add up to its vocals and to its accompaniment. Either may be
missing: a lone voice or an instrumental is a track too, which training can remix. The modules in `layouts` turn the
folders of a data set into tracks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocalsep import audio
from vocalsep.errors import AudioError, DatasetError
from vocalsep.shapes import Waveform

TOLERANCE_SECONDS = 0.1  # stems of one song may differ in length by this much; all are cut to the shortest


@dataclass(frozen=True)
class Source:
    """A recording, or one channel of it.

    Attributes:
        path: The file.
        channel: The channel to use, counted from 0; None for all of them.
        weight: Factor applied before the sources of a stem are summed; -1 subtracts.
    """

    path: Path
    channel: int | None = None
    weight: float = 1.0

    def apply_to(self, samples: Waveform, channels: int) -> Waveform:
        """Return what this source adds to its stem.

        Args:
            samples: The recording or a block of it, ``(channel, time)``.
            channels: Channel count of the stem. A recording with another count is averaged to mono first.

        Returns:
            ``(channels, time)``.

        Raises:
            AudioError: If the recording lacks the channel.
        """
        if self.channel is not None:
            if self.channel >= len(samples):
                raise AudioError(f"{self.path}: has no channel {self.channel + 1}")
            samples = samples[self.channel : self.channel + 1]
        if len(samples) != channels:
            samples = np.repeat(samples.mean(axis=0, keepdims=True), channels, axis=0)
        return samples if self.weight == 1 else samples * self.weight


@dataclass(frozen=True, kw_only=True)
class Track:
    """One song of a data set with its stems.

    Attributes:
        name: Unique within the data set.
        group: The artist or singer; tracks of one group are never split between training and validation.
        song: Name of the song, to recognise it in other data sets; empty if it equals `name`.
        vocals: Sources that sum to the vocals; empty for an instrumental.
        accompaniment: Sources that sum to the accompaniment; empty for a lone voice.
        mixture: The released mixture, if the data set has one. Only `datasets.check` reads it: training and evaluation
            use the sum of the stems.
        pitch: File with the pitch of the voice for every frame, if any; see `mir1k.read_labels`.
        voicing: File that marks the frames with a voice, if any.
    """

    name: str
    group: str
    song: str = ""
    vocals: tuple[Source, ...] = ()
    accompaniment: tuple[Source, ...] = ()
    mixture: Source | None = None
    pitch: Path | None = None
    voicing: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All files of the stems, each once, sorted."""
        return sorted({source.path for source in self.vocals + self.accompaniment})

    def load(self, rate: int, channels: int) -> dict[str, Waveform]:
        """Read and sum the stems.

        Args:
            rate: Sample rate to resample to, Hz.
            channels: Channel count to return. A recording with another count is averaged to mono, then copied to all
                channels.

        Returns:
            ``vocals`` and ``accompaniment`` where the track has them, ``(channel, time)`` of equal length.

        Raises:
            DatasetError: If a file cannot be read, or the lengths differ.
        """
        try:
            stems = {
                stem: [_read(source, rate, channels) for source in sources]
                for stem, sources in (("vocals", self.vocals), ("accompaniment", self.accompaniment))
                if sources
            }
        except AudioError as error:
            raise DatasetError(f"track {self.name!r}: {error}") from error
        lengths = [part.shape[-1] for parts in stems.values() for part in parts]
        if max(lengths) - min(lengths) > TOLERANCE_SECONDS * rate:
            raise DatasetError(
                f"track {self.name!r}: stems of {min(lengths) / rate:.2f} s and {max(lengths) / rate:.2f} s; "
                "expected equal lengths"
            )
        return {stem: _sum_parts(parts, min(lengths)) for stem, parts in stems.items()}


def _read(source: Source, rate: int, channels: int) -> Waveform:
    samples, native = audio.read(source.path)
    return audio.resample(source.apply_to(samples, channels), native, rate)


def _sum_parts(parts: Sequence[Waveform], samples: int) -> Waveform:
    """Sum the first `samples` of each part."""
    total = np.zeros((len(parts[0]), samples), np.float32)
    for part in parts:
        total += part[:, :samples]
    return total


@dataclass(frozen=True)
class Problem:
    """Why a track, or a file that should be one, cannot be used.

    Attributes:
        name: Name of the track or file.
        what: What is wrong, in one line.
    """

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The tracks found in the folder of a data set. No file has been decoded yet.

    Attributes:
        tracks: The tracks that look complete, sorted by name.
        problems: Everything that looks like a track but is incomplete.
        split: Which split of the data set this is.
        shares_singers: Whether the split is defined to share singers or artists with its training split.
    """

    tracks: tuple[Track, ...]
    problems: tuple[Problem, ...] = ()
    split: str = "all"
    shares_singers: bool = False


def make_listing(
    folder: Path,
    tracks: Iterable[Track],
    problems: Iterable[Problem] = (),
    *,
    split: str = "all",
    shares_singers: bool = False,
    expected: str = "",
) -> Listing:
    """Make a listing, and refuse an empty one.

    Raises:
        DatasetError: If there are neither tracks nor problems. The message names `folder`, and what was `expected`.
    """
    found = Listing(tracks=tuple(tracks), problems=tuple(problems), split=split, shares_singers=shares_singers)
    if not found.tracks and not found.problems:
        raise DatasetError(f"{folder}: no tracks found" + (f"; expected {expected}" if expected else ""))
    return found
