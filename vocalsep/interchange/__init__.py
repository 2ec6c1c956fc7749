"""Models of other programs: read them, check them, and write our own for them."""

from __future__ import annotations
