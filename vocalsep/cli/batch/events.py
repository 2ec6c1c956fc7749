"""What happens to songs while they are worked on; told as it happens, from whatever process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A song can be read, and its turn has come.

    Attributes:
        index: Its place in the plan.
        seconds: Its length as the file states it; None where it states none.
    """

    index: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A part of a song is done.

    Attributes:
        index: Its place in the plan.
        seconds: How much of it is done in all.
    """

    index: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A song is done, or failed, or needs not be done.

    Attributes:
        index: Its place in the plan.
        report: The fields of its `extraction.Report`, if it is done.
        error: What went wrong, if it failed; one line.
        trace: Where it went wrong, if that is a bug.
    """

    index: int
    report: dict[str, Any] | None = None
    error: str = ""
    trace: str = ""


Event = Begun | Moved | Ended
Tell = Callable[[Event], None]
