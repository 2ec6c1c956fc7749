from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from vocalsep import nets, weights
from vocalsep.errors import ConfigError, ModelError
from vocalsep.features import LogMel

FRONT_END = LogMel(rate=8_000, n_fft=512, hop=128, bands=32, frames=32)
OPTIONS = {"width": 2, "dropout": 0.25, "spectral": 0.5}
ABOUT = {"version": "9.9", "licence": "none, ümläut", "data": ["dsd100"], "metrics": {"validation_snr_db": 1.25}}


def net(seed: int = 0) -> nets.Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nets.build("unet", OPTIONS)
        for buffer in made.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    return made


def stored(folder: Path, name: str = "small", *, half: bool = False) -> Path:
    path = folder / f"{name}.safetensors"
    weights.save(path, net(), FRONT_END, ABOUT, half=half)
    return path


def refusal(name: str | Path, folder: Path | None = None) -> str:
    with pytest.raises(ModelError) as error:
        weights.load(str(name), folder)
    message = str(error.value)
    assert "\n" not in message
    return message


# Storing and loading


def test_full_precision_comes_back_exactly(tmp_path: Path) -> None:
    model = weights.load(str(stored(tmp_path)))
    state = model.net.state_dict()
    assert state.keys() == net().state_dict().keys()
    for key, tensor in net().state_dict().items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(state[key], tensor), key


def test_half_precision_comes_back_within_its_precision_and_is_smaller(tmp_path: Path) -> None:
    model = weights.load(str(stored(tmp_path, half=True)))
    for key, tensor in net().state_dict().items():
        got = model.net.state_dict()[key]
        assert got.dtype == tensor.dtype
        torch.testing.assert_close(got, tensor, rtol=2**-11, atol=2**-25)
    full = stored(tmp_path, "full").stat().st_size
    assert (tmp_path / "small.safetensors").stat().st_size < 0.75 * full


def test_net_options_front_end_and_the_rest_come_back(tmp_path: Path) -> None:
    model = weights.load(str(stored(tmp_path)))
    assert type(model.net) is nets.NETS["unet"]
    assert model.net.options == net().options
    assert model.front_end == FRONT_END
    assert model.metadata == ABOUT
    assert model.name == "small"


def test_a_loaded_net_is_ready_for_use(tmp_path: Path) -> None:
    model = weights.load(str(stored(tmp_path)))
    assert not any(module.training for module in model.net.modules())
    assert not any(parameter.requires_grad for parameter in model.net.parameters())
    features = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = net().eval().requires_grad_(False)(features)
    assert torch.equal(model.net(features), expected)


def test_storing_does_not_change_the_net(tmp_path: Path) -> None:
    made = net().train()
    weights.save(tmp_path / "x.safetensors", made, FRONT_END, ABOUT)
    assert made.training
    for key, tensor in net().state_dict().items():
        assert torch.equal(made.state_dict()[key], tensor)


def test_the_same_net_is_stored_as_the_same_bytes(tmp_path: Path) -> None:
    turned = dict(reversed(ABOUT.items()))
    weights.save(tmp_path / "turned.safetensors", net(), FRONT_END, turned, half=False)
    assert stored(tmp_path).read_bytes() == (tmp_path / "turned.safetensors").read_bytes()


def test_a_net_in_channels_last_order_is_stored_alike(tmp_path: Path) -> None:
    weights.save(tmp_path / "x.safetensors", net().to(memory_format=torch.channels_last), FRONT_END, ABOUT)
    assert stored(tmp_path, half=True).read_bytes() == (tmp_path / "x.safetensors").read_bytes()


def test_what_is_said_about_a_model_cannot_replace_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    weights.save(path, net(), FRONT_END, {**ABOUT, "net": "other", "format": 99, "front_end": {}})
    model = weights.load(str(path))
    assert model.front_end == FRONT_END
    assert model.metadata == ABOUT


def test_a_file_appears_whole_and_alone_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = stored(tmp_path)
    weights.save(path, net(1), FRONT_END, ABOUT, half=False)
    assert list(tmp_path.iterdir()) == [path]
    loaded = weights.load(str(path)).net.state_dict()
    assert torch.equal(loaded["head.weight"], net(1).state_dict()["head.weight"])


def test_a_failure_leaves_the_old_file_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path)
    before = path.read_bytes()

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises((OSError, ModelError)):
        weights.save(path, net(1), FRONT_END, ABOUT)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Damage


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return stored(tmp_path_factory.mktemp("content"), half=True).read_bytes()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path to write to again and again; hypothesis wants no fixture of function scope."""
    return tmp_path_factory.mktemp("damaged") / "x.safetensors"


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_file_cut_off_anywhere_is_refused(content: bytes, damaged: Path, data: st.DataObject) -> None:
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert str(damaged) in refusal(damaged)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_damaged_byte_in_the_header_is_refused_or_harmless(
    content: bytes, damaged: Path, data: st.DataObject
) -> None:
    size = 8 + int.from_bytes(content[:8], "little")
    place, value = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 255))
    damaged.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
    try:
        model = weights.load(str(damaged))
    except ModelError:
        return
    assert model.net.state_dict().keys() == net().state_dict().keys()


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_damaged_weight_is_found_by_the_file_s_own_digest(content: bytes, damaged: Path, data: st.DataObject) -> None:
    start = 8 + int.from_bytes(content[:8], "little")
    place, bit = data.draw(st.integers(start, len(content) - 1)), data.draw(st.integers(0, 7))
    damaged.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
    assert "do not match the SHA-256 in its metadata" in refusal(damaged)


def test_weights_without_a_digest_of_their_own_load_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert weights.load(str(altered(path))).metadata == ABOUT
    assert "is damaged" in refusal(altered(path, tensors="0" * 64))


@pytest.mark.parametrize("kind", ["missing", "no bytes", "text", "folder"])
def test_what_is_no_weights_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.safetensors"
    if kind == "no bytes":
        path.touch()
    elif kind == "text":
        path.write_text("These are words.\n" * 100, encoding="utf-8")
    elif kind == "folder":
        path.mkdir()
    assert str(path) in refusal(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"vocalsep": "not json"}])
def test_foreign_safetensors_are_refused_by_name(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    message = refusal(path)
    assert str(path) in message
    assert "not a vocalsep weights file" in message


def altered(path: Path, **changes: Any) -> Path:
    """A stored model whose metadata say something else."""
    about = {
        **ABOUT,
        "format": 1,
        "net": "unet",
        "options": OPTIONS,
        "front_end_kind": "log-mel",
        "front_end": {"rate": 8_000, "n_fft": 512, "hop": 128, "bands": 32, "frames": 32},
        **changes,
    }
    path.write_bytes(save(net().state_dict(), metadata={"vocalsep": json.dumps(about)}))
    return path


def test_metadata_as_documented_load(tmp_path: Path) -> None:
    model = weights.load(str(altered(tmp_path / "x.safetensors")))
    assert (model.front_end, model.metadata) == (FRONT_END, ABOUT)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": None},
        {"net": "no such net"},
        {"net": ["unet"]},
        {"options": {"width": 3}},
        {"options": {"depth": 3}},
        {"options": {"width": -1}},
        {"options": 3},
        {"front_end_kind": "no such front end"},
        {"front_end": {"hop": 0}},
        {"front_end": {"hops": 1}},
        {"front_end": None},
    ],
)
def test_a_model_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    assert "x" in refusal(altered(tmp_path / "x.safetensors", **changes))


@pytest.mark.parametrize("value", ["[]", "3", "null", '"unet"'])
def test_metadata_that_are_no_table_are_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file(net().state_dict(), path, metadata={"vocalsep": value})
    assert str(path) in refusal(path) or "'x'" in refusal(path)


@pytest.mark.parametrize("change", ["one less", "one more", "other shape", "all others"])
def test_weights_that_do_not_fit_the_net_are_refused_in_one_line(tmp_path: Path, change: str) -> None:
    state = dict(net().state_dict())
    if change == "one less":
        del state["head.bias"]
    elif change == "all others":
        state = {f"other.{key}": value for key, value in state.items()}
    else:
        state["head.bias" if change == "other shape" else "tail.bias"] = torch.zeros(7)
    path = altered(tmp_path / "x.safetensors")
    about = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    save_file(state, path, metadata=about["__metadata__"])
    assert "fit" in refusal(path)
    assert len(refusal(path)) < 300 + len(str(path))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"weight": Trap()}, tmp_path / "x.safetensors")
    refusal(tmp_path / "x.safetensors")
    assert not (tmp_path / "sprung").exists()


# Published models


CARD = """# small

A net for tests.

- **Net**: unet, width 2
- **Licence**: none, ümläut
- **SHA-256**: `{digest}`
- **Trained on**: dsd100: made up
- not a fact

| a | b |
|---|---|
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    path = stored(folder)
    path.with_suffix(".md").write_text(CARD.format(digest=weights.hash_file(path)), encoding="utf-8")
    return folder


def test_a_published_model_is_loaded_by_name(models: Path) -> None:
    model = weights.load("small", models)
    assert (model.name, model.front_end) == ("small", FRONT_END)
    assert list(weights.find_models(models)) == ["small"]


def test_an_unknown_model_is_refused_with_the_nearest_name(models: Path) -> None:
    message = refusal("smal", models)
    assert "'smal'" in message
    assert "'small'" in message
    assert "small" in refusal("something else altogether", models)


def test_no_models_at_all_is_still_a_refusal(tmp_path: Path) -> None:
    assert "'small'" in refusal("small", tmp_path)
    assert "'small'" in refusal("small", tmp_path / "no such folder")


def test_the_facts_of_a_card_are_read(models: Path) -> None:
    card = weights.read_card("small", models)
    assert card.name == "small"
    assert card.text.startswith("# small")
    assert card.facts == {
        "net": "unet, width 2",
        "licence": "none, ümläut",
        "sha-256": f"`{weights.hash_file(models / 'small.safetensors')}`",
        "trained on": "dsd100: made up",
    }


def test_a_file_that_is_not_the_card_s_is_refused(models: Path) -> None:
    path = models / "small.safetensors"
    weights.save(path, net(1), FRONT_END, ABOUT)  # still a fine file
    message = refusal("small", models)
    assert "small" in message
    assert "SHA-256" in message
    assert weights.load(str(path)).front_end == FRONT_END


def test_a_model_without_a_card_or_digest_is_refused(models: Path) -> None:
    (models / "small.md").write_text("# small\n", encoding="utf-8")
    assert "SHA-256" in refusal("small", models)
    (models / "small.md").unlink()
    assert "card" in refusal("small", models)
    with pytest.raises(ModelError, match="card"):
        weights.read_card("small", models)


def test_the_card_of_an_unknown_model_is_refused(models: Path) -> None:
    with pytest.raises(ModelError, match="did you mean 'small'"):
        weights.read_card("smalll", models)


def test_digest_is_the_sha_256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert weights.hash_file(tmp_path / "abc") == ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_every_shipped_model_matches_its_card_and_says_where_it_is_from() -> None:
    shipped = weights.find_models()
    assert weights.DEFAULT_MODEL in shipped
    for name in shipped:
        model = weights.load(name)  # verifies the SHA-256
        assert {"licence", "data", "metrics", "version"} <= set(model.metadata), name
        assert all(torch.isfinite(tensor).all() for tensor in model.net.state_dict().values()), name


# Devices


def test_the_cpu_is_always_there() -> None:
    assert weights.choose_device("cpu") == torch.device("cpu")
    assert weights.choose_device().type in ("cpu", "cuda")


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert weights.choose_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="cuda"):
        weights.choose_device("cuda")
