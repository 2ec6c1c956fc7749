from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from net_batches import make_batch, noise, set_batch_statistics
from torch import Tensor, nn

from vocalsep import nets, stft
from vocalsep.errors import ConfigError
from vocalsep.features import Linear
from vocalsep.nets import losses
from vocalsep.nets.uhnet_hd import UHNetHD, UHNetHDOptions

SMALL = Linear(rate=8_000, n_fft=256, hop=64, freqs=64, frames=32)
SHAPE = {"freqs": 64, "sub_bands": 4, "widths": [8, 12, 16], "squeeze": 4, "recurrent": 8}


def build_uhnet(**options: Any) -> UHNetHD:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nets.build("uhnet-hd", SHAPE | options)
    assert isinstance(net, UHNetHD)
    return net


def settle(net: UHNetHD) -> UHNetHD:
    """Give the net the batch statistics of noise, and put it in evaluation mode."""
    return set_batch_statistics(net, noise(2, 2, 64, 32, seed=7).abs())


def make_panned_batch(channels: int = 2) -> nets.Batch:
    """Make a batch whose vocals are louder on the left."""
    return make_batch(SMALL, channels=channels, tones_hz=(500.0, 900.0, 1400.0, 1800.0), pan=(1.0, 0.3))


def test_the_default_net_has_3_561_368_parameters_and_sees_all_rows_of_the_default_front_end() -> None:
    net = nets.build("uhnet-hd", {})
    assert net.parameter_count == 3_561_368
    assert isinstance(net, UHNetHD)
    assert net.options.freqs == Linear().freqs


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frames", [4, 32, 36])
def test_masks_have_the_shape_of_the_features_and_lie_in_range(frames: int, training: bool) -> None:
    net = settle(build_uhnet()).train(training)
    for mask in net.estimate_masks(10 * noise(3, 2, 64, frames).abs()):
        assert mask.shape == (3, 2, 64, frames)
        assert mask.min() >= 0
        assert mask.max() <= 1
        assert mask.std() > 0.01


def test_under_autocast_all_maps_are_half_as_large() -> None:
    net, kinds = build_uhnet(), set()
    for stage in (*net.encoder, net.bottom, *net.decoder):
        stage.register_forward_hook(lambda _module, _given, maps: kinds.add(maps.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        masks = net.estimate_masks(noise(2, 2, 64, 32).abs())
    assert kinds == {torch.bfloat16}
    assert {mask.dtype for mask in masks} == {torch.float32}


def test_the_cross_entropy_covers_both_masks_and_is_weighted_by_the_mixtures_magnitude() -> None:
    net, batch = settle(build_uhnet(bce=0.5)), make_panned_batch()
    vocals, accompaniment = (SMALL.analyse(stem).double() for stem in (batch.vocals, batch.accompaniment))
    share, weight = vocals / (vocals + accompaniment), (vocals + accompaniment).sqrt()
    weight = weight / weight.mean(dim=(1, 2, 3), keepdim=True)
    distances = [
        -(weight * (target * mask.double().log() + (1 - target) * (1 - mask.double()).log())).mean()
        for mask, target in zip(net.estimate_masks(batch.features), (share, 1 - share), strict=True)
    ]
    terms = net.loss(batch)
    torch.testing.assert_close(terms["bce"].double(), 0.5 * (distances[0] + distances[1]) / 2, rtol=1e-4, atol=1e-6)
    plain = settle(build_uhnet()).loss(batch)
    assert {name: terms[name] for name in plain} == plain


def test_both_distances_of_the_masked_spectra_are_those_of_complex_numbers() -> None:
    net, batch = settle(build_uhnet()), make_panned_batch()
    estimates = dict(zip(("vocals", "accompaniment"), net.estimate_masks(batch.features), strict=True))
    terms = net.loss(batch)
    for name, mask in estimates.items():
        truth, mixture = (spectrum[..., : SMALL.freqs, :] for spectrum in (getattr(batch, name), batch.mixture))
        torch.testing.assert_close(terms[name], losses.spectral_l1(mask * mixture, truth, mixture))


def test_the_log_error_covers_both_masks() -> None:
    net, batch = settle(build_uhnet(l1=0, log_error=0.5)), make_panned_batch()
    mixture = batch.mixture[..., : SMALL.freqs, :]
    level = mixture.abs().square().sum(dim=(1, 2, 3))
    distances = []
    for mask, stem in zip(net.estimate_masks(batch.features), (batch.vocals, batch.accompaniment), strict=True):
        error = (mask * mixture - stem[..., : SMALL.freqs, :]).abs().square().sum(dim=(1, 2, 3))
        distances.append((error / level + 1e-3).log10().mean())
    terms = net.loss(batch)
    assert set(terms) == {"log_error"}
    torch.testing.assert_close(terms["log_error"], 0.5 * (distances[0] + distances[1]) / 2, rtol=1e-4, atol=1e-6)


def test_a_lighter_decoder_has_fewer_convolutions() -> None:
    net = build_uhnet(decoder=1)
    assert [len(stage.local) for stage in (*net.encoder, net.bottom)] == [2, 2, 2]
    assert [len(stage.local) for stage in net.decoder] == [1, 1]


@pytest.mark.parametrize("channels", [1, 2])
def test_with_side_the_net_sees_three_channels_and_masks_two(channels: int) -> None:
    front_end = replace(SMALL, side=True)
    batch = make_batch(front_end, channels=channels, tones_hz=(500.0, 900.0, 1400.0, 1800.0))
    net = build_uhnet(side=True, bce=0.3, log_error=0.1)
    for mask in net.estimate_masks(batch.features):
        assert mask.shape == (4, 2, 64, 32)
    assert batch.apply_mask(net(batch.features)).shape == batch.mixture.shape
    assert all(term.isfinite() for term in net.loss(batch).values())
    with pytest.raises(ConfigError, match="channels = 2 and side and freqs = 64"):
        net(batch.features[:, :2])


def test_the_order_of_maps_in_memory_does_not_change_the_masks() -> None:
    net, features = settle(build_uhnet()), noise(2, 2, 64, 32).abs()
    with torch.no_grad():
        plain = net.to(memory_format=torch.contiguous_format)(features)  # type: ignore[call-overload]
        last = net.to(memory_format=torch.channels_last)(features.contiguous(memory_format=torch.channels_last))  # type: ignore[call-overload]
    torch.testing.assert_close(last, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"vocals", "accompaniment"}),
        ({"bce": 0.3}, {"vocals", "accompaniment", "bce"}),
        ({"l1": 0, "log_error": 0.1, "decoder": 1}, {"log_error"}),
    ],
)
def test_every_parameter_gets_a_gradient(options: dict[str, Any], names: set[str]) -> None:
    net = build_uhnet(**options)
    terms = net.loss(make_panned_batch())
    assert set(terms) == names
    sum(terms.values()).backward()  # type: ignore[union-attr]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_overfits_one_batch() -> None:
    net, batch = build_uhnet(), make_panned_batch()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    course = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.stack(list(net.loss(batch).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        course.append(loss.item())
    assert course[-1] < course[0] / 3


def test_sub_bands_and_channels_return_to_their_places() -> None:
    """A net that mixes neither rows nor maps nor frames maps each bin to itself."""
    net = settle(build_uhnet(widths=[8], recurrent=0))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.enter[0].weight.copy_(torch.eye(8)[:, :, None, None])
        centre = torch.zeros(8, 8, 3, 3)
        centre[:, :, 1, 1] = torch.eye(8)
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
                layer.reset_running_stats()
            elif isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.weight.copy_(centre)
        net.leave.weight[:8].copy_(torch.eye(8)[:, :, None, None])
        features = noise(2, 2, 64, 4).abs()
        vocals, accompaniment = net.estimate_masks(features)
    torch.testing.assert_close(torch.logit(vocals), features, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(accompaniment, torch.full_like(features, 0.5))


@pytest.mark.parametrize("gain", [1e-4, 0.3, 1e3])
def test_level_of_the_mixture_does_not_change_the_mask(gain: float) -> None:
    net = settle(build_uhnet())
    samples = noise(2, 2, SMALL.chunk_samples)

    def answer(mixture: Tensor) -> Tensor:
        power = SMALL.analyse(stft.forward(mixture, SMALL.grid))
        return net(SMALL.normalise(SMALL.group_channels(power))).detach()

    torch.testing.assert_close(answer(samples * gain), answer(samples), rtol=0, atol=1e-4)


def test_order_of_the_batch_does_not_change_the_masks() -> None:
    net, features = settle(build_uhnet()), noise(4, 2, 64, 32).abs()
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        torch.testing.assert_close(net(features[order]), net(features)[order], rtol=0, atol=1e-5)


def test_the_recurrent_bottom_sees_the_whole_chunk() -> None:
    net, features = settle(build_uhnet()), noise(1, 2, 64, 128).abs()
    changed = features.clone()
    changed[..., :8] = 0
    with torch.no_grad():
        assert (net(changed) - net(features))[..., -8:].abs().max() > 1e-6
        local = settle(build_uhnet(recurrent=0))
        assert not (local(changed) - local(features))[..., -8:].any()


def test_dropout_acts_at_the_bottom_and_in_training_only() -> None:
    plain, features = settle(build_uhnet()), noise(2, 2, 64, 32).abs()
    net = settle(build_uhnet(dropout=0.5))
    net.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(net(features), plain(features))
        net.recurrent.train()
        assert (net(features) - plain(features)).abs().max() > 1e-6


def test_the_loss_ignores_rows_above_those_that_the_net_sees() -> None:
    net, batch = settle(build_uhnet()), make_panned_batch()
    high = batch.vocals.clone()
    high[..., SMALL.freqs :, :] += 10
    louder = nets.Batch(front_end=SMALL, features=batch.features, vocals=high, accompaniment=batch.accompaniment)
    for name, term in net.loss(batch).items():
        torch.testing.assert_close(net.loss(louder)[name], term)


@pytest.mark.parametrize("shape", [(1, 1, 64, 32), (1, 2, 128, 32)])
def test_features_of_another_front_end_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"channels = 2 and freqs = 64, not \d planes"):
        build_uhnet()(torch.zeros(shape))


def test_mono_excerpts_are_accepted() -> None:
    net, batch = build_uhnet(), make_panned_batch(channels=1)
    assert batch.features.shape == (4, 2, 64, 32)
    assert batch.apply_mask(net(batch.features)).shape == batch.mixture.shape
    assert all(term.isfinite() for term in net.loss(batch).values())


@pytest.mark.parametrize(
    "options",
    [
        {"freqs": 0},
        {"freqs": 1000},
        {"sub_bands": 0},
        {"widths": ()},
        {"widths": (32, 0)},
        {"squeeze": 0},
        {"recurrent": -1},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"decoder": 0},
        {"l1": -1.0},
        {"l1": 0.0},
        {"log_error": -0.1},
    ],
    ids=str,
)
def test_shapes_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a UH-net"):
        UHNetHDOptions(**options)


# side heads

HEADS = {"affinity": 0.5, "dimensions": 5, "voicing": 0.5}


def test_side_heads_add_their_losses_and_change_nothing_else() -> None:
    plain, batch = settle(build_uhnet()), make_panned_batch()
    net = settle(build_uhnet(**HEADS))
    net.load_state_dict(plain.state_dict(), strict=False)
    terms, without = net.loss(batch), plain.loss(batch)
    assert {name: terms[name] for name in without} == without
    assert set(terms) - set(without) == {"affinity", "voicing"}
    assert torch.equal(net(batch.features), plain(batch.features))


def test_every_parameter_of_the_side_heads_gets_a_gradient() -> None:
    net = build_uhnet(**HEADS)
    sum(net.loss(make_panned_batch()).values()).backward()  # type: ignore[union-attr]
    for head in (net.embed, net.voicing):
        for parameter in head.parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0


def test_the_affinity_loss_treats_both_channels_of_a_bin_as_one() -> None:
    net, batch = settle(build_uhnet(**HEADS)), make_panned_batch()
    maps = net._run(batch.features).maps
    power = [SMALL.analyse(stem).sum(dim=1)[..., ::4] for stem in (batch.vocals, batch.accompaniment)]
    embedded = torch.tanh(net.embed(maps))[..., ::4]
    naive = []
    for excerpt in range(4):
        v = torch.stack([embedded[excerpt, 5 * (freq // 16) : 5 * (freq // 16) + 5, freq % 16] for freq in range(64)])
        v = nn.functional.normalize(v.transpose(1, 2).reshape(-1, 5), dim=1)  # freq and frame, dimension
        voice = (power[0][excerpt] > power[1][excerpt]).float().flatten()
        weight = (power[0] + power[1])[excerpt].sqrt().flatten()
        weight = weight / weight.sum()
        same = voice[:, None] * voice + (1 - voice[:, None]) * (1 - voice)
        naive.append((weight[:, None] * weight * (v @ v.T - same).square()).sum())
    torch.testing.assert_close(net.loss(batch)["affinity"], 0.5 * torch.stack(naive).mean(), rtol=1e-3, atol=1e-5)


def test_the_voicing_head_learns_where_there_is_a_voice() -> None:
    """The batch has four excerpts with a voice and four without."""
    net, sung = build_uhnet(voicing=1.0), make_panned_batch()
    samples = nets.count_excerpt_samples(SMALL)
    quiet = nets.make_batch(SMALL, torch.zeros(4, 2, samples), noise(4, 2, samples, seed=3))
    parts = ("features", "vocals", "accompaniment")
    batch = nets.Batch(
        front_end=SMALL, **{part: torch.cat([getattr(sung, part), getattr(quiet, part)]) for part in parts}
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(30):
        loss = net.loss(batch)["voicing"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    voiced = torch.sigmoid(net._run(batch.features).voicing).mean(dim=(1, 2))
    assert voiced[:4].min() > 0.6  # a quarter of their frames are pauses
    assert voiced[4:].max() < 0.1


@pytest.mark.parametrize(("logit", "share"), [(20.0, 1.0), (0.0, 1.0), (-20.0, 0.0)])
def test_the_gate_closes_the_vocals_where_nobody_sings(logit: float, share: float) -> None:
    features = noise(2, 2, 64, 32).abs()
    net, open_net = settle(build_uhnet(**HEADS, gate=0.3)), settle(build_uhnet(**HEADS))
    open_net.load_state_dict(net.state_dict())
    with torch.no_grad():
        net.voicing.weight.zero_()
        net.voicing.bias.fill_(logit)  # type: ignore[union-attr]
    torch.testing.assert_close(net(features), share * open_net(features), rtol=0, atol=1e-6)
    torch.testing.assert_close(net.estimate_masks(features)[1], open_net.estimate_masks(features)[1])


@pytest.mark.parametrize("options", [{"affinity": -1.0}, {"dimensions": 0}, {"gate": 1.0}, {"gate": 0.2}], ids=str)
def test_options_of_heads_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a UH-net needs"):
        UHNetHDOptions(**options)
