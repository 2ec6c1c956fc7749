"""Checks of extraction on CUDA. Skipped without it; `python tests/gpu/run.py` measures speed and training as well."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from device_checks import Check, list_checks


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("check", list(list_checks("cuda")), ids=str)
def test_the_device_agrees_with_the_cpu(check: Check) -> None:
    result = check.measure()
    assert check.passes(result), f"{result:g} {check.unit}; expected {'<=' if check.at_most else '>='} {check.limit:g}"


# Without CUDA the checks themselves are tested: on the CPU, where torch and ONNX Runtime agree as well.


@pytest.mark.parametrize("name", ["unet: masks", "unet: vocals", "unet: file against pipe"])
def test_the_checks_pass_on_the_cpu(name: str) -> None:
    (check,) = (check for check in list_checks("cpu", 2.0) if check.name == name)
    assert check.passes(check.measure())


def test_a_check_does_not_pass_with_a_bad_result() -> None:
    above, below = Check("", 80, "dB", lambda: 0), Check("", 1, "", lambda: 0, at_most=True)
    assert [above.passes(result) for result in (80, 79.9, float("nan"))] == [True, False, False]
    assert [below.passes(result) for result in (1, 1.1, float("nan"))] == [True, False, False]
