"""Layouts: how the folders of each data set become tracks. To add one, write its module and list it in `LAYOUTS`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vocalsep.datasets.layouts import dsd100, mir1k, stems, teacher
from vocalsep.datasets.tracks import Listing
from vocalsep.errors import DatasetError

_ALL = {"all": "all"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What vocalsep knows about the folders of a data set.

    Splits map the name that users give to the layout's own name. The first one is the default.

    Attributes:
        find: Turns a folder and the layout's own name of a split into a listing.
        training_splits: The splits to train on.
        scoring_splits: The splits to score on; empty if the data set cannot be scored.
        complete: Number of tracks in each part of the complete data set; empty if there is no such number.
        rate: Sample rate of the data set in Hz; None if its recordings may differ.
        channels: Number of channels of the data set; None if its recordings may differ.
    """

    find: Callable[[Path, str], Listing]
    training_splits: Mapping[str, str] = field(default_factory=lambda: _ALL)
    scoring_splits: Mapping[str, str] = field(default_factory=dict)
    complete: Mapping[str, int] = field(default_factory=dict)
    rate: int | None = None
    channels: int | None = None


LAYOUTS: dict[str, Layout] = {
    "dsd100": Layout(
        find=dsd100.find,
        training_splits={"Dev": "Dev"},
        scoring_splits={"test": "Test", "dev": "Dev"},
        complete=dsd100.COMPLETE,
        rate=dsd100.RATE,
        channels=2,
    ),
    "mir1k": Layout(
        find=mir1k.find,
        training_splits={"standard": "train", "drnn": "drnn-train"},
        scoring_splits={"test": "test", "train": "train", "drnn": "drnn-test"},
        complete=mir1k.COMPLETE,
        rate=mir1k.RATE,
        channels=1,
    ),
    "stems": Layout(find=stems.find, scoring_splits=_ALL),
    "voices": Layout(find=stems.find_voices),
    "instrumentals": Layout(find=stems.find_instrumentals),
    "teacher": Layout(find=teacher.find),
}


def find_root(dataset: str, given: Path | None = None) -> Path:
    """Return the folder of a data set: `given`, or else what ``VOCALSEP_<DATASET>`` names.

    Args:
        dataset: A key of `LAYOUTS`.
        given: The folder that the user named, if any.

    Raises:
        DatasetError: If neither is set, or the folder does not exist.
    """
    variable = f"VOCALSEP_{dataset.upper()}"
    named = os.environ.get(variable, "")
    if given is None and not named:
        raise DatasetError(f"{dataset}: which folder? Give --root DIR, or set {variable}")
    root = (given or Path(named)).expanduser()
    if not root.is_dir():
        source = "" if given else f" (named by {variable})"
        raise DatasetError(f"{dataset}: no such folder: {root}{source}")
    return root
