"""Hostile models and recipes are refused in a line, before they take memory."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_nets
import pytest
import shipped
import torch

from vocalsep import library, nets, weights
from vocalsep.errors import ConfigError, ModelError, VocalsepError
from vocalsep.extraction import Extractor
from vocalsep.training import guards, recipes
from vocalsep.training.team import Team

MEMORY = 2**26  # bytes that a refusal may take
ALONE = Team(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path, made = tmp_path_factory.mktemp("base") / "base.safetensors", fake_nets.random_unet()
    weights.save(path, made.net, made.front_end, {"licence": "none"})
    return path.read_bytes()


def split(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return the header of a weights file, the metadata in it, and the rest of the file."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    return header, json.loads(header["__metadata__"]["vocalsep"]), content[8 + size :]


def join(header: dict[str, Any], metadata: str, rest: bytes) -> bytes:
    text = json.dumps(header | {"__metadata__": {"vocalsep": metadata}}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + rest


def nest(depth: int) -> str:
    return "[" * depth + "]" * depth


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "bands": lambda metadata: metadata["front_end"].update(bands=10**7),
    "n_fft": lambda metadata: metadata["front_end"].update(n_fft=2 * 10**7),
    "n_fft and rate": lambda metadata: metadata["front_end"].update(n_fft=2 * 10**6, rate=3_999_999, hop=10**6),
    "frames": lambda metadata: metadata["front_end"].update(frames=10**7),
    "hop": lambda metadata: metadata["front_end"].update(hop=1),
    "rate": lambda metadata: metadata["front_end"].update(rate=1),
    "overlap": lambda metadata: metadata["run"].update(overlap=1 - 1e-12),
    "chunks": lambda metadata: metadata["run"].update(chunks=10**9),
    "lead": lambda metadata: metadata["run"].update(original_lead=10**9),
    "kind": lambda metadata: metadata.update(front_end_kind=[]),
    "front end": lambda metadata: metadata.update(front_end=None),
    "graphs": lambda metadata: metadata.update(graphs=[1]),
    "format": lambda metadata: metadata.update(format="\x1b[2J"),
    "huge number": lambda metadata: metadata["front_end"].update(bands=10**400),
    "infinity": lambda metadata: metadata["front_end"].update(floor_db=float("-inf")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_with_hostile_settings_is_refused_before_it_takes_memory(
    change: str, content: bytes, tmp_path: Path
) -> None:
    header, metadata, rest = split(content)
    CHANGES[change](metadata)
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(join(header, json.dumps(metadata), rest))
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as caught:
            weights.load(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["metadata", "value", "header"])
def test_json_that_is_nested_deeply_is_refused(where: str, content: bytes, tmp_path: Path) -> None:
    header, metadata, rest = split(content)
    path = tmp_path / "nested.safetensors"
    deep = nest(100_000)
    if where == "header":
        path.write_bytes(len(deep).to_bytes(8, "little") + deep.encode())
    else:
        inner = deep if where == "metadata" else json.dumps(metadata)[:-1] + f', "data": {deep}}}'
        path.write_bytes(join(header, inner, rest))
    with pytest.raises(ModelError, match="not a vocalsep weights file"):
        weights.load(path)
    assert library.runs.read_metadata(path) == {}


@pytest.mark.parametrize("options", [{"width": 100_000}, {"width": 9_000}, {"channels": 10**9}])
def test_weights_for_a_net_of_absurd_size_are_refused_before_it_is_built(
    options: dict[str, int], content: bytes, tmp_path: Path
) -> None:
    header, metadata, rest = split(content)
    path = tmp_path / "wide.safetensors"
    path.write_bytes(join(header, json.dumps(metadata | {"options": options}), rest))
    model = weights.load(path)
    assert isinstance(model, weights.Model)
    with pytest.raises(ModelError, match="not compatible"):
        _ = model.net


def test_weights_that_do_not_fit_their_options_are_refused(content: bytes, tmp_path: Path) -> None:
    header, metadata, rest = split(content)
    path = tmp_path / "other.safetensors"
    path.write_bytes(join(header, json.dumps(metadata | {"options": {"width": 8}}), rest))
    model = weights.load(path)
    assert isinstance(model, weights.Model)
    with pytest.raises(ModelError, match="another net or to other options"):
        _ = model.net


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.batch_size=1000000000", "would not fit into memory"),
        ("training.seed=99999999999999999999", "at most"),
        ("training.steps=99999999999999999999", "at most"),
        ("options.width=100000", "expected at most 16384"),
        ("options.width=9000", "parameters"),
        ("front_end.n_fft=20000000", "far larger"),
        ("front_end.frames=10000000", "far larger"),
        ("front_end.bands=10000000", "far larger"),
        (f"options.width={nest(5_000)}", "expected int"),
    ],
)
def test_a_recipe_of_absurd_size_is_refused_before_it_takes_memory(setting: str, message: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=message):
            guards.check_recipe(recipes.read_recipe("unet", [setting]), ALONE)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def test_all_presets_are_within_the_limits() -> None:
    for name in recipes.list_presets():
        guards.check_recipe(recipes.read_recipe(name), ALONE)


def test_deep_options_are_refused_quickly() -> None:
    with pytest.raises(ConfigError, match="at most 64"):
        nets.build("drnn", {"layers": 10_000})
    with pytest.raises(ConfigError, match="at most 64"):
        nets.build("spleeter", {"widths": [1] * 10_000})


@pytest.mark.parametrize("name", shipped.NAMES)
def test_every_shipped_model_notices_flipped_bits(name: str, tmp_path: Path) -> None:
    path = library.find_models()[name]
    content = bytearray(path.read_bytes())
    header, metadata, _ = split(bytes(content))
    assert len(metadata["tensors"]) == 64
    path = tmp_path / path.name
    first = 8 + int.from_bytes(content[:8], "little")
    for at in (first, (first + len(content)) // 2, len(content) - 1):
        content[at] ^= 1
        path.write_bytes(content)
        content[at] ^= 1
        with pytest.raises(ModelError, match="is damaged"):
            weights.load(path)
    del header


def test_a_flipped_bit_in_metadata_is_noticed_beside_the_card(tmp_path: Path) -> None:
    found = library.find_models()["unet"]
    content = found.read_bytes()
    (tmp_path / "unet.md").write_bytes(found.with_suffix(".md").read_bytes())
    path = tmp_path / "unet.safetensors"
    path.write_bytes(content)
    assert weights.load("unet", tmp_path).name == "unet"
    path.write_bytes(content.replace(b"licence", b"licenCe", 1))
    with pytest.raises(ModelError, match="SHA-256"):
        weights.load("unet", tmp_path)


def test_a_model_within_the_limits_still_works(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    path.write_bytes(content)
    vocals, _ = Extractor(weights.load(path), workers=0).separate(fake_nets.noise(1, 4_000), 8_000)
    assert vocals.shape == (1, 4_000)


MEANS = ("models = 3", f"models = {nest(3_000)}", 'models = ["a", "b"]\nweights = [nan, 1.0]')


@pytest.mark.parametrize("text", MEANS, ids=["number", "nested", "no number"])
def test_hostile_means_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mean.toml"
    path.write_text(text)
    with pytest.raises(VocalsepError) as caught:
        weights.load(path)
    assert len(str(caught.value)) < 500


def put_graph(metadata: dict[str, Any], edit: Callable[[Any], object]) -> None:
    """Change the graph in the metadata of a weights file."""
    onnx = pytest.importorskip("onnx")
    stored = metadata["graphs"]["forward"]
    model = onnx.load_from_string(zlib.decompress(base64.b64decode(stored["onnx"])))
    edit(model)
    stored["onnx"] = base64.b64encode(zlib.compress(model.SerializeToString())).decode()


GRAPHS: dict[str, Callable[[Any], object]] = {
    "loop": lambda model: model.graph.node.add(op_type="Loop", input=["", ""], output=["x"]),
    "domain": lambda model: model.graph.node.add(op_type="Run", domain="evil.org", output=["x"]),
    "random": lambda model: model.graph.node.add(op_type="RandomNormal", output=["x"]),
    "function": lambda model: model.functions.add(name="f", domain="d"),
    "other file": lambda model: setattr(
        next(each for each in model.graph.initializer if each.data_location == 1), "name", "/etc/passwd"
    ),
}


@pytest.mark.parametrize("change", GRAPHS)
def test_a_hostile_graph_inside_weights_is_refused(change: str, content: bytes, tmp_path: Path) -> None:
    header, metadata, rest = split(content)
    put_graph(metadata, GRAPHS[change])
    path = tmp_path / "graph.safetensors"
    path.write_bytes(join(header, json.dumps(metadata), rest))
    with pytest.raises(ModelError, match="vocalsep does not run the net's graph"):
        weights.load(path)
