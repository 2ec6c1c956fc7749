"""Whether the machine has time for tests at the speed of sound."""

from __future__ import annotations

import time

import pytest

_SECONDS = 1.0


def skip_unless_quiet(share: float = 0.8) -> None:
    """Skip the test if a process that is always busy gets less than this share of a processor."""
    start, used = time.perf_counter(), time.process_time()
    while (taken := time.perf_counter() - start) < _SECONDS:
        pass
    found = (time.process_time() - used) / taken
    if found < share:
        pytest.skip(f"other work takes the processors: {found:.0%} of one are left, and {share:.0%} are needed")
