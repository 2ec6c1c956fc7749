from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import scipy.fft
import torch
from net_batches import make_batch, noise
from torch import Tensor

from vocalsep import masks, nets, stft
from vocalsep.errors import ConfigError
from vocalsep.features import MFCC, FrontEnd, Linear
from vocalsep.nets.drnn import DRNN, DRNNOptions

PLAIN = Linear(rate=8_000, n_fft=256, hop=64, freqs=129, frames=32, channels=1, compression=0.0)
COMPRESSED = Linear(rate=8_000, n_fft=256, hop=64, freqs=129, frames=32, channels=1)
CEPSTRAL = MFCC(rate=8_000, n_fft=256, hop=64, bands=24, frames=32)
CEPSTRUM = {"answer": "cepstrum", "freqs": 24}
CEPSTRAL_MASK = {"answer": "mask", "freqs": 24, "mse": 0.0, "bce": 1.0, "standardise": True, "dropout": 0.1}
MASK = {"answer": "mask", "mse": 0.0, "spectral": 1.0, "bidirectional": True}
SHARE = {"answer": "share", "bidirectional": True}


def build_drnn(**options: Any) -> DRNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nets.build("drnn", {"freqs": 129, "units": 24, "layers": 2} | options)
    assert isinstance(net, DRNN)
    return net


KINDS: dict[str, tuple[dict[str, Any], FrontEnd]] = {
    "magnitude": ({}, PLAIN),
    "mask": (MASK, COMPRESSED),
    "share": (SHARE, COMPRESSED),
    "both": ({"spectral": 1.0}, PLAIN),
    "cepstrum": (CEPSTRUM, CEPSTRAL),
    "cepstral mask": (CEPSTRAL_MASK, CEPSTRAL),
}


def make_drnn_batch(front_end: FrontEnd = PLAIN, level: float = 1.0) -> nets.Batch:
    """Make a batch with the tones of these tests."""
    return make_batch(front_end, level=level, tones_hz=(500.0, 900.0, 1400.0, 1800.0))


def test_the_papers_net_has_1_251_073_parameters() -> None:
    assert nets.build("drnn", {"freqs": 257}).parameter_count == 1_251_073


@pytest.mark.parametrize("options", [{}, MASK, SHARE], ids=["magnitude", "mask", "share"])
@pytest.mark.parametrize("frames", [1, 32, 37])
def test_masks_have_the_shape_of_the_features_and_lie_in_range(options: dict[str, Any], frames: int) -> None:
    mask = build_drnn(**options)(10 * noise(3, 1, 129, frames).abs())
    assert mask.shape == (3, 1, 129, frames)
    assert 0 <= mask.min() < mask.max() <= 1


def test_features_of_another_front_end_are_refused() -> None:
    with pytest.raises(ConfigError, match="one channel and 129 rows, not 2 and 129"):
        build_drnn()(noise(1, 2, 129, 8).abs())


@pytest.mark.parametrize("front_end", [COMPRESSED, replace(PLAIN, exponent=0.5)], ids=["logarithm", "power"])
def test_magnitudes_need_a_front_end_that_does_not_compress(front_end: Linear) -> None:
    with pytest.raises(ConfigError, match="compression = 0 and exponent = 1"):
        build_drnn().loss(make_drnn_batch(front_end))


@pytest.mark.parametrize(
    "options",
    [
        {"mse": -1.0},
        {"mse": 0.0},
        {"units": 0},
        {"layers": 0},
        {"freqs": 0},
        {"spectral": -1.0},
        {"bce": 1.0},
        {"bce": -1.0, "answer": "mask"},
        {"dropout": 1.0},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        DRNNOptions(**options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    options, front_end = KINDS[kind]
    net = build_drnn(**options)
    terms = net.loss(make_drnn_batch(front_end))
    weighted = {"mse": 1.0} | options
    assert set(terms) == {name for name in ("mse", "spectral", "bce") if weighted.get(name)}
    sum(terms.values()).backward()  # type: ignore[union-attr]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


class FixedDRNN(DRNN):
    """A net whose dense layer returns a fixed tensor."""

    answer: Tensor

    def _run_layers(self, features: Tensor) -> Tensor:
        return self.answer.expand(features.shape)


def test_the_error_of_known_magnitudes_is_the_papers() -> None:
    """An answer of silence costs the vocals' power relative to the mixture's; the true answer costs nothing."""
    batch, net = make_drnn_batch(), FixedDRNN(DRNNOptions(freqs=129, units=1))
    level = batch.mixture.abs().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    truth = batch.vocals.abs() / level
    net.answer = torch.tensor(0.0)
    torch.testing.assert_close(net.loss(batch)["mse"], truth.square().mean())
    assert not net(batch.features).any()
    net.answer = truth
    assert net.loss(batch)["mse"].item() == pytest.approx(0, abs=1e-10)
    torch.testing.assert_close(net(batch.features), (batch.vocals.abs() / batch.mixture.abs()).clamp(max=1))


def test_the_loss_of_a_known_mask() -> None:
    batch = make_drnn_batch(COMPRESSED)
    net = FixedDRNN(DRNNOptions(freqs=129, units=1, answer="mask", mse=1.0, spectral=1.0))
    net.answer = torch.tensor(0.0)  # half of everything
    terms = net.loss(batch)
    level = batch.mixture.abs().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(terms["mse"], ((0.5 * batch.mixture.abs() - batch.vocals.abs()) / level).square().mean())
    error = masks.apply(torch.tensor(0.5), batch.mixture) - batch.vocals
    parts = torch.view_as_real(error).abs().mean(dim=(1, 2, 3, 4))
    unit = torch.view_as_real(batch.mixture).square().mean(dim=(1, 2, 3, 4)).sqrt()
    torch.testing.assert_close(terms["spectral"], (parts / unit).mean())


def test_the_loss_of_a_known_share_counts_both_sources() -> None:
    batch, net = make_drnn_batch(COMPRESSED), FixedDRNN(DRNNOptions(freqs=129, units=1, answer="share"))
    net.answer = torch.tensor(0.0)
    level = batch.mixture.abs().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    parts = (batch.vocals, batch.mixture - batch.vocals)
    error = sum(((0.5 * batch.mixture.abs() - part.abs()) / level).square().mean() for part in parts)
    torch.testing.assert_close(net.loss(batch)["mse"], error)


def test_the_share_is_that_of_two_magnitudes() -> None:
    net, features = build_drnn(**SHARE, layers=1), noise(2, 1, 129, 8).abs()
    seen, _ = net.gru(features[:, 0].transpose(1, 2))
    vocals, accompaniment = torch.nn.functional.softplus(net.dense(seen)).transpose(1, 2).chunk(2, dim=1)
    torch.testing.assert_close(net(features)[:, 0], vocals / (vocals + accompaniment))


def test_the_error_of_known_cepstra_is_the_papers() -> None:
    """The vocals' own coefficients cost nothing, and their mask is the ratio of powers."""
    batch, net = make_drnn_batch(CEPSTRAL), FixedDRNN(DRNNOptions(freqs=24, units=1, answer="cepstrum"))
    vocals, mixture = (CEPSTRAL.analyse(part) for part in (batch.vocals, batch.mixture))
    level = mixture.mean(dim=(1, 2, 3), keepdim=True)
    truth = torch.from_numpy(scipy.fft.dct((vocals / level / 1e-8 + 1).log().numpy(), type=2, norm="ortho", axis=2))
    net.answer = truth
    assert net.loss(batch)["mse"].item() == pytest.approx(0, abs=1e-6)
    expected = ((vocals + 1e-8 * level) / (mixture + 1e-8 * level)).clamp(max=1)
    torch.testing.assert_close(net(batch.features), expected, rtol=1e-3, atol=1e-4)
    net.answer = torch.tensor(0.0)
    torch.testing.assert_close(net.loss(batch)["mse"], truth.square().mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "front_end"), [(CEPSTRUM, Linear), ({"freqs": 24}, MFCC)], ids=["cepstrum", "magnitude"]
)
def test_each_answer_needs_its_front_end(options: dict[str, Any], front_end: type[FrontEnd]) -> None:
    linear = Linear(rate=8_000, n_fft=256, hop=64, freqs=24, frames=32, channels=1, compression=0.0)
    with pytest.raises(ConfigError, match="a DRNN needs a linear front end"):
        build_drnn(**options).loss(make_drnn_batch(CEPSTRAL if front_end is MFCC else linear))


def test_silence_has_an_empty_mask() -> None:
    assert not build_drnn()(torch.zeros(1, 1, 129, 8)).any()


@pytest.mark.parametrize(("bidirectional", "first_changed"), [(False, 20), (True, 0)])
def test_only_bidirectional_layers_see_future_frames(bidirectional: bool, first_changed: int) -> None:
    net, features = build_drnn(answer="mask", bidirectional=bidirectional), noise(1, 1, 129, 32).abs()
    other = features.clone()
    other[..., 20:] *= 2
    changed = (net(features) != net(other)).any(dim=2).flatten()
    assert int(changed.nonzero()[0]) == first_changed


@pytest.mark.parametrize("gain", [1e-3, 1e2])
@pytest.mark.parametrize("kind", KINDS)
def test_level_changes_neither_mask_nor_loss(gain: float, kind: str) -> None:
    options, front_end = KINDS[kind]
    net = build_drnn(**options).eval()
    one, two = make_drnn_batch(front_end), make_drnn_batch(front_end, level=gain)
    torch.testing.assert_close(net(two.features), net(one.features), rtol=1e-3, atol=1e-4)
    for name, term in net.loss(one).items():
        torch.testing.assert_close(net.loss(two)[name], term, rtol=1e-3, atol=1e-5)


def test_order_of_the_batch_does_not_change_the_masks() -> None:
    net, features = build_drnn(), noise(4, 1, 129, 16).abs()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(net(features[order]), net(features)[order])


@pytest.mark.parametrize(
    "kind",
    ["share", *(pytest.param(kind, marks=pytest.mark.slow) for kind in sorted(KINDS.keys() - {"both", "share"}))],
)
def test_it_overfits_one_batch(kind: str) -> None:
    """For a cepstrum, only values above 0 count, since the paper's ReLU cannot produce others."""
    options, front_end = KINDS[kind]
    net, batch = build_drnn(**options), make_drnn_batch(front_end)
    below = front_end.normalise(front_end.analyse(batch.vocals), front_end.analyse(batch.mixture)).clamp_max(0)
    floor = below.square().mean().item() if kind == "cepstrum" else 0.0
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-2 if kind == "cepstrum" else 1e-2)
    course = []
    for _ in range(60):
        loss = torch.stack(list(net.loss(batch).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(loss.item() - floor)
    assert course[-1] < 0.4 * course[0]


def test_it_takes_songs_with_any_number_of_channels() -> None:
    spectrum = stft.forward(noise(3, 4_000), COMPRESSED.grid)
    features = COMPRESSED.normalise(COMPRESSED.group_channels(COMPRESSED.analyse(spectrum)[None]))
    mask = COMPRESSED.ungroup_channels(build_drnn(**MASK)(features), 3)
    assert masks.apply(COMPRESSED.spread(mask)[0], spectrum).shape == spectrum.shape
