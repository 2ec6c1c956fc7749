"""Models of other programs: read them, check them, and write our own for them."""

from __future__ import annotations

from vocalsep.interchange.foreign import SUFFIX, ForeignModel, Settings, load
from vocalsep.interchange.inspection import inspect_own

__all__ = ["SUFFIX", "ForeignModel", "Settings", "inspect_own", "load"]
