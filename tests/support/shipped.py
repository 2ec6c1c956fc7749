"""The shipped models as parameters of tests. By default few of them are tried, with ``-m slow`` the others."""

from __future__ import annotations

import pytest

from vocalsep import library, weights

FAST = (weights.DEFAULT_MODEL, "uhnet-hd", "unet")
NAMES = sorted(
    name for name, path in library.find_models(library.find_models_folder()).items() if path.suffix == library.SUFFIX
)
"""Those with a net of their own; the others are means of these."""


def _mark(names: list[str]) -> list[object]:
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


NETS, MODELS = _mark(NAMES), _mark(sorted(library.find_models(library.find_models_folder())))
