from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vocalsep import plots
from vocalsep.training import trainer


@pytest.fixture(autouse=True)
def cache() -> None:
    """Share the session's cache: an empty one per test would decode the same songs again for each small run."""


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the picture of the curves empty. Drawing it takes longer than the steps of a tiny run."""
    monkeypatch.setattr(plots, "draw_loss_curves", lambda _, path, **_title: Path(path).touch())


@pytest.fixture(scope="module")
def few_norm_batches() -> Iterator[None]:
    """Measure batch norms on fewer batches, for tests that compare runs and look at no scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "NORM_BATCHES", 2)
        yield
