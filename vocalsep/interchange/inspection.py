"""Inspects ONNX files before anything loads them: what they declare, and whether it is safe to run.

A foreign graph is untrusted. ONNX Runtime would follow paths to other files, and take as much memory and time as a
graph asks for. So this module reads the file itself, without loading it, and refuses

- tensors whose declared size differs from the data that the file holds,
- data outside the file's own folder, strings, and sparse tensors, which unpack to any size,
- operators outside the ONNX standard, functions, loops, and random numbers,
- inputs and outputs that are not float tensors, or far larger than any known model's.

What remains is bounded by the file's size, except for the values that the graph computes. For those,
`vocalsep.backends.foreign` sets a limit.

Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import functools
import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vocalsep.errors import ModelError, describe_error
from vocalsep.interchange.protobuf import Message

MAX_FILE_BYTES = 2**30
MAX_SIGNAL_BYTES = 2**25  # of one input or output; the largest known model gives 17 MB
_MAX_DIMS = 8
_MAX_DEPTH = 8  # of graphs within graphs
_FLOAT, _STRING, _HALF = 1, 8, 10  # data types
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16}
_TYPED = {4: 32, 5: 32, 7: 64, 10: 64, 11: 64}  # fields that hold a tensor's values one by one, and bits of each
_DOMAINS = ("", "ai.onnx")
_ENDLESS = ("Loop", "Scan", "SequenceMap")
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")


@dataclass(frozen=True, kw_only=True)
class Signal:
    """An input or output of a graph.

    Attributes:
        name: Its name.
        shape: Its axes; None for an axis whose size the file leaves open.
        half: Whether it is float16 rather than float32.
    """

    name: str
    shape: tuple[int | None, ...]
    half: bool = False


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What an ONNX file declares.

    Attributes:
        input: Its only input.
        output: Its first output.
        properties: Its metadata.
        weight_bytes: Size of all its tensors.
    """

    input: Signal
    output: Signal
    properties: dict[str, str]
    weight_bytes: int


def inspect(path: Path) -> Inspected:
    """Inspect an ONNX file, without loading it. Its tensors are not even read.

    Args:
        path: The file.

    Raises:
        ModelError: If the file cannot be read, is not an ONNX model, or is not safe to run; see the module.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise _Refusal(f"has {size >> 20} MiB; the limit is {MAX_FILE_BYTES >> 20} MiB")
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closes itself with the last view of it
        return _inspect_model(Message(memoryview(content)), path.parent)
    except _Refusal as refusal:
        raise ModelError(f"{path}: vocalsep does not run this model: it {refusal}") from refusal
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({describe_error(error)})") from error
    except ValueError as error:  # also: an empty file cannot be mapped
        raise ModelError(f"{path}: is damaged, or not an ONNX model ({error})") from error


def inspect_own(content: bytes, sizes: Mapping[str, int]) -> None:
    """Inspect the graph in a weights file, which may come from anywhere, too.

    Args:
        content: The graph. Its large tensors are those of the file.
        sizes: Number of values of each tensor in the file, by name.

    Raises:
        ModelError: If it is not an ONNX model, or is not safe to run; see the module.
    """

    def measure(tensor: Message) -> int:
        name = tensor.get_text(8)
        if name not in sizes:
            raise _Refusal(f"takes data for {name!r} from another file")
        return 4 * sizes[name]

    try:
        model = Message(content)
        if 25 in model or 20 in model:
            raise _Refusal("has functions or training steps of its own")
        _check_graph(model.get_message(7), measure, depth=0)
    except _Refusal as refusal:
        raise ModelError(f"vocalsep does not run the net's graph: it {refusal}") from refusal
    except ValueError as error:
        raise ModelError(f"the net's graph is damaged ({error})") from error


class _Refusal(Exception):  # noqa: N818 - not an error of its own; `inspect` makes one of it
    """Why a model is not run: the rest of a sentence that begins with "it"."""


def _inspect_model(model: Message, folder: Path) -> Inspected:
    graph = model.get_message(7)
    if 7 not in model or 1 not in graph:
        raise ValueError("it has no graph")
    if 25 in model or 20 in model:
        raise _Refusal("has functions or training steps of its own")
    weight_bytes = _check_graph(graph, functools.partial(_measure_external, folder=folder), depth=0)
    known = {tensor.get_text(8) for tensor in graph.list_messages(5)}  # before 2019, weights were inputs as well
    inputs = [value for value in graph.list_messages(11) if value.get_text(1) not in known]
    outputs = list(graph.list_messages(12))
    if len(inputs) != 1 or not outputs:
        raise _Refusal(f"has {len(inputs)} inputs and {len(outputs)} outputs; expected one input")
    return Inspected(
        input=_read_signal(inputs[0], "input"),
        output=_read_signal(outputs[0], "output"),
        properties={entry.get_text(1): entry.get_text(2) for entry in model.list_messages(14)},
        weight_bytes=weight_bytes,
    )


def _read_signal(value: Message, what: str) -> Signal:
    kind = value.get_message(2).get_message(1)
    if kind.get_integer(1) not in (_FLOAT, _HALF):
        raise _Refusal(f"has an {what} that is not a tensor of floats")
    shape = tuple(_read_dimension(dimension) for dimension in kind.get_message(2).list_messages(1))
    if len(shape) > _MAX_DIMS or math.prod(size or 1 for size in shape) * 4 > MAX_SIGNAL_BYTES:
        raise _Refusal(f"declares an {what} of {_describe_shape(shape)} numbers")
    return Signal(name=value.get_text(1), shape=shape, half=kind.get_integer(1) == _HALF)


def _read_dimension(dimension: Message) -> int | None:
    size = dimension.get_integer(1)
    if size < 0:
        raise _Refusal("declares an axis of negative size")
    return size or None


def _describe_shape(shape: tuple[int | None, ...]) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape[: _MAX_DIMS + 1])


def _check_graph(graph: Message, measure: Callable[[Message], int], *, depth: int) -> int:
    """Check a graph and the graphs inside it. Return the size of their tensors in bytes.

    Args:
        graph: The graph.
        measure: Returns the size of a tensor that is stored elsewhere, in bytes.
        depth: Number of graphs around it.
    """
    if depth > _MAX_DEPTH:
        raise _Refusal(f"has more than {_MAX_DEPTH} graphs within each other")
    if 15 in graph:
        raise _Refusal("has sparse tensors")
    total = sum(_check_tensor(tensor, measure) for tensor in graph.list_messages(5))
    for node in graph.list_messages(1):
        operator, domain = node.get_text(4), node.get_text(7)
        if domain not in _DOMAINS:
            raise _Refusal(f"needs the operator {operator!r} of {domain!r}, which is not in the ONNX standard")
        if operator in _ENDLESS:
            raise _Refusal(f"has a loop ({operator}), which need not end")
        if operator in _RANDOM:
            raise _Refusal(f"draws random numbers ({operator}), so no run would be like another")
        for attribute in node.list_messages(5):
            if 22 in attribute or 23 in attribute:
                raise _Refusal("has sparse tensors")
            total += sum(
                _check_tensor(tensor, measure) for field in (5, 10) for tensor in attribute.list_messages(field)
            )
            total += sum(_check_graph(inner, measure, depth=depth + 1) for inner in _list_graphs(attribute))
    return total


def _list_graphs(attribute: Message) -> Iterator[Message]:
    yield from attribute.list_messages(6)
    yield from attribute.list_messages(11)


def _check_tensor(tensor: Message, measure: Callable[[Message], int]) -> int:
    """Check that a tensor has as much data as it declares. Return its size in bytes."""
    name, dims, kind = tensor.get_text(8), tensor.list_integers(1), tensor.get_integer(2)
    if kind == _STRING or kind not in _BITS:
        raise _Refusal(f"has a tensor {name!r} of {'strings' if kind == _STRING else f'unknown type {kind}'}")
    if len(dims) > _MAX_DIMS or any(size < 0 for size in dims):
        raise _Refusal(f"has a tensor {name!r} with axes {dims[: _MAX_DIMS + 1]}")
    declared = math.prod(dims) * _BITS[kind] // 8
    if tensor.get_integer(14) == 1:
        held = measure(tensor)
    elif 9 in tensor:
        held = len(tensor.get_bytes(9))
    else:
        return _check_values(tensor, math.prod(dims), name)
    if held != declared:
        raise _Refusal(f"has a tensor {name!r} that declares {declared} bytes and has {held}")
    return declared


def _check_values(tensor: Message, count: int, name: str) -> int:
    """Check a tensor whose values are listed one by one. Return the number of bytes that they take at most."""
    held = sum(_count_values(tensor, field) for field in _TYPED)
    if held != count:
        raise _Refusal(f"has a tensor {name!r} that declares {count} numbers and has {held}")
    return count * 8


def _count_values(tensor: Message, field: int) -> int:
    """Count the values of a field, packed or not, without reading those of fixed size."""
    if field not in tensor:
        return 0
    if field in (5, 7, 11):
        return tensor.count_integers(field)
    return sum(len(value) for value in tensor.list_bytes(field)) * 8 // _TYPED[field]


def _measure_external(tensor: Message, folder: Path) -> int:
    """Return the size that a tensor takes of another file, which must lie in the model's own folder."""
    entries = {entry.get_text(1): entry.get_text(2) for entry in tensor.list_messages(13)}
    location = entries.get("location", "")
    path = folder / location
    if not location or Path(location).name != location or location in (".", "..") or path.is_symlink():
        raise _Refusal(f"takes data from {location!r}, which is not a file in its folder")
    try:
        offset, size = int(entries.get("offset") or 0), path.stat().st_size
        length = int(entries["length"]) if "length" in entries else size - offset
    except OSError as error:
        raise _Refusal(f"takes data from {location!r}, which cannot be read ({describe_error(error)})") from error
    if offset < 0 or length < 0 or offset + length > size or size > MAX_FILE_BYTES:
        raise _Refusal(f"takes {length} bytes from {location!r}, which has {size}")
    return length
