from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def no_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment variable names the folder of a data set."""
    for name in ("DSD100", "MIR1K", "STEMS"):
        monkeypatch.delenv(f"VOCALSEP_{name}", raising=False)


@pytest.fixture
def broken_model(tmp_path: Path) -> Path:
    """A weights file that exists but cannot be loaded: with it, everything that needs a model fails."""
    path = tmp_path / "broken" / "broken.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"no weights")
    return path
