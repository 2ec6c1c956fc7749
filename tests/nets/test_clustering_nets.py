"""The nets of the UH-net paper: deep clustering, the hybrid, and the U-Net that is shown what the hybrid makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
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


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(name: str, seed: int = 0, **options: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nets.build(name, OPTIONS[name] | options)


def settled(net: Net) -> Any:
    """The net in evaluation mode, with batch statistics (of the U-Net) of noise."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net(noise(4, 1, 16, 32, seed=7))
    return net.eval()


def batch(level: float = 1.0, size: int = 4) -> nets.Batch:
    """Vocals: tones that come and go. Accompaniment: noise."""
    samples = nets.count_excerpt_samples(SMALL)
    seconds = torch.arange(samples) / SMALL.rate
    pitch = torch.tensor([500.0, 900.0, 1400.0, 2300.0])[:size].reshape(size, 1, 1)
    gate = torch.sin(2 * torch.pi * 8 * seconds) > 0
    vocals = (torch.sin(2 * torch.pi * pitch * seconds) * gate).expand(size, 1, samples)
    return nets.make_batch(SMALL, level * vocals, level * 0.2 * noise(size, 1, samples))


def total(net: Net, made: nets.Batch) -> Tensor:
    return torch.stack(list(net.loss(made).values())).sum()


# all three


@pytest.mark.parametrize(("name", "parameters"), [("dpcl", 17_970_600), ("hdpcl", 18_226_856), ("uhnet", 38_776_681)])
def test_how_large_the_papers_nets_are(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert nets.build(name, {}).parameter_count == parameters


def test_the_body_has_as_many_parameters_as_its_layers() -> None:
    def gru(inside: int, units: int) -> int:
        return 2 * 3 * (inside * units + units * units + 2 * units)  # both directions, three gates, two biases

    body = gru(128, 500) + 3 * gru(1000, 500)
    dense = 1000 * 128 * 20 + 128 * 20
    assert body + dense + 2 * 20 == 17_970_600
    assert body + dense + 2 * 20 + 1000 * 256 + 256 == 18_226_856


@pytest.mark.parametrize("frames", [16, 32, 48])
@pytest.mark.parametrize("name", NAMES)
def test_masks_have_the_shape_of_the_features_and_lie_in_range(name: str, frames: int) -> None:
    mask = settled(made(name))(3 * noise(3, 1, 16, frames))
    assert mask.shape == (3, 1, 16, frames)
    assert 0 <= mask.min() < mask.max() <= 1


@pytest.mark.parametrize("shape", [(1, 2, 16, 32), (1, 1, 20, 32)])
@pytest.mark.parametrize("name", NAMES)
def test_features_of_another_front_end_are_refused_in_words(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="one channel and 16 bands"):
        made(name)(torch.zeros(shape))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    net = made(name)
    total(net, batch()).backward()
    for called, parameter in net.named_parameters():
        assert parameter.grad is not None, called
        assert parameter.grad.isfinite().all(), called
        assert parameter.grad.abs().max() > 0, called


@pytest.mark.parametrize("gain", [1e-3, 1e2])
@pytest.mark.parametrize("name", NAMES)
def test_level_changes_neither_mask_nor_loss(name: str, gain: float) -> None:
    net = settled(made(name))
    one, two = batch(), batch(level=gain)
    torch.testing.assert_close(net(two.features), net(one.features), rtol=1e-3, atol=1e-3)
    for term, value in net.loss(one).items():
        torch.testing.assert_close(net.loss(two)[term], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("compression", [0.0, 3.0])
def test_the_first_layer_sees_decibels_or_compressed_magnitudes(compression: float) -> None:
    net, seen = made("dpcl", compression=compression), batch()
    shown: list[Tensor] = []
    net.gru[0].register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    net(seen.features)
    power = SMALL.analyse(seen.mixture)
    level = (power / power.mean(dim=(1, 2, 3), keepdim=True)).sqrt()
    expected = torch.log1p(3 * level) if compression else seen.features
    torch.testing.assert_close(shown[0], expected[:, 0].transpose(1, 2), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("front_end", [replace(SMALL, floor_db=-60.0), Linear(**LINEAR)], ids=["floor", "linear"])
def test_magnitudes_are_compressed_of_what_holds_them_alone(name: str, front_end: FrontEnd) -> None:
    body = BODY | {"compression": 3.0}
    net = nets.build(name, OPTIONS[name] | ({"clustering": body} if name == "uhnet" else body))
    samples = nets.count_excerpt_samples(front_end)
    seen = nets.make_batch(front_end, noise(2, 1, samples), noise(2, 1, samples, seed=1))
    with pytest.raises(ConfigError, match="floor_db = -80"):
        net.loss(seen)


def test_normalised_layers_are_shown_input_of_one_spread() -> None:
    net = made("dpcl", normalised=True)
    shown: list[Tensor] = []
    for layer in net.gru:
        layer.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    net(100 * noise(4, 1, 16, 32))
    assert len(shown) == 2
    for given in shown:
        assert given.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_the_batch_does_not_change_the_masks(name: str) -> None:
    net, features = settled(made(name)), noise(4, 1, 16, 32)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(net(features[order]), net(features)[order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_one_batch_by_heart(name: str) -> None:
    net, seen = made(name), batch()
    share = masks.binary(SMALL.analyse(seen.vocals), SMALL.analyse(seen.accompaniment))
    weight = losses.magnitude_weight(SMALL.analyse(seen.mixture))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    course = []
    for _ in range(120):
        loss = total(net, seen)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(loss.item())
    assert course[-1] < 0.6 * course[0]
    right = ((net(seen.features) > 0.5) == (share > 0.5)).float()
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
def test_options_without_meaning_are_refused(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        kind(**options)


# the clustering nets


@pytest.mark.parametrize("name", ["dpcl", "hdpcl"])
def test_embeddings_have_unit_length_and_come_with_the_nets_own_mask(name: str) -> None:
    net, features = made(name).eval(), noise(2, 1, 16, 24)
    assert isinstance(net, ClusteringNet)
    places, mask = net.embed(features)
    assert places.shape == (2, 6, 16, 24)
    torch.testing.assert_close(places.norm(dim=1), torch.ones(2, 16, 24))
    torch.testing.assert_close(mask, net(features))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"columns": 1, "weighted": False}, {"columns": 1, "weighted": False}),
        ({}, {"columns": 2, "weighted": True}),
    ],
    ids=["paper", "corrected"],
)
def test_the_affinity_is_the_naive_one(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Of all pairs of bins, each pair with its weight: no factored form, no library of ours."""
    net, seen = made("dpcl", **options).eval(), batch(size=1)
    v = net.embed(seen.features)[0][0].permute(1, 2, 0).reshape(-1, 6).double()
    power = [SMALL.analyse(stem)[0, 0].flatten().double() for stem in (seen.vocals, seen.accompaniment)]
    voice = (power[0] > power[1]).double()
    y = torch.stack([voice, 1 - voice], dim=1)[:, : expected["columns"]]
    weight = (power[0] + power[1]).sqrt() if expected["weighted"] else torch.ones(len(v), dtype=torch.float64)
    weight = weight / weight.sum()
    naive = (weight[:, None] * weight * (v @ v.T - y @ y.T).square()).sum()
    torch.testing.assert_close(net.loss(seen)["affinity"].double(), naive, rtol=1e-4, atol=1e-7)


def test_anchors_learn_from_embeddings_that_take_no_notice_of_them() -> None:
    net = made("dpcl")
    net.loss(batch())["anchors"].backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is not None] == ["anchors"]


def test_the_mask_of_anchors_is_1_at_the_voices_and_0_at_the_others() -> None:
    net = made("dpcl")
    with torch.no_grad():
        net.anchors.copy_(torch.eye(6)[:2])
    places = torch.eye(6)[[0, 1, 2]].T.reshape(1, 6, 3, 1)
    mask = torch.sigmoid(net._compute_voice_logits(places)).flatten()
    assert mask[0] > 0.99
    assert mask[1] < 0.01
    assert mask[2].item() == pytest.approx(0.5)


def test_what_is_exchanged_in_dimensions_of_embeddings_changes_no_loss() -> None:
    """Permutation: the numbering of dimensions has no meaning, as that of clusters has none."""
    net, seen = made("dpcl").eval(), batch()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    other = made("dpcl").eval()
    with torch.no_grad():
        rows = torch.arange(16 * 6).reshape(16, 6)[:, order].flatten()
        other.dense.weight.copy_(net.dense.weight[rows])
        other.dense.bias.copy_(net.dense.bias[rows])
        other.anchors.copy_(net.anchors[:, order])
    for name, term in net.loss(seen).items():
        torch.testing.assert_close(other.loss(seen)[name], term)
    torch.testing.assert_close(other(seen.features), net(seen.features))


def test_the_heads_mask_is_a_softmax_over_voice_and_accompaniment() -> None:
    net, features = made("hdpcl").eval(), noise(2, 1, 16, 24)
    answer = net.compute_head_logits(net.encode(features))
    assert answer.shape == (2, 2, 16, 24)
    torch.testing.assert_close(net(features), answer[:, :1].exp() / answer.exp().sum(dim=1, keepdim=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_heads_cross_entropy_is_that_of_its_softmax(weighted: bool) -> None:
    net, seen = made("hdpcl", weighted=weighted).eval(), batch()
    voice = net(seen.features)
    power = [SMALL.analyse(stem) for stem in (seen.vocals, seen.accompaniment)]
    share = masks.ratio(*power)
    each = -(share * voice.log() + (1 - share) * (1 - voice).log())
    loud = (power[0] + power[1]).sqrt()
    weight = loud / loud.mean(dim=(1, 2, 3), keepdim=True) if weighted else torch.ones_like(each)
    torch.testing.assert_close(net.loss(seen)["bce"], (weight * each).mean(), rtol=1e-4, atol=1e-6)


def test_the_hybrid_is_deep_clustering_with_a_head() -> None:
    hybrid, plain = made("hdpcl"), DPCL(DPCLOptions(**BODY))
    assert isinstance(hybrid, HDPCL)
    names = {name for name, _ in plain.named_parameters()}
    assert {name for name, _ in hybrid.named_parameters()} - names == {"head.weight", "head.bias"}
    assert set(hybrid.loss(batch())) - set(plain.loss(batch())) == {"bce", "spectral"}


# UH-net


def test_the_unet_is_shown_the_softmax_bin_by_bin() -> None:
    """Three maps of the same bins: log-mel, voice, accompaniment."""
    net, features = settled(made("uhnet")), noise(2, 1, 16, 32)
    assert isinstance(net, UHNet)
    voice = net.clustering(features)
    expected = torch.sigmoid(net.unet.compute_logits(torch.cat([features, voice, 1 - voice], dim=1)))
    torch.testing.assert_close(net(features), expected)


def test_the_unets_loss_reaches_the_clustering_net() -> None:
    net = made("uhnet")
    net.loss(batch())["bce"].backward()
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert {f"clustering.{name}" for name, _ in net.clustering.gru.named_parameters(prefix="gru")} <= reached
    assert {"clustering.head.weight", "clustering.head.bias"} <= reached
    assert net.clustering.head.weight.grad.abs().max() > 0


def test_the_losses_of_both_parts_are_there_and_weighted() -> None:
    net, seen = made("uhnet", clustering_loss=0.25).eval(), batch()
    terms = net.loss(seen)
    own = net.clustering.loss(seen)
    assert set(terms) == {"bce"} | {f"clustering_{name}" for name in own}
    for name, term in own.items():
        torch.testing.assert_close(terms[f"clustering_{name}"], 0.25 * term)


def test_a_song_of_any_channels_goes_through_it() -> None:
    spectrum = stft.forward(noise(3, 2_000), SMALL.grid)[..., :32]
    features = SMALL.normalise(SMALL.group_channels(SMALL.analyse(spectrum)[None]))
    mask = SMALL.ungroup_channels(settled(made("uhnet"))(features), 3)
    assert masks.apply(SMALL.spread(mask)[0], spectrum).shape == spectrum.shape
