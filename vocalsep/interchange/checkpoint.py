"""Reads the variables of a TensorFlow checkpoint, without TensorFlow.

A checkpoint is an index (``model.index``) and the values (``model.data-00000-of-00001``). The index is a table as
LevelDB writes it (https://github.com/google/leveldb/blob/main/doc/table_format.md), uncompressed: blocks of sorted keys
and values. Each value is a protocol buffer that says where a variable lies: its type (field 1), shape (2), file (3),
offset (4) and size in bytes (5).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np

from vocalsep.interchange.protobuf import Message, read_varint
from vocalsep.shapes import Array

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # after each block: how it is compressed, and a checksum
_FLOAT32 = 1
_MAX_VALUES = 2**28  # of one variable


def read_checkpoint(index: bytes, data: bytes | memoryview) -> dict[str, Array]:
    """Read the float32 variables of a checkpoint, by name.

    Args:
        index: Content of the index.
        data: Content of the file with the values. Variables are views of it.

    Raises:
        ValueError: If the index or the data are damaged, or the values lie in several files.
    """
    table, data = memoryview(index), memoryview(data)
    if len(table) < _FOOTER_BYTES or struct.unpack("<Q", table[-8:])[0] != _MAGIC:
        raise ValueError("its index is not that of a checkpoint")
    footer = table[-_FOOTER_BYTES:]
    at = 0
    for _ in range(2):  # where the table's statistics lie
        _, at = read_varint(footer, at)
    variables = {}
    for _, place in _read_block(table, *_read_place(footer[at:])):
        for key, value in _read_block(table, *_read_place(place)):
            entry = Message(value)
            if key and entry.get_integer(1) == _FLOAT32:  # the entry without a name is the index's header
                variables[key.decode("utf-8", "replace")] = _read_variable(entry, data)
    return variables


def _read_place(handle: memoryview) -> tuple[int, int]:
    """Read where a block lies: its offset and size."""
    offset, at = read_varint(handle, 0)
    return offset, read_varint(handle, at)[0]


def _read_block(table: memoryview, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the keys and values of a block. A key is stored as what differs from the key before it."""
    if size < 4 or offset + size + _TRAILER_BYTES > len(table):
        raise ValueError("its index ends too early")
    if table[offset + size]:
        raise ValueError("its index is compressed")
    block = table[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]  # positions of whole keys, for searching
    end, at, key = size - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = read_varint(block, at)
        fresh, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if shared > len(key) or at + fresh + length > end:
            raise ValueError("its index is damaged")
        key = key[:shared] + bytes(block[at : at + fresh])
        at += fresh
        yield key, block[at : at + length]
        at += length


def _read_variable(entry: Message, data: memoryview) -> Array:
    shape = [size.get_integer(1) for size in entry.get_message(2).list_messages(2)]
    offset, size = entry.get_integer(4), entry.get_integer(5)
    if entry.get_integer(3) or min(shape, default=0) < 0 or math.prod(shape) > _MAX_VALUES:
        raise ValueError("its values lie in several files, or their shapes make no sense")
    if offset < 0 or size != 4 * math.prod(shape) or offset + size > len(data):
        raise ValueError("its data ends too early or does not fit its index")
    return np.frombuffer(data[offset : offset + size], "<f4").reshape(shape)
