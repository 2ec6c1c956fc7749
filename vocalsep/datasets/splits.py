"""What to train on and what to validate on, and the guard that keeps the two apart."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vocalsep.datasets.layouts import LAYOUTS, teacher
from vocalsep.datasets.names import normalise_name
from vocalsep.datasets.tracks import Problem, Track
from vocalsep.errors import DatasetError

TRAINING_SPLITS = {
    "dsd100": {"Dev": "Dev"},
    "mir1k": {"standard": "train", "drnn": "drnn-train"},
    "stems": {"all": "all"},
    "voices": {"all": "all"},
    "instrumentals": {"all": "all"},
    "teacher": {"all": "all"},
}
"""For each layout, the splits to train on, the default first, and the layout's own name for their training part."""

_NAMES_SHOWN = 10

Heard = Mapping[str, Collection[str]]
"""The "songs" and "singers" that a net was trained on, by names that `collect_heard` has normalised."""


@dataclass(frozen=True, kw_only=True)
class SplitDataset:
    """A data set, divided into tracks to train on and tracks to validate on.

    Attributes:
        training: Tracks to train on.
        validation: Tracks held out.
        problems: What cannot be used.
        split: Name of the split, a key of `TRAINING_SPLITS`.
        shares_singers: Whether training and validation share singers or artists: because the split is defined so, or
            because there are too few to hold any out.
    """

    training: tuple[Track, ...]
    validation: tuple[Track, ...]
    problems: tuple[Problem, ...]
    split: str
    shares_singers: bool


def expand_root(root: str, layout: str) -> Path:
    """Return the folder that a recipe names, with ``$NAME`` and ``~`` expanded.

    Args:
        root: The folder, as the recipe has it.
        layout: Layout of the pool, for messages.

    Raises:
        DatasetError: If an environment variable is not set, or the folder does not exist.
    """
    path = Path(root) if Path(root).is_dir() else Path(os.path.expandvars(root)).expanduser()
    if "$" in str(path):
        raise DatasetError(f"pool {layout}: root {root!r} names an environment variable that is not set")
    if not path.is_dir():
        raise DatasetError(f"pool {layout}: no such folder: {path}")
    return path


def split_dataset(layout: str, root: Path, split: str = "", every: int = 0, vocals: Path | None = None) -> SplitDataset:
    """List a data set and divide it into training and validation.

    Args:
        layout: A key of `TRAINING_SPLITS`.
        root: Its folder.
        split: One of the layout's splits; empty for its default.
        every: Hold out every Nth artist, or every Nth song if there are fewer artists; 0 holds out nothing. The split
            "drnn" holds out its own validation clips for any other value.
        vocals: For "teacher", the folder of the teacher's vocals; `root` by default.

    Raises:
        DatasetError: If the folder has another layout, or there is no such split.
    """
    split = split or next(iter(TRAINING_SPLITS[layout]))
    if split not in TRAINING_SPLITS[layout]:
        expected = " or ".join(TRAINING_SPLITS[layout])
        raise DatasetError(f"{layout}: no split {split!r} to train on; expected {expected}")
    find = functools.partial(teacher.find, vocals=vocals) if layout == "teacher" else LAYOUTS[layout]
    found = find(root, TRAINING_SPLITS[layout][split])
    training, validation, shares = list(found.tracks), list[Track](), found.shares_singers
    if every and split == "drnn":
        validation += find(root, "drnn-validation").tracks
    elif every:
        training, validation, shares = hold_out(found.tracks, every)
    return SplitDataset(
        training=tuple(training),
        validation=tuple(validation),
        problems=found.problems,
        split=split,
        shares_singers=shares,
    )


def hold_out(tracks: Iterable[Track], every: int) -> tuple[list[Track], list[Track], bool]:
    """Split tracks into training and validation, and keep each artist or singer on one side.

    With fewer artists than `every`, songs are held out in place of artists; with fewer songs than that, the last song,
    if there are two.

    Args:
        tracks: The tracks of a training set.
        every: Every Nth artist, sorted by name, goes to validation.

    Returns:
        Training tracks, validation tracks, and whether the two share artists.
    """
    tracks = list(tracks)
    groups = [normalise_name(track.group) or track.group for track in tracks]
    songs = [normalise_name(track.song or track.name) or track.name for track in tracks]
    few = len(set(groups)) < every
    keys = songs if few else groups
    spellings: dict[str, str] = {}
    for key, track in zip(keys, tracks, strict=True):
        name = (track.song or track.name) if few else track.group
        spellings[key] = min(name, spellings.get(key, name))
    ordered = sorted(spellings, key=lambda key: spellings[key])
    held = set(ordered[every - 1 :: every] or ordered[1:][-1:])
    training = [place for place, key in enumerate(keys) if key not in held]
    validation = [place for place, key in enumerate(keys) if key in held]
    shares = not {groups[place] for place in training}.isdisjoint(groups[place] for place in validation)
    return [tracks[place] for place in training], [tracks[place] for place in validation], shares


def refuse_leaks(
    training: Iterable[Track], held: Iterable[Track], *, shares_singers: bool = False, before: Heard | None = None
) -> None:
    """Refuse to validate or test on anything that is trained on.

    Two tracks are the same song if they share a file or a name, in whatever data set. Names are compared without case,
    punctuation and leading numbers; a name without letters identifies nothing. The same holds for singers and artists.

    Args:
        training: Tracks to train on.
        held: Tracks to validate or test on.
        shares_singers: Whether `held` may share singers with `training`, because the split is defined so. Songs are
            never shared.
        before: What the net was trained on earlier.

    Raises:
        DatasetError: If there is a leak; names the tracks.
    """
    training, held = list(training), list(held)
    heard = collect_heard(training, before)
    files = {path.resolve() for track in training for path in track.paths}
    leaks = [t for t in held if has_heard_song(heard, t) or not files.isdisjoint(path.resolve() for path in t.paths)]
    if leaks:
        raise DatasetError(f"songs to validate or test on are also trained on: {join_names(t.name for t in leaks)}")
    singers = [] if shares_singers else [track for track in held if has_heard_singer(heard, track)]
    if singers:
        names = join_names(f"{track.name} ({track.group})" for track in singers)
        raise DatasetError(f"singers or artists to validate or test on are also trained on: {names}")


def collect_heard(tracks: Iterable[Track], before: Heard | None = None) -> Heard:
    """Collect the names of the songs and singers in a training set, to be stored with the weights.

    Args:
        tracks: The tracks to train on.
        before: What the net was trained on earlier.
    """
    tracks = list(tracks)
    songs = {normalise_name(track.song or track.name) for track in tracks} - {""}
    singers = {normalise_name(track.group) for track in tracks} - {""}
    return merge_heard({"songs": sorted(songs), "singers": sorted(singers)}, before or {})


def merge_heard(one: Heard, other: Heard) -> Heard:
    """Return the songs and singers of both."""
    return {kind: sorted({*one.get(kind, ()), *other.get(kind, ())}) for kind in ("songs", "singers")}


def has_heard_song(heard: Heard, track: Track) -> bool:
    """Return whether the song of a track is among those trained on, by its name."""
    return normalise_name(track.song or track.name) in heard.get("songs", ())


def has_heard_singer(heard: Heard, track: Track) -> bool:
    """Return whether the artist or singer of a track is among those trained on, by name."""
    return normalise_name(track.group) in heard.get("singers", ())


def join_names(names: Iterable[str]) -> str:
    """Join the first ten names, and say how many more there are."""
    names = list(names)
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return "; ".join(names[:_NAMES_SHOWN]) + more
