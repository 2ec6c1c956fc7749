"""What a manifest says about one song, and which of several records of a song counts."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from vocalsep import files
from vocalsep.errors import ManifestError
from vocalsep.release import __version__

Status = Literal["done", "failed", "skipped"]
STATUSES: Final = ("done", "failed", "skipped")

STEMS: Final = ("vocals", "accompaniment", "labels", "picture")
"""Outputs of a song: the fields of an `extraction.Report` that name files."""

_COPIED = ("audio_seconds", "taken_seconds", "vocals_db", "voice_share", "warnings")  # from a report, as they are


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was done with one song: a line of a manifest.

    Attributes:
        id: Path of the song relative to the folder that was searched, or as it was given. No two songs share one.
        status: "done", "failed" or "skipped".
        input: Path or address of the song.
        input_sha256: SHA-256 of the song's file; None if it could not be read.
        model: Name of the model.
        model_sha256: See `means.hash_models`.
        version: Version of vocalsep.
        options: What else decides the outputs, by option.
        outputs: Paths or addresses of the outputs, by stem; those that a skipped song already has.
        audio_seconds: Length of the song; None unless it is done.
        taken_seconds: Seconds that the extraction took; None unless the song is done.
        vocals_db: Level of the vocals relative to the song, dB; None if either is silent, or the song is not done.
        voice_share: Share of the song with a voice, in [0, 1]; None unless the song is done.
        voice: Segments with a voice, (start, end) in seconds.
        warnings: Problems that did not affect the sound.
        error: Why the song failed; None if it did not.
        reason: Why the song was skipped: "exists" if its outputs exist, "claimed" if another call was working on it;
            None if it was not skipped.
        time: When the line was written, in UTC, as in 2026-11-29T10:46:44Z.
    """

    id: str
    status: Status
    input: str
    input_sha256: str | None = None
    model: str
    model_sha256: str
    version: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    outputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    audio_seconds: float | None = None
    taken_seconds: float | None = None
    vocals_db: float | None = None
    voice_share: float | None = None
    voice: Sequence[tuple[float, float]] = ()
    warnings: Sequence[str] = ()
    error: str | None = None
    reason: str | None = None
    time: str = ""

    @property
    def made_with(self) -> tuple[str, str]:
        """The model's name and SHA-256."""
        return self.model, self.model_sha256

    def to_line(self) -> bytes:
        """Return the record as a line of a manifest, with its line break."""
        return files.dump_json(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Parse a line of a manifest. Fields of later versions are dropped.

        Raises:
            ValueError: If it is no record.
        """
        values = files.parse_json(line)
        if not isinstance(values, dict):
            raise ValueError("expected a JSON object")
        if missing := sorted(_REQUIRED - values.keys()):
            raise ValueError(f"{missing[0]} is missing")
        known = {key: value for key, value in values.items() if key in _CHECKS}
        for key, value in known.items():
            if not _CHECKS[key](value):
                raise ValueError(f"{key} is invalid")
        return cls(**known)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_number(value: object) -> bool:
    """Return whether a value is a number of seconds or decibels; sums of such numbers stay finite."""
    return type(value) in (int, float) and -_MOST <= value <= _MOST  # type: ignore[operator]


def _is_number_or_none(value: object) -> bool:
    return value is None or _is_number(value)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_map_of_texts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_list_of_segments(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) for pair in value
    )


def _is_map(value: object) -> bool:
    return isinstance(value, dict) and _can_be_written(value, _DEEPEST)


def _can_be_written(value: object, deep: int) -> bool:
    """Return whether a JSON value has no infinite numbers, and nothing deeper than a number of levels."""
    if isinstance(value, dict | list):
        return deep > 0 and all(
            _can_be_written(each, deep - 1) for each in (value.values() if isinstance(value, dict) else value)
        )
    return not isinstance(value, float) or math.isfinite(value)


_MOST: Final = 10**12
_DEEPEST: Final = 8

_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("id", "input", "model", "model_sha256", "version", "time"), _is_text),
    **dict.fromkeys(("input_sha256", "error", "reason"), _is_text_or_none),
    **dict.fromkeys(("audio_seconds", "taken_seconds", "vocals_db", "voice_share"), _is_number_or_none),
    "status": lambda value: isinstance(value, str) and value in STATUSES,
    "options": _is_map,
    "outputs": _is_map_of_texts,
    "voice": _is_list_of_segments,
    "warnings": _is_list_of_texts,
}
_REQUIRED: Final = {
    field.name
    for field in dataclasses.fields(Record)
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """What all songs of a call have in common.

    Attributes:
        model: Name of the model.
        model_sha256: See `means.hash_models`.
        options: What else decides the outputs, by option.
        version: Version of vocalsep.
    """

    model: str
    model_sha256: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: str = __version__

    def record(
        self,
        song_id: str,
        *,
        song: str | None = None,
        report: Mapping[str, Any] | None = None,
        input_sha256: str | None = None,
        error: str = "",
        reason: str = "",
        outputs: Mapping[str, str] | None = None,
    ) -> Record:
        """Make the record of one song: done if there is a report, failed if there is an error, else skipped.

        Args:
            song_id: See `Record.id`.
            song: Path or address of the song; by default its id.
            report: The fields of its `extraction.Report`, if it is done.
            input_sha256: SHA-256 of the song's file, if known.
            error: Why it failed.
            reason: Why it was skipped.
            outputs: Outputs that a skipped song already has, by stem.
        """
        done = dict(report or {})
        if report:
            outputs = {stem: done[stem] for stem in STEMS if done.get(stem)}
        return Record(
            id=song_id,
            status="done" if report else "failed" if error else "skipped",
            input=song if song is not None else song_id,
            input_sha256=input_sha256,
            model=self.model,
            model_sha256=self.model_sha256,
            version=self.version,
            options=self.options,
            outputs=outputs or {},
            **{key: done[key] for key in _COPIED if key in done},
            voice=done.get("voice", ()),
            error=error or None,
            reason=reason or None,
            time=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )


def collect(records: Iterable[Record]) -> dict[str, Record]:
    """Return the record that counts for each song, by id."""
    found: dict[str, Record] = {}
    for record in records:
        found[record.id] = choose(found[record.id], record) if record.id in found else record
    return found


def choose(first: Record, second: Record) -> Record:
    """Return the one of two records of a song that counts.

    That is the later one. But a song that is done stays done when a later call skips it, and a song that another call
    was working on is what that call says.
    """
    earlier, later = (first, second) if second.time >= first.time else (second, first)
    if later.status == "skipped" and (earlier.status == "done" or later.reason == "claimed"):
        return earlier
    return later


def check_model(path: Path, records: Iterable[Record], made_with: tuple[str, str], hint: str = "") -> None:
    """Check that all songs of a manifest were separated with one model.

    Args:
        path: The manifest.
        records: Its records.
        made_with: Name and SHA-256 of the model.
        hint: What to do otherwise.

    Raises:
        ManifestError: If a record names another model.
    """
    hint = hint or "choose another manifest, or that model"
    for record in records:
        if record.model_sha256 != made_with[1]:
            theirs, ours = (f"{name} ({digest[:12]})" for name, digest in (record.made_with, made_with))
            raise ManifestError(f"{path}: its songs were separated with model {theirs}, not with {ours}; {hint}")
