from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_graphs
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from vocalsep.errors import ModelError
from vocalsep.interchange.inspection import MAX_FILE_BYTES, Signal, inspect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound model."""
    return foreign_graphs.write_mdx(tmp_path / "model.onnx", mixes=True)


def refuse(path: Path, reason: str) -> None:
    """Check that a file is refused, in one line that names it."""
    with pytest.raises(ModelError, match=reason) as error:
        inspect(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_sound_model_is_described_without_being_loaded(path: Path) -> None:
    found = inspect(path)
    shape = (None, 4, foreign_graphs.ROWS, foreign_graphs.FRAMES)
    assert found.input == Signal(name="input", shape=shape)
    assert found.output == Signal(name="output", shape=shape)
    assert found.weight_bytes == 4 * (1 + 48 + foreign_graphs.FRAMES)
    assert found.properties == {}


def test_metadata_is_read(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["input"], ["output"])
    about = {"model_type": "UVR", "n_fft": "6144"}
    path = foreign_graphs.write_model(tmp_path / "m.onnx", [node], ([1], [1]), properties=about)
    assert inspect(path).properties == about


def test_weights_listed_as_inputs_are_no_inputs(path: Path) -> None:
    def list_weights(model: Any) -> None:
        model.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, []))

    assert inspect(foreign_graphs.change(path, list_weights)).input.name == "input"


# damaged files


@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04" * 9, b"<html>not found</html>", b"\x0a\x00"])
def test_other_files_are_no_models(tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "m.onnx"
    other.write_bytes(content)
    refuse(other, "is damaged, or not an ONNX model")


def test_a_truncated_model_is_refused_at_any_length(path: Path) -> None:
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(ModelError):
            inspect(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_are_an_error_of_ours_or_a_model(path: Path, places: list[tuple[int, int]]) -> None:
    content = bytearray(path.read_bytes())
    for place, byte in places:
        content[place % len(content)] = byte
    damaged = path.with_name("damaged.onnx")
    damaged.write_bytes(content)
    message = ""
    try:
        inspect(damaged)
    except ModelError as error:
        message = str(error)
    assert "\n" not in message


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    refuse(tmp_path / "m.onnx", "No such file")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    huge = tmp_path / "m.onnx"
    with huge.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse
    refuse(huge, "the limit is 1024 MiB")


# what a graph may not have


def add_tensor(**fields: Any) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        model.graph.initializer.append(TensorProto(name="more", **fields))

    return edit


def add_node(operator: str, *, domain: str = "", **attributes: Any) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        model.graph.node.append(helper.make_node(operator, ["input"], ["more"], domain=domain, **attributes))

    return edit


def set_shape(where: str, *sizes: Any) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        signal = getattr(model.graph, where)[0]
        signal.CopyFrom(helper.make_tensor_value_info(signal.name, TensorProto.FLOAT, sizes))

    return edit


def nest(model: Any) -> None:
    graph = helper.make_graph([], "inner", [], [])
    for _ in range(12):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["o"], then_branch=graph)], "outer", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=graph))


def hide_a_loop(model: Any) -> None:
    inner = helper.make_graph([helper.make_node("Loop", ["", ""], ["o"])], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["more"], then_branch=inner, else_branch=inner))


def add_function(model: Any) -> None:
    function = helper.make_function("some", "F", ["x"], ["y"], [helper.make_node("Abs", ["x"], ["y"])], [])
    model.functions.append(function)


def add_sparse(model: Any) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "v")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [2**40])
    )


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (add_tensor(dims=[2**40], data_type=1, raw_data=b"1234"), "declares 4398046511104 bytes and has 4"),
        (add_tensor(dims=[2**40], data_type=1, float_data=[1.0]), "declares 1099511627776 numbers and has 1"),
        (add_tensor(dims=[2**62, 2**62], data_type=1), "declares"),
        (add_tensor(dims=[-1], data_type=1, raw_data=b"1234"), "with axes"),
        (add_tensor(dims=[1] * 9, data_type=1, raw_data=b"1234"), "with axes"),
        (add_tensor(dims=[1], data_type=8, string_data=[b"a"]), "of strings"),
        (add_tensor(dims=[1], data_type=99, raw_data=b"1234"), "unknown type 99"),
        (add_node("Loop"), "has a loop"),
        (add_node("Scan"), "has a loop"),
        (hide_a_loop, "has a loop"),
        (nest, "graphs within each other"),
        (add_node("RandomNormalLike"), "draws random numbers"),
        (add_node("FusedMatMul", domain="com.microsoft"), "not in the ONNX standard"),
        (add_node("Evil", domain="some.where"), "needs the operator 'Evil' of 'some.where'"),
        (add_node("Constant", value=TensorProto(dims=[2**40], data_type=1, raw_data=b"1234")), "declares"),
        (add_function, "functions"),
        (add_sparse, "sparse"),
        (set_shape("input", 1, 4, 2**30, 2**30), "declares an input of 1 x 4 x 1073741824 x 1073741824"),
        (set_shape("output", 1, 4, 2**40, 1), "declares an output"),
        (set_shape("input", 1, 4, -5, 1), "negative size"),
        (set_shape("input", *[1] * 20), "declares an input"),
        (lambda model: model.graph.input.extend([model.graph.input[0]]), "has 2 inputs"),
        (lambda model: model.graph.ClearField("output"), "and 0 outputs"),
        (lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 8), "not a tensor of floats"),
        (lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 7), "not a tensor of floats"),
    ],
)
def test_an_unsafe_model_is_refused(path: Path, edit: Callable[[Any], None], reason: str) -> None:
    refuse(foreign_graphs.change(path, edit), reason)


def test_a_condition_without_a_loop_is_allowed(path: Path) -> None:
    inner = helper.make_graph([helper.make_node("Abs", ["input"], ["o"])], "inner", [], [])
    node = helper.make_node("If", ["c"], ["more"], then_branch=inner, else_branch=inner)
    assert inspect(foreign_graphs.change(path, lambda model: model.graph.node.append(node))).input.name == "input"


def test_a_graph_in_two_pieces_is_refused(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content + content)  # protocol buffers would merge them
    refuse(path, "more than once")


# data in other files


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret", "folder/weights", "..", ".", "", "C:\\weights", "missing"]
)
def test_data_outside_the_models_folder_is_refused(path: Path, location: str) -> None:
    (path.parent / "folder").mkdir()
    (path.parent / "folder" / "weights").write_bytes(b"1234")
    (path.parent.parent / "secret").write_bytes(b"1234")
    refuse(foreign_graphs.change(path, add_external(location)), "takes data from")


def test_a_link_to_data_elsewhere_is_refused(path: Path) -> None:
    (path.parent / "folder").mkdir()
    (path.parent / "folder" / "weights").write_bytes(b"1234")
    (path.parent / "link").symlink_to(path.parent / "folder" / "weights")
    refuse(foreign_graphs.change(path, add_external("link")), "not a file in its folder")


@pytest.mark.parametrize(("offset", "length"), [(2, 4), (0, 8), (-1, 4), (0, -4), (5, 4)])
def test_data_beyond_the_end_of_a_file_is_refused(path: Path, offset: int, length: int) -> None:
    (path.parent / "weights").write_bytes(b"1234")
    refuse(foreign_graphs.change(path, add_external("weights", offset=offset, length=length)), "takes .* bytes from")


def test_data_beside_the_model_is_allowed(path: Path) -> None:
    (path.parent / "weights").write_bytes(b"12345678")
    before = inspect(path).weight_bytes
    found = inspect(foreign_graphs.change(path, add_external("weights", offset=4, length=4)))
    assert found.weight_bytes == before + 4


def add_external(location: str, **entries: int) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        tensor = TensorProto(name="more", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=str(value)))
        model.graph.initializer.append(tensor)

    return edit
