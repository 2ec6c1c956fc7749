"""Format the events of songs as JSON values: for ``--progress json``, and for ``vocalsep serve``.

docs/cli.md lists the fields, and scripts depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vocalsep.cli.batch.work import Event, Finished, Progressed, Started, Warned

STEMS = ("vocals", "accompaniment", "labels", "picture")
"""Fields of a report that name files."""


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
            yield "done", {"outcome": name_outcome(event), **more}


def name_outcome(event: Finished) -> str:
    """Return the outcome of a song: "done", "skipped" or "failed"."""
    if event.report:
        return "done"
    return "failed" if event.error else "skipped"


def list_warnings(report: dict[str, Any]) -> list[str]:
    """Return the warnings about a song that is done."""
    found = list(report["warnings"])
    song, clipped, gain_db = (report[key] for key in ("input", "clipped_samples", "gain_db"))
    if clipped:
        remedy = "--clip scale or --subtype float avoids this"
        found.append(f"{song}: {clipped} samples exceeded full scale and were clamped; {remedy}")
    if gain_db:
        found.append(f"{song}: the outputs are scaled by {gain_db} dB to stay within full scale")
    return found


def group_outputs(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report with its outputs in one field, by stem."""
    values = dict(report)
    outputs = {stem: values.pop(stem) for stem in STEMS}
    return values | {"outputs": {stem: path for stem, path in outputs.items() if path}}
