"""Tracks: songs with their stems, and how the files of each data set become tracks.

A track knows which files (or which channel of a file) add up to its vocals and to its accompaniment. Either may be
missing: a lone voice or an instrumental is a track too, material for remixing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from vocalsep import audio
from vocalsep.errors import AudioError, DatasetError
from vocalsep.shapes import Waveform

TOLERANCE_SECONDS = 0.1  # stems of one song may differ in length by this much; the shorter length counts


@dataclass(frozen=True)
class Source:
    """A recording, or one channel of it."""

    path: Path
    channel: int | None = None


@dataclass(frozen=True, kw_only=True)
class Track:
    """One song of a data set with its stems.

    Attributes:
        name: Unique within the data set.
        group: What must not be split between training and validation: the artist or singer.
        vocals: Their sum is the vocals; empty for an instrumental.
        accompaniment: Their sum is the accompaniment; empty for a lone voice.
    """

    name: str
    group: str
    vocals: tuple[Source, ...] = ()
    accompaniment: tuple[Source, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """All files of the track, each once, in a fixed order."""
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
    if source.channel is not None:
        if source.channel >= samples.shape[0]:
            raise AudioError(f"{source.path}: has no channel {source.channel + 1}")
        samples = samples[source.channel : source.channel + 1]
    if samples.shape[0] != channels:
        samples = samples.mean(dim=0, keepdim=True).expand(channels, -1)
    return audio.resample(samples, native, rate)


def dsd100(root: Path, split: str) -> list[Track]:
    """Songs of DSD100 (Liutkus et al., "The 2016 Signal Separation Evaluation Campaign", 2017).

    Args:
        root: The folder that holds ``Sources/{Dev,Test}/NNN - Artist - Title/{bass,drums,other,vocals}.wav``.
        split: "Dev" or "Test".

    Raises:
        DatasetError: If the layout is another.
    """
    folder = root / "Sources" / split
    if not folder.is_dir():
        raise DatasetError(f"{root}: no folder Sources/{split}; expected the layout of DSD100")
    tracks = []
    for song in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = {path.stem: path for path in _recordings(song)}
        missing = {"bass", "drums", "other", "vocals"} - set(files)
        if missing:
            raise DatasetError(f"{song}: no {', '.join(sorted(missing))}; expected the four stems of DSD100")
        artist = song.name.split(" - ")[1] if song.name.count(" - ") >= 2 else song.name
        backing = tuple(Source(files[stem]) for stem in ("bass", "drums", "other"))
        tracks.append(Track(name=song.name, group=artist, vocals=(Source(files["vocals"]),), accompaniment=backing))
    return _some(tracks, folder)


MIR1K_TRAINING_SINGERS = ("abjones", "amy")


def mir1k(root: Path, split: str) -> list[Track]:
    """Clips of MIR-1K (Hsu and Jang, 2010) in the split of Huang et al., 2014.

    Args:
        root: The folder that holds ``Wavfile/singer_song_clip.wav``: left accompaniment, right voice.
        split: "train" (singers abjones and amy) or "test" (the other seventeen).

    Raises:
        DatasetError: If the layout is another, or there is no such split.
    """
    if split not in ("train", "test"):
        raise DatasetError(f"MIR-1K has no split {split!r}; expected train or test")
    folder = root / "Wavfile"
    if not folder.is_dir():
        raise DatasetError(f"{root}: no folder Wavfile; expected the layout of MIR-1K")
    tracks = [
        Track(
            name=path.stem, group=path.stem.split("_")[0], vocals=(Source(path, 1),), accompaniment=(Source(path, 0),)
        )
        for path in sorted(folder.glob("*.wav"))
        if (path.stem.split("_")[0] in MIR1K_TRAINING_SINGERS) == (split == "train")
    ]
    return _some(tracks, folder)


def stems(root: Path) -> list[Track]:
    """Any folder of songs: each a folder with ``vocals.*`` and ``accompaniment.*``, or other stems instead.

    Raises:
        DatasetError: If a song has no vocals or nothing else.
    """
    tracks = []
    for vocals in (path for path in sorted(root.rglob("vocals.*")) if path.suffix.lower() in audio.SUFFIXES):
        others = [path for path in _recordings(vocals.parent) if path != vocals]
        whole = [path for path in others if path.stem == "accompaniment"]
        backing = whole or [path for path in others if path.stem != "mixture"]
        if not backing:
            raise DatasetError(f"{vocals.parent}: vocals but neither accompaniment nor other stems")
        name = vocals.parent.relative_to(root).as_posix()
        tracks.append(
            Track(
                name=name,
                group=vocals.parent.name.split(" - ")[0],
                vocals=(Source(vocals),),
                accompaniment=tuple(map(Source, backing)),
            )
        )
    return _some(tracks, root)


def pool(root: Path, stem: str) -> list[Track]:
    """All recordings below a folder, as tracks with one stem only.

    Args:
        root: The folder.
        stem: "vocals" for lone voices, "accompaniment" for instrumentals.
    """
    found = (path for path in sorted(root.rglob("*")) if path.suffix.lower() in audio.SUFFIXES)
    tracks = []
    for path in found:
        group = path.parent.relative_to(root).as_posix()
        sources = (Source(path),)
        name = path.relative_to(root).as_posix()
        if stem == "vocals":
            tracks.append(Track(name=name, group=group, vocals=sources))
        else:
            tracks.append(Track(name=name, group=group, accompaniment=sources))
    return _some(tracks, root)


def _recordings(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in audio.SUFFIXES]


def _some(tracks: list[Track], folder: Path) -> list[Track]:
    if not tracks:
        raise DatasetError(f"{folder}: no tracks found")
    return tracks


def hold_out(tracks: Iterable[Track], every: int) -> tuple[list[Track], list[Track]]:
    """Splits tracks for training and validation, never through a group.

    Args:
        tracks: The tracks of a training set.
        every: Every so-many-th group, in order of name, goes to validation.

    Returns:
        Training and validation tracks.
    """
    tracks = list(tracks)
    held = set(sorted({track.group for track in tracks})[every - 1 :: every])
    return [t for t in tracks if t.group not in held], [t for t in tracks if t.group in held]
