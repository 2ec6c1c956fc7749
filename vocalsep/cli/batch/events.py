"""Format the events of songs as JSON values: for ``--progress json``, and for ``vocalsep serve``.

docs/cli.md lists the fields, and scripts depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vocalsep.cli.batch.describing import group_outputs, list_warnings, name_outcome
from vocalsep.cli.batch.work import Event, Progressed, Started, Warned


class EventFormatter:
    """Formats events, and remembers the length of each song, which belongs to all events about its progress."""

    def __init__(self) -> None:
        self._lengths: dict[int, float | None] = {}

    def format(self, event: Event) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the names and values of what an event says, without the song that it is about."""
        if isinstance(event, Started):
            self._lengths[event.index] = event.seconds and round(event.seconds, 3)
            yield "song", {"seconds": self._lengths[event.index]}
        elif isinstance(event, Progressed):
            yield "progress", {"seconds": round(event.seconds, 3), "of": self._lengths[event.index]}
        elif isinstance(event, Warned):
            yield "warning", {"message": event.message}
        else:
            self._lengths.pop(event.index, None)
            for text in list_warnings(event.report) if event.report else ():
                yield "warning", {"message": text}
            more: dict[str, Any] = {"report": group_outputs(event.report)} if event.report else {}
            if event.error:
                more = {"error": event.error} | ({"traceback": event.trace} if event.trace else {})
            elif event.skipped:
                more = {"reason": event.skipped}
            yield "done", {"outcome": name_outcome(event), **more}
