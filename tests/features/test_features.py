from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from vocalsep import masks, stft
from vocalsep.errors import ConfigError
from vocalsep.features import FRONT_ENDS, MFCC, FrontEnd, Linear, LogMel
from vocalsep.stft import Grid

SMALL = LogMel(rate=8_000, n_fft=512, hop=128, bands=32, frames=16)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def compute_features(front_end: LogMel, samples: Tensor) -> Tensor:
    """Return a net's input for sound ``(batch, channel, time)``, as one chunk."""
    return front_end.normalise(front_end.analyse(stft.forward(samples, front_end.grid)))


def song() -> Tensor:
    """Return noise that swells, with a pause and a tone: a chunk with a dynamic range of some 60 dB."""
    time = torch.arange(15 * SMALL.hop)
    swell = 10 ** (-3 * (1 - time / len(time)))
    tone = torch.sin(2 * torch.pi * 440 * time / SMALL.rate)
    return (noise(2, 2, len(time)) * swell + tone) * (time > 500)


def analysis_matrix(front_end: LogMel) -> Tensor:
    """Return the matrix of `analyse`, ``(band, freq)``, found one row at a time."""
    spectrum = torch.eye(front_end.grid.freqs).to(torch.complex64)
    return front_end.analyse(spectrum[None])[0]


@pytest.mark.parametrize("gain", [1e-4, 1e-2, 0.3, 7.0, 1e3])
def test_the_level_of_a_chunk_does_not_matter(gain: float) -> None:
    torch.testing.assert_close(
        compute_features(SMALL, song() * gain), compute_features(SMALL, song()), rtol=0, atol=1e-4
    )


def test_each_chunk_of_a_batch_is_normalised_on_its_own() -> None:
    samples = song()
    samples[0] *= 100
    together = compute_features(SMALL, samples)
    torch.testing.assert_close(together[1:], compute_features(SMALL, samples[1:]), rtol=0, atol=1e-5)
    torch.testing.assert_close(together[:1], compute_features(SMALL, samples[:1]), rtol=0, atol=1e-5)


def test_silence_is_a_finite_constant_at_the_floor() -> None:
    features = compute_features(SMALL, torch.zeros(1, 2, 2000))
    assert (features == features[0, 0, 0, 0]).all()
    assert features[0, 0, 0, 0].item() == pytest.approx(-2, abs=1e-5)  # (floor - floor / 2) / 20
    assert features[0, 0, 0, 0] <= compute_features(SMALL, song()).min()


def test_bin_at_the_mean_of_its_chunk_lies_half_the_floor_above_zero() -> None:
    features = SMALL.normalise(torch.full((3, 1, 32, 16), 0.25))
    torch.testing.assert_close(features, torch.full((3, 1, 32, 16), 2.0), rtol=0, atol=1e-5)


def test_features_step_by_decibels() -> None:
    power = torch.tensor([1.0, 10.0, 100.0]).reshape(1, 1, 3, 1)
    features = SMALL.normalise(power).flatten()
    torch.testing.assert_close(features.diff() * 20, torch.tensor([10.0, 10.0]), rtol=0, atol=1e-4)


def test_bins_far_below_the_mean_count_as_silence() -> None:
    power = torch.ones(1, 1, 32, 16)
    power[0, 0, 3, 3] = 1e-12
    features = SMALL.normalise(power)
    assert features[0, 0, 3, 3].item() == pytest.approx(-2, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_all_channels_share_one_row_of_features(channels: int) -> None:
    spectrum = stft.forward(noise(3, channels, 15 * SMALL.hop), SMALL.grid)
    power = SMALL.analyse(spectrum)
    assert power.shape == (3, 1, 32, 16)
    assert power.dtype == torch.float32
    assert power.min() >= 0
    assert SMALL.normalise(power).shape == (3, 1, 32, 16)


def test_chunk_samples_fill_a_chunk_of_frames() -> None:
    assert SMALL.grid.count_frames(SMALL.chunk_samples) == SMALL.frames
    assert LogMel().chunk_samples == 127 * 256


@pytest.mark.parametrize("front_end", [LogMel(), SMALL], ids=["default", "small"])
def test_bands_are_the_triangles_of_librosa_with_sum_one(front_end: LogMel) -> None:
    bank = analysis_matrix(front_end).double()
    torch.testing.assert_close(bank.sum(dim=1), torch.ones(front_end.bands).double(), rtol=0, atol=1e-6)
    reference = librosa.filters.mel(
        sr=front_end.rate, n_fft=front_end.n_fft, n_mels=front_end.bands, norm=None, dtype=np.float64
    )
    reference = reference / reference.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(bank.numpy(), reference, rtol=0, atol=1e-6)


@pytest.mark.parametrize("front_end", [LogMel(), SMALL], ids=["default", "small"])
def test_band_hz_is_the_peak_of_each_triangle(front_end: LogMel) -> None:
    hz = front_end.band_hz
    assert hz.dtype == np.float64
    assert (np.diff(hz) > 0).all()
    assert hz[0] > 0
    assert hz[-1] < front_end.rate / 2
    peaks = front_end.grid.hz[analysis_matrix(front_end).argmax(dim=1).numpy()]
    assert (np.abs(peaks - hz) <= front_end.rate / front_end.n_fft).all()


def test_a_tone_appears_in_the_band_at_its_hz() -> None:
    front_end = LogMel()
    for band in (20, 64, 110):
        time = torch.arange(8 * front_end.hop) / front_end.rate
        tone = torch.sin(2 * torch.pi * front_end.band_hz[band] * time).float()
        features = compute_features(front_end, tone[None, None])
        assert features[0, 0, :, 4].argmax().item() == band


def test_opposite_phase_stereo_looks_like_stereo_in_phase_and_like_mono() -> None:
    mono = noise(1, 1, 2000)
    in_phase = compute_features(SMALL, torch.cat([mono, mono], dim=1))
    assert torch.equal(compute_features(SMALL, torch.cat([mono, -mono], dim=1)), in_phase)
    torch.testing.assert_close(compute_features(SMALL, mono), in_phase, rtol=0, atol=1e-5)


def test_constant_power_density_gives_equal_values() -> None:
    flat = torch.full((2, SMALL.grid.freqs, 5), 3.0).to(torch.complex64) * 1j
    power = SMALL.analyse(flat)
    torch.testing.assert_close(power, torch.full((1, 32, 5), 9.0), rtol=1e-5, atol=0)


def test_power_of_all_channels_is_averaged() -> None:
    spectrum = stft.forward(noise(2, 2000), SMALL.grid)
    alone = [SMALL.analyse(spectrum[channel : channel + 1]) for channel in range(2)]
    torch.testing.assert_close(SMALL.analyse(spectrum), (alone[0] + alone[1]) / 2)


def test_analyse_works_frame_by_frame() -> None:
    spectrum = stft.forward(noise(2, 2000), SMALL.grid)
    whole = SMALL.analyse(spectrum)
    for frame in (0, 7, spectrum.shape[-1] - 1):
        torch.testing.assert_close(SMALL.analyse(spectrum[..., frame : frame + 1]), whole[..., frame : frame + 1])


def test_inputs_are_not_changed() -> None:
    spectrum = stft.forward(noise(2, 2, 2000), SMALL.grid)
    before = spectrum.clone()
    power = SMALL.analyse(spectrum)
    power_before = power.clone()
    SMALL.normalise(power)
    assert torch.equal(spectrum, before)
    assert torch.equal(power, power_before)


def test_too_many_bands_for_the_window_are_refused() -> None:
    with pytest.raises(ConfigError, match="600 mel bands are too many for n_fft 1024"):
        LogMel(bands=600)


@pytest.mark.parametrize(
    "settings",
    [
        {"bands": 0},
        {"frames": 0},
        {"floor_db": 0.0},
        {"floor_db": 80.0},
        {"rate": 0},
        {"n_fft": 1001},
        {"hop": 0},
        {"hop": 1024},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LogMel(**settings)


def test_a_front_end_first_used_in_inference_still_serves_training() -> None:
    front_end = LogMel(rate=8_000, n_fft=512, hop=128, bands=17)
    samples = noise(1, 2000).requires_grad_()
    with torch.inference_mode():
        front_end.analyse(torch.ones(1, 257, 1, dtype=torch.complex64))
    front_end.analyse(stft.forward(samples, front_end.grid)).sum().backward()
    assert samples.grad is not None
    assert samples.grad.abs().max() > 0


def test_front_ends_are_registered_by_their_kind() -> None:
    assert {kind().kind: kind for kind in (LogMel, Linear, MFCC)} == FRONT_ENDS


# Linear

STEREO = Linear(rate=8_000, n_fft=256, hop=64, freqs=50, frames=16)
MONO = Linear(rate=8_000, n_fft=256, hop=64, freqs=129, frames=16, channels=1)


SIDE = Linear(rate=8_000, n_fft=256, hop=64, freqs=50, frames=16, side=True)


@pytest.mark.parametrize("front_end", [STEREO, MONO, SIDE], ids=["stereo", "mono", "side"])
@pytest.mark.parametrize("gain", [1e-4, 0.3, 1e3])
def test_linear_features_do_not_depend_on_the_level(front_end: Linear, gain: float) -> None:
    samples = noise(2, 2, 1000)
    torch.testing.assert_close(
        compute_features(front_end, samples * gain), compute_features(front_end, samples), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(("compression", "exponent"), [(2.0, 1.0), (0.0, 0.5), (2.0, 0.25)])
@pytest.mark.parametrize("freqs", [50, 129])
@pytest.mark.parametrize("channels", [1, 2])
def test_linear_features_are_compressed_magnitudes_relative_to_the_chunks_level(
    freqs: int, channels: int, compression: float, exponent: float
) -> None:
    how = {"compression": compression, "exponent": exponent}
    front_end = Linear(rate=8_000, n_fft=256, hop=64, freqs=freqs, frames=16, channels=channels, **how)
    spectrum = stft.forward(noise(1, channels, 1000), front_end.grid)
    magnitude = spectrum.abs()[:, :, :freqs]
    features = front_end.normalise(front_end.analyse(spectrum))
    level = (magnitude / magnitude.square().mean().sqrt()) ** exponent
    torch.testing.assert_close(features, torch.log(1 + 2 * level) if compression else level)


def test_linear_magnitudes_that_are_not_normalised_keep_the_level() -> None:
    front_end = Linear(rate=8_000, n_fft=256, hop=64, freqs=50, frames=16, compression=0.0, normalised=False)
    spectrum = stft.forward(noise(1, 2, 1000), front_end.grid)
    torch.testing.assert_close(front_end.normalise(front_end.analyse(spectrum)), spectrum[..., :50, :].abs())


def test_linear_silence_is_zero() -> None:
    assert not compute_features(STEREO, torch.zeros(1, 2, 1000)).any()


def test_a_mono_net_sees_the_mean_power_of_all_channels() -> None:
    spectrum = stft.forward(noise(3, 1000), MONO.grid)
    power = MONO.analyse(spectrum)
    torch.testing.assert_close(power, spectrum.abs().square().mean(dim=0, keepdim=True))
    assert MONO.group_channels(power[None]).shape == (1, 1, 129, power.shape[-1])


def test_linear_rows_are_those_of_the_stft() -> None:
    np.testing.assert_array_equal(STEREO.band_hz, STEREO.grid.hz[:50])
    assert Linear().band_hz[-1].item() == pytest.approx(1023 * 44_100 / 4096)


@pytest.mark.parametrize("channels", range(1, 7))
def test_channels_are_grouped_in_pairs_and_their_masks_ungrouped(channels: int) -> None:
    power = noise(3, channels, 50, 16).square()
    pairs = STEREO.group_channels(power)
    assert pairs.shape == (3 * ((channels + 1) // 2), 2, 50, 16)
    torch.testing.assert_close(STEREO.ungroup_channels(pairs, channels), power)
    first = pairs[: len(pairs) // 3]  # the groups of one chunk stay together
    torch.testing.assert_close(first.flatten(0, 1)[:channels], power[0])


@pytest.mark.parametrize("channels", range(1, 6))
def test_with_side_each_pair_of_channels_gets_a_third_plane(channels: int) -> None:
    spectrum = stft.forward(noise(3, channels, 15 * SIDE.hop), SIDE.grid)
    groups = SIDE.group_channels(SIDE.analyse(spectrum))
    pairs = STEREO.group_channels(STEREO.analyse(spectrum))
    assert groups.shape == (len(pairs), *SIDE.input_shape)
    assert torch.equal(groups[:, :2], pairs)
    assert torch.equal(SIDE.measure(spectrum), STEREO.analyse(spectrum))
    assert torch.equal(SIDE.group_measures(SIDE.measure(spectrum)), pairs)
    full = torch.cat([spectrum, spectrum[:, -1:]], dim=1) if channels % 2 else spectrum
    difference = (full[:, ::2] - full[:, 1::2])[..., :50, :]
    torch.testing.assert_close(groups[:, 2], difference.abs().square().flatten(0, 1) / 2)


def test_sound_from_the_middle_has_no_side() -> None:
    middle = noise(1, 1, 15 * SIDE.hop)
    planes = SIDE.analyse(stft.forward(torch.cat([middle, middle], dim=1), SIDE.grid))
    assert not planes[:, 2].any()
    mono = SIDE.analyse(stft.forward(middle, SIDE.grid))
    assert torch.equal(mono, planes)


def test_side_of_arrays_is_that_of_tensors() -> None:
    spectrum = stft.forward(noise(2, 3, 15 * SIDE.hop), SIDE.grid)
    np.testing.assert_allclose(SIDE.analyse(spectrum.numpy()), SIDE.analyse(spectrum).numpy(), rtol=1e-5, atol=1e-6)


def test_a_channel_that_the_net_sees_twice_gets_the_mean_of_its_masks() -> None:
    pair_masks = torch.tensor([0.1, 0.5, 0.2, 0.8]).reshape(2, 2, 1, 1).expand(-1, -1, 50, 16)
    got = STEREO.ungroup_channels(pair_masks, 3)
    torch.testing.assert_close(got[0, :, 0, 0], torch.tensor([0.1, 0.5, 0.5]))


def test_one_mask_for_both_channels_of_a_net_serves_both() -> None:
    got = STEREO.ungroup_channels(torch.tensor([0.25, 0.75]).reshape(2, 1, 1, 1).expand(-1, -1, 50, 16), 4)
    torch.testing.assert_close(got[0, :, 0, 0], torch.tensor([0.25, 0.25, 0.75, 0.75]))


@pytest.mark.parametrize("front_end", [SMALL, MONO], ids=["log-mel", "mono"])
def test_one_mask_for_all_channels_stays_one_mask(front_end: FrontEnd) -> None:
    mask = torch.rand(2, 1, 5, 3)
    assert torch.equal(front_end.ungroup_channels(mask, 2), mask)


def test_no_chunks_become_no_groups() -> None:
    assert STEREO.group_channels(torch.zeros(0, 3, 50, 16)).shape == (0, 2, 50, 16)


@pytest.mark.parametrize("front_end", [SMALL, STEREO, MONO], ids=["log-mel", "stereo", "mono"])
def test_on_its_own_grid_a_mask_is_projected_as_on_any_other(front_end: FrontEnd) -> None:
    mask = torch.rand(2, len(front_end.band_hz), 12, generator=torch.Generator().manual_seed(0))
    seconds = np.arange(100, 112) * front_end.grid.frame_seconds
    expected = masks.project(
        mask, rows_hz=front_end.band_hz, to_hz=front_end.grid.hz, seconds=seconds, to_seconds=seconds[3:9]
    )
    got = front_end.project(mask, start=100, grid=front_end.grid, frames=range(103, 109))
    torch.testing.assert_close(got, expected)


def test_on_another_grid_a_mask_keeps_its_place_in_seconds_and_hz() -> None:
    mask = torch.zeros(50, 40)
    mask[20, 10:20] = 1
    grid = Grid(rate=16_000, n_fft=1024, hop=256)
    got = STEREO.project(mask, start=200, grid=grid, frames=range(100, 120))
    where = got.nonzero()[got[got > 0].argmax()]
    assert grid.hz[where[0]] == pytest.approx(STEREO.band_hz[20].item())
    assert 210 * 64 / 8_000 <= (100 + where[1]) * 256 / 16_000 <= 220 * 64 / 8_000


@pytest.mark.parametrize(
    "settings",
    [
        {"freqs": 0},
        {"freqs": 2050},
        {"frames": 0},
        {"channels": 0},
        {"channels": 1, "side": True},
        {"compression": -1.0},
        {"exponent": 0.0},
        {"hop": 3000},
    ],
    ids=str,
)
def test_linear_values_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Linear(**settings)


@pytest.mark.parametrize("grid", [STEREO.grid, Grid(rate=16_000, n_fft=1024, hop=256)], ids=["same grid", "another"])
@pytest.mark.parametrize("freqs", [50, 300], ids=["few rows", "many rows"])
def test_the_mask_above_the_rows_is_zero_where_the_front_end_says_so(grid: Grid, freqs: int) -> None:
    front_end = Linear(rate=8_000, n_fft=1024, hop=64, freqs=freqs, frames=16, above="zero")
    frames = range(2, 4)
    got = front_end.project(torch.ones(2, freqs, 40), start=0, grid=grid, frames=frames)
    inside = torch.from_numpy(grid.hz <= front_end.band_hz[-1])
    assert got.shape == (2, grid.freqs, 2)
    assert (got[:, inside] == 1).all()
    assert (got[:, ~inside] == 0).all()
    assert inside.any()
    assert not inside.all()
