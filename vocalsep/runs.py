"""Folders of training runs: what they hold, and what their model is called. Training writes them; all else reads them.

Training names weights files after their nets, so the files of two runs of one net have the same name. The name of the
run tells them apart.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocalsep.errors import ModelError

SUFFIX = ".safetensors"  # of weights files
_MAX_HEADER_BYTES = 2**24

CHECKPOINT, RECIPE, TRACKS = "checkpoint.pt", "recipe.toml", "tracks.json"


def find_weights(run: Path) -> Path:
    """Return the weights file in the folder of a run, or `run` itself if it is a weights file.

    Raises:
        ModelError: If there is no such folder or file, or the folder has no weights file or more than one.
    """
    if run.suffix == SUFFIX:
        if os.path.isfile(run):  # noqa: PTH113 - takes names that are too long
            return run
        raise ModelError(f"{run}: no such weights file")
    if not os.path.isdir(run):  # noqa: PTH112 - likewise
        raise ModelError(f"{run}: no such run or weights file")
    found = sorted(run.glob(f"*{SUFFIX}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(f"{run}: has several weights files; name one of them, such as {found[0]}")
    if (run / RECIPE).is_file():
        raise ModelError(f"{run}: has no weights yet; a run writes them when it first validates")
    raise ModelError(f"{run}: is a folder without weights ({SUFFIX})")


def name_model(path: Path, metadata: Mapping[str, Any]) -> str:
    """Return the name of the model in a weights file: that of its run, unless somebody has renamed the file.

    Args:
        path: The weights file.
        metadata: Its metadata, with the name of the net and, if known, of the run.
    """
    if path.stem != metadata.get("net"):
        return path.stem
    if (path.parent / RECIPE).is_file():  # still in the folder of the run, which may have a new name by now
        return path.resolve().parent.name
    return Path(str(metadata.get("run_name", ""))).name or path.stem


def read_name(path: Path) -> str:
    """Return the name of the model in a weights file, from the file's header alone.

    A file that cannot be read gets the name of the file; loading it says what is wrong.
    """
    return name_model(path, read_metadata(path))


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata at the start of a weights file, without its tensors. Return nothing if it is damaged.

    This imports no library, so that the command line can read names and facts at once.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError), path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(size, _MAX_HEADER_BYTES)))
        metadata = json.loads(header["__metadata__"]["vocalsep"])
        return metadata if isinstance(metadata, dict) else {}
    return {}
