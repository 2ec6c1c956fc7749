"""Reads protocol buffer messages without a schema, for checking files that nobody vouches for.

A message is a sequence of fields, each with a number and a value. What a number means is up to the caller, who knows
the message's definition. Values are views into the data, so that nothing is copied, however large a tensor is.

The encoding is described at https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

_MAX_FIELDS = 200_000  # of one message; graphs have a few thousand nodes, and reading must end soon
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, have been out of use since 2008
_MAX_VARINT_BYTES = 10
_LAST_BYTES = bytes(range(0x80))  # of a varint
_PIECE = 2**20  # bytes that are copied at a time


class Message:
    """One message, read as far as its fields; messages inside it are read when they are asked for.

    A field that is absent reads as its default, as protocol buffers have it: 0, empty or none.

    Args:
        data: The encoded message. A view of a memory map works, and nothing of it is copied.

    Raises:
        ValueError: If the data is not a message, or has far more fields than any that vocalsep reads.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._fields: dict[int, list[int | memoryview]] = {}
        for count, (number, value) in enumerate(read_fields(memoryview(data))):
            if count == _MAX_FIELDS:
                raise ValueError(f"a message has more than {_MAX_FIELDS} fields")
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def get_integer(self, number: int) -> int:
        """Return an integer, signed as in ``int64`` and ``int32``; the last one if there are several."""
        return self.list_integers(number)[-1] if number in self._fields else 0

    def list_integers(self, number: int) -> list[int]:
        """Return a repeated integer, packed or not, signed as in ``int64`` and ``int32``."""
        found: list[int] = []
        for value in self._fields.get(number, []):
            if isinstance(value, int):
                found.append(_to_signed(value))
                continue
            at = 0
            while at < len(value):
                integer, at = read_varint(value, at)
                found.append(_to_signed(integer))
                if len(found) > _MAX_FIELDS:
                    raise ValueError(f"a list has more than {_MAX_FIELDS} integers")
        return found

    def count_integers(self, number: int) -> int:
        """Return how many integers a repeated field has, packed or not, however many they are."""
        values = self._fields.get(number, [])
        return sum(1 if isinstance(value, int) else _count_varints(value) for value in values)

    def get_bytes(self, number: int) -> memoryview:
        """Return the content of a ``bytes``, ``string``, ``fixed32`` or ``fixed64`` field; the last one of several."""
        return self.list_bytes(number)[-1] if number in self._fields else memoryview(b"")

    def list_bytes(self, number: int) -> list[memoryview]:
        """Return all values of a repeated field as `get_bytes` does."""
        found = []
        for value in self._fields.get(number, []):
            if isinstance(value, int):
                raise ValueError(f"field {number} is an integer, not bytes")
            found.append(value)
        return found

    def get_text(self, number: int) -> str:
        """Return a ``string``. Bytes that are not UTF-8 become replacement characters."""
        return bytes(self.get_bytes(number)).decode("utf-8", "replace")

    def list_texts(self, number: int) -> list[str]:
        """Return a repeated ``string``; see `get_text`."""
        return [bytes(value).decode("utf-8", "replace") for value in self.list_bytes(number)]

    def get_message(self, number: int) -> Message:
        """Return a message inside this one; an empty one if it is absent.

        Raises:
            ValueError: If there are several. Protocol buffers merge them, so none of them is what a reader gets.
        """
        if len(self._fields.get(number, [])) > 1:
            raise ValueError(f"field {number} occurs more than once")
        return Message(self.get_bytes(number))

    def list_messages(self, number: int) -> Iterator[Message]:
        """Return the repeated messages of a field, one by one."""
        return (Message(value) for value in self.list_bytes(number))


def read_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Read the fields of a message, in order.

    Args:
        data: The encoded message.

    Yields:
        The field's number and its value: an integer for a varint, not negative, otherwise a view of the value's bytes.

    Raises:
        ValueError: If the data ends within a field, or is not a message.
    """
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError("field 0 does not exist")
        if kind == _VARINT:
            integer, at = read_varint(data, at)
            yield number, integer
            continue
        if kind == _LENGTH:
            size, at = read_varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} does not exist")
        if size > len(data) - at:
            raise ValueError("the data ends within a field")
        yield number, data[at : at + size]
        at += size


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read an integer of seven bits a byte, the lowest first. Return it and the position after it."""
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        if at >= len(data):
            raise ValueError("the data ends within an integer")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("an integer has more than 64 bits")


def _count_varints(data: memoryview) -> int:
    """Count integers by their last bytes, which are those below 128."""
    return sum(len(piece) - len(piece.translate(None, _LAST_BYTES)) for piece in _cut(data))


def _cut(data: memoryview) -> Iterator[bytes]:
    return (bytes(data[start : start + _PIECE]) for start in range(0, len(data), _PIECE))


def _to_signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
