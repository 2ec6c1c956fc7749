"""What is trained on and what is validated on, and the guard that keeps the two apart."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vocalsep.datasets.layouts import LAYOUTS, stems
from vocalsep.datasets.tracks import Problem, Track, hold_out, name_key
from vocalsep.errors import DatasetError

TRAINING = {
    "dsd100": {"Dev": "Dev"},
    "mir1k": {"standard": "train", "drnn": "drnn-train"},
    "stems": {"all": "all"},
    "voices": {"all": "all"},
    "instrumentals": {"all": "all"},
    "teacher": {"all": "all"},
}
"""Of each layout the splits that can be trained on, its usual one first, and the part of them that is."""

_SHOWN = 10

Heard = Mapping[str, Collection[str]]
"""Names of "songs" and "singers" as `heard` makes them: without case and punctuation."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A data set, parted for training.

    Attributes:
        training: Tracks to train on.
        validation: Tracks held out.
        problems: What cannot be used.
        split: Name of the split, a key of `TRAINING`.
        shares_singers: Whether singers or artists are in both parts, by the split's definition or for lack of others.
    """

    training: tuple[Track, ...]
    validation: tuple[Track, ...]
    problems: tuple[Problem, ...]
    split: str
    shares_singers: bool


def expanded(root: str, layout: str) -> Path:
    """The folder that a recipe names, with ``$NAME`` and ``~`` filled in.

    Raises:
        DatasetError: If the environment variable is not set, or there is no such folder; names the pool by `layout`.
    """
    path = Path(root) if Path(root).is_dir() else Path(os.path.expandvars(root)).expanduser()
    if "$" in str(path):
        raise DatasetError(f"pool {layout}: set the environment variable in {root!r}, or pools' root")
    if not path.is_dir():
        raise DatasetError(f"pool {layout}: no folder {path}")
    return path


def part(layout: str, root: Path, split: str = "", held: int = 0, vocals: Path | None = None) -> Parts:
    """Lists a data set and parts it.

    Args:
        layout: A key of `TRAINING`.
        root: Its folder.
        split: One of the layout's splits; empty for its usual one.
        held: Every so-many-th artist is held out, of fewer artists every so-many-th song; 0 holds out none. The split
            "drnn" holds out its own validation clips for any other number.
        vocals: For "teacher", the folder of the teacher's vocals; `root` by default.

    Raises:
        DatasetError: If the layout is another, or there is no such split.
    """
    split = split or next(iter(TRAINING[layout]))
    if split not in TRAINING[layout]:
        known = " or ".join(TRAINING[layout])
        raise DatasetError(f"{layout}: no split {split!r} to train on; expected {known}")
    find = functools.partial(stems.taught, vocals=vocals) if layout == "teacher" else LAYOUTS[layout]
    found = find(root, TRAINING[layout][split])
    training, validation, shares = list(found.tracks), list[Track](), found.shares_singers
    if held and split == "drnn":
        validation += find(root, "drnn-validation").tracks
    elif held:
        training, validation, shares = hold_out(found.tracks, held)
    return Parts(
        training=tuple(training),
        validation=tuple(validation),
        problems=found.problems,
        split=split,
        shares_singers=shares,
    )


def refuse_leaks(
    training: Iterable[Track], held: Iterable[Track], *, shares_singers: bool = False, before: Heard | None = None
) -> None:
    """Makes sure that nothing is validated or tested on that was trained on.

    Songs are the same if they share a file or are called the same, in whatever data set; case, punctuation and a
    leading number do not count, and names without letters tell nothing. Artists and singers likewise.

    Args:
        training: Tracks that are trained on.
        held: Tracks to validate or test on.
        shares_singers: Whether `held` may share singers with `training`, because its split is made that way. It may
            never share songs.
        before: What the net has heard already, before this training.

    Raises:
        DatasetError: If it is not so; names the tracks.
    """
    training, held = list(training), list(held)
    known = heard(training, before)
    files = {path.resolve() for track in training for path in track.paths}
    again = [t for t in held if knows_song(known, t) or not files.isdisjoint(path.resolve() for path in t.paths)]
    if again:
        raise DatasetError(f"songs to validate or test on are trained on, too: {shown(t.name for t in again)}")
    singers = [] if shares_singers else [track for track in held if knows_singer(known, track)]
    if singers:
        told = shown(f"{track.name} ({track.group})" for track in singers)
        raise DatasetError(f"singers or artists to validate or test on are trained on, too: {told}")


def heard(tracks: Iterable[Track], before: Heard | None = None) -> Heard:
    """What a net has heard that is trained on these tracks; small and plain enough to travel with its weights.

    Args:
        tracks: The tracks.
        before: What it had heard before that.
    """
    tracks = list(tracks)
    songs = {name_key(track.song or track.name) for track in tracks} - {""}
    singers = {name_key(track.group) for track in tracks} - {""}
    return both({"songs": sorted(songs), "singers": sorted(singers)}, before or {})


def both(one: Heard, other: Heard) -> Heard:
    """All that is heard in either."""
    return {kind: sorted({*one.get(kind, ()), *other.get(kind, ())}) for kind in ("songs", "singers")}


def knows_song(known: Heard, track: Track) -> bool:
    """Whether a track's song is among those heard, by its name."""
    return name_key(track.song or track.name) in known.get("songs", ())


def knows_singer(known: Heard, track: Track) -> bool:
    """Whether a track's artist or singer is among those heard, by name."""
    return name_key(track.group) in known.get("singers", ())


def shown(some: Iterable[str]) -> str:
    """The first ten of some names, and how many more there are."""
    some = list(some)
    more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    return "; ".join(some[:_SHOWN]) + more
