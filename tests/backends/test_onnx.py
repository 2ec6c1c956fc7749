from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import net_batches
import numpy as np
import pytest
import shipped
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from vocalsep import audio, config, nets, stft, weights
from vocalsep.backends import export, graphs, open_backend
from vocalsep.backends.onnx import OnnxBackend
from vocalsep.backends.torch import TorchBackend
from vocalsep.errors import ConfigError, ModelError
from vocalsep.features import MFCC, FrontEnd, Linear, LogMel
from vocalsep.kinds import slide
from vocalsep.shapes import Array
from vocalsep.weights import Model

DEMO = Path(__file__).parents[2] / "docs" / "demo" / "orphanage.ogg"
MEL = LogMel(rate=8_000, n_fft=512, hop=128, bands=32, frames=32)
STEREO = Linear(rate=8_000, n_fft=512, hop=128, freqs=64, frames=32)
MONO = Linear(rate=8_000, n_fft=512, hop=128, freqs=64, frames=32, channels=1, compression=0.0)
CEPSTRUM = MFCC(rate=8_000, n_fft=512, hop=128, bands=32, frames=32)


def snr_db(reference: Array, estimate: Array) -> float:
    error = np.square(reference.astype(float) - estimate).sum()
    return float(10 * np.log10(np.square(reference.astype(float)).sum() / max(error, 1e-300)))


def cut_demo(front_end: FrontEnd, count: int = 3) -> Array:
    """Return what the net sees of the first chunks of the demo song."""
    song, rate = audio.read(DEMO)
    song = audio.resample(song[:, : 12 * rate], rate, front_end.rate)
    power = front_end.analyse(stft.forward(song, front_end.grid))
    chunks = np.moveaxis(slide(power, front_end.frames, front_end.frames // 2), -2, 0)[:count]
    features = np.ascontiguousarray(front_end.normalise(front_end.group_channels(chunks)))
    assert features.shape == (count, *front_end.input_shape)
    return features


# Agreement with torch


@pytest.mark.parametrize("name", shipped.NETS)
def test_onnx_runtime_and_torch_agree_on_every_shipped_model_and_batch_size(name: str) -> None:
    model = weights.load(name)
    ours, theirs = open_backend(model, "cpu"), open_backend(model, "cpu", "torch")
    assert isinstance(ours, OnnxBackend)
    assert isinstance(theirs, TorchBackend)
    features = cut_demo(model.front_end)
    expected = theirs.run(features)
    assert np.ptp(expected) > 0.2
    for size in (1, 2, 3):
        mask = ours.run(features[:size])
        assert mask.dtype == np.float32
        assert mask.shape == expected[:size].shape
        assert snr_db(expected[:size], mask) >= 100
    if model.run.embeds:
        for have, want in zip(ours.embed(features), theirs.embed(features), strict=True):
            assert have.shape == want.shape
            assert snr_db(want, have) >= 100


VARIANTS = [
    ("unet", {"width": 2}, MEL),
    ("uhnet", {"unet": {"width": 2, "channels": 3}, "clustering": {"bands": 32, "units": 6, "layers": 1}}, MEL),
    ("dpcl", {"bands": 32, "units": 6, "layers": 2}, MEL),
    ("dpcl", {"bands": 32, "units": 6, "layers": 2, "normalised": True, "compression": 3.0}, MEL),
    ("hdpcl", {"bands": 32, "units": 6, "layers": 1}, MEL),
    ("drnn", {"freqs": 64, "units": 6, "answer": "magnitude"}, MONO),
    ("drnn", {"freqs": 64, "units": 6, "answer": "mask", "bidirectional": True}, MONO),
    ("drnn", {"freqs": 64, "units": 6, "answer": "share", "standardise": True, "dropout": 0.5}, MONO),
    ("drnn", {"freqs": 13, "units": 6, "answer": "cepstrum"}, CEPSTRUM),
    ("uhnet-hd", {"freqs": 64, "sub_bands": 4, "widths": [4, 6, 8], "recurrent": 8, "dropout": 0.2}, STEREO),
    ("uhnet-hd", {"freqs": 64, "sub_bands": 2, "widths": [4, 6], "recurrent": 0, "affinity": 0.1}, STEREO),
    ("uhnet-hd", {"freqs": 64, "sub_bands": 2, "widths": [4], "recurrent": 4, "voicing": 1.0, "gate": 0.3}, STEREO),
    (
        "uhnet-hd",
        {"freqs": 64, "side": True, "widths": [4, 6], "decoder": 1, "recurrent": 4},
        replace(STEREO, side=True),
    ),
    ("unet-hd", {"widths": [4, 6, 8]}, STEREO),
    ("unet-hd", {"widths": [4, 6, 8], "rank": 5}, STEREO),
]


@pytest.mark.parametrize(("name", "options", "front_end"), VARIANTS)
@pytest.mark.parametrize("half", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_kind_of_net_runs_as_soon_as_it_is_saved(
    tmp_path: Path, name: str, options: dict[str, Any], front_end: FrontEnd, half: bool
) -> None:
    torch.manual_seed(1)
    if name == "drnn" and isinstance(front_end, MFCC):
        options = options | {"freqs": front_end.input_shape[1]}
    net = nets.build(name, options)
    features = net_batches.noise(3, *front_end.input_shape, seed=2).abs()
    net_batches.set_batch_statistics(net, features)
    weights.save(tmp_path / "x.safetensors", net, front_end, {}, half=half)
    model = weights.load(str(tmp_path / "x.safetensors"))
    backend = open_backend(model, "cpu")
    assert isinstance(backend, OnnxBackend)
    assert snr_db(model.net(features).numpy(), backend.run(features.numpy())) >= 80
    if isinstance(model.net, nets.ClusteringNet):
        for have, want in zip(backend.embed(features.numpy()), model.net.embed(features), strict=True):
            assert snr_db(want.numpy(), have) >= 80
    assert model.run.frame_step
    assert front_end.frames % model.run.frame_step == 0
    for frames in (model.run.frame_step, 3 * model.run.frame_step):
        fewer = features[..., :frames].contiguous()
        assert snr_db(model.net(fewer).numpy(), backend.run(fewer.numpy())) >= 80


def test_weights_that_are_all_equal_are_not_merged(tmp_path: Path) -> None:
    """A fresh net's batch norms are all ones and zeros. The graph must serve trained weights as well."""
    torch.manual_seed(0)
    weights.save(tmp_path / "fresh.safetensors", nets.build("unet", {"width": 2}), MEL, {})
    trained = nets.build("unet", {"width": 2})
    features = net_batches.noise(2, *MEL.input_shape)
    net_batches.set_batch_statistics(trained, features)
    weights.save(tmp_path / "trained.safetensors", trained, MEL, {})
    fresh, later = (weights.load(str(tmp_path / f"{name}.safetensors")) for name in ("fresh", "trained"))
    assert fresh.graphs == later.graphs
    assert snr_db(later.net(features).numpy(), open_backend(later, "cpu").run(features.numpy())) >= 80


# The graph and the weights


@pytest.mark.parametrize("name", shipped.NETS)
def test_a_shipped_graph_is_the_one_that_its_net_exports(name: str) -> None:
    model = weights.load(name)
    settings = export.get_run_settings(model.net)
    assert model.run in (settings, replace(settings, frame_step=None))  # older graphs take whole chunks only
    exported = export.export_graphs(model.net, model.front_end.input_shape)
    assert exported.keys() == model.graphs.keys()
    features = cut_demo(model.front_end, 1)
    anew = OnnxBackend(name, exported, model.tensors)
    assert np.array_equal(anew.run(features), open_backend(model, "cpu").run(features))


def test_a_graph_holds_no_weights(tmp_path: Path) -> None:
    net = nets.build("unet", {"width": 16})
    (graph,) = export.export_graphs(net, MEL.input_shape).values()
    size = sum(4 * parameter.numel() for parameter in net.parameters())
    assert len(graph.onnx) < 30_000 < size / 20


def test_exporting_changes_neither_the_net_nor_random_numbers() -> None:
    net = nets.build("dpcl", {"bands": 32, "units": 5, "layers": 1}).train()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    random = torch.get_rng_state()
    export.export_graphs(net, MEL.input_shape)
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    net = nets.build("hdpcl", {"bands": 32, "units": 6, "layers": 1})
    weights.save(tmp_path / "small.safetensors", net, MEL, {})
    return tmp_path / "small.safetensors"


def change_file(path: Path, change: Callable[[dict[str, Any], dict[str, Array]], object]) -> None:
    """Change the metadata and tensors of a weights file."""
    with safe_open(path, framework="np") as file:
        metadata = json.loads(file.metadata()["vocalsep"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    del metadata["tensors"]
    change(metadata, tensors)
    save_file(tensors, path, metadata={"vocalsep": json.dumps(metadata)})


def test_features_and_results_are_not_changed_by_later_calls(path: Path) -> None:
    backend = open_backend(weights.load(str(path)), "cpu")
    features = net_batches.noise(2, *MEL.input_shape).numpy()
    copy, mask = features.copy(), backend.run(features)
    kept = mask.copy()
    backend.run(features * 3)
    assert np.array_equal(features, copy)
    assert np.array_equal(mask, kept)


def test_several_threads_may_run_one_backend(path: Path) -> None:
    backend = open_backend(weights.load(str(path)), "cpu")
    batches = [net_batches.noise(2, *MEL.input_shape, seed=seed).numpy() for seed in range(8)]
    expected = [backend.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for have, want in zip(pool.map(backend.run, batches * 4), expected * 4, strict=True):
            assert np.array_equal(have, want)


def test_a_net_that_does_not_cluster_has_no_embeddings(tmp_path: Path) -> None:
    weights.save(tmp_path / "x.safetensors", nets.build("unet", {"width": 2}), MEL, {})
    model = weights.load(str(tmp_path / "x.safetensors"))
    for kind in ("onnx", "torch"):
        with pytest.raises(ConfigError, match="does not cluster"):
            open_backend(model, "cpu", kind).embed(np.zeros((1, *MEL.input_shape), np.float32))


# Damage


def replace_graph(metadata: dict[str, Any], content: bytes) -> None:
    metadata["graphs"]["forward"]["onnx"] = base64.b64encode(content).decode()


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "not base64": lambda metadata: metadata["graphs"]["forward"].update(onnx="???"),
    "not compressed": lambda metadata: replace_graph(metadata, b"These are words."),
    "cut off": lambda metadata: replace_graph(metadata, zlib.compress(b"0" * 99)[:-5]),
    "a bomb": lambda metadata: replace_graph(metadata, zlib.compress(bytes(2**25))),
    "no graph": lambda metadata: metadata["graphs"].update(forward=None),
    "one less": lambda metadata: metadata["graphs"].pop("embed"),
    "one more": lambda metadata: metadata["graphs"].update(other=metadata["graphs"]["forward"]),
    "a list": lambda metadata: metadata.update(graphs=[1]),
    "no settings": lambda metadata: metadata.pop("run"),
    "wrong settings": lambda metadata: metadata["run"].update(overlap=1.0),
    "unknown settings": lambda metadata: metadata["run"].update(speed=2),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_graph_is_refused_in_one_line(path: Path, kind: str) -> None:
    change_file(path, lambda metadata, _: DAMAGE[kind](metadata))
    with pytest.raises(ModelError, match="damaged") as error:
        weights.load(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_lack_of_memory_is_not_taken_for_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out_of_memory(*_: object, **__: object) -> None:
        raise RuntimeError(
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: std::bad_alloc"
        )

    model = weights.load(str(path))
    monkeypatch.setattr("onnxruntime.InferenceSession", run_out_of_memory)
    with pytest.raises(ModelError, match=r"there is not enough memory$"):
        open_backend(model, "cpu").run(np.zeros((1, *model.front_end.input_shape), np.float32))


def drop_weight(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
    del tensors["head.weight"]


def add_weight(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
    tensors["other"] = np.zeros(3, np.float32)


def reshape_weight(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
    tensors["head.bias"] = np.zeros(7, np.float32)


def write_words(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
    replace_graph(metadata, zlib.compress(b"These are words."))


def write_nothing(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
    replace_graph(metadata, zlib.compress(b""))


def swap_graphs(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
    metadata["graphs"]["forward"] = metadata["graphs"]["embed"]


@pytest.mark.parametrize("change", [drop_weight, add_weight, reshape_weight, write_words, write_nothing, swap_graphs])
def test_a_graph_that_does_not_fit_is_refused_in_one_line(
    path: Path, change: Callable[[dict[str, Any], dict[str, Array]], object], capfd: pytest.CaptureFixture[str]
) -> None:
    change_file(path, change)
    with pytest.raises(ModelError, match="small") as error:
        open_backend(weights.load(str(path)), "cpu").run(np.zeros((1, *MEL.input_shape), np.float32))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 350
    assert capfd.readouterr() == ("", "")


def test_features_of_another_shape_are_refused_in_one_line(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    backend = open_backend(weights.load(str(path)), "cpu")
    with pytest.raises(ModelError, match="model small") as error:
        backend.run(np.zeros((1, 1, 31, 32), np.float32))
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


# Files without a graph


def remove_graphs(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
    del metadata["graphs"], metadata["run"]


def test_a_file_without_a_graph_gets_one_in_the_cache(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = weights.load(str(path))
    change_file(path, remove_graphs)
    first = weights.load(str(path))
    assert (first.graphs, first.run, first.metadata) == (whole.graphs, whole.run, whole.metadata)
    (kept,) = (cache / "graphs").iterdir()
    assert kept.stem == weights.hash_file(path)
    monkeypatch.setattr(export, "export_graphs", None)  # must not be called again
    assert weights.load(str(path)).graphs == whole.graphs


def test_a_damaged_cache_is_made_anew(path: Path, cache: Path) -> None:
    change_file(path, remove_graphs)
    expected = weights.load(str(path)).graphs
    (kept,) = (cache / "graphs").iterdir()
    for text in ("", "[]", "{}", kept.read_text(encoding="utf-8")[:-30]):
        kept.write_text(text, encoding="utf-8")
        assert weights.load(str(path)).graphs == expected
        assert len(kept.read_text(encoding="utf-8")) > 1000


def test_a_cache_that_cannot_be_written_does_not_matter(path: Path, cache: Path) -> None:
    cache.write_text("a file where a folder belongs", encoding="utf-8")
    change_file(path, remove_graphs)
    assert weights.load(str(path)).graphs


def test_without_onnx_a_net_is_saved_and_runs_in_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    export._export.cache_clear()
    weights.save(tmp_path / "x.safetensors", nets.build("unet", {"width": 2}), MEL, {})
    model = weights.load(str(tmp_path / "x.safetensors"))
    assert not model.graphs
    assert model.run == export.get_run_settings(model.net)
    assert isinstance(open_backend(model, "cpu"), TorchBackend)
    with pytest.raises(ModelError, match="no graph"):
        open_backend(model, "cpu", "onnx")
    monkeypatch.undo()
    weights.add_graphs(tmp_path / "x.safetensors")
    assert isinstance(open_backend(weights.load(str(tmp_path / "x.safetensors")), "cpu"), OnnxBackend)


def test_a_net_that_cannot_be_exported_is_saved_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(torch.onnx, "export", fail)
    export._export.cache_clear()
    net = nets.build("unet", {"width": 2})
    weights.save(tmp_path / "x.safetensors", net, MEL, {})
    assert not weights.load(str(tmp_path / "x.safetensors")).graphs
    with pytest.raises(ModelError, match=r"cannot be exported for ONNX Runtime \(no such operator\)"):
        export.export_graphs(net, MEL.input_shape)


def test_adding_graphs_changes_no_tensor(path: Path) -> None:
    whole = path.read_bytes()
    change_file(path, remove_graphs)
    weights.add_graphs(path)
    assert path.read_bytes() == whole


# Without torch


WITHOUT_TORCH = """
import dataclasses, sys, types
import numpy as np

if {block}:
    sys.modules["torch"] = None
features = types.ModuleType("vocalsep.features")  # a stand-in, as front ends import torch
features.FRONT_ENDS = {{"log-mel": dataclasses.make_dataclass("LogMel", {fields})}}
sys.modules["vocalsep.features"] = features

from vocalsep import weights
from vocalsep.backends import open_backend
from vocalsep.errors import ModelError

try:
    backend = open_backend(weights.load(sys.argv[1]), "cpu")
    mask = backend.run(np.load(sys.argv[2]))
    np.save(sys.argv[3], mask)
    backend.embed(np.load(sys.argv[2]))
except ModelError as error:
    print(error)
assert sys.modules.get("torch") is None, sorted(sys.modules)
"""


def run_without_torch(path: Path, features: Array, *, block: bool) -> tuple[str, Path]:
    """Load and run a model in another process. Return what it printed, and the path of its mask."""
    values = {key: value for key, value in config.to_dict(MEL).items() if key != "kind"}
    fields = "[" + ", ".join(f"({key!r}, {type(value).__name__})" for key, value in values.items()) + "]"
    code = WITHOUT_TORCH.format(block=block, fields=fields)
    inputs, outputs = path.with_name("features.npy"), path.with_name("mask.npy")
    np.save(inputs, features)
    command = [sys.executable, "-W", "error", "-c", code, str(path), str(inputs), str(outputs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, outputs


@pytest.mark.parametrize("block", [False, True])
def test_a_model_loads_and_runs_without_torch(path: Path, block: bool) -> None:
    features = net_batches.noise(2, *MEL.input_shape).numpy()
    printed, mask = run_without_torch(path, features, block=block)
    assert printed == ""
    assert np.array_equal(np.load(mask), open_backend(weights.load(str(path)), "cpu").run(features))


def test_a_file_without_a_graph_says_what_to_install_where_torch_is_missing(path: Path) -> None:
    change_file(path, remove_graphs)
    printed, _ = run_without_torch(path, net_batches.noise(1, *MEL.input_shape).numpy(), block=True)
    assert printed.count("\n") == 1
    assert 'pip install "vocalsep[train]"' in printed


def test_a_model_made_of_a_net_in_memory_runs_in_torch() -> None:
    model = Model.from_net("made", nets.build("unet", {"width": 2}), MEL)
    assert isinstance(open_backend(model, "cpu"), TorchBackend)
    assert graphs.decode(graphs.encode(model.graphs, model.run)) == ({}, model.run)
