"""Tests of the UH-net paper's nets: deep clustering, the hybrid, and the U-Net that sees the hybrid's masks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from net_batches import make_batch, noise, set_batch_statistics, sum_losses
from torch import Tensor

from vocalsep import masks, nets, stft
from vocalsep.errors import ConfigError
from vocalsep.features import FrontEnd, Linear, LogMel
from vocalsep.nets import ClusteringNet, Net, losses
from vocalsep.nets.dpcl import DPCL, DPCLOptions
from vocalsep.nets.hdpcl import HDPCL, HDPCLOptions
from vocalsep.nets.uhnet import UHNet, UHNetOptions

SMALL = LogMel(rate=8_000, n_fft=256, hop=64, bands=16, frames=32)
LINEAR = {"rate": 8_000, "n_fft": 256, "hop": 64, "freqs": 16, "frames": 32, "channels": 1}
BODY = {"bands": 16, "units": 12, "layers": 2, "dimensions": 6, "dropout": 0.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "dpcl": BODY,
    "hdpcl": BODY | {"spectral": 1.0},
    "uhnet": {"clustering": BODY, "unet": {"channels": 3, "width": 4, "dropout": 0.0}},
}
NAMES = sorted(OPTIONS)


def build_net(name: str, seed: int = 0, **options: Any) -> Any:
    """Build a small net with the weights of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nets.build(name, OPTIONS[name] | options)


def settle(net: Net) -> Any:
    """Give the net the batch statistics of noise, and put it in evaluation mode."""
    return set_batch_statistics(net, noise(4, 1, 16, 32, seed=7))


# all three


@pytest.mark.parametrize(("name", "parameters"), [("dpcl", 17_970_600), ("hdpcl", 18_226_856), ("uhnet", 38_776_681)])
def test_the_papers_nets_have_their_number_of_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert nets.build(name, {}).parameter_count == parameters


def test_the_parameters_are_those_of_the_layers() -> None:
    def gru(inside: int, units: int) -> int:
        return 2 * 3 * (inside * units + units * units + 2 * units)  # both directions, three gates, two biases

    body = gru(128, 500) + 3 * gru(1000, 500)
    dense = 1000 * 128 * 20 + 128 * 20
    assert body + dense + 2 * 20 == 17_970_600
    assert body + dense + 2 * 20 + 1000 * 256 + 256 == 18_226_856


@pytest.mark.parametrize("frames", [16, 32, 48])
@pytest.mark.parametrize("name", NAMES)
def test_masks_have_the_shape_of_the_features_and_lie_in_range(name: str, frames: int) -> None:
    mask = settle(build_net(name))(3 * noise(3, 1, 16, frames))
    assert mask.shape == (3, 1, 16, frames)
    assert 0 <= mask.min() < mask.max() <= 1


@pytest.mark.parametrize("shape", [(1, 2, 16, 32), (1, 1, 20, 32)])
@pytest.mark.parametrize("name", NAMES)
def test_features_of_another_front_end_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="one channel and 16 bands"):
        build_net(name)(torch.zeros(shape))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    net = build_net(name)
    sum_losses(net, make_batch(SMALL)).backward()
    for called, parameter in net.named_parameters():
        assert parameter.grad is not None, called
        assert parameter.grad.isfinite().all(), called
        assert parameter.grad.abs().max() > 0, called


@pytest.mark.parametrize("gain", [1e-3, 1e2])
@pytest.mark.parametrize("name", NAMES)
def test_level_changes_neither_mask_nor_loss(name: str, gain: float) -> None:
    net = settle(build_net(name))
    one, two = make_batch(SMALL), make_batch(SMALL, level=gain)
    torch.testing.assert_close(net(two.features), net(one.features), rtol=1e-3, atol=1e-3)
    for term, value in net.loss(one).items():
        torch.testing.assert_close(net.loss(two)[term], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("compression", [0.0, 3.0])
def test_the_first_layer_sees_decibels_or_compressed_magnitudes(compression: float) -> None:
    net, batch = build_net("dpcl", compression=compression), make_batch(SMALL)
    inputs: list[Tensor] = []
    net.gru[0].register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    net(batch.features)
    power = SMALL.analyse(batch.mixture)
    level = (power / power.mean(dim=(1, 2, 3), keepdim=True)).sqrt()
    expected = torch.log1p(3 * level) if compression else batch.features
    torch.testing.assert_close(inputs[0], expected[:, 0].transpose(1, 2), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("front_end", [replace(SMALL, floor_db=-60.0), Linear(**LINEAR)], ids=["floor", "linear"])
def test_compression_needs_features_that_hold_magnitudes(name: str, front_end: FrontEnd) -> None:
    body = BODY | {"compression": 3.0}
    net = nets.build(name, OPTIONS[name] | ({"clustering": body} if name == "uhnet" else body))
    samples = nets.count_excerpt_samples(front_end)
    batch = nets.make_batch(front_end, noise(2, 1, samples), noise(2, 1, samples, seed=1))
    with pytest.raises(ConfigError, match="floor_db = -80"):
        net.loss(batch)


def test_normalised_layers_see_inputs_of_one_spread() -> None:
    net = build_net("dpcl", normalised=True)
    inputs: list[Tensor] = []
    for layer in net.gru:
        layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    net(100 * noise(4, 1, 16, 32))
    assert len(inputs) == 2
    for given in inputs:
        assert given.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_the_batch_does_not_change_the_masks(name: str) -> None:
    net, features = settle(build_net(name)), noise(4, 1, 16, 32)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(net(features[order]), net(features)[order], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_overfits_one_batch(name: str) -> None:
    net, batch = build_net(name), make_batch(SMALL)
    target = masks.binary(SMALL.analyse(batch.vocals), SMALL.analyse(batch.accompaniment))
    weight = losses.magnitude_weight(SMALL.analyse(batch.mixture))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    course = []
    for _ in range(120):
        loss = sum_losses(net, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(loss.item())
    assert course[-1] < 0.6 * course[0]
    right = ((net(batch.features) > 0.5) == (target > 0.5)).float()
    assert (weight * right).mean() > 0.9


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (DPCLOptions, {"units": 0}),
        (DPCLOptions, {"dropout": 1.0}),
        (DPCLOptions, {"affinity": 0.0}),
        (DPCLOptions, {"columns": 3}),
        (DPCLOptions, {"compression": -1.0}),
        (HDPCLOptions, {"bce": -1.0}),
        (HDPCLOptions, {"bce": 0.0, "spectral": 0.0}),
        (UHNetOptions, {"clustering_loss": 0.0}),
        (UHNetOptions, {"unet": nets.NETS["unet"].Options()}),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        kind(**options)


# the clustering nets


@pytest.mark.parametrize("name", ["dpcl", "hdpcl"])
def test_embeddings_have_unit_length_and_come_with_the_mask_of_forward(name: str) -> None:
    net, features = build_net(name).eval(), noise(2, 1, 16, 24)
    assert isinstance(net, ClusteringNet)
    embeddings, mask = net.embed(features)
    assert embeddings.shape == (2, 6, 16, 24)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2, 16, 24))
    torch.testing.assert_close(mask, net(features))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"columns": 1, "weighted": False}, {"columns": 1, "weighted": False}),
        ({}, {"columns": 2, "weighted": True}),
    ],
    ids=["paper", "corrected"],
)
def test_the_affinity_loss_equals_the_sum_over_all_pairs_of_bins(
    options: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The sum is computed pair by pair, with no factored form and none of our functions."""
    net, batch = build_net("dpcl", **options).eval(), make_batch(SMALL, size=1)
    v = net.embed(batch.features)[0][0].permute(1, 2, 0).reshape(-1, 6).double()
    power = [SMALL.analyse(stem)[0, 0].flatten().double() for stem in (batch.vocals, batch.accompaniment)]
    voice = (power[0] > power[1]).double()
    y = torch.stack([voice, 1 - voice], dim=1)[:, : expected["columns"]]
    weight = (power[0] + power[1]).sqrt() if expected["weighted"] else torch.ones(len(v), dtype=torch.float64)
    weight = weight / weight.sum()
    naive = (weight[:, None] * weight * (v @ v.T - y @ y.T).square()).sum()
    torch.testing.assert_close(net.loss(batch)["affinity"].double(), naive, rtol=1e-4, atol=1e-7)


def test_the_loss_of_the_anchors_trains_the_anchors_alone() -> None:
    net = build_net("dpcl")
    net.loss(make_batch(SMALL))["anchors"].backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is not None] == ["anchors"]


def test_the_anchors_mask_is_1_at_the_voices_anchor_and_0_at_the_other() -> None:
    net = build_net("dpcl")
    with torch.no_grad():
        net.anchors.copy_(torch.eye(6)[:2])
    embeddings = torch.eye(6)[[0, 1, 2]].T.reshape(1, 6, 3, 1)
    mask = torch.sigmoid(net._compute_voice_logits(embeddings)).flatten()
    assert mask[0] > 0.99
    assert mask[1] < 0.01
    assert mask[2].item() == pytest.approx(0.5)


def test_permuting_the_dimensions_of_embeddings_changes_neither_loss_nor_mask() -> None:
    """The order of dimensions has no meaning, like the order of clusters."""
    net, batch = build_net("dpcl").eval(), make_batch(SMALL)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    other = build_net("dpcl").eval()
    with torch.no_grad():
        rows = torch.arange(16 * 6).reshape(16, 6)[:, order].flatten()
        other.dense.weight.copy_(net.dense.weight[rows])
        other.dense.bias.copy_(net.dense.bias[rows])
        other.anchors.copy_(net.anchors[:, order])
    for name, term in net.loss(batch).items():
        torch.testing.assert_close(other.loss(batch)[name], term)
    torch.testing.assert_close(other(batch.features), net(batch.features))


def test_the_heads_mask_is_a_softmax_over_voice_and_accompaniment() -> None:
    net, features = build_net("hdpcl").eval(), noise(2, 1, 16, 24)
    head_logits = net.compute_head_logits(net.encode(features))
    assert head_logits.shape == (2, 2, 16, 24)
    torch.testing.assert_close(net(features), head_logits[:, :1].exp() / head_logits.exp().sum(dim=1, keepdim=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_heads_loss_is_the_cross_entropy_of_its_softmax(weighted: bool) -> None:
    net, batch = build_net("hdpcl", weighted=weighted).eval(), make_batch(SMALL)
    voice = net(batch.features)
    power = [SMALL.analyse(stem) for stem in (batch.vocals, batch.accompaniment)]
    target = masks.ratio(*power)
    each = -(target * voice.log() + (1 - target) * (1 - voice).log())
    loud = (power[0] + power[1]).sqrt()
    weight = loud / loud.mean(dim=(1, 2, 3), keepdim=True) if weighted else torch.ones_like(each)
    torch.testing.assert_close(net.loss(batch)["bce"], (weight * each).mean(), rtol=1e-4, atol=1e-6)


def test_the_hybrid_is_deep_clustering_with_a_head() -> None:
    hybrid, plain = build_net("hdpcl"), DPCL(DPCLOptions(**BODY))
    assert isinstance(hybrid, HDPCL)
    names = {name for name, _ in plain.named_parameters()}
    assert {name for name, _ in hybrid.named_parameters()} - names == {"head.weight", "head.bias"}
    assert set(hybrid.loss(make_batch(SMALL))) - set(plain.loss(make_batch(SMALL))) == {"bce", "spectral"}


# UH-net


def test_the_unet_sees_the_softmax_bin_by_bin() -> None:
    """The three input channels show the same bins: log-mel, voice, accompaniment."""
    net, features = settle(build_net("uhnet")), noise(2, 1, 16, 32)
    assert isinstance(net, UHNet)
    voice = net.clustering(features)
    expected = torch.sigmoid(net.unet.compute_logits(torch.cat([features, voice, 1 - voice], dim=1)))
    torch.testing.assert_close(net(features), expected)


def test_the_unets_loss_reaches_the_clustering_net() -> None:
    net = build_net("uhnet")
    net.loss(make_batch(SMALL))["bce"].backward()
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert {f"clustering.{name}" for name, _ in net.clustering.gru.named_parameters(prefix="gru")} <= reached
    assert {"clustering.head.weight", "clustering.head.bias"} <= reached
    assert net.clustering.head.weight.grad.abs().max() > 0


def test_the_loss_has_the_weighted_terms_of_both_parts() -> None:
    net, batch = build_net("uhnet", clustering_loss=0.25).eval(), make_batch(SMALL)
    terms = net.loss(batch)
    own = net.clustering.loss(batch)
    assert set(terms) == {"bce"} | {f"clustering_{name}" for name in own}
    for name, term in own.items():
        torch.testing.assert_close(terms[f"clustering_{name}"], 0.25 * term)


def test_it_takes_songs_with_any_number_of_channels() -> None:
    spectrum = stft.forward(noise(3, 2_000), SMALL.grid)[..., :32]
    features = SMALL.normalise(SMALL.group_channels(SMALL.analyse(spectrum)[None]))
    mask = SMALL.ungroup_channels(settle(build_net("uhnet"))(features), 3)
    assert masks.apply(SMALL.spread(mask)[0], spectrum).shape == spectrum.shape
