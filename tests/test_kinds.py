"""The signal core answers the same for numpy arrays and torch tensors, and torch's gradients flow through it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor

from vocalsep import kinds, masks, stft
from vocalsep.features import MFCC, FrontEnd, Linear, LogMel
from vocalsep.features.base import compute_power, divide_by_mean
from vocalsep.shapes import AnyArray, Array
from vocalsep.stft import Grid

GRID = Grid(rate=8_000, n_fft=256, hop=64)
SONGS = GRID.at_rate(44_100)
LOG_MEL = LogMel(rate=8_000, n_fft=256, hop=64, bands=24, frames=16)
STEREO = Linear(rate=8_000, n_fft=256, hop=64, freqs=100, frames=16, exponent=0.7)
MONO = Linear(rate=8_000, n_fft=256, hop=64, freqs=129, frames=16, channels=1, compression=0.0)
CEPSTRUM = MFCC(rate=8_000, n_fft=256, hop=64, bands=24, frames=16)
WIDE = Linear(rate=8_000, n_fft=1024, hop=256, freqs=300, frames=16)
FRONT_ENDS = (LOG_MEL, STEREO, MONO, CEPSTRUM, WIDE)
SHAPES: st.SearchStrategy[tuple[int, ...]] = st.sampled_from([(1,), (2,), (3,), (2, 1), (3, 2), (2, 3, 2)])

Draw = np.random.Generator


def sound(draw: Draw, *shape: int) -> Array:
    return draw.standard_normal(shape).astype(np.float32)


def share(draw: Draw, *shape: int) -> Array:
    return draw.random(shape).astype(np.float32)


def spectrum(draw: Draw, *shape: int) -> Any:
    return (sound(draw, *shape) + 1j * sound(draw, *shape)).astype(np.complex64)


def check_agreement(function: Callable[..., Any], *arguments: Any) -> None:
    """Check that tensors give the answers of arrays, of the same types and with an SNR of 100 dB at least."""
    ours = function(*arguments)
    theirs = function(*(torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in arguments))
    if not isinstance(ours, tuple):
        ours, theirs = (ours,), (theirs,)
    assert len(ours) == len(theirs)
    for array, tensor in zip(ours, theirs, strict=True):
        assert isinstance(array, np.ndarray)
        assert isinstance(tensor, Tensor)
        check_close(array, tensor.numpy())


def check_close(ours: Any, theirs: Any) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    error = np.sum(np.abs(ours.astype(np.complex128) - theirs.astype(np.complex128)) ** 2)
    assert error <= 1e-10 * np.sum(np.abs(theirs.astype(np.complex128)) ** 2)


# both kinds agree


@settings(deadline=None, max_examples=20)
@given(lead=SHAPES, length=st.integers(1, 1500), seed=st.integers(0, 999))
def test_transforms_of_whole_signals_agree(lead: tuple[int, ...], length: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    for grid in (GRID, SONGS, CEPSTRUM.grid):
        check_agreement(lambda samples, grid=grid: stft.forward(samples, grid), sound(draw, *lead, length))
        frames = grid.count_frames(length)
        check_agreement(
            lambda values, grid=grid: stft.inverse(values, grid, length), spectrum(draw, *lead, grid.freqs, frames)
        )


@settings(deadline=None, max_examples=20)
@given(lead=SHAPES, places=st.lists(st.integers(0, 3000), max_size=6), seed=st.integers(0, 999))
def test_streams_agree_and_cuts_change_no_bit(lead: tuple[int, ...], places: list[int], seed: int) -> None:
    samples = sound(np.random.default_rng(seed), *lead, 3000)
    blocks = list(itertools.pairwise([0, *sorted(places), 3000]))

    def stream(samples: AnyArray) -> tuple[AnyArray, AnyArray]:
        analysis, synthesis = stft.Analysis(SONGS), stft.Synthesis(SONGS)
        parts = [analysis.push(samples[..., start:stop]) for start, stop in blocks] + [analysis.finish()]
        sounds = [synthesis.push(part) for part in parts] + [synthesis.finish()]
        xp = kinds.array_namespace(samples)
        return xp.concat(parts, axis=-1), xp.concat(sounds, axis=-1)[..., :3000]

    check_agreement(stream, samples)
    whole, back = stream(samples)
    np.testing.assert_array_equal(whole, stft.forward(samples, SONGS))
    np.testing.assert_array_equal(back, stft.inverse(whole, SONGS, 3000))


@settings(deadline=None, max_examples=20)
@given(count=st.integers(0, 200), seed=st.integers(0, 999))
def test_the_last_block_may_come_with_the_end(count: int, seed: int) -> None:
    samples = sound(np.random.default_rng(seed), 2, 200 + count)
    analysis, synthesis = stft.Analysis(GRID), stft.Synthesis(GRID)
    parts = [analysis.push(samples[..., :200]), analysis.finish(samples[..., 200:])]
    whole = stft.forward(samples, GRID)
    np.testing.assert_array_equal(np.concatenate(parts, axis=-1), whole)
    sounds = [synthesis.push(parts[0]), synthesis.finish(parts[1])]
    back = np.concatenate(sounds, axis=-1)[..., : samples.shape[-1]]
    np.testing.assert_array_equal(back, stft.inverse(whole, GRID, samples.shape[-1]))


@settings(deadline=None, max_examples=20)
@given(lead=SHAPES, seed=st.integers(0, 999))
def test_masks_agree(lead: tuple[int, ...], seed: int) -> None:
    draw = np.random.default_rng(seed)
    vocals, rest = (sound(draw, *lead, 9, 6) ** 2 for _ in range(2))
    vocals[..., 0, 0] = rest[..., 0, 0] = 0
    check_agreement(masks.ratio, vocals, rest)
    check_agreement(masks.binary, vocals, rest)
    mask = share(draw, *lead, 9, 6)
    mask[..., 0, 1] = np.nan
    mask[..., 2, 1] = np.inf
    check_agreement(masks.apply, mask, spectrum(draw, *lead, 9, 6))
    check_agreement(masks.split_mixture, vocals, rest)


@settings(deadline=None, max_examples=20)
@given(lead=SHAPES, seed=st.integers(0, 999))
def test_front_ends_agree_on_the_way_to_a_net(lead: tuple[int, ...], seed: int) -> None:
    draw = np.random.default_rng(seed)
    for front_end in FRONT_ENDS:
        found = spectrum(draw, *lead, front_end.grid.freqs, front_end.frames)
        check_agreement(front_end.analyse, found)
        check_agreement(front_end.analyse, np.ascontiguousarray(found.swapaxes(-1, -2)).swapaxes(-1, -2))
    check_agreement(compute_power, spectrum(draw, *lead, 9, 6))
    check_agreement(divide_by_mean, sound(draw, 2, *lead, 6) ** 2, sound(draw, 2, *lead, 6) ** 2 + 1)


@settings(deadline=None, max_examples=20)
@given(batch=st.integers(0, 3), channels=st.integers(1, 5), seed=st.integers(0, 999))
def test_chunks_and_masks_of_any_channels_agree(batch: int, channels: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    for front_end in FRONT_ENDS:
        rows = len(front_end.band_hz)
        power = sound(draw, batch, channels if front_end.input_shape[0] == 2 else 1, rows, front_end.frames) ** 2
        check_agreement(front_end.group_channels, power)
        grouped = front_end.group_channels(power)
        check_agreement(front_end.normalise, grouped)
        check_agreement(front_end.normalise, grouped, grouped + 1)
        for seen in {1, grouped.shape[1]}:
            mask = share(draw, len(grouped), seen, rows, front_end.frames)
            check_agreement(lambda mask, front_end=front_end: front_end.ungroup_channels(mask, channels), mask)


@settings(deadline=None, max_examples=20)
@given(lead=SHAPES, start=st.integers(0, 1000), seed=st.integers(0, 999))
def test_front_ends_agree_on_the_way_back(lead: tuple[int, ...], start: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    for front_end in FRONT_ENDS:
        mask = share(draw, *lead, len(front_end.band_hz), 16)
        for function in (front_end.resolve, front_end.spread):
            check_agreement(function, mask)
        for grid in (GRID, SONGS, front_end.grid):
            check_agreement(
                lambda mask, front_end=front_end, grid=grid: front_end.project(
                    mask, start=start, grid=grid, frames=range(start + 2, start + 11)
                ),
                mask,
            )


@settings(deadline=None, max_examples=10)
@given(rows=st.integers(257, 400), top=st.floats(2_000, 10_000), seed=st.integers(0, 999))
def test_masks_with_many_rows_are_carried_to_others_as_by_their_matrix(rows: int, top: float, seed: int) -> None:
    mask = share(np.random.default_rng(seed), 2, rows, 5)
    have, want = np.linspace(50, 4_000, rows), np.linspace(0, top, 500)
    matrix = masks.make_row_matrix(tuple(have.tolist()), tuple(want.tolist()))
    np.testing.assert_allclose(masks.spread(mask, rows_hz=have, to_hz=want), matrix @ mask, rtol=0, atol=1e-6)


# torch


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=lambda front_end: front_end.kind)
def test_gradients_flow_from_a_masked_song_to_sound_and_mask(front_end: FrontEnd) -> None:
    """The gradient of the whole way equals the difference quotient along a random direction."""
    draw = np.random.default_rng(0)
    samples = torch.from_numpy(sound(draw, 2, 2, front_end.chunk_samples)).double()
    grid = front_end.grid

    def compute(samples: Tensor, mask: Tensor) -> Tensor:
        seen = stft.forward(samples, grid)
        features = front_end.normalise(front_end.group_channels(front_end.analyse(seen)))
        back = front_end.spread(front_end.ungroup_channels(mask, 2))
        masked = stft.inverse(masks.apply(back, seen), grid, samples.shape[-1])
        weights = torch.arange(1, 1 + masked.numel(), dtype=torch.float64).reshape(masked.shape).cos()
        return (features**2).mean() + (masked * weights).sum()

    shape = (2, front_end.input_shape[0], *front_end.input_shape[1:])
    mask = torch.from_numpy(0.3 + 0.2 * share(draw, *shape)).double()
    leaves = samples.clone().requires_grad_(), mask.clone().requires_grad_()
    gradients = torch.autograd.grad(compute(*leaves), leaves)
    for place, gradient in enumerate(gradients):
        assert gradient.isfinite().all()
        way = torch.from_numpy(sound(draw, *gradient.shape)).double() * 1e-6
        ends = [
            [value + sign * way if at == place else value for at, value in enumerate((samples, mask))]
            for sign in (1, -1)
        ]
        difference = (compute(*ends[0]) - compute(*ends[1])).item() / 2
        assert (gradient * way).sum().item() == pytest.approx(difference, rel=1e-4)


def test_constants_first_placed_in_inference_serve_training() -> None:
    def make() -> Array:
        return np.ones((2, 3), np.float32)

    with torch.inference_mode():
        kinds.get_constant(torch.ones(1), make)
    values = torch.ones(3, 1, requires_grad=True)
    (kinds.get_constant(values, make) @ values).sum().backward()
    assert values.grad is not None
    assert (values.grad == 2).all()


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_constants_have_the_type_of_what_they_meet(kind: torch.dtype) -> None:
    assert kinds.get_constant(torch.ones(1, dtype=kind), GRID.make_window).dtype == kind


def test_the_signal_core_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from vocalsep import features, masks, stft\n"
        "for make in features.FRONT_ENDS.values():\n"
        "    end = make()\n"
        "    seen = stft.forward(np.ones((2, end.chunk_samples), np.float32), end.grid)\n"
        "    mask = end.ungroup_channels(end.normalise(end.group_channels(end.analyse(seen)[None])), 2)\n"
        "    stft.inverse(masks.apply(end.spread(mask)[0], seen), end.grid, 10)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_products_take_one_thread_and_leave_the_callers_setting_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def count_threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    seen = []

    class Spy(np.ndarray):
        def __matmul__(self, other: Any) -> Any:
            seen.append(count_threads())
            return np.asarray(self) @ other

    left, right = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((3, 4), np.float32)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with threadpool_limits(2, user_api="blas"):
        kinds._control_blas.cache_clear()
        product = kinds.matmul(left.view(Spy), right)
        assert count_threads() == {2}
    kinds._control_blas.cache_clear()
    assert seen == [{1}]
    assert np.array_equal(product, left @ right)
