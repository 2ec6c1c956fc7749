from __future__ import annotations

from collections.abc import Iterator

import pytest

from vocalsep.training import trainer


@pytest.fixture(autouse=True)
def cache() -> None:
    """Share the session's cache: an empty one per test would decode the same songs again for each small run."""


@pytest.fixture(scope="module")
def few_norm_batches() -> Iterator[None]:
    """Measure batch norms on fewer batches, for tests that compare runs and look at no scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "NORM_BATCHES", 2)
        yield
