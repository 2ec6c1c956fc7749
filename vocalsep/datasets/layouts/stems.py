"""Recordings of your own: songs with stems, lone voices, and instrumentals."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from vocalsep.datasets.layouts.folders import describe_duplicates, find_recordings, group_by_stem
from vocalsep.datasets.names import parse_name, parse_path
from vocalsep.datasets.tracks import Listing, Problem, Source, Track, make_listing
from vocalsep.errors import DatasetError

VOCALS_ENDING = ".vocals"
OUTPUT_ENDINGS = (VOCALS_ENDING, ".accompaniment")
"""How the names of a separator's outputs end, before the extension."""

_WORDS = {  # in names that other programs and people use, from the surest to the least sure
    "accompaniment": "instrumental instrumentals instr inst karaoke accomp backingtrack minusone novocals playback",
    "vocals": "vox voc vocal vocals voice voices singing singer acapella acappella",
    "mixture": "mix fullmix mixdown master mastered full original",
}


def find(root: Path, split: str = "all") -> Listing:
    """List songs: folders, at any depth, that hold ``vocals.*`` and something to make the accompaniment from.

    The accompaniment is the first of these that the folder has:

    - ``accompaniment.*``;
    - the sum of all other stems;
    - ``mixture.*`` minus the vocals.

    Formats may differ from file to file. A folder is reported as a problem if it has an accompaniment or a mixture but
    no vocals, or a file whose name means one of them to people, such as ``vox.wav``. Any other folder without vocals is
    ignored.

    Args:
        root: The folder. A song's artist is read from a folder name of the form ``Artist - Title``.
        split: "all".

    Raises:
        DatasetError: If there is no such split, or there are no songs.
    """
    refuse_other_splits(split)
    folders: dict[Path, list[Path]] = {}
    for path in find_recordings(root):
        folders.setdefault(path.parent, []).append(path)
    tracks, problems = [], []
    for folder, files in sorted(folders.items()):
        stems = group_by_stem(files)
        name = folder.relative_to(root).as_posix() if folder != root else root.resolve().name
        backing = _choose_backing(stems)
        problem = _find_problem(folder, stems, backing)
        if problem:
            problems.append(Problem(name, problem))
        if problem or "vocals" not in stems:
            continue
        vocals = Source(stems["vocals"][0])
        accompaniment = tuple(Source(stems[stem][0]) for stem in backing)
        if backing == ["mixture"]:
            accompaniment += (Source(vocals.path, weight=-1.0),)
        artist, song = parse_name(folder.name)
        tracks.append(Track(name=name, group=artist, song=song, vocals=(vocals,), accompaniment=accompaniment))
    return make_listing(root, tracks, problems, expected="folders with vocals.* and accompaniment.* or other stems")


def _find_problem(folder: Path, stems: Mapping[str, list[Path]], backing: list[str]) -> str:
    """Return what is wrong with a folder: an empty string if it can be used, or is no folder of stems."""
    if "vocals" not in stems:
        others = [path.name for stem in ("accompaniment", "mixture") for path in stems.get(stem, [])]
        found = f"no vocals beside {', '.join(others)} in {folder}" if others else ""
        return "; ".join(filter(None, (found, *_suggest_names(stems, stems))))
    if backing == ["accompaniment"] or backing == ["mixture"]:
        unclear: Iterable[str] = ()
    else:  # a mixture is no part of the accompaniment, and neither is an accompaniment one stem of several
        unclear = [stem for stem in backing if _guess_stem(stem) == "mixture" or stem in _WORDS["vocals"].split()]
        unclear += [stem for stem in backing if _guess_stem(stem) == "accompaniment" and len(backing) > 1]
    lacks = "" if backing else f"vocals, but neither accompaniment, mixture nor other stems in {folder}"
    duplicates = describe_duplicates({"vocals": stems["vocals"], **{stem: stems[stem] for stem in backing}})
    return "; ".join(filter(None, (duplicates or lacks, *_suggest_names(stems, unclear))))


def _suggest_names(stems: Mapping[str, list[Path]], unclear: Iterable[str]) -> list[str]:
    """Suggest another name for each stem of a folder whose own name is unclear, if it means something to people."""
    guesses = [(path, _guess_stem(stem)) for stem in unclear for path in stems[stem]]
    return [f"{path.name}: did you mean {guess}{path.suffix}?" for path, guess in guesses if guess]


def _guess_stem(stem: str) -> str:
    """Return the stem that a file is probably meant to be; an empty string for its own name, and for other names."""
    if stem in _WORDS:
        return ""
    parts = re.split(r"[\W_\d]+", stem)
    words = {*parts, "".join(parts)}
    for guess, known in _WORDS.items():
        if words & set(known.split()):
            return guess
    near = difflib.get_close_matches(stem, _WORDS, n=1, cutoff=0.75)
    return near[0] if near else ""


def _choose_backing(stems: Mapping[str, list[Path]]) -> list[str]:
    """Return the stems that make up the accompaniment."""
    if "accompaniment" in stems:
        return ["accompaniment"]
    others = [stem for stem in stems if stem not in ("vocals", "mixture") and not _is_output(stem, stems)]
    return others or [stem for stem in stems if stem == "mixture"]


def _is_output(stem: str, stems: Mapping[str, object]) -> bool:
    """Return whether a file is named like an output of ``vocalsep extract`` for another stem in the folder."""
    return any(stem.endswith(ending) and stem.removesuffix(ending) in stems for ending in OUTPUT_ENDINGS)


def find_voices(root: Path, split: str = "all") -> Listing:
    """List all recordings in a folder and its subfolders as lone voices.

    Raises:
        DatasetError: If there is no such split, or there are no recordings.
    """
    return _list_single_stem(root, split, "vocals")


def find_instrumentals(root: Path, split: str = "all") -> Listing:
    """List all recordings in a folder and its subfolders as accompaniments without a voice.

    Raises:
        DatasetError: If there is no such split, or there are no recordings.
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
        DatasetError: If it is another split.
    """
    if split != "all":
        raise DatasetError(f"your own folders have no split {split!r}; expected 'all'")
