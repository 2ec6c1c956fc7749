from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import fake_nets
import librosa
import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocalsep import config, masks, nets, stft, weights
from vocalsep.errors import ConfigError
from vocalsep.extraction import Extractor
from vocalsep.features import MFCC, FrontEnd, Linear, LogMel
from vocalsep.features.mfcc import make_dct_matrix
from vocalsep.shapes import Mask
from vocalsep.training import recipes

SMALL = MFCC(rate=8_000, n_fft=256, hop=64, bands=24, frames=16)
BOTH = pytest.mark.parametrize("front_end", [MFCC(), SMALL], ids=["default", "small"])
Float64s = npt.NDArray[np.float64]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def fading_noise(front_end: MFCC) -> Tensor:
    """Return a chunk of stereo noise, ``(1, 2, time)``, that falls by 60 dB from start to end."""
    samples = front_end.chunk_samples
    return noise(1, 2, samples) * 10 ** (-3 * torch.arange(samples) / samples)


def filters(front_end: MFCC) -> Float64s:
    """Return librosa's mel filters, each with the sum 1."""
    bank = librosa.filters.mel(
        sr=front_end.rate, n_fft=front_end.n_fft, n_mels=front_end.bands, norm=None, dtype=np.float64
    )
    return np.asarray(bank / bank.sum(axis=1, keepdims=True))


def compute_powers(front_end: MFCC, samples: Float64s) -> Float64s:
    """Return the power in each band of ``(channel, time)`` in float64, computed without torch and vocalsep."""
    size, hop = front_end.n_fft, front_end.hop
    count = 1 + -(-samples.shape[-1] // hop)
    padded = np.pad(samples, ((0, 0), (size // 2, size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[:, ::hop][:, :count]
    power = np.abs(np.fft.rfft(frames * scipy.signal.get_window("hamming", size))) ** 2
    _, response = scipy.signal.freqz([1, -front_end.pre_emphasis], worN=power.shape[-1], include_nyquist=True)
    return np.asarray(filters(front_end) @ (power.mean(axis=0) * np.abs(response) ** 2).T)


def compute_features(front_end: MFCC, samples: Tensor) -> Tensor:
    """Return a net's input for sound ``(batch, channel, time)``, as one chunk."""
    return front_end.normalise(front_end.analyse(stft.forward(samples, front_end.grid)))


# power under the filters


@BOTH
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_power_under_the_filters_equals_a_computation_in_numpy(front_end: MFCC, channels: int) -> None:
    samples = noise(channels, 7 * front_end.hop + 13)
    ours = front_end.analyse(stft.forward(samples, front_end.grid))
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours[0].numpy(), compute_powers(front_end, samples.double().numpy()), rtol=1e-4)


def test_the_window_is_hammings() -> None:
    assert SMALL.grid.window == "hamming"
    assert SMALL.grid.at_rate(44_100).window == "hamming"


@pytest.mark.parametrize("a", [0.0, 0.5, 0.97])
def test_pre_emphasis_of_the_spectrum_equals_that_of_the_samples_on_average(a: float) -> None:
    front_end, plain = (MFCC(rate=8_000, n_fft=256, hop=64, bands=24, pre_emphasis=p) for p in (a, 0.0))
    samples = noise(1, 400_000)
    filtered = torch.from_numpy(scipy.signal.lfilter([1, -a], 1, samples.numpy())).float()
    mean = [
        end.analyse(stft.forward(sound, end.grid)).mean(dim=-1)
        for end, sound in ((front_end, samples), (plain, filtered))
    ]
    torch.testing.assert_close(mean[0][0, 2:], mean[1][0, 2:], rtol=0.05, atol=0)  # in lower bands the window leaks


def test_opposite_phase_stereo_looks_like_mono() -> None:
    mono = noise(1, 1, 1000)
    for sign in (1, -1):
        both = compute_features(SMALL, torch.cat([mono, sign * mono], dim=1))
        torch.testing.assert_close(both, compute_features(SMALL, mono), rtol=0, atol=1e-4)


# coefficients


@BOTH
def test_coefficients_are_scipys_dct_of_the_logarithm_of_relative_power(front_end: MFCC) -> None:
    power = front_end.analyse(stft.forward(fading_noise(front_end), front_end.grid))
    relative = power.double().numpy() / float(power.double().mean())
    reference = scipy.fft.dct(np.log(relative / 1e-8 + 1), type=2, norm="ortho", axis=-2)
    ours = front_end.normalise(power)
    assert ours.shape == (1, 1, front_end.bands, front_end.frames)
    np.testing.assert_allclose(ours.numpy(), reference, rtol=0, atol=1e-4)


@BOTH
def test_librosa_recovers_the_power_from_the_coefficients(front_end: MFCC) -> None:
    power = front_end.analyse(stft.forward(fading_noise(front_end), front_end.grid))
    coefficients = front_end.normalise(power)[0, 0].double().numpy() * 10 / np.log(10)  # in dB
    reference = librosa.feature.inverse.mfcc_to_mel(coefficients, n_mels=front_end.bands)
    np.testing.assert_allclose(reference * 1e-8, (power / power.mean())[0, 0].numpy() + 1e-8, rtol=1e-3)


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 128))
def test_the_dct_matrix_is_orthonormal_and_row_n_has_n_half_periods(size: int) -> None:
    matrix = torch.from_numpy(make_dct_matrix(size))
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(size), rtol=0, atol=2e-6)
    number, row = torch.arange(size).double()[:, None], torch.arange(size).double()
    expected = (2 / size) ** 0.5 * torch.cos(torch.pi * number * (2 * row + 1) / (2 * size))
    expected[0] = size**-0.5
    torch.testing.assert_close(matrix.double(), expected, rtol=0, atol=1e-6)


@BOTH
def test_all_coefficients_are_kept_so_the_transposed_matrix_inverts_them(front_end: MFCC) -> None:
    power = uniform(3, 1, front_end.bands, 5) + 0.1
    level = torch.from_numpy(make_dct_matrix(front_end.bands)).T @ front_end.normalise(power)
    back = level.expm1() * 1e-8
    torch.testing.assert_close(back, power / power.mean(dim=(1, 2, 3), keepdim=True), rtol=1e-4, atol=0)


@pytest.mark.parametrize("gain", [1e-4, 1e-2, 0.3, 7.0, 1e3])
def test_the_level_of_a_chunk_does_not_matter(gain: float) -> None:
    samples = torch.cat([fading_noise(SMALL), noise(1, 2, SMALL.chunk_samples, seed=1)])
    features = compute_features(SMALL, samples)
    torch.testing.assert_close(compute_features(SMALL, samples * gain), features, rtol=0, atol=1e-3)
    one_louder = compute_features(SMALL, samples * torch.tensor([gain, 1.0]).reshape(2, 1, 1))
    torch.testing.assert_close(one_louder, features, rtol=0, atol=1e-3)


def test_power_relative_to_another_sound_changes_the_first_coefficient_only() -> None:
    power, other = uniform(2, 1, 24, 16) + 0.1, uniform(2, 1, 24, 16, seed=1) + 0.1
    assert torch.equal(SMALL.normalise(power, power), SMALL.normalise(power))
    change = SMALL.normalise(power, other) - SMALL.normalise(power)
    ratio = power.mean(dim=(1, 2, 3)) / other.mean(dim=(1, 2, 3))
    first = (24**0.5 * ratio.log()).reshape(2, 1, 1).expand(2, 1, 16)
    torch.testing.assert_close(change[:, :, 0], first, rtol=0, atol=1e-4)
    torch.testing.assert_close(change[:, :, 1:], torch.zeros(2, 1, 23, 16), rtol=0, atol=1e-4)


@pytest.mark.parametrize("floor_db", [-80.0, -30.0])
def test_silence_is_0_and_the_first_coefficient_is_the_mean_level_above_the_floor(floor_db: float) -> None:
    front_end = MFCC(rate=8_000, n_fft=256, hop=64, bands=24, frames=16, floor_db=floor_db)
    features = compute_features(front_end, torch.zeros(1, 2, front_end.chunk_samples))
    assert not features.any()
    flat = front_end.normalise(torch.ones(1, 1, 24, 16))
    level = 24**0.5 * np.log1p(10 ** (-floor_db / 10))
    torch.testing.assert_close(flat[:, :, 0], torch.full((1, 1, 16), level, dtype=torch.float32), rtol=1e-5, atol=0)
    torch.testing.assert_close(flat[:, :, 1:], torch.zeros(1, 1, 23, 16), rtol=0, atol=1e-3)


# masks


def find_nearest(front_end: MFCC, mask: Mask) -> Float64s:
    """Find in numpy the mask with the given means under the filters that lies nearest to the interpolated one."""
    bank = filters(front_end)
    wanted = mask.double().numpy()
    spread = masks.spread(mask, rows_hz=front_end.band_hz, to_hz=front_end.grid.hz).double().numpy()
    step, *_ = np.linalg.lstsq(bank, wanted - bank @ spread, rcond=None)  # the smallest correction
    return np.asarray(spread + step)


@BOTH
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_mask_stays_constant_on_any_grid(front_end: MFCC, value: float) -> None:
    mask = torch.full((2, 1, front_end.bands, 20), value)
    songs = front_end.grid.at_rate(44_100)
    found = [
        front_end.resolve(mask),
        front_end.spread(mask),
        front_end.project(mask, start=5, grid=front_end.grid, frames=range(7, 21)),
        front_end.project(mask, start=5, grid=songs, frames=range(7, 21)),
    ]
    own = front_end.grid.freqs
    assert [part.shape[2:] for part in found] == [(own, 20), (own, 20), (own, 14), (songs.freqs, 14)]
    for part in found:
        torch.testing.assert_close(part, torch.full_like(part, value), rtol=0, atol=2e-6 * value)


@BOTH
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999))
def test_a_resolved_mask_has_the_means_that_the_net_returned(front_end: MFCC, seed: int) -> None:
    mask = 0.5 + 0.05 * noise(front_end.bands, 3, seed=seed).clamp(-3, 3)
    resolved = front_end.resolve(mask)
    assert resolved.min() > 0
    assert resolved.max() < 1  # nothing is clamped
    torch.testing.assert_close(torch.from_numpy(filters(front_end)).float() @ resolved, mask, rtol=0, atol=1e-5)


@BOTH
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999))
def test_resolve_finds_the_mask_nearest_to_the_interpolated_one(front_end: MFCC, seed: int) -> None:
    for mask in (uniform(front_end.bands, 3, seed=seed), 0.5 + 0.05 * noise(front_end.bands, 3, seed=seed)):
        expected = find_nearest(front_end, mask).clip(0, 1)
        np.testing.assert_allclose(front_end.resolve(mask).numpy(), expected, rtol=0, atol=1e-5)


@BOTH
def test_sharp_masks_stay_between_0_and_1(front_end: MFCC) -> None:
    mask = (uniform(front_end.bands, 50) > 0.5).float()
    free = find_nearest(front_end, mask)
    assert free.min() < -0.05
    assert free.max() > 1.05
    for grid in (front_end.grid, front_end.grid.at_rate(44_100)):
        found = front_end.project(mask, start=0, grid=grid, frames=range(40))
        assert found.min() == 0
        assert found.max() == 1


def test_resolved_masks_lie_on_the_rows_of_the_stft() -> None:
    mask = uniform(2, 1, 24, 12)
    resolved = SMALL.resolve(mask)
    np.testing.assert_array_equal(SMALL.mask_hz, SMALL.grid.hz)
    assert torch.equal(SMALL.spread(mask), resolved)
    for grid, frames in ((SMALL.grid, range(103, 109)), (SMALL.grid.at_rate(44_100), range(101, 110))):
        expected = masks.project(
            resolved,
            rows_hz=SMALL.grid.hz,
            to_hz=grid.hz,
            seconds=np.arange(100, 112) * SMALL.grid.frame_seconds,
            to_seconds=np.arange(frames.start, frames.stop) * grid.frame_seconds,
        )
        torch.testing.assert_close(SMALL.project(mask, start=100, grid=grid, frames=frames), expected)


@pytest.mark.parametrize("front_end", [fake_nets.SMALL, fake_nets.LINEAR], ids=["log-mel", "linear"])
def test_other_front_ends_resolve_nothing(front_end: FrontEnd) -> None:
    mask = uniform(len(front_end.band_hz), 3)
    assert torch.equal(front_end.resolve(mask), mask)
    np.testing.assert_array_equal(front_end.mask_hz, front_end.band_hz)


def test_a_mask_at_some_hz_lies_at_the_same_hz_on_the_songs_grid() -> None:
    mask = torch.zeros(24, 20)
    mask[10] = 1
    for grid in (SMALL.grid, SMALL.grid.at_rate(44_100)):
        rows = SMALL.project(mask, start=0, grid=grid, frames=range(10)).mean(dim=-1)
        assert grid.hz[rows.argmax()].item() == pytest.approx(SMALL.band_hz[10].item(), abs=SMALL.grid.hz[1].item())


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_mask_of_ones_returns_the_song_and_one_of_zeros_silence(rate: int, channels: int) -> None:
    song = fake_nets.noise(channels, rate // 2)
    everything, nothing = (
        Extractor(fake_nets.constant(share, SMALL), device="cpu")(song, rate) for share in (1.0, 0.0)
    )
    assert fake_nets.snr_db(song, everything.vocals) > 100
    assert not nothing.vocals.any()


# settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"bands": 0},
        {"frames": 0},
        {"floor_db": 0.0},
        {"floor_db": 80.0},
        {"pre_emphasis": 1.0},
        {"pre_emphasis": -0.1},
        {"pre_emphasis": float("nan")},
        {"rate": 0},
        {"n_fft": 500},
        {"hop": 0},
        {"hop": 512},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MFCC(**wrong)


def test_too_many_bands_for_the_window_are_refused() -> None:
    with pytest.raises(ConfigError, match="300 mel bands are too many for n_fft 512"):
        MFCC(bands=300)


@settings(deadline=None, max_examples=30)
@given(
    bands=st.integers(1, 24),
    frames=st.integers(1, 300),
    pre_emphasis=st.floats(0, 1, exclude_max=True),
    floor_db=st.floats(-200, -0.1),
)
def test_settings_survive_toml(bands: int, frames: int, pre_emphasis: float, floor_db: float) -> None:
    made = MFCC(bands=bands, frames=frames, pre_emphasis=pre_emphasis, floor_db=floor_db)
    assert config.build(MFCC, tomllib.loads(config.dump_toml(config.to_dict(made)))) == made


def test_a_recipe_names_the_front_end_by_its_kind() -> None:
    found = recipes.read_recipe("unet", ["front_end={kind='mfcc', bands=40, pre_emphasis=0}"])
    assert found.front_end == MFCC(bands=40, pre_emphasis=0.0)
    assert config.build(recipes.Recipe, config.to_dict(found)) == found
    with pytest.raises(ConfigError, match=r"front_end\.floor_db"):
        recipes.read_recipe("unet", ["front_end={kind='mfcc', floor=3}"])


def test_a_weights_file_keeps_the_front_end(tmp_path: Path) -> None:
    net = nets.build("drnn", {"freqs": 24, "units": 2, "layers": 1, "answer": "cepstrum"})
    weights.save(tmp_path / "tiny.safetensors", net, SMALL, {})
    assert weights.load(str(tmp_path / "tiny.safetensors")).front_end == SMALL


def test_front_ends_with_the_same_number_of_rows_are_not_equal() -> None:
    same = {"rate": 8_000, "n_fft": 256, "hop": 64, "frames": 16}
    ends: list[FrontEnd] = [MFCC(**same, bands=24), LogMel(**same, bands=24), Linear(**same, freqs=24, channels=1)]
    assert [end == SMALL for end in ends] == [True, False, False]


def test_a_front_end_first_used_in_inference_still_serves_training() -> None:
    front_end = MFCC(rate=8_000, n_fft=256, hop=64, bands=23)  # no other test uses this one
    samples, mask = noise(1, 1, 1000).requires_grad_(), uniform(1, 1, 23, 3).requires_grad_()
    with torch.inference_mode():
        compute_features(front_end, noise(1, 1, 1000))
        front_end.resolve(torch.ones(23, 1))
    (compute_features(front_end, samples).square().sum() + front_end.resolve(mask).square().sum()).backward()
    for leaf in (samples, mask):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().max() > 0


def test_inputs_are_not_changed() -> None:
    spectrum, mask = stft.forward(noise(1, 2, 1000), SMALL.grid), noise(1, 1, 24, 9)
    power = SMALL.analyse(spectrum)
    before = [tensor.clone() for tensor in (spectrum, power, mask)]
    SMALL.analyse(spectrum)
    SMALL.normalise(power)
    SMALL.resolve(mask)
    SMALL.spread(mask)
    assert all(map(torch.equal, (spectrum, power, mask), before))
