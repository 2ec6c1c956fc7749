"""Find sound files in folders. Every layout builds on these functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from vocalsep import audio, files
from vocalsep.errors import DatasetError, describe_error


def is_recording(path: Path) -> bool:
    """Return whether a path is a sound file, judging by its extension.

    Hidden files do not count, such as the ``._vocals.wav`` that macOS leaves behind.
    """
    has_audio_name = path.suffix.lower() in audio.SUFFIXES and not path.name.startswith(".")
    return has_audio_name and os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises errors in unreadable folders


def list_entries(folder: Path) -> list[Path]:
    """List what is in a folder, sorted by name.

    Raises:
        DatasetError: If the folder cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        _raise_listing_error(error)


def list_recordings(folder: Path) -> list[Path]:
    """List the sound files in a folder, sorted by name.

    Raises:
        DatasetError: If the folder cannot be listed.
    """
    return [path for path in list_entries(folder) if is_recording(path)]


def find_recordings(root: Path) -> list[Path]:
    """Find the sound files in a folder and all its subfolders, sorted by path. Links are followed.

    Raises:
        DatasetError: If a folder cannot be listed.
    """
    found = (folder / name for folder, names in files.walk(root, onerror=_raise_listing_error) for name in names)
    return sorted(path for path in found if is_recording(path))


def _raise_listing_error(error: OSError) -> NoReturn:
    raise DatasetError(f"{error.filename}: cannot be listed ({describe_error(error)})") from error


def group_by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Group sound files by the stem they are named after, in lower case."""
    stems: dict[str, list[Path]] = {}
    for path in paths:
        stems.setdefault(path.stem.lower(), []).append(path)
    return stems


def describe_duplicates(stems: Mapping[str, list[Path]]) -> str:
    """Describe the stems that have more than one file; an empty string if there are none."""
    return "; ".join(
        f"{stem} more than once ({', '.join(path.name for path in paths)}); keep one"
        for stem, paths in stems.items()
        if len(paths) > 1
    )
