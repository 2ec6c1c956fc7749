"""How far live vocals may be behind the song. This module loads no library, so commands can check options early."""

from __future__ import annotations

from vocalsep.errors import ConfigError

LATENCIES = (0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.0, 3.0)
"""Seconds between a sample and its vocals: those that "auto" chooses from, in the range of those to ask for."""

DEFAULT_LATENCY = 0.3
"""Seconds that live vocals are behind unless the user asks for another latency."""


def parse(text: str) -> float | None:
    """Parse a latency in seconds; None stands for "auto".

    Raises:
        ConfigError: If it is no number, or out of range.
    """
    if text == "auto":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    check(seconds, text)
    return seconds


def check(seconds: float, text: str = "") -> None:
    """Check that a latency is in the range of `LATENCIES`.

    Args:
        seconds: The latency.
        text: How the user wrote it.

    Raises:
        ConfigError: If it is not.
    """
    shortest, longest = LATENCIES[0], LATENCIES[-1]
    if not shortest <= seconds <= longest:
        raise ConfigError(f"latency {text or format(seconds, 'g')}: expected {shortest:g} to {longest:g} seconds")
