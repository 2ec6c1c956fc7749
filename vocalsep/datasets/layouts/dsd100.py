"""DSD100: a hundred songs, four stems each (Liutkus et al., "The 2016 Signal Separation Evaluation Campaign", 2017).

Its official splits share artists, though no songs: ANiMAL, Actions, BKS and others are in both Dev and Test.
"""

from __future__ import annotations

from pathlib import Path

from vocalsep.datasets.layouts.folders import describe_duplicates, group_by_stem, list_entries, list_recordings
from vocalsep.datasets.names import parse_name
from vocalsep.datasets.tracks import Listing, Problem, Source, Track, make_listing
from vocalsep.errors import DatasetError

RATE = 44_100
COMPLETE = {"Dev": 50, "Test": 50}
"""How many songs each split of the complete data set has."""
BACKING = ("bass", "drums", "other")


def find(root: Path, split: str = "Dev") -> Listing:
    """List the songs of one split.

    Args:
        root: The folder that holds ``Sources/{Dev,Test}/NNN - Artist - Title/{bass,drums,other,vocals}.wav``.
            It may also hold ``Mixtures/{Dev,Test}/NNN - Artist - Title/mixture.wav``.
        split: "Dev" or "Test".

    Raises:
        DatasetError: If the folder has another layout, or there is no such split, or no song in it.
    """
    if split not in COMPLETE:
        raise DatasetError(f"DSD100 has no split {split!r}; expected Dev or Test")
    folder, mixtures = root / "Sources" / split, root / "Mixtures" / split
    if not folder.is_dir():
        raise DatasetError(f"{root}: no folder Sources/{split}; expected the layout of DSD100")
    tracks, problems = [], []
    for song in _list_songs(folder):
        by_stem = group_by_stem(list_recordings(song))
        stems = {stem: paths for stem, paths in by_stem.items() if stem in ("vocals", *BACKING)}
        missing, duplicates = {"vocals", *BACKING} - set(stems), describe_duplicates(stems)
        if missing or duplicates:
            lacks = f"missing stems: {', '.join(sorted(missing))} in {song}" if missing else ""
            problems.append(Problem(song.name, "; ".join(filter(None, (lacks, duplicates)))))
            continue
        artist, title = parse_name(song.name)
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
        lone = {song.name for song in _list_songs(mixtures)} - {song.name for song in _list_songs(folder)}
        problems += [Problem(name, f"a mixture without stems; no folder {folder / name}") for name in sorted(lone)]
    return make_listing(folder, tracks, problems, split=split, shares_singers=split == "Test")


def _list_songs(folder: Path) -> list[Path]:
    return [path for path in list_entries(folder) if path.is_dir() and not path.name.startswith(".")]
