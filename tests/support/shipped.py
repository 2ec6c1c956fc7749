"""The shipped models as parameters of tests. By default two of them are tried, with ``-m slow`` the others."""

from __future__ import annotations

import pytest

from vocalsep import weights

FAST = (weights.DEFAULT_MODEL, "unet")
MODELS = [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in sorted(weights.find_models())
]
