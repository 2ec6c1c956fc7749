"""On CUDA, a training step leaves nothing on the CPU. Shown without CUDA, on the device "meta": see `meta_device`."""

from __future__ import annotations

import contextlib
from typing import Any

import meta_device
import net_batches
import pytest
import torch

from vocalsep import nets
from vocalsep.features import MFCC, FrontEnd, Linear, LogMel

MEL = LogMel(rate=8_000, n_fft=512, hop=128, bands=32, frames=32)
STEREO = Linear(rate=8_000, n_fft=512, hop=128, freqs=64, frames=32)
MONO = Linear(rate=8_000, n_fft=512, hop=128, freqs=64, frames=32, channels=1, compression=0.0)
CEPSTRUM = MFCC(rate=8_000, n_fft=512, hop=128, bands=32, frames=32)
SMALL = {"bands": 32, "units": 6, "layers": 1}
SIDE_HEADS = {"bce": 1.0, "affinity": 0.1, "voicing": 1.0}

NETS = [
    ("unet", {"width": 2, "spectral": 1.0}, MEL),
    ("uhnet", {"unet": {"width": 2, "channels": 3}, "clustering": SMALL}, MEL),
    ("dpcl", SMALL | {"normalised": True, "weighted": True}, MEL),
    ("hdpcl", SMALL | {"spectral": 1.0}, MEL),
    ("drnn", {"freqs": 64, "units": 6, "answer": "share", "bce": 1.0, "spectral": 1.0}, MONO),
    ("drnn", {"freqs": 32, "units": 6, "answer": "cepstrum"}, CEPSTRUM),
    ("uhnet-hd", {"freqs": 64, "sub_bands": 4, "widths": [4, 6, 8], "recurrent": 8} | SIDE_HEADS, STEREO),
    ("unet-hd", {"widths": [4, 6, 8], "rank": 5, "bce": 1.0}, STEREO),
]


@pytest.mark.parametrize(("name", "options", "front_end"), NETS)
def test_features_loss_and_gradient_are_computed_on_the_device(
    name: str, options: dict[str, Any], front_end: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # there is none for "meta"
    net = nets.build(name, options).to("meta")
    samples = nets.count_excerpt_samples(front_end)
    stems = [torch.empty(2, 2, samples, device="meta") for _ in range(2)]
    with meta_device.use_meta_device() as traffic:
        net_batches.sum_losses(net, nets.make_batch(front_end, *stems)).backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    assert all(gradient is not None and gradient.is_meta for gradient in gradients)
    assert (traffic.received, traffic.asked) == (0, 0)
    assert traffic.sent < 40_000  # windows and matrices, the first time
