"""Layouts: how the folders of each data set become tracks. To add one, write its module and list it in `LAYOUTS`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from vocalsep.datasets.layouts import dsd100, mir1k, stems, teacher
from vocalsep.datasets.tracks import Listing
from vocalsep.errors import DatasetError

LAYOUTS: dict[str, Callable[[Path, str], Listing]] = {
    "dsd100": dsd100.find,
    "mir1k": mir1k.find,
    "stems": stems.find,
    "voices": stems.find_voices,
    "instrumentals": stems.find_instrumentals,
    "teacher": teacher.find,
}
"""For each layout, the function that turns a folder and the name of a split into a listing."""


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
