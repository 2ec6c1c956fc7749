from __future__ import annotations

from collections.abc import Callable

import fake_nets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocalsep.errors import AudioError, ConfigError
from vocalsep.extraction import Extractor
from vocalsep.features import FrontEnd
from vocalsep.shapes import Waveform
from vocalsep.weights import Model

RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)


def compute_power_db(samples: Waveform, rate: int, low_hz: float, high_hz: float = 1e9) -> float:
    """Return the power between two frequencies in dB."""
    power = np.square(np.abs(np.fft.rfft(samples.astype(np.float64))))
    hz = np.fft.rfftfreq(samples.shape[-1], 1 / rate)
    return float(10 * np.log10(power[..., (hz >= low_hz) & (hz < high_hz)].sum()))


# masks


@pytest.mark.parametrize(
    "front_end", [fake_nets.PAPER, fake_nets.SMALL, fake_nets.LINEAR], ids=["paper", "small", "linear"]
)
@pytest.mark.parametrize("rate", RATES)
def test_a_mask_of_ones_returns_the_song(rate: int, front_end: FrontEnd) -> None:
    mixture = fake_nets.noise(2, rate // 2 + 77)
    parts = Extractor(fake_nets.constant(1, front_end))(mixture, rate)
    assert float(np.abs(parts.vocals - mixture).max()) < 2e-6
    assert float(np.abs(parts.accompaniment).max()) < 2e-6


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf], ids=str)
def test_a_mask_of_zeros_nan_or_infinity_gives_digital_silence(value: float) -> None:
    mixture = fake_nets.noise(2, 30_000)
    parts = Extractor(fake_nets.constant(value))(mixture, 44_100)
    assert not parts.vocals.any()
    assert np.array_equal(parts.accompaniment, mixture)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_mask_of_one_half_gives_half_the_song(rate: int) -> None:
    mixture = fake_nets.noise(2, rate)
    parts = Extractor(fake_nets.constant(0.5))(mixture, rate)
    np.testing.assert_allclose(parts.vocals, mixture / 2, rtol=0, atol=1e-6)
    np.testing.assert_allclose(parts.accompaniment, mixture / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [11_025, 48_000])
def test_vocals_are_not_shifted_in_time(rate: int) -> None:
    mixture = fake_nets.noise(1, rate)
    vocals = Extractor(fake_nets.constant(1))(mixture, rate).vocals
    spectrum = np.fft.rfft(vocals) * np.fft.rfft(mixture).conj()
    assert int(np.abs(np.fft.irfft(spectrum, n=rate)).argmax()) == 0


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_the_mask_lands_at_the_right_time_even_late_in_the_song(rate: int) -> None:
    start, end = 10.3, 10.6  # of a low tone over a high tone
    mixture = 0.01 * fake_nets.tone(3_500, rate, 12.0, channels=2)
    mixture[:, round(start * rate) : round(end * rate)] += fake_nets.tone(500, rate, 12.0)[:, : round(0.3 * rate)]
    vocals = Extractor(fake_nets.make_model(fake_nets.LowBandNet(), fake_nets.SMALL))(mixture, rate).vocals
    inside = slice(round((start + 0.01) * rate), round((end - 0.01) * rate))
    assert fake_nets.snr_db(mixture[:, inside], vocals[:, inside]) > 60
    # The windows of net and song, 32 ms each, and a frame of either reach the tone from afar.
    assert float(np.abs(vocals[:, : round((start - 0.06) * rate)]).max()) < 1e-6
    assert float(np.abs(vocals[:, round((end + 0.06) * rate) :]).max()) < 1e-6


def test_the_mask_lands_at_the_right_hz() -> None:
    hz = np.asarray(fake_nets.PAPER.band_hz)
    vocals_hz, other_hz = 1_000.0, 4_000.0
    wanted, other = (fake_nets.tone(f, 44_100, 1.0) for f in (vocals_hz, other_hz))
    parts = Extractor(fake_nets.constant((hz > 800) & (hz < 1_250)))(wanted + other, 44_100)
    inner = slice(4_410, -4_410)
    assert fake_nets.snr_db(wanted[:, inner], parts.vocals[:, inner]) > 40
    assert fake_nets.snr_db(other[:, inner], parts.accompaniment[:, inner]) > 40


def test_a_net_at_16_khz_keeps_the_bandwidth_of_the_song() -> None:
    mixture = fake_nets.noise(2, 48_000)
    for value, expected in ((1.0, 0.0), (0.5, -6.0206)):
        vocals = Extractor(fake_nets.constant(value))(mixture, 48_000).vocals
        for low in (8_000, 20_000):
            change = compute_power_db(vocals, 48_000, low) - compute_power_db(mixture, 48_000, low)
            assert change == pytest.approx(expected, abs=1e-3)


def test_above_its_band_a_net_applies_the_mask_of_its_highest_bands() -> None:
    mixture = fake_nets.noise(1, 48_000)
    top = np.asarray(fake_nets.PAPER.band_hz) > 5_500
    vocals = Extractor(fake_nets.constant(top))(mixture, 48_000).vocals
    high = compute_power_db(vocals, 48_000, 8_200) - compute_power_db(mixture, 48_000, 8_200)
    low = compute_power_db(vocals, 48_000, 0, 5_000) - compute_power_db(mixture, 48_000, 0, 5_000)
    assert high == pytest.approx(0, abs=0.01)
    assert low < -40


# channels, for a net that takes two at a time


class PannedNet(fake_nets.ConstantNet):
    """Returns 1 for the louder of its two channels and 0 for the other; 0.25 and 0.75 for equal ones."""

    def forward(self, features: Tensor) -> Tensor:
        level = features.mean(dim=(-2, -1), keepdim=True)
        louder = (level > level.flip(1)).float()
        tied = torch.tensor([0.25, 0.75]).reshape(1, 2, 1, 1)
        return torch.where(level == level.flip(1), tied, louder).expand(features.shape)


def separate_panned(levels: list[float], rate: int = 8_000) -> tuple[Waveform, Waveform]:
    """Return a song with these levels in its channels, and the vocals that `PannedNet` finds."""
    mixture = fake_nets.noise(1, 9_000) * np.array(levels, np.float32)[:, None]
    return mixture, Extractor(fake_nets.make_model(PannedNet(0.0), fake_nets.LINEAR))(mixture, rate).vocals


def test_each_channel_of_a_stereo_song_has_its_own_mask() -> None:
    mixture, vocals = separate_panned([0.2, 1.0])
    assert float(np.abs(vocals[0]).max()) < 1e-6
    np.testing.assert_allclose(vocals[1], mixture[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_a_mono_song_fills_both_channels_and_gets_the_mean_of_both_masks(rate: int) -> None:
    mixture, vocals = separate_panned([1.0], rate)
    np.testing.assert_allclose(vocals, mixture / 2, rtol=0, atol=1e-5)


def test_channels_go_in_pairs_and_an_odd_last_one_alone() -> None:
    mixture, vocals = separate_panned([0.2, 1.0, 1.0, 0.2, 0.5])
    expected = mixture * np.array([[0.0], [1.0], [1.0], [0.0], [0.5]])
    np.testing.assert_allclose(vocals, expected, rtol=0, atol=1e-5)


def test_above_its_rows_a_linear_net_applies_the_mask_of_its_highest_rows() -> None:
    mixture = fake_nets.noise(2, 16_000)
    top = np.asarray(fake_nets.LINEAR.band_hz) > 1_400  # its rows end at 2 kHz
    for rate in (8_000, 11_025):  # on the net's own grid, and projected
        vocals = Extractor(fake_nets.constant(top, fake_nets.LINEAR))(mixture, rate).vocals
        high = compute_power_db(vocals, rate, 2_100) - compute_power_db(mixture, rate, 2_100)
        low = compute_power_db(vocals, rate, 0, 1_300) - compute_power_db(mixture, rate, 0, 1_300)
        assert high == pytest.approx(0, abs=0.01)
        assert low < -40


# vocals + accompaniment == mixture


@settings(deadline=None, max_examples=30)
@given(
    bits=st.sampled_from([16, 24]),
    value=st.floats(0, 1, width=32, allow_subnormal=False),
    level=st.floats(1e-5, 2),
    samples=st.integers(1, 3_000),
    seed=st.integers(0, 2**31),
)
def test_vocals_and_accompaniment_add_up_to_the_mixture_bit_for_bit(
    bits: int, value: float, level: float, samples: int, seed: int
) -> None:
    mixture = fake_nets.quantise(fake_nets.noise(2, samples, seed, level), bits)
    parts = Extractor(fake_nets.constant(value, fake_nets.SMALL))(mixture, 8_000)
    assert np.array_equal(parts.vocals + parts.accompaniment, mixture)


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("inversion", ["phase", "griffin-lim"])
@pytest.mark.parametrize("model", [fake_nets.random_unet, fake_nets.random_uhnet])
def test_parts_add_up_with_random_nets_and_every_inversion(
    bits: int, inversion: str, model: Callable[[], Model]
) -> None:
    mixture = fake_nets.quantise(fake_nets.noise(2, 9_000, level=0.5), bits)
    parts = Extractor(model(), inversion=inversion)(mixture, 11_025)
    assert float(np.abs(parts.vocals).max()) > 0.1
    assert np.array_equal(parts.vocals + parts.accompaniment, mixture)


# shape


@settings(deadline=None, max_examples=40)
@given(
    rate=st.sampled_from(RATES),
    channels=st.sampled_from([1, 2, 3, 6]),
    seconds=st.floats(0, 2),
    samples=st.integers(1, 40),
    short=st.booleans(),
    front_end=st.sampled_from([fake_nets.PAPER, fake_nets.LINEAR]),
)
def test_output_has_the_shape_of_the_song(
    rate: int, channels: int, seconds: float, samples: int, short: bool, front_end: FrontEnd
) -> None:
    mixture = fake_nets.noise(channels, samples if short else round(seconds * rate) + samples)
    parts = Extractor(fake_nets.constant(0.25, front_end))(mixture, rate)
    for part in parts:
        assert part.shape == mixture.shape
        assert part.dtype == np.float32
        assert np.isfinite(part).all()
    np.testing.assert_allclose(parts.vocals, mixture / 4, rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 100, 2_879, 2_881])
@pytest.mark.parametrize("inversion", ["phase", "griffin-lim"])
def test_songs_shorter_than_a_window_or_a_chunk_work(samples: int, inversion: str) -> None:
    mixture = fake_nets.noise(2, samples)
    parts = Extractor(fake_nets.random_unet(fake_nets.PAPER), inversion=inversion)(mixture, 44_100)
    assert parts.vocals.shape == parts.accompaniment.shape == mixture.shape
    assert np.isfinite(parts.vocals).all()


# silence, level, NaN and infinity


@pytest.mark.parametrize("inversion", ["phase", "griffin-lim"])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_silence_in_silence_out(rate: int, inversion: str) -> None:
    song = Extractor(fake_nets.random_unet(), inversion=inversion).start(rate, 2)
    parts = fake_nets.separate_in_blocks(song, np.zeros((2, rate), np.float32), [rate // 2])
    assert not parts.vocals.any()
    assert not parts.accompaniment.any()
    assert song.voice_share == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("inversion", ["phase", "griffin-lim"])
def test_samples_that_are_not_finite_count_as_silence(bad: float, inversion: str) -> None:
    extractor = Extractor(fake_nets.random_unet(), inversion=inversion)
    mixture = fake_nets.noise(2, 6_000)
    mixture[0, 1_000] = mixture[1, 5_999] = 0
    mixture[:, 3_000:3_300] = 0
    spoilt = mixture.copy()
    spoilt[0, 1_000] = spoilt[1, 5_999] = bad
    spoilt[:, 3_000:3_300] = bad
    for part, clean in zip(extractor(spoilt, 11_025), extractor(mixture, 11_025), strict=True):
        assert np.array_equal(part, clean)
    nothing = extractor(np.full((1, 3_000), bad, np.float32), 8_000)
    assert not nothing.vocals.any()
    assert not nothing.accompaniment.any()


@pytest.mark.parametrize("peak", [1e-44, 1e-20, 1e12, 1e20, 3e38], ids=str)
def test_no_level_gives_nan_or_infinity(random_extractor: Extractor, peak: float) -> None:
    mixture = np.clip(fake_nets.noise(2, 6_000, level=1.0), -1, 1) * np.float32(peak)
    assert np.isfinite(mixture).all()
    for part in random_extractor(mixture, 16_000):
        assert np.isfinite(part).all()


@pytest.mark.parametrize("gain", [1e-3, 1e3])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_vocals_scale_with_the_song(random_extractor: Extractor, rate: int, gain: float) -> None:
    mixture = fake_nets.noise(2, rate, seed=5)
    assert (
        fake_nets.snr_db(random_extractor(mixture, rate).vocals, random_extractor(mixture * gain, rate).vocals / gain)
        > 60
    )


def test_with_one_mask_for_all_channels_equal_channels_stay_equal_and_silent_ones_silent() -> None:
    left = fake_nets.noise(1, 20_000)
    vocals = Extractor(fake_nets.random_unet())(np.concatenate([left, left, 0 * left]), 16_000).vocals
    assert np.array_equal(vocals[0], vocals[1])
    assert vocals[0].any()
    assert not vocals[2].any()


# side effects


@pytest.mark.parametrize("inversion", ["phase", "griffin-lim"])
def test_inputs_and_global_state_do_not_change(inversion: str) -> None:
    extractor = Extractor(fake_nets.random_unet(), inversion=inversion)
    mixture = fake_nets.noise(2, 12_000)
    before = mixture.copy()
    weights = {name: tensor.clone() for name, tensor in extractor.model.net.state_dict().items()}
    np.random.seed(1)  # noqa: NPY002 - the old global generator must not change
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr] # noqa: NPY002
    switches = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    extractor(mixture, 22_050)
    assert np.array_equal(mixture, before)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    assert (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()) == switches
    for name, tensor in extractor.model.net.state_dict().items():
        assert torch.equal(tensor, weights[name])


@pytest.mark.parametrize("inversion", ["phase", "griffin-lim"])
def test_the_same_song_gives_the_same_bytes(inversion: str) -> None:
    mixture = fake_nets.noise(2, 15_000)
    extractor = Extractor(fake_nets.random_unet(), inversion=inversion)
    first = extractor(mixture, 22_050)
    extractor(fake_nets.noise(1, 3_000), 8_000)  # another song in between
    again, anew = extractor(mixture, 22_050), Extractor(fake_nets.random_unet(), inversion=inversion)(mixture, 22_050)
    for parts in zip(first, again, anew, strict=True):
        assert len({part.tobytes() for part in parts}) == 1


def test_two_songs_at_a_time_do_not_affect_each_other(random_extractor: Extractor) -> None:
    songs = [fake_nets.noise(1, 12_000, seed) for seed in (1, 2)]
    separators = [random_extractor.start(8_000, 1) for _ in songs]
    got: list[list[Waveform]] = [[], []]
    for parts in zip(*(fake_nets.split_in_blocks(song, [3_000]) for song in songs), strict=True):
        for vocals, separator, part in zip(got, separators, parts, strict=True):
            vocals.append(separator.push(part).vocals)
    for vocals, separator, song in zip(got, separators, songs, strict=True):
        alone = fake_nets.separate_in_blocks(random_extractor.start(8_000, 1), song, [3_000]).vocals
        assert np.array_equal(np.concatenate([*vocals, separator.finish().vocals], axis=-1), alone)


def test_the_memory_layout_of_a_song_does_not_matter(random_extractor: Extractor) -> None:
    mixture = fake_nets.noise(2, 8_000)
    view = np.asfortranarray(mixture)
    assert not view.flags.c_contiguous
    assert np.array_equal(random_extractor(view, 11_025).vocals, random_extractor(mixture, 11_025).vocals)


# refusals


@pytest.mark.parametrize("shape", [(10,), (0, 10), (2, 0), (1, 2, 10)])
def test_a_mixture_of_another_shape_is_refused(random_extractor: Extractor, shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"expected \(channel, time\)"):
        random_extractor(np.zeros(shape, np.float32), 8_000)


def test_an_unknown_inversion_is_refused_and_the_nearest_suggested() -> None:
    with pytest.raises(ConfigError, match="unknown inversion 'griffinlim'; did you mean 'griffin-lim'"):
        Extractor(fake_nets.constant(1), inversion="griffinlim")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="use --device cpu"):
        Extractor(fake_nets.constant(1), device="cuda")


# workers


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_the_vocals_do_not_depend_on_the_number_of_workers(rate: int) -> None:
    model, mixture = fake_nets.random_uhnet(), fake_nets.noise(2, 5 * rate)
    alone, *others = (Extractor(model, workers=workers)(mixture, rate) for workers in (0, 1, 2, 5))
    assert fake_nets.snr_db(alone.vocals, others[0].vocals) > 100
    for other in others[1:]:
        assert np.array_equal(other.vocals, others[0].vocals)
        assert np.array_equal(other.accompaniment, others[0].accompaniment)


def test_with_workers_vocals_lag_by_a_bounded_time() -> None:
    song = Extractor(fake_nets.random_unet(), workers=2).start(8_000, 1)
    lag, longest = 0, 0
    for _ in range(60):
        lag += 4_000 - song.push(fake_nets.noise(1, 4_000)).vocals.shape[-1]
        longest = max(longest, lag)
    assert 0 < longest < 12_000
    assert song.finish().vocals.shape[-1] == lag


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    extractor = Extractor(fake_nets.make_model(fake_nets.FailingNet(RuntimeError("out of order"), after=3)), workers=2)
    with pytest.raises(RuntimeError, match="out of order"):
        extractor(fake_nets.noise(1, 160_000), 16_000)


def test_a_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="workers"):
        Extractor(fake_nets.constant(1), workers=-1)
