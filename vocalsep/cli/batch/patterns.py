"""Find files by patterns, as the standard library does, but in folders that link to each other in circles, too."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Sequence
from pathlib import Path

from vocalsep import files

_ANY_FOLDERS = "**"


def find_matches(pattern: str) -> list[str]:
    """Return the files and folders that match a pattern, sorted. Hidden ones match only where the pattern has a dot.

    Args:
        pattern: As for `glob.glob`. ``**`` stands for any number of folders, none of which is visited twice. At the end
            of a pattern, it stands for all files below.
    """
    parts = Path(pattern).parts
    if _ANY_FOLDERS not in parts:
        return sorted(glob.glob(pattern))  # noqa: PTH207 - patterns may be absolute
    at = parts.index(_ANY_FOLDERS)
    head, rest = str(Path(*parts[:at])), parts[at:]
    found = []
    for root in map(Path, glob.glob(head)):  # noqa: PTH207
        for folder, names in files.walk(root):
            paths = [folder / name for name in names] + ([] if rest[-1] == _ANY_FOLDERS else [folder])
            found += [str(path) for path in paths if _is_match(path.relative_to(root).parts, rest)]
    return sorted(found)


def _is_match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a pattern."""
    if not pattern:
        return not parts
    if pattern[0] == _ANY_FOLDERS:
        return any(_is_match(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatch.fnmatch(parts[0], pattern[0]) and _is_match(parts[1:], pattern[1:])
