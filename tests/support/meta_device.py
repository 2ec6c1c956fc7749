"""A stand-in for CUDA on machines without it: torch's device "meta", whose tensors have shapes but no values.

Like CUDA, it refuses to mix its tensors with those on the CPU. What leaves it is counted and replaced with noise.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vocalsep import backends


class Traffic(TorchDispatchMode):
    """Counts the numbers that go to the device and come from it.

    Attributes:
        sent: Number of values that were copied to the device.
        received: Number of values that were copied to the CPU as arrays.
        asked: Number of single values that were read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = self.received = self.asked = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            self.asked += 1
            return True
        answer = operator(*args, **(kwargs or {}))
        if operator is torch.ops.aten._to_copy.default and answer.is_meta and not args[0].is_meta:
            self.sent += answer.numel()
        return answer

    def to_numpy(self, array: Any) -> Any:
        """Stand in for `backends.to_numpy`."""
        if isinstance(array, np.ndarray):
            return array
        assert array.is_meta, f"{array.device} where the device was expected"
        self.received += array.numel()
        return np.random.default_rng(0).uniform(0.01, 0.02, tuple(array.shape)).astype(np.float32)


@contextlib.contextmanager
def use_meta_device() -> Iterator[Traffic]:
    """Let nets run on the device "meta" wherever no device is named, and count the traffic."""
    original = backends.to_numpy
    with pytest.MonkeyPatch.context() as patch, Traffic() as traffic:
        patch.setattr(backends, "choose_device", lambda *_: "meta")
        for name, module in list(sys.modules.items()):
            if name.startswith("vocalsep.") and getattr(module, "to_numpy", None) is original:
                patch.setattr(module, "to_numpy", traffic.to_numpy)
        yield traffic
