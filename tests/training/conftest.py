from __future__ import annotations

from pathlib import Path

import pytest

from vocalsep import plots


@pytest.fixture(autouse=True)
def cache() -> None:
    """Share the session's cache: an empty one per test would decode the same songs again for each small run."""


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the picture of the curves empty. Drawing it takes longer than the steps of a tiny run."""
    monkeypatch.setattr(plots, "draw_loss_curves", lambda _, path: Path(path).touch())
