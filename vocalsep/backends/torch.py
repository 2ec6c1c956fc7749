"""Runs nets by torch, on CUDA or on a CPU. Arrays and tensors are both welcome; the answer is of the same kind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

from vocalsep.errors import ConfigError
from vocalsep.nets import ClusteringNet, Net
from vocalsep.shapes import Array

AnyArray = TypeVar("AnyArray", Array, Tensor)

_CUDNN = threading.Lock()  # cuDNN's switches belong to the whole process


class TorchBackend:
    """Runs a net in torch.

    Args:
        net: The net. It is moved to the device, in the memory layout in which it is fastest.
        device: "cpu" or "cuda".
    """

    def __init__(self, net: Net, device: str) -> None:
        self.device = device
        self._net = net.eval().to(device, memory_format=net.memory_format)  # type: ignore[call-overload]

    def place(self, array: Array) -> Array | Tensor:
        """See `Backend.place`."""
        return array if self.device == "cpu" else torch.tensor(array, device=self.device)

    @torch.inference_mode()
    def run(self, features: AnyArray) -> AnyArray:
        """See `Backend.run`. A tensor's answer stays on the device."""
        with self._in_full_precision():
            mask = self._net(self._prepare(features))
        return _return_like(features, mask)

    @torch.inference_mode()
    def embed(self, features: AnyArray) -> tuple[AnyArray, AnyArray]:
        """See `Backend.embed`. A tensor's answer stays on the device."""
        if not isinstance(self._net, ClusteringNet):
            raise ConfigError("this net does not cluster; use its own masks")
        with self._in_full_precision():
            embedding, mask = self._net.embed(self._prepare(features))
        return _return_like(features, embedding), _return_like(features, mask)

    @contextlib.contextmanager
    def _in_full_precision(self) -> Iterator[None]:
        """Let cuDNN compute in float32, and the same each time.

        By default it rounds to TF32, whose 10 bits are too few for 80 dB, and may add in any order.
        """
        if self.device == "cpu":
            yield
            return
        exact = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
        with _CUDNN, torch.backends.cudnn.flags(**exact):
            yield

    def _prepare(self, features: Array | Tensor) -> Tensor:
        return torch.as_tensor(features).to(self.device).contiguous(memory_format=self._net.memory_format)


def _return_like(features: AnyArray, answer: Tensor) -> AnyArray:
    return answer if isinstance(features, Tensor) else answer.cpu().numpy()
