"""Songs without stems, with the vocals that another separator, the teacher, has extracted from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from vocalsep.datasets.layouts.folders import find_recordings
from vocalsep.datasets.layouts.stems import OUTPUT_ENDINGS, VOCALS_ENDING, refuse_other_splits
from vocalsep.datasets.names import parse_path
from vocalsep.datasets.tracks import Listing, Problem, Source, Track, make_listing


def find(root: Path, split: str = "all", vocals: Path | None = None) -> Listing:
    """List songs that have a teacher's vocals. The accompaniment is the song minus those vocals.

    A song ``<song>.*`` belongs to ``<song>.vocals.*``, the name that ``vocalsep extract`` writes. The folder of vocals
    may mirror the subfolders of the songs, or hold all files without subfolders.

    Args:
        root: The folder of songs, which may have subfolders.
        split: "all".
        vocals: The folder of vocals; `root` by default.

    Raises:
        DatasetError: If there is no such split, or there are no songs.
    """
    refuse_other_splits(split)
    vocals = vocals or root
    estimates: dict[Path, list[Path]] = {}
    for path in find_recordings(vocals):
        if path.stem.endswith(VOCALS_ENDING):
            estimates.setdefault(_drop_suffix(path, vocals, VOCALS_ENDING), []).append(path)
    songs = [path for path in find_recordings(root) if not path.stem.endswith(OUTPUT_ENDINGS)]
    count_by_stem = Counter(path.stem for path in songs)
    tracks, problems = [], []
    for path in songs:
        name, place = path.relative_to(root).as_posix(), _drop_suffix(path, root)
        matches = estimates.get(place, [])
        if not matches and count_by_stem[path.stem] == 1:
            matches = estimates.get(Path(path.stem), [])
        if len(matches) != 1:
            count = f"{len(matches)} files" if matches else "no file"
            problems.append(Problem(name, f"{count} {place}{VOCALS_ENDING}.* in {vocals}; expected one"))
            continue
        artist, song = parse_path(path, root)
        tracks.append(
            Track(
                name=name,
                group=artist,
                song=song,
                vocals=(Source(matches[0]),),
                accompaniment=(Source(path), Source(matches[0], weight=-1.0)),
            )
        )
    return make_listing(root, tracks, problems)


def _drop_suffix(path: Path, root: Path, ending: str = "") -> Path:
    """Return a path relative to its root, without its extension and `ending`."""
    return path.relative_to(root).with_name(path.stem.removesuffix(ending))
