from __future__ import annotations

import fake_nets
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocalsep.extraction.chunks import Chunker, Stitcher

LENGTHS = st.integers(1, 90)
SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int]:
    """Draw the frames per chunk and the hop."""
    frames = draw(st.integers(1, 24))
    return frames, draw(st.integers(1, frames))


def song(length: int, seed: int = 0) -> Tensor:
    """Return frames of two channels and three bands."""
    return torch.randn(2, 3, length, generator=torch.Generator().manual_seed(seed))


def cut_into_chunks(frames: Tensor, size: int, hop: int, sizes: list[int]) -> Tensor:
    chunker = Chunker(size, hop)
    chunks = [chunker.push(part) for part in fake_nets.split_in_blocks(frames, sizes)]
    return torch.cat([*chunks, chunker.finish()])


def stitch(chunks: Tensor, stitcher: Stitcher, sizes: list[int]) -> Tensor:
    parts = [stitcher.push(part.movedim(-1, 0)) for part in fake_nets.split_in_blocks(chunks.movedim(0, -1), sizes)]
    return torch.cat([*parts, stitcher.finish()], dim=-1)


@settings(deadline=None, max_examples=60)
@given(length=LENGTHS, shape=shapes(), sizes=SIZES, batches=SIZES)
def test_chunks_stitched_together_are_the_song_again(
    length: int, shape: tuple[int, int], sizes: list[int], batches: list[int]
) -> None:
    frames = song(length)
    restored = stitch(cut_into_chunks(frames, *shape, sizes), Stitcher(*shape), batches)
    assert restored.shape[-1] >= length
    torch.testing.assert_close(restored[..., :length], frames, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(length=LENGTHS, shape=shapes(), sizes=SIZES)
def test_chunks_lie_on_one_grid_from_the_songs_start_and_are_padded_with_zeros(
    length: int, shape: tuple[int, int], sizes: list[int]
) -> None:
    size, hop = shape
    frames = song(length)
    count = 1 + max(0, -(-(length - size) // hop))
    padded = torch.nn.functional.pad(frames, (0, (count - 1) * hop + size - length))
    grid = torch.stack([padded[..., k * hop : k * hop + size] for k in range(count)])
    assert torch.equal(cut_into_chunks(frames, size, hop, sizes), grid)


def test_the_last_chunk_is_padded_with_zeros_and_returned_once() -> None:
    chunker = Chunker(4, 2)
    assert chunker.push(torch.ones(1, 7)).tolist() == [[[1, 1, 1, 1]], [[1, 1, 1, 1]]]
    assert chunker.finish().tolist() == [[[1, 1, 1, 0]]]


def test_a_song_that_ends_with_a_full_chunk_needs_no_padded_one() -> None:
    chunker = Chunker(4, 2)
    assert chunker.push(torch.ones(1, 6)).shape == (2, 1, 4)
    assert chunker.finish().shape == (0, 1, 4)


def test_a_chunk_is_returned_as_soon_as_it_is_full() -> None:
    chunker = Chunker(4, 2)
    returned = [len(chunker.push(torch.ones(1, 1))) for _ in range(9)]
    assert returned == [0, 0, 0, 1, 0, 1, 0, 1, 0]


def test_frames_are_returned_as_soon_as_no_later_chunk_holds_them() -> None:
    stitcher = Stitcher(4, 2)
    assert [stitcher.push(torch.ones(n, 1, 4)).shape[-1] for n in (0, 1, 0, 3)] == [0, 2, 0, 6]
    assert stitcher.finish().shape[-1] == 2


@settings(deadline=None, max_examples=60)
@given(
    value=st.floats(-1e3, 1e3, width=32, allow_subnormal=False),
    count=st.integers(1, 12),
    shape=shapes(),
    seed=st.integers(0, 2**31),
)
def test_a_constant_stays_constant_under_any_window(
    value: float, count: int, shape: tuple[int, int], seed: int
) -> None:
    size, hop = shape
    chunks = torch.full((count, 2, size), value)
    other = Stitcher(size, hop)
    other._window = torch.rand(size, generator=torch.Generator().manual_seed(seed)) + 1e-3
    for stitcher in (Stitcher(size, hop), other):
        whole = stitch(chunks, stitcher, [count])
        assert whole.shape == (2, (count - 1) * hop + size)
        torch.testing.assert_close(whole, torch.full_like(whole, value), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(shape=shapes(), count=st.integers(1, 9), batches=SIZES)
def test_frames_do_not_depend_on_how_chunks_are_batched(shape: tuple[int, int], count: int, batches: list[int]) -> None:
    chunks = torch.rand(count, 3, shape[0], generator=torch.Generator().manual_seed(1))
    one_by_one = stitch(chunks, Stitcher(*shape), [1])
    assert torch.equal(stitch(chunks, Stitcher(*shape), batches), one_by_one)
    assert one_by_one.min() >= 0
    assert one_by_one.max() <= 1 + 1e-6


def test_where_chunks_disagree_the_one_with_the_nearer_middle_counts_more() -> None:
    chunks = torch.stack([torch.zeros(1, 16), torch.ones(1, 16)])
    seam = stitch(chunks, Stitcher(16, 8), [2])[0, 8:16]
    assert (seam.diff() > 0).all()
    torch.testing.assert_close(seam, 1 - seam.flip(0))


def test_inputs_are_not_changed() -> None:
    frames = song(21)
    before = frames.clone()
    chunks = cut_into_chunks(frames, 8, 4, [5])
    held = chunks.clone()
    stitch(chunks, Stitcher(8, 4), [2])
    assert torch.equal(frames, before)
    assert torch.equal(chunks, held)


def test_finishing_without_a_push_is_an_error() -> None:
    with pytest.raises(ValueError, match="no frames"):
        Chunker(4, 2).finish()
    with pytest.raises(ValueError, match="no chunks"):
        Stitcher(4, 2).finish()
