"""What a case of the fuzzer is, and what it may end with."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from vocalsep import text
from vocalsep.errors import VocalsepError

Case = Callable[[random.Random, Path], None]
"""Does one hostile thing, in a folder that it may use. Whatever it raises is a bug."""

LONGEST = 2_000  # letters of a message that a person is meant to read


def require_clean(action: Callable[[], object]) -> bool:
    """Run an action. Return whether it works; its own errors are fine if they can be shown in one short line."""
    try:
        action()
    except VocalsepError as error:
        check_message(str(error))
        return False
    return True


def check_message(message: str) -> None:
    """Check that a message has words, and that they can be shown in one line."""
    assert message, "an error without words"
    assert len(message) < LONGEST, f"{len(message)} letters: {message[:200]}"
    shown = text.escape(message)
    assert shown.isprintable() or not shown.isascii(), shown
