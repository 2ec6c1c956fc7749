from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import scipy.fft
import torch
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


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def drnn(**options: Any) -> DRNN:
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


def batch(front_end: FrontEnd = PLAIN, channels: int = 1, level: float = 1.0) -> nets.Batch:
    """Vocals: tones that come and go. Accompaniment: noise."""
    samples = nets.count_excerpt_samples(front_end)
    seconds = torch.arange(samples) / front_end.rate
    pitch = torch.tensor([500.0, 900.0, 1400.0, 1800.0]).reshape(4, 1, 1)
    gate = torch.sin(2 * torch.pi * 8 * seconds) > 0
    vocals = (torch.sin(2 * torch.pi * pitch * seconds) * gate).expand(4, channels, samples)
    return nets.make_batch(front_end, level * vocals, level * 0.2 * noise(4, channels, samples))


def test_the_papers_net_has_1_251_073_parameters() -> None:
    assert nets.build("drnn", {"freqs": 257}).parameter_count == 1_251_073


@pytest.mark.parametrize("options", [{}, MASK, SHARE], ids=["magnitude", "mask", "share"])
@pytest.mark.parametrize("frames", [1, 32, 37])
def test_masks_have_the_shape_of_the_features_and_lie_in_range(options: dict[str, Any], frames: int) -> None:
    mask = drnn(**options)(10 * noise(3, 1, 129, frames).abs())
    assert mask.shape == (3, 1, 129, frames)
    assert 0 <= mask.min() < mask.max() <= 1


def test_features_of_another_front_end_are_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="one channel and 129 rows, not 2 and 129"):
        drnn()(noise(1, 2, 129, 8).abs())


@pytest.mark.parametrize("front_end", [COMPRESSED, replace(PLAIN, exponent=0.5)], ids=["logarithm", "power"])
def test_magnitudes_need_a_front_end_that_does_not_compress(front_end: Linear) -> None:
    with pytest.raises(ConfigError, match="compression = 0 and exponent = 1"):
        drnn().loss(batch(front_end))


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
def test_options_without_meaning_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        DRNNOptions(**options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    options, front_end = KINDS[kind]
    net = drnn(**options)
    terms = net.loss(batch(front_end))
    weighted = {"mse": 1.0} | options
    assert set(terms) == {name for name in ("mse", "spectral", "bce") if weighted.get(name)}
    sum(terms.values()).backward()  # type: ignore[union-attr]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


class Fixed(DRNN):
    """A net whose dense layer answers what is given."""

    answer: Tensor

    def _run_layers(self, features: Tensor) -> Tensor:
        return self.answer.expand(features.shape)


def test_the_error_of_known_answers_is_the_papers() -> None:
    """Silence costs the power of the vocals against the mixture's; the truth costs nothing."""
    made, net = batch(), Fixed(DRNNOptions(freqs=129, units=1))
    level = made.mixture.abs().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    truth = made.vocals.abs() / level
    net.answer = torch.tensor(0.0)
    torch.testing.assert_close(net.loss(made)["mse"], truth.square().mean())
    assert not net(made.features).any()
    net.answer = truth
    assert net.loss(made)["mse"].item() == pytest.approx(0, abs=1e-10)
    torch.testing.assert_close(net(made.features), (made.vocals.abs() / made.mixture.abs()).clamp(max=1))


def test_the_loss_of_a_known_mask() -> None:
    made, net = batch(COMPRESSED), Fixed(DRNNOptions(freqs=129, units=1, answer="mask", mse=1.0, spectral=1.0))
    net.answer = torch.tensor(0.0)  # half of everything
    terms = net.loss(made)
    level = made.mixture.abs().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(terms["mse"], ((0.5 * made.mixture.abs() - made.vocals.abs()) / level).square().mean())
    parts = torch.view_as_real(masks.apply(torch.tensor(0.5), made.mixture) - made.vocals).abs().mean(dim=(1, 2, 3, 4))
    unit = torch.view_as_real(made.mixture).square().mean(dim=(1, 2, 3, 4)).sqrt()
    torch.testing.assert_close(terms["spectral"], (parts / unit).mean())


def test_the_loss_of_a_known_share_counts_both_sources() -> None:
    made, net = batch(COMPRESSED), Fixed(DRNNOptions(freqs=129, units=1, answer="share"))
    net.answer = torch.tensor(0.0)
    level = made.mixture.abs().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    parts = (made.vocals, made.mixture - made.vocals)
    error = sum(((0.5 * made.mixture.abs() - part.abs()) / level).square().mean() for part in parts)
    torch.testing.assert_close(net.loss(made)["mse"], error)


def test_the_share_is_that_of_two_magnitudes() -> None:
    net, features = drnn(**SHARE, layers=1), noise(2, 1, 129, 8).abs()
    seen, _ = net.gru(features[:, 0].transpose(1, 2))
    vocals, accompaniment = torch.nn.functional.softplus(net.dense(seen)).transpose(1, 2).chunk(2, dim=1)
    torch.testing.assert_close(net(features)[:, 0], vocals / (vocals + accompaniment))


def test_the_error_of_known_cepstra_is_the_papers() -> None:
    """The vocals' own coefficients, against the mixture's level, cost nothing; their mask is the ratio of powers."""
    made, net = batch(CEPSTRAL), Fixed(DRNNOptions(freqs=24, units=1, answer="cepstrum"))
    vocals, mixture = (CEPSTRAL.analyse(part) for part in (made.vocals, made.mixture))
    level = mixture.mean(dim=(1, 2, 3), keepdim=True)
    truth = torch.from_numpy(scipy.fft.dct((vocals / level / 1e-8 + 1).log().numpy(), type=2, norm="ortho", axis=2))
    net.answer = truth
    assert net.loss(made)["mse"].item() == pytest.approx(0, abs=1e-6)
    expected = ((vocals + 1e-8 * level) / (mixture + 1e-8 * level)).clamp(max=1)
    torch.testing.assert_close(net(made.features), expected, rtol=1e-3, atol=1e-4)
    net.answer = torch.tensor(0.0)
    torch.testing.assert_close(net.loss(made)["mse"], truth.square().mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "front_end"), [(CEPSTRUM, Linear), ({"freqs": 24}, MFCC)], ids=["cepstrum", "magnitude"]
)
def test_each_answer_needs_its_front_end(options: dict[str, Any], front_end: type[FrontEnd]) -> None:
    linear = Linear(rate=8_000, n_fft=256, hop=64, freqs=24, frames=32, channels=1, compression=0.0)
    with pytest.raises(ConfigError, match="a DRNN needs a linear front end"):
        drnn(**options).loss(batch(CEPSTRAL if front_end is MFCC else linear))


def test_silence_has_an_empty_mask() -> None:
    assert not drnn()(torch.zeros(1, 1, 129, 8)).any()


@pytest.mark.parametrize(("both_ways", "first_changed"), [(False, 20), (True, 0)])
def test_only_layers_of_both_directions_see_what_comes(both_ways: bool, first_changed: int) -> None:
    net, features = drnn(answer="mask", bidirectional=both_ways), noise(1, 1, 129, 32).abs()
    other = features.clone()
    other[..., 20:] *= 2
    changed = (net(features) != net(other)).any(dim=2).flatten()
    assert int(changed.nonzero()[0]) == first_changed


@pytest.mark.parametrize("gain", [1e-3, 1e2])
@pytest.mark.parametrize("kind", KINDS)
def test_level_changes_neither_mask_nor_loss(gain: float, kind: str) -> None:
    options, front_end = KINDS[kind]
    net = drnn(**options).eval()
    one, two = batch(front_end), batch(front_end, level=gain)
    torch.testing.assert_close(net(two.features), net(one.features), rtol=1e-3, atol=1e-4)
    for name, term in net.loss(one).items():
        torch.testing.assert_close(net.loss(two)[name], term, rtol=1e-3, atol=1e-5)


def test_order_of_the_batch_does_not_change_the_masks() -> None:
    net, features = drnn(), noise(4, 1, 129, 16).abs()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(net(features[order]), net(features)[order])


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"both"}))
def test_it_learns_one_batch_by_heart(kind: str) -> None:
    """Of a cepstrum what is above 0: the paper's ReLU cannot answer the rest."""
    options, front_end = KINDS[kind]
    net, made = drnn(**options), batch(front_end)
    below = front_end.normalise(front_end.analyse(made.vocals), front_end.analyse(made.mixture)).clamp_max(0)
    floor = below.square().mean().item() if kind == "cepstrum" else 0.0
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-2 if kind == "cepstrum" else 1e-2)
    losses = []
    for _ in range(60):
        loss = torch.stack(list(net.loss(made).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item() - floor)
    assert losses[-1] < 0.4 * losses[0]


def test_a_song_of_any_channels_goes_through_it() -> None:
    spectrum = stft.forward(noise(3, 4_000), COMPRESSED.grid)
    features = COMPRESSED.normalise(COMPRESSED.group_channels(COMPRESSED.analyse(spectrum)[None]))
    mask = COMPRESSED.ungroup_channels(drnn(**MASK)(features), 3)
    assert masks.apply(COMPRESSED.spread(mask)[0], spectrum).shape == spectrum.shape
