"""What happens to the songs of a call, as workers report it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Started:
    """A song can be read, and work on it starts.

    Attributes:
        index: Its position in the plan.
        seconds: Its length as the file states it; None if the file does not state it.
    """

    index: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """A part of a song is done.

    Attributes:
        index: Its position in the plan.
        seconds: How much of the song is done in total.
    """

    index: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something that the user should know before a song is done.

    Attributes:
        index: Its position in the plan; None if it concerns the call.
        message: One line.
    """

    index: int | None
    message: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A song is done, has failed or was skipped.

    Attributes:
        index: Its position in the plan.
        report: The fields of its `extraction.Report`, if it is done.
        error: What went wrong, if it failed; one line.
        trace: The traceback, if the error is a bug.
        skipped: Why it was skipped: "exists" if its outputs exist, "failed" if it failed in an earlier call, "claimed"
            if another call is working on it.
        input_sha256: SHA-256 of the song's file, if the settings ask for it and the song could be read.
    """

    index: int
    report: dict[str, Any] | None = None
    error: str = ""
    trace: str = ""
    skipped: str = ""
    input_sha256: str | None = None


Event = Started | Progressed | Warned | Finished
OnEvent = Callable[[Event], None]
