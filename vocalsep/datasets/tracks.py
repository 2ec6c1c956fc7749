"""Tracks: songs with their stems, and lists of them.

A track knows which files (or which channel of a file) add up to its vocals and to its accompaniment. Either may be
missing: a lone voice or an instrumental is a track too, material for remixing. How the files of each data set become
tracks stand in the modules beside this one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from vocalsep import audio, files
from vocalsep.errors import AudioError, DatasetError
from vocalsep.shapes import Waveform

TOLERANCE_SECONDS = 0.1  # stems of one song may differ in length by this much; the shorter length counts


@dataclass(frozen=True)
class Source:
    """A recording, or one channel of it.

    Attributes:
        path: The file.
        channel: The channel that counts, from 0; None for all of them.
        weight: What it is multiplied with before the sources of a stem are summed; -1 takes it away.
    """

    path: Path
    channel: int | None = None
    weight: float = 1.0

    def part(self, samples: Waveform, channels: int) -> Waveform:
        """What it adds to the sum of a stem's sources.

        Args:
            samples: The recording or a piece of it, ``(channel, time)``.
            channels: How many channels the sum has. Those of a recording with another number count as their mean.

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
            samples = samples.mean(dim=0, keepdim=True).expand(channels, -1)
        return samples if self.weight == 1 else samples * self.weight


@dataclass(frozen=True, kw_only=True)
class Track:
    """One song of a data set with its stems.

    Attributes:
        name: Unique within the data set.
        group: What must not be split between training and validation: the artist or singer.
        song: What the song is called wherever else it may turn up; the name if empty.
        vocals: Their sum is the vocals; empty for an instrumental.
        accompaniment: Their sum is the accompaniment; empty for a lone voice.
        mixture: The mixture as it was released, if the data set has one. Only the check reads it: what is trained on
            is the sum of the stems.
        pitch: The file with the voice's pitch, frame by frame, if there is one; see `mir1k.read_labels`.
        voicing: The file that says where there is a voice, if there is one.
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
        """All files that the stems are made of, each once, in a fixed order."""
        return sorted({source.path for source in self.vocals + self.accompaniment})

    def load(self, rate: int, channels: int) -> dict[str, Waveform]:
        """Reads and sums the stems.

        Args:
            rate: Rate wanted, Hz; others are resampled.
            channels: Channels wanted; mono is spread to all, more are averaged.

        Returns:
            ``vocals`` and ``accompaniment`` as far as there are any, ``(channel, time)`` of equal length.

        Raises:
            DatasetError: If a file cannot be read or the lengths differ.
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
        return {
            stem: torch.stack([part[:, : min(lengths)] for part in parts]).sum(dim=0) for stem, parts in stems.items()
        }


def _read(source: Source, rate: int, channels: int) -> Waveform:
    samples, native = audio.read(source.path)
    return audio.resample(source.part(samples, channels), native, rate)


@dataclass(frozen=True)
class Problem:
    """Why a track, or a file that should be one, cannot be used as it is.

    Attributes:
        name: The track's name, or the file's.
        what: What is wrong, in one line.
    """

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What was found in a data set's folder. Nothing has been decoded for it.

    Attributes:
        tracks: The tracks that look whole, in order of name.
        problems: Everything that looks like a track and is not whole.
        split: The part of the data set that this is.
        shares_singers: Whether singers or artists of this part are trained on, too, by the split's own definition.
    """

    tracks: tuple[Track, ...]
    problems: tuple[Problem, ...] = ()
    split: str = "all"
    shares_singers: bool = False


def listing(
    folder: Path,
    tracks: Iterable[Track],
    problems: Iterable[Problem] = (),
    *,
    split: str = "all",
    shares_singers: bool = False,
) -> Listing:
    """Makes a listing.

    Raises:
        DatasetError: If there is nothing at all in it; names `folder`.
    """
    found = Listing(tracks=tuple(tracks), problems=tuple(problems), split=split, shares_singers=shares_singers)
    if not found.tracks and not found.problems:
        raise DatasetError(f"{folder}: no tracks found")
    return found


def recordings(folder: Path) -> list[Path]:
    """The sound files of a folder by their endings, in order of name; hidden ones do not count."""
    return [path for path in entries(folder) if is_recording(path)]


def recordings_below(root: Path) -> list[Path]:
    """The sound files of a folder and of all folders in it, in order of their paths; links are followed.

    Raises:
        DatasetError: If a folder cannot be listed.
    """
    found = (folder / name for folder, names in files.walk(root, onerror=_not_listed) for name in names)
    return sorted(path for path in found if is_recording(path))


def entries(folder: Path) -> list[Path]:
    """What is in a folder, in order of name.

    Raises:
        DatasetError: If it cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        _not_listed(error)


def _not_listed(error: OSError) -> NoReturn:
    raise DatasetError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def is_recording(path: Path) -> bool:
    """Whether a path looks like a sound file; ``._vocals.wav`` and its like, which macOS leaves, do not."""
    named_so = path.suffix.lower() in audio.SUFFIXES and not path.name.startswith(".")
    return named_so and os.path.isfile(path)  # noqa: PTH113 - Path's raises errors where folders are closed


def by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Sound files by the stem that they are named after, in small letters."""
    stems: dict[str, list[Path]] = {}
    for path in paths:
        stems.setdefault(path.stem.lower(), []).append(path)
    return stems


def doubled(stems: Mapping[str, list[Path]]) -> str:
    """Names the stems that there is more than one file of; empty if there are none."""
    return "; ".join(
        f"{stem} more than once ({', '.join(path.name for path in paths)}); keep one"
        for stem, paths in stems.items()
        if len(paths) > 1
    )


def hold_out(tracks: Iterable[Track], every: int) -> tuple[list[Track], list[Track], bool]:
    """Splits tracks for training and validation, never through a group; where there are too few, never through a song.

    Args:
        tracks: The tracks of a training set.
        every: Every so-many-th group, in order of name, goes to validation; of fewer groups than that, every
            so-many-th song, and of fewer songs the last one, if there are two.

    Returns:
        Training and validation tracks, and whether they share groups.
    """
    tracks = list(tracks)
    groups = [name_key(track.group) or track.group for track in tracks]
    songs = [name_key(track.song or track.name) or track.name for track in tracks]
    few = len(set(groups)) < every
    keys = songs if few else groups
    spelled: dict[str, str] = {}
    for key, track in zip(keys, tracks, strict=True):
        name = (track.song or track.name) if few else track.group
        spelled[key] = min(name, spelled.get(key, name))
    ordered = sorted(spelled, key=lambda key: spelled[key])
    held = set(ordered[every - 1 :: every] or ordered[1:][-1:])
    training = [place for place, key in enumerate(keys) if key not in held]
    validation = [place for place, key in enumerate(keys) if key in held]
    shares = not {groups[place] for place in training}.isdisjoint(groups[place] for place in validation)
    return [tracks[place] for place in training], [tracks[place] for place in validation], shares


_GUESTS = re.compile(r"\s+(?:feat|ft)\b\.?.*", re.IGNORECASE)
_NUMBER = re.compile(r"\d+ - (?=.* - )")  # of "007 - Artist - Title", but not "311 - Title"
_STEMS = ("vocals", "accompaniment", "mixture")


def artist_and_song(name: str) -> tuple[str, str]:
    """Artist, without guests, and song of ``Artist - Title`` or ``NNN - Artist - Title``; other names are both."""
    song = _NUMBER.sub("", name, count=1)
    return _GUESTS.sub("", song.split(" - ")[0]).strip(), song


def name_from_path(path: Path, root: Path) -> tuple[str, str]:
    """Artist and song of a recording below a folder.

    A recording that is called after its stem is the song that its folder is called after. Without an artist in the
    name, recordings of one folder count as of one artist.
    """
    inside = path.parent != root and path.stem.lower() in _STEMS
    artist, song = artist_and_song(path.parent.name if inside else path.stem)
    return (artist if " - " in song else path.parent.relative_to(root).as_posix()), song


def name_key(name: str) -> str:
    """What is left of a name if case, punctuation and a leading number do not count; empty if that tells nothing."""
    letters = "".join(letter for letter in _NUMBER.sub("", name, count=1).casefold() if letter.isalnum())
    return letters if any(letter.isalpha() for letter in letters) else ""
