from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from vocalsep.interchange.protobuf import Message, read_fields


def encode(integer: int) -> bytes:
    out = bytearray()
    while integer > 0x7F:
        out.append(integer & 0x7F | 0x80)
        integer >>= 7
    return bytes([*out, integer])


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), st.text(max_size=20), st.binary(max_size=20))
def test_a_message_of_googles_library_reads_the_same(dims: list[int], name: str, content: bytes) -> None:
    tensor = TensorProto(dims=dims, name=name, raw_data=content, data_type=1)
    message = Message(tensor.SerializeToString())
    assert message.list_integers(1) == dims
    assert message.get_text(8) == name
    assert bytes(message.get_bytes(9)) == content
    assert message.get_integer(2) == 1
    assert message.get_integer(99) == 0
    assert 99 not in message


def test_messages_lie_within_messages() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Abs", ["b"], ["c"], domain="some.where")]
    graph = helper.make_graph(nodes, "graph", [], [])
    found = list(Message(helper.make_model(graph).SerializeToString()).get_message(7).list_messages(1))
    assert [(node.get_text(4), node.list_texts(1), node.get_text(7)) for node in found] == [
        ("Relu", ["a"], ""),
        ("Abs", ["b"], "some.where"),
    ]


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error(content: bytes) -> None:
    try:
        message = Message(content)
    except ValueError:
        return
    assert all(number > 0 for number, _ in read_fields(memoryview(content)))
    assert all(number in message for number, _ in read_fields(memoryview(content)))


@pytest.mark.parametrize(
    "content",
    [b"\x80", b"\x08", b"\x0a\x05abc", b"\x0d\x00", b"\x0b", b"\x00\x01", b"\x08" + b"\xff" * 10 + b"\x01"],
    ids=["tag", "integer", "bytes", "fixed", "group", "field 0", "70 bits"],
)
def test_damaged_messages_are_errors(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"ends|exist|bits"):
        Message(content)


@pytest.mark.parametrize("size", [2**40, 2**64 - 1])
def test_a_size_beyond_the_data_takes_no_memory(size: int) -> None:
    with pytest.raises(ValueError, match="ends within a field"):
        Message(b"\x0a" + encode(size))


def test_a_message_with_endless_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="fields"):
        Message(b"\x08\x01" * 300_000)
    with pytest.raises(ValueError, match="integers"):
        Message(b"\x0a" + encode(300_000) + b"\x01" * 300_000).list_integers(1)


def test_an_integer_is_not_bytes() -> None:
    with pytest.raises(ValueError, match="not bytes"):
        Message(b"\x08\x01").get_bytes(1)


def test_negative_integers_of_onnx_read_as_negative() -> None:
    attribute = onnx.AttributeProto(name="axis", i=-1)
    assert Message(attribute.SerializeToString()).get_integer(3) == -1
