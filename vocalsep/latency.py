"""How far live vocals may be behind the song. This module loads no library, so commands can check options early."""

from __future__ import annotations

from vocalsep.errors import ConfigError

MIN_LATENCY, MAX_LATENCY = 0.1, 3.0
"""Seconds between a sample and its vocals that users may ask for."""


def check(seconds: float) -> None:
    """Check that a latency is from `MIN_LATENCY` to `MAX_LATENCY`.

    Raises:
        ConfigError: If it is not.
    """
    if not MIN_LATENCY <= seconds <= MAX_LATENCY:
        raise ConfigError(f"a latency of {seconds:g} s; expected {MIN_LATENCY:g} to {MAX_LATENCY:g} s")
