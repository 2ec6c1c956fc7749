from __future__ import annotations

import numpy as np
import pytest
from fake_checkpoint import make_spleeter_variables, write_checkpoint
from hypothesis import given
from hypothesis import strategies as st

from vocalsep.interchange.checkpoint import read_checkpoint

VARIABLES = make_spleeter_variables((2, 3))
INDEX, VALUES = write_checkpoint({**VARIABLES, "global_step": np.array(7, np.int64)})


def test_the_float_variables_come_back() -> None:
    read = read_checkpoint(INDEX, VALUES)
    assert read.keys() == VARIABLES.keys()
    for name, variable in VARIABLES.items():
        assert read[name].shape == variable.shape
        assert np.array_equal(read[name], variable), name


@given(st.integers(0, len(INDEX) - 1))
def test_an_index_that_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"index|data|integer|message|field|block"):
        read_checkpoint(INDEX[:length], VALUES)


@given(st.integers(0, len(INDEX) - 1), st.integers(0, 255))
def test_a_damaged_index_is_refused_or_gives_variables_of_the_stated_shapes(place: int, value: int) -> None:
    damaged = INDEX[:place] + bytes([value]) + INDEX[place + 1 :]
    try:
        read = read_checkpoint(damaged, VALUES)
    except ValueError:
        return
    assert sum(variable.nbytes for variable in read.values()) <= 2 * len(VALUES) * len(VARIABLES)


def test_values_that_are_cut_short_are_refused() -> None:
    with pytest.raises(ValueError, match="data ends too early"):
        read_checkpoint(INDEX, VALUES[:-9])


def test_a_compressed_block_is_refused() -> None:
    at = len(INDEX) - 48 - 5  # the byte after the last block says how it is compressed
    with pytest.raises(ValueError, match="compressed"):
        read_checkpoint(INDEX[:at] + b"\1" + INDEX[at + 1 :], VALUES)


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match="not that of a checkpoint"):
        read_checkpoint(b"words" * 100, VALUES)
