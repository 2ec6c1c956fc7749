"""The errors that vocalsep raises, with messages that a user can act on.

Every error that is not a bug is a `VocalsepError`. Its message is one line that says what happened, to which thing, and
what to do. The command line prints that line and continues with the next song. A bug keeps its traceback.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable


class VocalsepError(Exception):
    """Base of all errors that vocalsep raises on purpose."""


class AudioError(VocalsepError):
    """A recording cannot be read or written."""


class ConfigError(VocalsepError):
    """A setting is unknown, of the wrong type or out of range."""


class ModelError(VocalsepError):
    """A model is unknown, damaged, or not compatible with this version."""


class DatasetError(VocalsepError):
    """A data set is missing or incomplete, or does not have the expected layout."""


class ManifestError(VocalsepError):
    """A manifest cannot be read, written or merged."""


_LONGEST = 80  # letters of a value or name in a message

_PLAIN = {
    "System error": "the operating system reports an error",  # libsndfile has lost the reason
    "Bad file descriptor": "it is closed",
}
"""What errors of the system mean."""


def describe_error(error: BaseException) -> str:
    """Return what another library's error says, on one line and without the library's prefix. It is never empty."""
    if is_about_memory(error):
        return "there is not enough memory"
    found = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    text = " ".join(str(found).split()).rstrip(".") or type(error).__name__
    return _PLAIN.get(text, text)


def is_about_memory(error: BaseException) -> bool:
    """Return whether an error means that memory has run out, even if it says so in other words."""
    words = (
        "failed to map segment",
        "annot allocate memory",
        "nable to allocate",
        "bad_alloc",
        "can't start new thread",
    )
    return isinstance(error, MemoryError) or any(each in str(error) for each in words)


def describe_value(value: object) -> str:
    """Return a value as it may stand in a message. It may come from anywhere, and be as long as it likes."""
    try:
        return textwrap.shorten(repr(value), _LONGEST, placeholder=" ...")
    except (ValueError, RecursionError):  # an integer of thousands of digits, or values nested thousands deep
        return f"a value of type {type(value).__name__}"


def describe_unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Write the message for an unknown name, with the nearest known name as a suggestion.

    Args:
        what: The kind of thing, for example "model".
        name: The name that was asked for.
        known: The names that exist.

    Returns:
        One line. If no known name is similar, it lists them all.
    """
    names, name = sorted(known), name[:_LONGEST]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return f"unknown {what} {name!r}; {hint}"
