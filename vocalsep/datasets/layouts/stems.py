"""Recordings of one's own: songs with stems, songs with a teacher's vocals, lone voices, and instrumentals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from vocalsep.datasets.tracks import (
    Listing,
    Problem,
    Source,
    Track,
    artist_and_song,
    by_stem,
    doubled,
    listing,
    name_from_path,
    recordings_below,
)
from vocalsep.errors import DatasetError

_VOCALS = ".vocals"
_OURS = (_VOCALS, ".accompaniment")  # how outputs of a separator end, before the suffix


def find(root: Path, split: str = "all") -> Listing:
    """Lists songs: folders, at any depth, with ``vocals.*`` and what tells the accompaniment.

    That is ``accompaniment.*``; or else all other stems, which are summed; or else ``mixture.*``, from which the vocals
    are taken away. Formats may differ from file to file. A folder without vocals is a song that lacks them if it has
    an accompaniment or a mixture, and does not count otherwise.

    Args:
        root: The folder; a song's folder may be called ``Artist - Title``.
        split: "all".

    Raises:
        DatasetError: If there is no such split, or no song.
    """
    _only_all(split)
    folders: dict[Path, list[Path]] = {}
    for path in recordings_below(root):
        folders.setdefault(path.parent, []).append(path)
    tracks, problems = [], []
    for folder, files in sorted(folders.items()):
        stems = by_stem(files)
        name = folder.relative_to(root).as_posix() if folder != root else root.resolve().name
        if "vocals" not in stems:
            beside = [path.name for stem in ("accompaniment", "mixture") for path in stems.get(stem, [])]
            if beside:
                problems.append(Problem(name, f"no vocals beside {', '.join(beside)} in {folder}"))
            continue
        used = _backing(stems)
        twice = doubled({"vocals": stems["vocals"], **{stem: stems[stem] for stem in used}})
        if not used or twice:
            lacks = f"vocals but neither accompaniment, mixture nor other stems in {folder}"
            problems.append(Problem(name, twice or lacks))
            continue
        vocals = stems["vocals"][0]
        artist, song = artist_and_song(folder.name)
        backing = tuple(Source(stems[stem][0]) for stem in used)
        if used == ["mixture"]:
            backing += (Source(vocals, weight=-1.0),)
        tracks.append(
            Track(
                name=name,
                group=artist,
                song=song,
                vocals=(Source(vocals),),
                accompaniment=backing,
            )
        )
    return listing(root, tracks, problems)


def _backing(stems: dict[str, list[Path]]) -> list[str]:
    """Which stems make up the accompaniment."""
    if "accompaniment" in stems:
        return ["accompaniment"]
    others = [stem for stem in stems if stem not in ("vocals", "mixture") and not _is_output(stem, stems)]
    return others or [stem for stem in stems if stem == "mixture"]


def _is_output(stem: str, stems: Mapping[str, object]) -> bool:
    """Whether a file is what ``vocalsep extract`` has made of another one beside it."""
    return any(stem.endswith(ending) and stem.removesuffix(ending) in stems for ending in _OURS)


def taught(root: Path, split: str = "all", vocals: Path | None = None) -> Listing:
    """Lists songs without stems, with the vocals that another separator, the teacher, has found in them.

    The accompaniment is the song minus those vocals. A song ``<song>.*`` goes with ``<song>.vocals.*`` (which is what
    ``vocalsep extract`` writes), in the folder of vocals at the place that the song has in its own, or right in it.

    Args:
        root: The folder of songs, which may have folders in it.
        split: "all".
        vocals: The folder of vocals; `root` by default.

    Raises:
        DatasetError: If there is no such split, or no song.
    """
    _only_all(split)
    vocals = vocals or root
    found: dict[Path, list[Path]] = {}
    for path in recordings_below(vocals):
        if path.stem.endswith(_VOCALS):
            found.setdefault(_place(path, vocals, _VOCALS), []).append(path)
    songs = [path for path in recordings_below(root) if not path.stem.endswith(_OURS)]
    named = Counter(path.stem for path in songs)
    tracks, problems = [], []
    for path in songs:
        name, place = path.relative_to(root).as_posix(), _place(path, root)
        mine = found.get(place, [])
        if not mine and named[path.stem] == 1:
            mine = found.get(Path(path.stem), [])
        if len(mine) != 1:
            count = f"{len(mine)} files" if mine else "no file"
            problems.append(Problem(name, f"{count} {place}{_VOCALS}.* in {vocals}; expected one"))
            continue
        artist, song = name_from_path(path, root)
        tracks.append(
            Track(
                name=name,
                group=artist,
                song=song,
                vocals=(Source(mine[0]),),
                accompaniment=(Source(path), Source(mine[0], weight=-1.0)),
            )
        )
    return listing(root, tracks, problems)


def _place(path: Path, root: Path, ending: str = "") -> Path:
    return path.relative_to(root).with_name(path.stem.removesuffix(ending))


def voices(root: Path, split: str = "all") -> Listing:
    """Lists all recordings below a folder as lone voices.

    Raises:
        DatasetError: If there is no such split, or no recording.
    """
    return _pool(root, split, "vocals")


def instrumentals(root: Path, split: str = "all") -> Listing:
    """Lists all recordings below a folder as accompaniments without a voice.

    Raises:
        DatasetError: If there is no such split, or no recording.
    """
    return _pool(root, split, "accompaniment")


def _pool(root: Path, split: str, stem: str) -> Listing:
    _only_all(split)
    tracks = []
    for path in recordings_below(root):
        sources = (Source(path),)
        artist, song = name_from_path(path, root)
        tracks.append(
            Track(
                name=path.relative_to(root).as_posix(),
                group=artist,
                song=song,
                vocals=sources if stem == "vocals" else (),
                accompaniment=sources if stem == "accompaniment" else (),
            )
        )
    return listing(root, tracks)


def _only_all(split: str) -> None:
    if split != "all":
        raise DatasetError(f"folders of your own have no split {split!r}; expected all")
