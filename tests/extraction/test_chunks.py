from __future__ import annotations

import fake_nets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep.extraction.chunks import Chunker, Stitcher
from vocalsep.shapes import Array

LENGTHS = st.integers(1, 90)
SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int]:
    """Draw the frames per chunk and the hop."""
    frames = draw(st.integers(1, 24))
    return frames, draw(st.integers(1, frames))


def song(length: int, seed: int = 0) -> Array:
    """Return frames of two channels and three bands."""
    return np.random.default_rng(seed).standard_normal((2, 3, length), dtype=np.float32)


def cut_into_chunks(frames: Array, size: int, hop: int, sizes: list[int]) -> Array:
    chunker = Chunker(size, hop)
    chunks = [chunk for part in fake_nets.split_in_blocks(frames, sizes) for chunk in chunker.push(part)]
    return np.stack([*chunks, *chunker.finish()])


def stitch(chunks: Array, stitcher: Stitcher) -> Array:
    return np.concatenate([*map(stitcher.push, chunks), stitcher.finish()], axis=-1)


@settings(deadline=None, max_examples=60)
@given(length=LENGTHS, shape=shapes(), sizes=SIZES)
def test_chunks_stitched_together_are_the_song_again(length: int, shape: tuple[int, int], sizes: list[int]) -> None:
    frames = song(length)
    restored = stitch(cut_into_chunks(frames, *shape, sizes), Stitcher(*shape))
    assert restored.shape[-1] >= length
    np.testing.assert_allclose(restored[..., :length], frames, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(length=LENGTHS, shape=shapes(), sizes=SIZES)
def test_chunks_lie_on_one_grid_from_the_songs_start_and_are_padded_with_zeros(
    length: int, shape: tuple[int, int], sizes: list[int]
) -> None:
    size, hop = shape
    frames = song(length)
    count = 1 + max(0, -(-(length - size) // hop))
    padded = np.pad(frames, ((0, 0), (0, 0), (0, (count - 1) * hop + size - length)))
    grid = np.stack([padded[..., k * hop : k * hop + size] for k in range(count)])
    assert np.array_equal(cut_into_chunks(frames, size, hop, sizes), grid)


def test_the_last_chunk_is_padded_with_zeros_and_returned_once() -> None:
    chunker = Chunker(4, 2)
    assert [chunk.tolist() for chunk in chunker.push(np.ones((1, 7)))] == [[[1, 1, 1, 1]], [[1, 1, 1, 1]]]
    assert [chunk.tolist() for chunk in chunker.finish()] == [[[1, 1, 1, 0]]]


def test_a_song_that_ends_with_a_full_chunk_needs_no_padded_one() -> None:
    chunker = Chunker(4, 2)
    assert [chunk.shape for chunk in chunker.push(np.ones((1, 6)))] == [(1, 4), (1, 4)]
    assert chunker.finish() == []


def test_a_chunk_is_returned_as_soon_as_it_is_full() -> None:
    chunker = Chunker(4, 2)
    returned = [len(chunker.push(np.ones((1, 1)))) for _ in range(9)]
    assert returned == [0, 0, 0, 1, 0, 1, 0, 1, 0]


def test_frames_are_returned_as_soon_as_no_later_chunk_holds_them() -> None:
    stitcher = Stitcher(4, 2)
    assert [stitcher.push(np.ones((1, 4))).shape[-1] for _ in range(4)] == [2, 2, 2, 2]
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
    chunks = np.full((count, 2, size), value, np.float32)
    other = Stitcher(size, hop)
    other._window = np.random.default_rng(seed).random(size, dtype=np.float32) + 1e-3
    for stitcher in (Stitcher(size, hop), other):
        whole = stitch(chunks, stitcher)
        assert whole.shape == (2, (count - 1) * hop + size)
        np.testing.assert_allclose(whole, np.full_like(whole, value), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(shape=shapes(), count=st.integers(1, 9))
def test_masks_from_0_to_1_stay_there(shape: tuple[int, int], count: int) -> None:
    whole = stitch(np.random.default_rng(1).random((count, 3, shape[0]), dtype=np.float32), Stitcher(*shape))
    assert whole.min() >= 0
    assert whole.max() <= 1 + 1e-6


def test_tensors_stay_tensors() -> None:
    frames = song(50)
    chunks = cut_into_chunks(frames, 8, 4, [5])
    chunker, stitcher = Chunker(8, 4), Stitcher(8, 4)
    tensors = [*chunker.push(torch.from_numpy(frames)), *chunker.finish()]
    stitched = torch.cat([*map(stitcher.push, tensors), stitcher.finish()], dim=-1)
    assert np.array_equal(torch.stack(tensors).numpy(), chunks)
    np.testing.assert_allclose(stitched.numpy(), stitch(chunks, Stitcher(8, 4)), rtol=1e-6)


def test_where_chunks_disagree_the_one_with_the_nearer_middle_counts_more() -> None:
    chunks = np.stack([np.zeros((1, 16), np.float32), np.ones((1, 16), np.float32)])
    seam = stitch(chunks, Stitcher(16, 8))[0, 8:16]
    assert (np.diff(seam) > 0).all()
    np.testing.assert_allclose(seam, 1 - seam[::-1], atol=1e-6)


def test_inputs_are_not_changed() -> None:
    frames = song(21)
    before = frames.copy()
    chunks = cut_into_chunks(frames, 8, 4, [5])
    held = chunks.copy()
    stitch(chunks, Stitcher(8, 4))
    assert np.array_equal(frames, before)
    assert np.array_equal(chunks, held)


def test_finishing_without_a_push_is_an_error() -> None:
    with pytest.raises(ValueError, match="no frames"):
        Chunker(4, 2).finish()
    with pytest.raises(ValueError, match="no chunks"):
        Stitcher(4, 2).finish()
