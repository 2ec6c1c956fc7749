"""The song that tests of the player play, and how they open it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RATE = 48_000
SECONDS = 24.0
VOICE = [(2.0, 5.0), (9.0, 12.0), (15.5, 20.0)]

Opener = Callable[..., Any]
"""Opens a page from disk, with the options of a context of Playwright."""

TabOpener = Callable[..., Any]
"""Opens an address in a context of Playwright, or in a new one with options."""
