"""Recordings of your own: songs with stems, lone voices, and instrumentals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vocalsep.datasets.layouts.folders import describe_duplicates, find_recordings, group_by_stem
from vocalsep.datasets.names import parse_name, parse_path
from vocalsep.datasets.tracks import Listing, Problem, Source, Track, make_listing
from vocalsep.errors import DatasetError

VOCALS_ENDING = ".vocals"
OUTPUT_ENDINGS = (VOCALS_ENDING, ".accompaniment")
"""How the names of a separator's outputs end, before the extension."""


def find(root: Path, split: str = "all") -> Listing:
    """List songs: folders, at any depth, that hold ``vocals.*`` and something to make the accompaniment from.

    The accompaniment is the first of these that the folder has:

    - ``accompaniment.*``;
    - the sum of all other stems;
    - ``mixture.*`` minus the vocals.

    Formats may differ from file to file. A folder with an accompaniment or a mixture but no vocals is reported as a
    problem; any other folder without vocals is ignored.

    Args:
        root: The folder; name the folder of a song ``Artist - Title`` to tell its artist.
        split: "all".

    Raises:
        DatasetError: If there is no such split, or no song.
    """
    refuse_other_splits(split)
    folders: dict[Path, list[Path]] = {}
    for path in find_recordings(root):
        folders.setdefault(path.parent, []).append(path)
    tracks, problems = [], []
    for folder, files in sorted(folders.items()):
        stems = group_by_stem(files)
        name = folder.relative_to(root).as_posix() if folder != root else root.resolve().name
        if "vocals" not in stems:
            others = [path.name for stem in ("accompaniment", "mixture") for path in stems.get(stem, [])]
            if others:
                problems.append(Problem(name, f"no vocals beside {', '.join(others)} in {folder}"))
            continue
        backing = _choose_backing(stems)
        duplicates = describe_duplicates({"vocals": stems["vocals"], **{stem: stems[stem] for stem in backing}})
        if not backing or duplicates:
            lacks = f"vocals, but neither accompaniment, mixture nor other stems in {folder}"
            problems.append(Problem(name, duplicates or lacks))
            continue
        vocals = Source(stems["vocals"][0])
        accompaniment = tuple(Source(stems[stem][0]) for stem in backing)
        if backing == ["mixture"]:
            accompaniment += (Source(vocals.path, weight=-1.0),)
        artist, song = parse_name(folder.name)
        tracks.append(Track(name=name, group=artist, song=song, vocals=(vocals,), accompaniment=accompaniment))
    return make_listing(root, tracks, problems)


def _choose_backing(stems: Mapping[str, list[Path]]) -> list[str]:
    """Return the stems that make up the accompaniment."""
    if "accompaniment" in stems:
        return ["accompaniment"]
    others = [stem for stem in stems if stem not in ("vocals", "mixture") and not _is_output(stem, stems)]
    return others or [stem for stem in stems if stem == "mixture"]


def _is_output(stem: str, stems: Mapping[str, object]) -> bool:
    """Return whether ``vocalsep extract`` made a file from another one in the same folder."""
    return any(stem.endswith(ending) and stem.removesuffix(ending) in stems for ending in OUTPUT_ENDINGS)


def find_voices(root: Path, split: str = "all") -> Listing:
    """List all recordings in a folder and its subfolders as lone voices.

    Raises:
        DatasetError: If there is no such split, or no recording.
    """
    return _list_single_stem(root, split, "vocals")


def find_instrumentals(root: Path, split: str = "all") -> Listing:
    """List all recordings in a folder and its subfolders as accompaniments without a voice.

    Raises:
        DatasetError: If there is no such split, or no recording.
    """
    return _list_single_stem(root, split, "accompaniment")


def _list_single_stem(root: Path, split: str, stem: str) -> Listing:
    refuse_other_splits(split)
    tracks = []
    for path in find_recordings(root):
        sources = (Source(path),)
        artist, song = parse_path(path, root)
        tracks.append(
            Track(
                name=path.relative_to(root).as_posix(),
                group=artist,
                song=song,
                vocals=sources if stem == "vocals" else (),
                accompaniment=sources if stem == "accompaniment" else (),
            )
        )
    return make_listing(root, tracks)


def refuse_other_splits(split: str) -> None:
    """Refuse any split but "all", the only one that folders of your own have.

    Raises:
        DatasetError: If the split is another.
    """
    if split != "all":
        raise DatasetError(f"your own folders have no split {split!r}; expected 'all'")
