"""Say in words what a report tells about a song, for the people who listen to it."""

from __future__ import annotations

import json
from typing import Any

from vocalsep.release import __version__


def can_describe(report: dict[str, Any] | None) -> bool:
    """Return whether a report, which may come from anywhere, has what people are told about a song that is done."""
    if report is None:
        return False
    try:
        json.dumps([summarise(report), list_facts(report), report], allow_nan=False, indent=2)
        return isinstance(report["model"], str) and isinstance(report["audio_seconds"], int | float)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return False


def summarise(report: dict[str, Any]) -> str:
    """Return a line about a song: its model, and how much of it is sung.

    Args:
        report: The fields of its `extraction.Report`.
    """
    voice = f"voice in {report['voice_share']:.0%} of the song" if report["voice"] else "no voice found"
    return f"{report['model']} · {voice}"


def _format_db(value: float) -> str:
    return f"{value:.1f} dB".replace("-", "\N{MINUS SIGN}")


def list_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the player tells about a song: labels and texts.

    Args:
        report: The fields of its `extraction.Report`.
    """
    times = report["times_real_time"]
    speed = f"{times:.{0 if times >= 10 else 1}f} times real time ({report['taken_seconds']:.1f} s)"
    passages = "1 passage" if len(report["voice"]) == 1 else f"{len(report['voice'])} passages"
    facts = [
        ("Model", f"{report['model']}, vocalsep {__version__}"),
        ("Voice", f"{report['voice_share']:.0%} of the song, in {passages}" if report["voice"] else "none found"),
    ]
    if report["vocals_db"] is not None:
        facts.append(("Level of the vocals", f"{_format_db(report['vocals_db'])} relative to the song"))
    if report["cluster_confidence"] is not None:
        used = "used" if report["clusters_used"] else "not used"
        facts.append(("Clusters", f"confidence {report['cluster_confidence']:.2f}, {used}"))
    if report["clipped_samples"]:
        facts.append(("Clamped samples", f"{report['clipped_samples']:,}"))
    if report["gain_db"]:
        facts.append(("Gain of the files", _format_db(report["gain_db"])))
    return [*facts, ("Speed", speed), *(("Warning", warning) for warning in report["warnings"])]
