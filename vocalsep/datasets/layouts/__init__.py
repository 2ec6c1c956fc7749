"""Layouts: how the folders of each data set become tracks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from vocalsep.datasets.layouts import dsd100, mir1k, stems
from vocalsep.datasets.tracks import Listing
from vocalsep.errors import DatasetError

LAYOUTS: dict[str, Callable[[Path, str], Listing]] = {
    "dsd100": dsd100.find,
    "mir1k": mir1k.find,
    "stems": stems.find,
    "voices": stems.voices,
    "instrumentals": stems.instrumentals,
    "teacher": stems.taught,
}
"""How a folder and the name of a split become a listing."""


def root_of(dataset: str, given: Path | None = None) -> Path:
    """The folder of a data set: the one given, or else the one that ``VOCALSEP_<DATASET>`` names.

    Args:
        dataset: A key of `LAYOUTS`.
        given: The folder, if the user named one.

    Raises:
        DatasetError: If neither is there, or there is no such folder.
    """
    variable = f"VOCALSEP_{dataset.upper()}"
    named = os.environ.get(variable, "")
    if given is None and not named:
        raise DatasetError(f"{dataset}: which folder? Give --root DIR, or set {variable}")
    root = (given or Path(named)).expanduser()
    if not root.is_dir():
        raise DatasetError(f"{dataset}: no folder {root}" + ("" if given else f", which {variable} names"))
    return root
