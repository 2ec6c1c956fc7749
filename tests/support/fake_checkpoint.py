"""TensorFlow checkpoints that need no TensorFlow: an index in LevelDB's format, and the values."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from vocalsep.shapes import Array

INDEX, DATA = "model.index", "model.data-00000-of-00001"
_MAGIC = 0xDB4775248B80FB57


def write_varint(value: int) -> bytes:
    """Return an integer of seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def write_field(number: int, value: int | bytes) -> bytes:
    """Return a field of a protocol buffer."""
    if isinstance(value, int):
        return write_varint(number << 3) + write_varint(value)
    return write_varint(number << 3 | 2) + write_varint(len(value)) + value


def write_block(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a block of a table, whose keys share what they have in common with the one before."""
    out, before = b"", b""
    for key, value in entries:
        most = min(len(key), len(before))
        shared = next((i for i in range(most) if key[i] != before[i]), most)
        out += write_varint(shared) + write_varint(len(key) - shared) + write_varint(len(value)) + key[shared:] + value
        before = key
    return out + struct.pack("<II", 0, 1)  # one restart, at the first key


def write_checkpoint(variables: Mapping[str, Array]) -> tuple[bytes, bytes]:
    """Return the index and the values of a checkpoint. Variables that are not float32 count as int64."""
    data, entries = b"", [(b"", write_field(1, 1))]
    for name, variable in sorted(variables.items()):
        content = variable.tobytes()
        shape = b"".join(write_field(2, write_field(1, size)) for size in variable.shape)
        entry = write_field(1, 1 if variable.dtype == np.float32 else 9) + write_field(2, shape)
        entry += (write_field(4, len(data)) if data else b"") + write_field(5, len(content))
        entries.append((name.encode(), entry + bytes([6 << 3 | 5]) + bytes(4)))
        data += content
    table = b""
    handles = []
    for block in (write_block(entries), write_block([])):
        handles.append(write_varint(len(table)) + write_varint(len(block)))
        table += block + bytes(5)
    index = write_block([(b"~", handles[0])])
    handles.append(write_varint(len(table)) + write_varint(len(index)))
    table += index + bytes(5)
    footer = handles[1] + handles[2]
    return table + footer.ljust(40, b"\0") + struct.pack("<Q", _MAGIC), data


def make_spleeter_variables(widths: tuple[int, ...], seed: int = 0) -> dict[str, Array]:
    """Return random variables with the names and shapes of Spleeter's 2-stem checkpoint.

    The layers are made in Spleeter's order, and numbered by kind as Keras numbers them.
    """
    random, counts, variables = np.random.default_rng(seed), Counter[str](), {}

    def add(kind: str, **shapes: tuple[int, ...]) -> None:
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        for part, shape in shapes.items():
            variables[f"{name}/{part}"] = random.uniform(0.5, 1.5, shape).astype(np.float32)

    def add_norm(width: int) -> None:
        add("batch_normalization", **dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (width,)))

    for _ in range(2):  # vocals, accompaniment
        before = 2
        for width in widths:
            add("conv2d", kernel=(5, 5, before, width), bias=(width,))
            add_norm(width)
            before = width
        for index, width in enumerate([*reversed(widths[:-1]), 1]):
            add("conv2d_transpose", kernel=(5, 5, width, before), bias=(width,))
            add_norm(width)
            before = 2 * width if index < len(widths) - 1 else width
        add("conv2d", kernel=(4, 4, 1, 2), bias=(2,))
    return variables
