from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from net_batches import make_batch, noise, overfit, set_batch_statistics
from torch import Tensor
from torch.nn import functional as F

from vocalsep import backends, nets
from vocalsep.backends.onnx import OnnxBackend
from vocalsep.errors import ConfigError
from vocalsep.features import Linear, LogMel
from vocalsep.nets.spleeter import Spleeter, SpleeterOptions

SMALL = Linear(rate=8_000, n_fft=256, hop=64, freqs=64, frames=32, compression=0.0, normalised=False)
WIDTHS = (4, 6, 8)


def build_spleeter(widths: tuple[int, ...] = WIDTHS, seed: int = 0) -> Spleeter:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Spleeter(SpleeterOptions(widths=widths))


def settle(net: Spleeter) -> Spleeter:
    """Give the net the batch statistics of noise, and put it in evaluation mode."""
    return set_batch_statistics(net, noise(2, 2, 64, 32, seed=7).abs()).requires_grad_(False)


def test_the_default_net_has_as_many_values_as_the_two_stem_checkpoint() -> None:
    net = nets.build("spleeter", {})
    assert net.parameter_count == 19_645_450
    values = sum(tensor.numel() for tensor in net.state_dict().values() if tensor.is_floating_point())
    unused, step_bytes = 2 * 4 * 512, 8  # the checkpoint has batch norms at the lowest level too, and a step counter
    assert 4 * (values + unused) + step_bytes == 78_614_080  # its size


def test_masks_are_the_vocals_share_of_the_squared_magnitudes() -> None:
    net, features = settle(build_spleeter()), noise(2, 2, 64, 32).abs()
    vocals, accompaniment = (magnitude.double() for magnitude in net.estimate_magnitudes(features))
    mask = net(features)
    assert mask.shape == features.shape
    total = vocals**2 + accompaniment**2
    loud = total > 1e-5
    assert loud.double().mean() > 0.9
    torch.testing.assert_close(mask.double()[loud], (vocals**2 / total)[loud], rtol=1e-4, atol=1e-4)
    assert mask.std() > 0.01
    assert (vocals <= features).all()


def test_silence_is_shared_equally() -> None:
    assert torch.equal(settle(build_spleeter())(torch.zeros(1, 2, 64, 32)), torch.full((1, 2, 64, 32), 0.5))


def test_maps_are_padded_as_tensorflow_pads_them() -> None:
    """With kernels that copy one tap, each layer picks known samples."""
    net = build_spleeter((1,)).vocals.eval()
    with torch.no_grad():
        for layer in (net.down[0], net.up[0]):
            layer.weight.zero_()
            layer.bias.zero_()
            layer.weight[0, 0, 1, 1] = 1.0  # at half the size, "same" padding puts tap 1 on the even samples
    seen: list[Tensor] = []
    net.leave.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features = noise(1, 2, 8, 8).abs()
    net(features)
    expected = torch.zeros(1, 1, 8, 8)
    expected[..., ::2, ::2] = features[:, :1, ::2, ::2]
    torch.testing.assert_close(seen[0], expected / np.sqrt(1 + 1e-3), rtol=1e-5, atol=1e-6)


def test_the_graph_computes_what_the_net_computes() -> None:
    net, features = settle(build_spleeter()), noise(2, 2, 64, 32).abs()
    graphs, run = backends.graphs.decode(backends.describe_net(net, (2, 64, 32), required=True))
    tensors = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    answer = OnnxBackend("small", graphs, tensors).run(features.numpy())
    np.testing.assert_allclose(answer, net(features).numpy(), rtol=1e-4, atol=1e-5)
    assert run.overlap == Spleeter.overlap
    assert b"Pad" not in graphs["forward"].onnx.replace(b"pads", b"")


def test_every_parameter_gets_a_gradient() -> None:
    net = build_spleeter()
    terms = net.loss(make_batch(SMALL, channels=2))
    assert set(terms) == {"vocals", "accompaniment"}
    sum(terms.values()).backward()  # type: ignore[union-attr]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0 or ".bias" in name, name


def test_the_loss_is_the_distance_of_both_magnitudes() -> None:
    net, batch = settle(build_spleeter()), make_batch(SMALL, channels=2, pan=(1.0, 0.3))
    stems = (batch.vocals, batch.accompaniment)
    for (name, loss), magnitude, stem in zip(
        net.loss(batch).items(), net.estimate_magnitudes(batch.features), stems, strict=True
    ):
        expected = F.l1_loss(magnitude.double(), stem[..., :64, :].abs().double())
        torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6, msg=name)


def test_it_overfits_a_handful_of_excerpts() -> None:
    before, after = overfit(build_spleeter(), make_batch(SMALL, channels=2), steps=60)
    assert after < 0.5 * before


@pytest.mark.parametrize("front_end", [replace(SMALL, compression=3.0), replace(SMALL, exponent=0.5)])
def test_compressed_magnitudes_are_refused_in_training(front_end: Linear) -> None:
    with pytest.raises(ConfigError, match="compression = 0 and exponent = 1"):
        build_spleeter().loss(make_batch(front_end, channels=2))


@pytest.mark.parametrize("shape", [(1, 1, 64, 32), (1, 2, 60, 32), (1, 2, 64, 30)])
def test_features_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="channels = 2, and freqs and frames that are multiples of 8"):
        build_spleeter()(torch.zeros(shape))


def test_other_front_ends_are_refused_in_training() -> None:
    mel = LogMel(rate=8_000, n_fft=512, hop=128, bands=32, frames=32)
    with pytest.raises(ConfigError):
        build_spleeter().loss(make_batch(mel))


def test_options_out_of_range_are_refused() -> None:
    for widths in ((), (4, 0)):
        with pytest.raises(ConfigError, match="widths >= 1"):
            SpleeterOptions(widths=widths)
