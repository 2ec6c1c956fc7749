"""Put what happens to songs into words, and into lines of JSON: for people, ``--progress json`` and ``vocalsep serve``.

docs/cli.md lists the fields of the events, and scripts depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vocalsep import files
from vocalsep.batches.events import Event, Finished, Progressed, Started, Warned
from vocalsep.manifests import STEMS
from vocalsep.text import escape


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


def format_line(values: dict[str, Any]) -> str:
    """Return a JSON object as one line."""
    return files.dump_json(values) + "\n"


def format_result(report: dict[str, Any], *, as_json: bool) -> str:
    """Return what stdout gets for a song that is done: its report as JSON, or the paths of the written files."""
    if as_json:
        return format_line(group_outputs(report))
    return "".join(f"{escape(report[stem])}\n" for stem in STEMS if report[stem])


def describe_song(report: dict[str, Any]) -> str:
    """Return what people want to know about a song that is done: its files, the voice in it, and the time it took."""
    names = ", ".join(report[stem] for stem in STEMS if report[stem])
    return f"{names}: {describe_voice(report)}, {format_speed(report['taken_seconds'], report['times_real_time'])}"


def describe_voice(report: dict[str, Any]) -> str:
    """Return how much of a song is sung, and how loudly."""
    share, level, length = report["voice_share"], report["vocals_db"], format_time(report["audio_seconds"])
    if not share:
        faint = "" if level is None else f"; the vocals are {-level:.0f} dB below the song"
        return f"nobody seems to sing in {length}{faint}"
    sung = f"voice in {max(1, round(100 * share))} % of {length}"
    if level is None:
        return sung
    if abs(level) < 0.5:
        return f"{sung}, as loud as the song"
    return f"{sung}, {abs(level):.0f} dB {'below' if level < 0 else 'above'} the song"


def describe_call(counts: Mapping[str, int], audio_seconds: float, taken_seconds: float) -> str:
    """Return how a call with several songs ended.

    Args:
        counts: Number of songs for each outcome.
        audio_seconds: Length of the songs that are done.
        taken_seconds: Time that the whole call took.
    """
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    text = f"{sum(counts.values())} songs: {outcomes}"
    if not audio_seconds:
        return text
    return f"{text}; {format_time(audio_seconds)} in {format_speed(taken_seconds, audio_seconds / taken_seconds)}"


def format_time(seconds: float) -> str:
    """Return a length as 4:02 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_speed(seconds: float, ratio: float) -> str:
    """Return a time and its ratio to real time, with decimals where they matter."""
    shown, times = (f"{value:.{0 if value >= 10 else 1}f}" for value in (seconds, ratio))
    return f"{shown} s ({times}x real time)"
