"""DSD100: a hundred songs, four stems each (Liutkus et al., "The 2016 Signal Separation Evaluation Campaign", 2017).

Its official parts share artists, though no songs: ANiMAL, Actions, BKS and others are in Dev and in Test.
"""

from __future__ import annotations

from pathlib import Path

from vocalsep.datasets.tracks import (
    Listing,
    Problem,
    Source,
    Track,
    artist_and_song,
    by_stem,
    doubled,
    entries,
    listing,
    recordings,
)
from vocalsep.errors import DatasetError

RATE = 44_100
COMPLETE = {"Dev": 50, "Test": 50}
BACKING = ("bass", "drums", "other")


def find(root: Path, split: str = "Dev") -> Listing:
    """Lists the songs of one part.

    Args:
        root: The folder that holds ``Sources/{Dev,Test}/NNN - Artist - Title/{bass,drums,other,vocals}.wav`` and
            perhaps ``Mixtures/{Dev,Test}/NNN - Artist - Title/mixture.wav``.
        split: "Dev" or "Test".

    Raises:
        DatasetError: If the layout is another, there is no such split, or no song in it.
    """
    if split not in COMPLETE:
        raise DatasetError(f"DSD100 has no split {split!r}; expected Dev or Test")
    folder, mixtures = root / "Sources" / split, root / "Mixtures" / split
    if not folder.is_dir():
        raise DatasetError(f"{root}: no folder Sources/{split}; expected the layout of DSD100")
    tracks, problems = [], []
    for song in _songs(folder):
        stems = {stem: paths for stem, paths in by_stem(recordings(song)).items() if stem in ("vocals", *BACKING)}
        missing = {"vocals", *BACKING} - set(stems)
        if missing or doubled(stems):
            lacks = f"no {', '.join(sorted(missing))} in {song}" if missing else ""
            problems.append(Problem(song.name, "; ".join(filter(None, (lacks, doubled(stems))))))
            continue
        artist, title = artist_and_song(song.name)
        mixture = Source(mixtures / song.name / "mixture.wav")
        tracks.append(
            Track(
                name=song.name,
                group=artist,
                song=title,
                vocals=(Source(stems["vocals"][0]),),
                accompaniment=tuple(Source(stems[stem][0]) for stem in BACKING),
                mixture=mixture if mixtures.is_dir() else None,
            )
        )
    if mixtures.is_dir():
        lone = {song.name for song in _songs(mixtures)} - {song.name for song in _songs(folder)}
        problems += [Problem(name, f"a mixture without stems; no folder {folder / name}") for name in sorted(lone)]
    return listing(folder, tracks, problems, split=split, shares_singers=split == "Test")


def _songs(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.is_dir() and not path.name.startswith(".")]
