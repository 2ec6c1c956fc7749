from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def cache() -> None:
    """Share the session's cache: an empty one per test would decode the same songs again for each small run."""
