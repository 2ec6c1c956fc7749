from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import shipped
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from vocalsep import nets, weights
from vocalsep.errors import ModelError
from vocalsep.features import LogMel

FRONT_END = LogMel(rate=8_000, n_fft=512, hop=128, bands=32, frames=32)
OPTIONS = {"width": 2, "dropout": 0.25, "spectral": 0.5}
ABOUT = {"version": "9.9", "licence": "none, ümläut", "data": ["dsd100"], "metrics": {"validation_snr_db": 1.25}}


def build_net(seed: int = 0) -> nets.Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        small_net = nets.build("unet", OPTIONS)
        for buffer in small_net.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    return small_net


def save_model(folder: Path, name: str = "small", *, half: bool = False) -> Path:
    path = folder / f"{name}.safetensors"
    weights.save(path, build_net(), FRONT_END, ABOUT, half=half)
    return path


def expect_load_error(name: str | Path, folder: Path | None = None) -> str:
    """Check that a model cannot be loaded. Return the message, which must be one line."""
    with pytest.raises(ModelError) as error:
        weights.load(str(name), folder)
    message = str(error.value)
    assert "\n" not in message
    return message


# Saving and loading


def test_full_precision_weights_come_back_exactly(tmp_path: Path) -> None:
    model = weights.load(str(save_model(tmp_path)))
    state = model.net.state_dict()
    assert state.keys() == build_net().state_dict().keys()
    for key, tensor in build_net().state_dict().items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(state[key], tensor), key


def test_half_precision_weights_come_back_within_their_precision_and_are_smaller(tmp_path: Path) -> None:
    model = weights.load(str(save_model(tmp_path, half=True)))
    for key, tensor in build_net().state_dict().items():
        got = model.net.state_dict()[key]
        assert got.dtype == tensor.dtype
        torch.testing.assert_close(got, tensor, rtol=2**-11, atol=2**-25)
    full = save_model(tmp_path, "full").stat().st_size
    assert (tmp_path / "small.safetensors").stat().st_size < 0.75 * full


def test_options_front_end_and_metadata_come_back(tmp_path: Path) -> None:
    model = weights.load(str(save_model(tmp_path)))
    assert type(model.net) is nets.NETS["unet"]
    assert model.net.options == build_net().options
    assert model.front_end == FRONT_END
    assert model.metadata == ABOUT
    assert model.name == "small"


def test_a_loaded_net_is_ready_for_use(tmp_path: Path) -> None:
    model = weights.load(str(save_model(tmp_path)))
    assert not any(module.training for module in model.net.modules())
    assert not any(parameter.requires_grad for parameter in model.net.parameters())
    features = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = build_net().eval().requires_grad_(False)(features)
    assert torch.equal(model.net(features), expected)


def test_saving_does_not_change_the_net(tmp_path: Path) -> None:
    small_net = build_net().train()
    weights.save(tmp_path / "x.safetensors", small_net, FRONT_END, ABOUT)
    assert small_net.training
    for key, tensor in build_net().state_dict().items():
        assert torch.equal(small_net.state_dict()[key], tensor)


def test_the_same_net_is_saved_as_the_same_bytes(tmp_path: Path) -> None:
    reordered = dict(reversed(ABOUT.items()))
    weights.save(tmp_path / "reordered.safetensors", build_net(), FRONT_END, reordered, half=False)
    assert save_model(tmp_path).read_bytes() == (tmp_path / "reordered.safetensors").read_bytes()


def test_a_net_in_channels_last_order_is_saved_as_the_same_bytes(tmp_path: Path) -> None:
    weights.save(tmp_path / "x.safetensors", build_net().to(memory_format=torch.channels_last), FRONT_END, ABOUT)
    assert save_model(tmp_path, half=True).read_bytes() == (tmp_path / "x.safetensors").read_bytes()


def test_further_metadata_cannot_replace_net_options_or_front_end(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    weights.save(path, build_net(), FRONT_END, {**ABOUT, "net": "other", "format": 99, "front_end": {}})
    model = weights.load(str(path))
    assert model.front_end == FRONT_END
    assert model.metadata == ABOUT


def test_saving_replaces_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = save_model(tmp_path)
    weights.save(path, build_net(1), FRONT_END, ABOUT, half=False)
    assert list(tmp_path.iterdir()) == [path]
    loaded = weights.load(str(path)).net.state_dict()
    assert torch.equal(loaded["head.weight"], build_net(1).state_dict()["head.weight"])


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_model(tmp_path)
    before = path.read_bytes()

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises((OSError, ModelError)):
        weights.save(path, build_net(1), FRONT_END, ABOUT)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Damage


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_model(tmp_path_factory.mktemp("content"), half=True).read_bytes()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a path to overwrite for each example; hypothesis does not allow fixtures of function scope."""
    return tmp_path_factory.mktemp("damaged") / "x.safetensors"


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_file_cut_off_anywhere_is_refused(content: bytes, damaged: Path, data: st.DataObject) -> None:
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert str(damaged) in expect_load_error(damaged)


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, 2**20), value=st.integers(0, 255))
def test_a_damaged_byte_in_the_header_is_refused_or_harmless(
    content: bytes, damaged: Path, place: int, value: int
) -> None:
    place %= 8 + int.from_bytes(content[:8], "little")
    damaged.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
    try:
        names = weights.load(str(damaged)).net.state_dict().keys()
    except ModelError:
        return
    assert names == build_net().state_dict().keys()


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_damaged_weight_is_found_by_the_digest_in_the_file(
    content: bytes, damaged: Path, data: st.DataObject
) -> None:
    start = 8 + int.from_bytes(content[:8], "little")
    place, bit = data.draw(st.integers(start, len(content) - 1)), data.draw(st.integers(0, 7))
    damaged.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
    assert "do not match the SHA-256 in its metadata" in expect_load_error(damaged)


def test_weights_without_a_digest_load_and_weights_with_a_wrong_digest_do_not(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert weights.load(str(save_with_metadata(path))).metadata == ABOUT
    assert "is damaged" in expect_load_error(save_with_metadata(path, tensors="0" * 64))


@pytest.mark.parametrize("kind", ["missing", "no bytes", "text", "folder"])
def test_other_files_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.safetensors"
    if kind == "no bytes":
        path.touch()
    elif kind == "text":
        path.write_text("These are words.\n" * 100, encoding="utf-8")
    elif kind == "folder":
        path.mkdir()
    assert str(path) in expect_load_error(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"vocalsep": "not json"}])
def test_foreign_safetensors_are_refused_by_name(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    message = expect_load_error(path)
    assert str(path) in message
    assert "not a vocalsep weights file" in message


def save_with_metadata(path: Path, **changes: Any) -> Path:
    """Save a model with changed metadata."""
    about = {
        **ABOUT,
        "format": 1,
        "net": "unet",
        "options": OPTIONS,
        "front_end_kind": "log-mel",
        "front_end": {"rate": 8_000, "n_fft": 512, "hop": 128, "bands": 32, "frames": 32},
        **changes,
    }
    path.write_bytes(save(build_net().state_dict(), metadata={"vocalsep": json.dumps(about)}))
    return path


def test_metadata_in_the_documented_format_load(tmp_path: Path) -> None:
    model = weights.load(str(save_with_metadata(tmp_path / "x.safetensors")))
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
    assert "x" in expect_load_error(save_with_metadata(tmp_path / "x.safetensors", **changes))


@pytest.mark.parametrize("value", ["[]", "3", "null", '"unet"'])
def test_metadata_other_than_a_table_are_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file(build_net().state_dict(), path, metadata={"vocalsep": value})
    assert str(path) in expect_load_error(path) or "'x'" in expect_load_error(path)


@pytest.mark.parametrize("change", ["one less", "one more", "other shape", "all others"])
def test_weights_that_do_not_fit_the_net_are_refused_in_one_line(tmp_path: Path, change: str) -> None:
    state = dict(build_net().state_dict())
    if change == "one less":
        del state["head.bias"]
    elif change == "all others":
        state = {f"other.{key}": value for key, value in state.items()}
    else:
        state["head.bias" if change == "other shape" else "tail.bias"] = torch.zeros(7)
    path = save_with_metadata(tmp_path / "x.safetensors")
    about = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    save_file(state, path, metadata=about["__metadata__"])
    assert "is not compatible with this version" in expect_load_error(path)
    assert len(expect_load_error(path)) < 300 + len(str(path))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"weight": Trap()}, tmp_path / "x.safetensors")
    expect_load_error(tmp_path / "x.safetensors")
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
    path = save_model(folder)
    path.with_suffix(".md").write_text(CARD.format(digest=weights.hash_file(path)), encoding="utf-8")
    return folder


def test_a_published_model_is_loaded_by_name(models: Path) -> None:
    model = weights.load("small", models)
    assert (model.name, model.front_end) == ("small", FRONT_END)
    assert list(weights.find_models(models)) == ["small"]


def test_an_unknown_model_is_refused_with_the_nearest_name(models: Path) -> None:
    message = expect_load_error("smal", models)
    assert "'smal'" in message
    assert "'small'" in message
    assert "small" in expect_load_error("something else altogether", models)


def test_a_run_is_a_model_and_a_published_name_comes_first(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "tiny"
    run.mkdir(parents=True)
    (run / "recipe.toml").touch()
    assert "has no weights yet" in expect_load_error("runs/tiny", models)
    path = save_model(run)
    path.rename(run / "unet.safetensors")
    for name in ("runs/tiny", "runs/tiny/", Path("runs") / "tiny", run / "unet.safetensors"):
        assert weights.load(name, models).name == "tiny"
    (tmp_path / "small").mkdir()
    assert weights.load("small", models).name == "small"
    save_model(run)
    assert "several weights files; name one of them" in expect_load_error("runs/tiny", models)
    assert expect_load_error("runs/tinny", models) == "runs/tinny: no such run or weights file"
    assert "without weights" in expect_load_error("runs", models)


def test_a_model_is_a_name_or_a_path() -> None:
    with pytest.raises(TypeError, match="a name or a path, not int"):
        weights.load(5)  # type: ignore[arg-type]


def test_an_empty_or_missing_folder_has_no_models(tmp_path: Path) -> None:
    assert "'small'" in expect_load_error("small", tmp_path)
    assert "'small'" in expect_load_error("small", tmp_path / "no such folder")


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


def test_a_file_that_differs_from_its_card_is_refused(models: Path) -> None:
    path = models / "small.safetensors"
    weights.save(path, build_net(1), FRONT_END, ABOUT)  # a valid file, but not the one on the card
    message = expect_load_error("small", models)
    assert "small" in message
    assert "SHA-256" in message
    assert weights.load(str(path)).front_end == FRONT_END


def test_a_model_without_a_card_or_digest_is_refused(models: Path) -> None:
    (models / "small.md").write_text("# small\n", encoding="utf-8")
    assert "SHA-256" in expect_load_error("small", models)
    (models / "small.md").unlink()
    assert "card" in expect_load_error("small", models)
    with pytest.raises(ModelError, match="card"):
        weights.read_card("small", models)


def test_the_card_of_an_unknown_model_is_refused(models: Path) -> None:
    with pytest.raises(ModelError, match="did you mean 'small'"):
        weights.read_card("smalll", models)


def test_digest_is_the_sha_256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert weights.hash_file(tmp_path / "abc") == ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_every_shipped_model_matches_its_card_and_names_its_data_and_licence() -> None:
    assert weights.load()  # verifies the default model's files, as below
    for name in shipped.NAMES:
        model = weights.load(name)
        assert {"licence", "data", "metrics", "version"} <= set(model.metadata), name
        assert all(torch.isfinite(tensor).all() for tensor in model.net.state_dict().values()), name
