from __future__ import annotations

from typing import Any

import pytest
import torch
from net_batches import make_batch, noise, set_batch_statistics
from torch import Tensor, nn

from vocalsep import masks, nets, stft
from vocalsep.errors import ConfigError
from vocalsep.features import LogMel
from vocalsep.nets.unet import UNet, UNetOptions

SMALL = LogMel(rate=8_000, n_fft=256, hop=64, bands=16, frames=32)


def build_unet(seed: int = 0, **options: Any) -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nets.build("unet", {"width": 4} | options)
    assert isinstance(net, UNet)
    return net


def settle(net: UNet, *shape: int) -> UNet:
    """Give the net the batch statistics of noise of a shape, and put it in evaluation mode."""
    return set_batch_statistics(net, noise(*shape, seed=7))


# the registry


def test_an_unknown_net_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown net 'unett'; did you mean 'unet'\?"):
        nets.build("unett", {})


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'options.widht'; did you mean 'options.width'\?"):
        nets.build("unet", {"widht": 4})


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"bce": -1.0},
        {"spectral": -1.0},
        {"bce": 0.0, "spectral": 0.0},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a U-Net needs"):
        UNetOptions(**options)


@pytest.mark.parametrize("name", sorted(nets.NETS))
def test_every_net_can_be_built_with_its_default_options(name: str) -> None:
    net = nets.NETS[name](nets.NETS[name].Options())
    assert isinstance(net, nets.Net)
    assert net.parameter_count > 0


# batches


@pytest.mark.parametrize("parts", [2, 3, 4, 8])
def test_the_frames_of_a_batch_see_only_the_excerpt(parts: int) -> None:
    """They equal frames of the whole song; a frame that reached past the excerpt would see zeros there."""
    front_end = LogMel(rate=8_000, n_fft=64 * parts, hop=64, bands=8, frames=16)
    start, samples = 10 * front_end.hop, nets.count_excerpt_samples(front_end)
    song = noise(2, 1, 2, start + samples + 1000)
    batch = nets.make_batch(front_end, *song[..., start : start + samples])
    whole = stft.forward(song[0], front_end.grid)
    matches = [
        frame
        for frame in range(whole.shape[-1] - front_end.frames)
        if torch.allclose(whole[..., frame : frame + front_end.frames], batch.vocals, atol=1e-4)
    ]
    assert len(matches) == 1


def test_a_batch_has_one_chunk_of_frames_and_its_mixture_is_the_sum() -> None:
    samples = nets.count_excerpt_samples(SMALL)
    vocals, accompaniment = noise(3, 2, samples), noise(3, 2, samples, seed=1)
    batch = nets.make_batch(SMALL, vocals, accompaniment)
    assert batch.features.shape == (3, 1, SMALL.bands, SMALL.frames)
    assert batch.vocals.shape == batch.accompaniment.shape == (3, 2, SMALL.grid.freqs, SMALL.frames)
    swapped = nets.make_batch(SMALL, accompaniment, vocals)
    assert torch.equal(swapped.vocals, batch.accompaniment)
    torch.testing.assert_close(swapped.features, batch.features)
    alone = nets.make_batch(SMALL, vocals + accompaniment, torch.zeros_like(vocals))
    torch.testing.assert_close(alone.vocals, batch.mixture, rtol=0, atol=1e-4)
    torch.testing.assert_close(alone.features, batch.features, rtol=0, atol=1e-3)


# the U-Net


def test_width_16_has_1_286_417_parameters() -> None:
    def convolution(inside: int, outside: int, size: int) -> int:
        return size * size * inside * outside

    def double(inside: int, outside: int) -> int:
        normalisations = 2 * (outside + outside)  # a gain and an offset per map, twice
        return convolution(inside, outside, 3) + convolution(outside, outside, 3) + normalisations

    encoder = double(1, 16) + double(16, 32) + double(32, 64) + double(64, 128) + double(128, 128)
    enlarging = sum(convolution(below, here, 2) + here for below, here in [(128, 128), (128, 64), (64, 32), (32, 16)])
    decoder = double(256, 128) + double(128, 64) + double(64, 32) + double(32, 16)
    head = 16 + 1
    assert encoder + enlarging + decoder + head == 1_286_417
    assert nets.build("unet", {"width": 16}).parameter_count == 1_286_417


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 1, 128, 128), (3, 1, 16, 48)])
def test_mask_has_the_shape_of_the_features_and_lies_in_range(shape: tuple[int, ...], training: bool) -> None:
    net = settle(build_unet(), *shape).train(training)
    mask = net(20 * noise(*shape)).detach()
    assert mask.shape == shape
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert mask.std() > 0.01  # a real answer, not a constant


def test_mask_is_the_sigmoid_of_the_logits() -> None:
    net, features = settle(build_unet(), 2, 1, 16, 32), noise(2, 1, 16, 32)
    torch.testing.assert_close(net(features), 1 / (1 + torch.exp(-net.compute_logits(features))))


@pytest.mark.parametrize("weights", [{"bce": 1.0, "spectral": 0.0}, {"bce": 0.0, "spectral": 1.0}], ids=str)
def test_every_parameter_gets_a_gradient_from_each_loss(weights: dict[str, float]) -> None:
    net = build_unet(**weights)
    (loss,) = net.loss(make_batch(SMALL, channels=2)).values()
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("shape", [(1, 2, 16, 32), (1, 1, 20, 32), (1, 1, 16, 30)])
def test_features_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="multiples of 16"):
        build_unet()(torch.zeros(shape))


def test_loss_terms_are_named_and_weighted() -> None:
    batch = make_batch(SMALL, size=2)
    single = build_unet(bce=1.0, spectral=1.0).eval().loss(batch)
    weighted = build_unet(bce=0.5, spectral=3.0).eval().loss(batch)
    assert set(single) == set(weighted) == {"bce", "spectral"}
    torch.testing.assert_close(weighted["bce"], 0.5 * single["bce"])
    torch.testing.assert_close(weighted["spectral"], 3 * single["spectral"])
    assert set(build_unet(bce=1.0, spectral=0.0).loss(batch)) == {"bce"}


class FixedUNet(UNet):
    """A U-Net that returns fixed logits."""

    answer: Tensor

    def compute_logits(self, features: Tensor) -> Tensor:
        return self.answer.expand(features.shape)


def test_losses_of_known_masks() -> None:
    """A mask of one half costs log 2 and half the mixture; the true mask of an all-vocal batch costs nothing."""
    samples = nets.count_excerpt_samples(SMALL)
    vocals = noise(2, 1, samples)
    batch = nets.make_batch(SMALL, vocals, torch.zeros_like(vocals))
    net = FixedUNet(UNetOptions(width=1, bce=1.0, spectral=1.0))
    net.answer = torch.tensor(0.0)
    half = net.loss(batch)
    torch.testing.assert_close(half["bce"], torch.tensor(2.0).log())
    parts = torch.view_as_real(batch.vocals).flatten(1)
    expected = (0.5 * parts.abs().mean(1) / parts.square().mean(1).sqrt()).mean()
    torch.testing.assert_close(half["spectral"], expected)
    net.answer = torch.tensor(50.0)
    for term in net.loss(batch).values():
        assert term.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("target", "ideal"), [("proportion", masks.ratio), ("binary", masks.binary)])
def test_the_cross_entropy_compares_with_the_chosen_mask(target: str, ideal: Any) -> None:
    batch, net = make_batch(SMALL, size=2), build_unet(target=target).eval()
    target_mask = ideal(SMALL.analyse(batch.vocals), SMALL.analyse(batch.accompaniment))
    logits = net.compute_logits(batch.features)
    expected = -(target_mask * logits.sigmoid().log() + (1 - target_mask) * (1 - logits.sigmoid()).log()).mean()
    torch.testing.assert_close(net.loss(batch)["bce"], expected)
    assert ((target_mask == 0) | (target_mask == 1)).all() == (target == "binary")


@pytest.mark.parametrize("gain", [1e-4, 0.3, 1e3])
def test_level_of_the_mixture_does_not_change_the_mask(gain: float) -> None:
    net = settle(build_unet(), 2, 1, 16, 32)
    samples = noise(2, 2, SMALL.chunk_samples)

    def answer(mixture: Tensor) -> Tensor:
        power = SMALL.analyse(stft.forward(mixture, SMALL.grid))
        return net(SMALL.normalise(power)).detach()

    torch.testing.assert_close(answer(samples * gain), answer(samples), rtol=0, atol=1e-4)


def test_order_of_the_batch_does_not_change_the_masks() -> None:
    net, features = settle(build_unet(), 4, 1, 32, 32), noise(4, 1, 32, 32)
    order = torch.tensor([2, 0, 3, 1])
    answers = net(features)
    torch.testing.assert_close(net(features[order]), answers[order], rtol=0, atol=1e-5)
    torch.testing.assert_close(net(features[1:2]), answers[1:2], rtol=0, atol=1e-5)


def test_masks_in_evaluation_mode_repeat_and_leave_the_input_alone() -> None:
    net, features = settle(build_unet(), 2, 1, 16, 32), noise(2, 1, 16, 32)
    before = features.clone()
    assert torch.equal(net(features), net(features))
    assert torch.equal(features, before)


def test_dropout_acts_in_training_only() -> None:
    features = noise(2, 1, 16, 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropping, keeping = build_unet(dropout=0.5), build_unet(dropout=0.0)
        assert not torch.equal(dropping(features), dropping(features))
        assert torch.equal(keeping(features), keeping(features))


def test_input_shifted_by_16_frames_shifts_the_mask_by_16_frames() -> None:
    net = settle(build_unet(), 2, 1, 16, 352)
    features = noise(1, 1, 16, 352)
    early_mask, late_mask = net(features[..., :336]), net(features[..., 16:])
    edge = 112  # reach of a bin: 3x3 kernels at five levels, down and up, and the poolings
    moved, stayed = early_mask[..., 16 + edge : 336 - edge], late_mask[..., edge : 320 - edge]
    assert moved.std() > 0.01
    torch.testing.assert_close(moved, stayed, rtol=0, atol=1e-5)


@pytest.mark.parametrize("axis", [-1, -2], ids=["frames", "bands"])
def test_skips_and_decoder_show_the_same_place(axis: int) -> None:
    """With symmetric kernels the net is its own mirror image, unless a skip is shifted."""
    net = build_unet()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.copy_(module.weight + module.weight.flip(axis))
    settle(net, 2, 1, 32, 48)
    features = noise(2, 1, 32, 48)
    mask = net(features)
    assert (mask - mask.flip(axis)).abs().mean() > 0.01
    torch.testing.assert_close(net(features.flip(axis)), mask.flip(axis), rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", range(4))
def test_every_skip_reaches_the_mask(level: int) -> None:
    net, features = settle(build_unet(), 2, 1, 16, 32), noise(2, 1, 16, 32)
    with_skip = net(features)
    first = net.merge[level][0]
    with torch.no_grad():
        first.weight[:, : first.in_channels // 2] = 0  # the maps of the skip
    assert (net(features) - with_skip).abs().max() > 1e-3


def compute_entropy(mask: Tensor) -> float:
    """Compute the mean entropy of a mask's bins, the lower bound of the cross-entropy."""
    return -(mask.xlogy(mask) + (1 - mask).xlogy(1 - mask)).mean().item()


@pytest.mark.parametrize(("loss", "factor"), [("bce", 12), ("spectral", 3)])
def test_overfits_one_batch(loss: str, factor: float) -> None:
    """The mixture's phase and the mel grid limit the spectral loss, hence its smaller factor."""
    batch = make_batch(SMALL)
    net = build_unet(dropout=0.0, **{"bce": 0.0, "spectral": 0.0, loss: 1.0})
    share = masks.ratio(SMALL.analyse(batch.vocals), SMALL.analyse(batch.accompaniment))
    floor = compute_entropy(share) if loss == "bce" else 0.0
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-2)
    course = []
    for _ in range(50):
        optimiser.zero_grad()
        (term,) = net.loss(batch).values()
        term.backward()
        optimiser.step()
        course.append(term.item() - floor)
    assert 0 < course[-1] < course[0] / factor
    if loss == "bce":  # evaluation mode keeps what was learnt
        assert (net.eval()(batch.features) - share).abs().mean() < 0.05
