from __future__ import annotations

import subprocess
import sys

import fake_nets
import numpy as np
import pytest
import torch

from vocalsep import backends, nets
from vocalsep.backends.torch import TorchBackend
from vocalsep.errors import ConfigError


def test_the_cpu_is_always_available() -> None:
    assert backends.choose_device("cpu") == "cpu"
    assert backends.choose_device() in ("cpu", "cuda")


def test_cuda_is_refused_when_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert backends.choose_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="cuda"):
        backends.choose_device("cuda")


def test_cuda_is_chosen_where_it_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert backends.choose_device("auto") == backends.choose_device("cuda") == "cuda"
    assert backends.choose_device("cpu") == "cpu"


def test_choosing_the_cpu_imports_no_torch() -> None:
    code = "import sys; from vocalsep import backends; backends.choose_device('cpu'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torch_returns_arrays_for_arrays_and_tensors_for_tensors() -> None:
    net = nets.build("dpcl", {"bands": 16, "units": 4, "layers": 1})
    backend = TorchBackend(net, "cpu")
    features = torch.randn(2, 1, 16, 8)
    mask, (embedding, own) = backend.run(features.numpy()), backend.embed(features.numpy())
    assert {type(part) for part in (mask, embedding, own)} == {np.ndarray}
    assert torch.equal(backend.run(features), torch.from_numpy(mask))
    assert torch.equal(backend.embed(features)[0], torch.from_numpy(embedding))
    assert np.array_equal(mask, own)


class WatchingNet(fake_nets.ConstantNet):
    """Remembers how cuDNN was set when it ran."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.seen = read_switches()
        return super().forward(features)


def read_switches() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic


def test_off_the_cpu_cudnn_computes_in_float32_and_always_the_same() -> None:
    before, net = read_switches(), WatchingNet(0.5)
    TorchBackend(net, "cpu").run(torch.rand(1, 1, 4, 4))
    assert net.seen == before == (True, False)
    TorchBackend(net, "meta").run(torch.rand(1, 1, 4, 4))
    assert net.seen == (False, True)
    assert read_switches() == before
