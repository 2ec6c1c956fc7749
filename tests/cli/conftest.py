from __future__ import annotations

import pytest


@pytest.fixture
def no_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment variable names the folder of a data set."""
    for name in ("DSD100", "MIR1K", "STEMS"):
        monkeypatch.delenv(f"VOCALSEP_{name}", raising=False)
