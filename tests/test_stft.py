from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Literal

import librosa
import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocalsep import stft
from vocalsep.errors import ConfigError
from vocalsep.stft import Grid

WINDOWS: tuple[Literal["hann", "hamming"], ...] = ("hann", "hamming")
GRID = Grid(rate=16_000, n_fft=256, hop=64)
HAMMING = replace(GRID, window="hamming")


def sound(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    parts = draw(st.integers(2, 8))
    hop = draw(st.integers(1, 24))
    n_fft = hop * parts + draw(st.sampled_from([0, hop // 2]))  # a whole number of hops, or half a hop more
    return Grid(rate=16_000, n_fft=n_fft + n_fft % 2, hop=hop, window=draw(st.sampled_from(WINDOWS)))


@st.composite
def cuts(draw: st.DrawFn, most: int) -> tuple[int, list[int]]:
    """Draw a length and the places where to cut it; equal places make empty blocks."""
    length = draw(st.integers(1, most))
    places = draw(st.lists(st.integers(0, length), max_size=6))
    return length, [0, *sorted(places), length]


@settings(deadline=None, max_examples=25)
@given(grid=grids(), length=st.integers(1, 400), channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_inverse_undoes_forward_at_every_length(grid: Grid, length: int, channels: int, seed: int) -> None:
    mixture = sound(channels, length, seed=seed)
    back = stft.inverse(stft.forward(mixture, grid), grid, length)
    torch.testing.assert_close(back, mixture, rtol=0, atol=2e-6)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000])
@pytest.mark.parametrize("grid", [GRID, HAMMING], ids=WINDOWS)
def test_inverse_undoes_forward_around_window_and_hop(grid: Grid, length: int) -> None:
    mixture = sound(2, 2, length)
    back = stft.inverse(stft.forward(mixture, grid), grid, length)
    torch.testing.assert_close(back, mixture, rtol=0, atol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("n_fft", [4, 256, 1_000])
def test_the_window_is_scipys_periodic_window(window: Literal["hann", "hamming"], n_fft: int) -> None:
    grid = Grid(rate=16_000, n_fft=n_fft, hop=n_fft // 4, window=window)
    reference = scipy.signal.get_window(window, n_fft, fftbins=True)
    np.testing.assert_allclose(grid.make_window(), reference, rtol=0, atol=1e-6)


def test_a_click_gets_the_windows_peak_at_a_frame_centre_and_its_edge_at_a_frame_edge() -> None:
    """Both windows are 1 in the middle. At the edge the Hann window is 0 and the Hamming window 0.08."""
    for grid, edge in ((GRID, 0.0), (HAMMING, 0.08)):
        click = torch.zeros(1, 2 * grid.n_fft)
        click[0, grid.n_fft] = 1
        loud = stft.forward(click, grid)[0].abs().amax(dim=0)
        centre = grid.n_fft // grid.hop
        assert loud[centre].item() == pytest.approx(1, abs=1e-6)
        assert loud[centre + grid.n_fft // 2 // grid.hop].item() == pytest.approx(edge, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(grid=grids(), length=st.integers(1, 400))
def test_forward_has_one_row_per_frequency_and_covers_every_sample(grid: Grid, length: int) -> None:
    spectrum = stft.forward(sound(2, length), grid)
    assert spectrum.shape == (2, grid.n_fft // 2 + 1, grid.count_frames(length))
    assert spectrum.dtype == torch.complex64
    assert grid.freqs == grid.n_fft // 2 + 1
    last_centre = (grid.count_frames(length) - 1) * grid.hop
    assert length <= last_centre < length + grid.hop


@settings(deadline=None, max_examples=25)
@given(grid=grids(), cut=cuts(300))
def test_analysis_does_not_depend_on_how_a_signal_is_cut(grid: Grid, cut: tuple[int, list[int]]) -> None:
    length, places = cut
    mixture = sound(2, length)
    analysis = stft.Analysis(grid)
    parts = [analysis.push(mixture[..., a:b]) for a, b in itertools.pairwise(places)]
    streamed = torch.cat([*parts, analysis.finish()], dim=-1)
    torch.testing.assert_close(streamed, stft.forward(mixture, grid), rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(grid=grids(), cut=cuts(40))
def test_synthesis_does_not_depend_on_how_a_spectrum_is_cut(grid: Grid, cut: tuple[int, list[int]]) -> None:
    frames, places = cut
    real, imag = sound(2, 2, grid.freqs, frames)
    spectrum = torch.complex(real, imag)
    length = (frames - 1) * grid.hop
    synthesis = stft.Synthesis(grid)
    parts = [synthesis.push(spectrum[..., a:b]) for a, b in itertools.pairwise(places)]
    streamed = torch.cat([*parts, synthesis.finish()], dim=-1)[..., :length]
    torch.testing.assert_close(streamed, stft.inverse(spectrum, grid, length), rtol=0, atol=1e-5)


def test_analysis_returns_a_frame_as_soon_as_its_last_sample_arrives() -> None:
    analysis = stft.Analysis(GRID)
    assert analysis.push(sound(1, 127)).shape[-1] == 0
    assert analysis.push(sound(1, 1)).shape[-1] == 1  # frame 0 sees samples -128 to 127
    assert analysis.push(sound(1, 63)).shape[-1] == 0
    assert analysis.push(sound(1, 1)).shape[-1] == 1


@given(grid=grids(), length=st.integers(1, 300), more=st.integers(0, 300))
@settings(deadline=None, max_examples=30)
def test_a_preview_shows_the_frames_as_if_the_signal_ended_and_changes_nothing(
    grid: Grid, length: int, more: int
) -> None:
    signal, analysis = sound(1, length + more), stft.Analysis(grid)
    complete = analysis.push(signal[:, :length])
    preview = analysis.preview(grid.parts)
    shown = torch.cat([complete, preview], dim=-1)
    ended = stft.forward(signal[:, :length], grid)
    assert shown.shape[-1] >= ended.shape[-1]
    torch.testing.assert_close(shown[..., : ended.shape[-1]], ended, rtol=0, atol=1e-5)
    rest = analysis.finish(signal[:, length:])
    torch.testing.assert_close(torch.cat([complete, rest], dim=-1), stft.forward(signal, grid), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="at least one sample"):
        stft.Analysis(grid).preview(1)


def test_streaming_keeps_no_more_than_a_window() -> None:
    analysis, synthesis = stft.Analysis(GRID), stft.Synthesis(GRID)
    returned = 0
    for count in range(1, 20):
        returned += synthesis.push(analysis.push(sound(1, 100))).shape[-1]
        assert 100 * count - returned < 2 * GRID.n_fft


@pytest.mark.parametrize("samples", [1000, 1024, 1027])
@pytest.mark.parametrize("hop", [64, 128])
@pytest.mark.parametrize("window", WINDOWS)
def test_frames_equal_those_of_librosa(samples: int, hop: int, window: Literal["hann", "hamming"]) -> None:
    grid = Grid(rate=16_000, n_fft=256, hop=hop, window=window)
    mixture = sound(samples)
    reference = librosa.stft(
        mixture.numpy(), n_fft=256, hop_length=hop, window=window, center=True, pad_mode="constant"
    )
    ours = stft.forward(mixture[None], grid)[0].numpy()
    assert ours.shape[-1] - reference.shape[-1] in (0, 1)  # it stops at the last full hop
    np.testing.assert_allclose(ours[:, : reference.shape[-1]], reference, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("grid", "window"),
    [(GRID, torch.hann_window(GRID.n_fft)), (HAMMING, torch.hamming_window(GRID.n_fft))],
    ids=WINDOWS,
)
def test_inverse_equals_torchs_even_for_spectra_that_no_signal_has(grid: Grid, window: Tensor) -> None:
    parts = sound(2, 2, grid.freqs, 20)
    spectrum = torch.complex(parts[0], parts[1])
    length = 19 * grid.hop
    reference = torch.istft(spectrum, grid.n_fft, grid.hop, window=window, center=True, length=length)
    torch.testing.assert_close(stft.inverse(spectrum, grid, length), reference, rtol=0, atol=1e-6)


def test_inverse_equals_librosas() -> None:
    parts = sound(2, GRID.freqs, 20, seed=1)
    spectrum = torch.complex(parts[0], parts[1])
    length = 19 * GRID.hop
    reference = librosa.istft(spectrum.numpy(), hop_length=GRID.hop, window="hann", center=True, length=length)
    ours = stft.inverse(spectrum[None], GRID, length)[0]
    np.testing.assert_allclose(ours.numpy(), reference, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frame", [0, 1, 5, 9])
def test_frame_is_centred_on_frame_times_hop(frame: int) -> None:
    mixture = torch.zeros(1, 9 * GRID.hop + 1)
    mixture[0, frame * GRID.hop] = 1
    spectrum = stft.forward(mixture, GRID)[0]
    signs = torch.tensor([1.0, -1.0]).repeat(GRID.freqs)[: GRID.freqs]  # half a window of delay
    torch.testing.assert_close(spectrum[:, frame], signs.to(torch.complex64), rtol=0, atol=1e-6)
    loud = spectrum.abs().amax(dim=0)
    reach = GRID.n_fft // 2 // GRID.hop
    for column in range(spectrum.shape[-1]):
        if abs(column - frame) >= reach:
            assert loud[column] < 1e-6
        else:
            expected = np.cos(np.pi * (column - frame) * GRID.hop / GRID.n_fft) ** 2
            assert loud[column].item() == pytest.approx(expected, abs=1e-6)


def test_a_sine_appears_in_its_own_row() -> None:
    row = 20
    seconds = torch.arange(4096) / GRID.rate
    sine = torch.sin(2 * torch.pi * GRID.hz[row] * seconds).float()[None]
    power = stft.forward(sine, GRID)[0].abs().square().mean(dim=-1)
    assert power.argmax().item() == row
    assert GRID.hz[0] == 0
    assert GRID.hz[-1] == GRID.rate / 2


def test_channels_and_batches_do_not_mix() -> None:
    mixture = sound(3, 2, 500)
    together = stft.forward(mixture, GRID)
    for batch in range(3):
        for channel in range(2):
            alone = stft.forward(mixture[batch, channel : channel + 1], GRID)
            torch.testing.assert_close(together[batch, channel : channel + 1], alone, rtol=0, atol=1e-5)


def test_gradient_of_a_linear_function_of_the_spectrum_is_the_function() -> None:
    mixture = sound(1, 301).requires_grad_()
    parts = sound(2, 1, GRID.freqs, GRID.count_frames(301), seed=1)

    def linear(samples: Tensor) -> Tensor:
        spectrum = stft.forward(samples, GRID)
        return (spectrum.real * parts[0] + spectrum.imag * parts[1]).sum()

    linear(mixture).backward()
    assert mixture.grad is not None
    assert (mixture.grad != 0).all()
    other = sound(1, 301, seed=2)
    torch.testing.assert_close((mixture.grad * other).sum(), linear(other), rtol=1e-4, atol=1e-3)


def test_transforms_do_not_change_their_inputs() -> None:
    mixture = sound(2, 300)
    before = mixture.clone()
    spectrum = stft.forward(mixture, GRID)
    spectrum_before = spectrum.clone()
    stft.inverse(spectrum, GRID, 300)
    assert torch.equal(mixture, before)
    assert torch.equal(spectrum, spectrum_before)


def test_a_signal_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        stft.forward(torch.zeros(1, 0), GRID)
    with pytest.raises(ValueError, match="at least one sample"):
        stft.Analysis(GRID).finish()


def test_a_spectrum_without_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        stft.Synthesis(GRID).finish()
    synthesis = stft.Synthesis(GRID)
    assert synthesis.push(torch.zeros(2, GRID.freqs, 0, dtype=torch.complex64)).shape == (2, 0)
    with pytest.raises(ValueError, match="at least one frame"):
        synthesis.finish()


@settings(deadline=None, max_examples=50)
@given(
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    hop=st.sampled_from([128, 160, 256, 300, 441, 512]),
    parts=st.sampled_from([2, 4, 8]),
    other=st.sampled_from([8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]),
    window=st.sampled_from(WINDOWS),
)
def test_at_rate_keeps_hz_seconds_and_window(
    rate: int, hop: int, parts: int, other: int, window: Literal["hann", "hamming"]
) -> None:
    grid = Grid(rate=rate, n_fft=hop * parts, hop=hop, window=window)
    moved = grid.at_rate(other)
    assert (moved.rate, moved.window) == (other, window)
    assert moved.n_fft // moved.hop == parts
    assert moved.frame_seconds == pytest.approx(grid.frame_seconds, rel=0.07)
    assert moved.hz[1].item() == pytest.approx(grid.hz[1].item(), rel=0.07)
    left = moved.hop
    for factor in (2, 3, 5):
        while left % factor == 0:
            left //= factor
    assert left == 1


@pytest.mark.parametrize("hop", [2, 64, 160, 240, 256, 480, 512])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("window", WINDOWS)
def test_at_its_own_rate_a_grid_stays_the_same(hop: int, rate: int, window: Literal["hann", "hamming"]) -> None:
    grid = Grid(rate=rate, n_fft=4 * hop, hop=hop, window=window)
    assert grid.at_rate(rate) == grid


def test_a_window_of_seven_and_a_half_hops_keeps_its_proportions_at_other_rates() -> None:
    grid = Grid(rate=44_100, n_fft=7_680, hop=1_024)
    assert grid.at_rate(44_100) == grid
    moved = grid.at_rate(22_050)
    assert (moved.n_fft, moved.hop) == (3_840, 512)


def test_grids_of_different_windows_are_different() -> None:
    assert GRID != HAMMING
    assert GRID.at_rate(44_100) != HAMMING.at_rate(44_100)
    sample = sound(1, 500)
    assert not torch.equal(stft.forward(sample, GRID), stft.forward(sample, HAMMING))


@pytest.mark.parametrize(
    ("rate", "n_fft", "hop"),
    [
        (0, 256, 64),
        (-16_000, 256, 64),
        (16_000, 256, 0),
        (16_000, 256, -64),
        (16_000, 255, 51),
        (16_000, 256, 129),
        (16_000, 256, 256),
        (16_000, 0, 1),
        (16_000, -256, 64),
    ],
)
def test_grid_without_exact_inverse_is_refused(rate: int, n_fft: int, hop: int) -> None:
    with pytest.raises(ConfigError, match=f"n_fft {n_fft}, hop {hop}"):
        Grid(rate=rate, n_fft=n_fft, hop=hop)


def has_only_small_factors(number: int) -> bool:
    for factor in (2, 3, 5):
        while number % factor == 0:
            number //= factor
    return number == 1


@settings(deadline=None, max_examples=50)
@given(length=st.integers(1, 20_000), multiple_of=st.sampled_from([1, 2, 4_096]))
def test_the_next_fast_length_is_the_smallest_that_is_long_enough(length: int, multiple_of: int) -> None:
    found = stft.next_fast_length(length, multiple_of=multiple_of)
    assert has_only_small_factors(found)
    assert found % multiple_of == 0
    smaller = range(-(-length // multiple_of) * multiple_of, found, multiple_of)
    assert not any(map(has_only_small_factors, smaller))


@settings(deadline=None, max_examples=50)
@given(length=st.floats(0.1, 2_000))
def test_no_even_fast_length_is_nearer_than_the_nearest(length: float) -> None:
    found = stft.nearest_fast_length(length)
    assert found % 2 == 0
    assert has_only_small_factors(found)
    others = [even for even in range(2, 2 * round(length) + 4, 2) if has_only_small_factors(even)]
    assert abs(found - length) == min(abs(other - length) for other in others)
