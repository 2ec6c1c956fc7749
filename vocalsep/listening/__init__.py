"""Let people hear songs and their parts in a browser: a player, and what it plays and draws.

`bundle` collects sound and pictures of one song while the song streams, `drawing` computes the pictures, and `page`
makes one HTML file of any number of bundles. The player itself is in ``static``: hand-written HTML, CSS and JavaScript
without a build step. Nothing in it ever loads from another host.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vocalsep.listening.bundle import FADE, PIECE, BundleWriter
    from vocalsep.listening.drawing import RATE
    from vocalsep.listening.page import Song, write_page

__all__ = ["FADE", "PIECE", "RATE", "BundleWriter", "Song", "write_page"]

_MODULES = {
    "FADE": "bundle",
    "PIECE": "bundle",
    "RATE": "drawing",
    "BundleWriter": "bundle",
    "Song": "page",
    "write_page": "page",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
