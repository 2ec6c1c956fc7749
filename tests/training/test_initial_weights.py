"""Nets, or parts of them, that start from trained weights: loading, refusals, and the songs those have heard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_nets
import pytest
import tiny_recipes
import torch
from states import are_identical, copy_state
from tiny_recipes import CPU

from vocalsep import config, nets, training, weights
from vocalsep.errors import ConfigError, DatasetError, ModelError
from vocalsep.training import guards, recipes
from vocalsep.training.material import Material
from vocalsep.training.recipes import Recipe
from vocalsep.training.team import Team
from vocalsep.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("few_norm_batches", "no_pictures")

CLUSTERING = {"bands": tiny_recipes.SMALL.bands, "units": 3, "layers": 1, "dimensions": 2, "dropout": 0.0}
UNET = {"width": 4, "dropout": 0.0}
UHNET = {"clustering": CLUSTERING, "unet": UNET | {"channels": 3}}
HEARD = {
    "clustering": {"songs": ["adasong4", "noether"], "singers": ["ada"]},
    "unet": {"songs": ["adasong4", "weyl"], "singers": ["hilbert"]},
}


def store(path: Path, net: str, options: Mapping[str, Any], seed: int = 1, **metadata: Any) -> str:
    """Write a weights file with random numbers in full precision, and return its path."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nets.build(net, options)
    weights.save(path, made, tiny_recipes.SMALL, {"licence": "none", **metadata}, half=False)
    return str(path)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Weights files of the two parts: a hybrid clustering net, and a U-Net with masks across all of [0, 1]."""
    folder, made = tmp_path_factory.mktemp("parts"), fake_nets.random_unet(tiny_recipes.SMALL)
    path = folder / "unet.safetensors"
    weights.save(path, made.net, tiny_recipes.SMALL, {"licence": "none", "heard": HEARD["unet"]}, half=False)
    clustering = store(folder / "hdpcl.safetensors", "hdpcl", CLUSTERING, heard=HEARD["clustering"])
    return {"clustering": clustering, "unet": str(path)}


def make_recipe(root: Path, **fit_options: Any) -> Recipe:
    """Make the recipe of a tiny UH-net. It holds out Curie, whom neither part has heard."""
    return replace(tiny_recipes.make_recipe(root, **fit_options), net="uhnet", options=UHNET)


def make_trainer(material: Material, root: Path, **fit_options: Any) -> Trainer:
    return Trainer(make_recipe(root, **fit_options), material, Team(device=CPU))


# Loading


def test_parts_start_from_their_weights_and_the_first_kernel_is_widened_by_zeros(
    material: Material, dsd100_root: Path, parts: dict[str, str]
) -> None:
    made = make_trainer(material, dsd100_root, parts=parts)
    made.load_initial_weights()
    clustering, unet = (copy_state(weights.load(parts[name]).net) for name in ("clustering", "unet"))
    for net in (made.net, made.averaged_net):
        assert are_identical(copy_state(net.clustering), clustering)
        found = copy_state(net.unet)
        [(first, wide)] = [(key, held) for key, held in found.items() if held.shape != unet[key].shape]
        assert first == "down.0.0.weight"
        assert torch.equal(wide[:, :1], unet[first])
        assert wide.shape[1] == 3
        assert not wide[:, 1:].any()
        assert are_identical(found | {first: unet[first]}, unet)


def test_the_first_mask_is_that_of_the_plain_unet(material: Material, dsd100_root: Path, parts: dict[str, str]) -> None:
    made = make_trainer(material, dsd100_root, parts=parts)
    features = torch.randn(3, 1, 64, 32, generator=torch.Generator().manual_seed(0))
    expected = weights.load(parts["unet"]).net(features)
    assert (made.averaged_net(features) - expected).abs().max() > 0.1
    made.load_initial_weights()
    assert expected.std() > 0.1
    torch.testing.assert_close(made.averaged_net(features), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(made.net.eval()(features), expected, rtol=0, atol=1e-5)


def test_the_first_step_uses_the_added_input_maps(material: Material, dsd100_root: Path, parts: dict[str, str]) -> None:
    made = make_trainer(material, dsd100_root, parts=parts)
    made.load_initial_weights()
    before = copy_state(made.net)
    made.update(material.training.draw_batch(0, 2))
    assert made.net.unet.down[0][0].weight[:, 1:].abs().amax(dim=(0, 2, 3)).min() > 0
    unmoved = [name for name, tensor in made.net.named_parameters() if torch.equal(tensor, before[name])]
    assert unmoved == []


def test_loading_one_part_leaves_the_other_unchanged(
    material: Material, dsd100_root: Path, parts: dict[str, str]
) -> None:
    for part, other in (("clustering", "unet"), ("unet", "clustering")):
        made = make_trainer(material, dsd100_root, parts={part: parts[part]})
        before = {name: copy_state(made.net.get_submodule(name)) for name in (part, other)}
        made.load_initial_weights()
        assert not are_identical(copy_state(made.net.get_submodule(part)), before[part])
        assert are_identical(copy_state(made.net.get_submodule(other)), before[other])


def test_parts_replace_those_of_a_whole_model(
    material: Material, dsd100_root: Path, parts: dict[str, str], tmp_path: Path
) -> None:
    whole = store(tmp_path / "whole.safetensors", "uhnet", UHNET, seed=2)
    made = make_trainer(material, dsd100_root, init=whole, parts={"clustering": parts["clustering"]})
    made.load_initial_weights()
    assert are_identical(copy_state(made.net.unet), copy_state(weights.load(whole).net.unet))
    assert are_identical(copy_state(made.net.clustering), copy_state(weights.load(parts["clustering"]).net))


def test_without_initial_weights_a_net_keeps_its_random_ones(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root)
    before = copy_state(made.net)
    made.load_initial_weights()
    assert are_identical(copy_state(made.net), before)


# Refusals


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("unett", "unknown part 'unett'; did you mean 'unet'?"),
        ("cluster", "unknown part 'cluster'; did you mean 'clustering'?"),
        ("options", "unknown part 'options'; known: clustering, unet"),  # an attribute, but not a part
        ("xyz", "unknown part 'xyz'; known: clustering, unet"),
    ],
)
def test_an_unknown_part_is_refused_with_the_nearest_one(
    material: Material, dsd100_root: Path, parts: dict[str, str], part: str, message: str
) -> None:
    name = parts["unet"]
    made = make_trainer(material, dsd100_root, parts={part: name})
    with pytest.raises(ConfigError) as error:
        made.load_initial_weights()
    assert str(error.value) == f"training.parts.{part} = {name!r}: {message}"


@pytest.mark.parametrize(
    ("part", "net", "options"),
    [
        ("unet", "unet", UNET | {"width": 5}),
        ("unet", "unet", UNET | {"channels": 4}),
        ("unet", "hdpcl", CLUSTERING),
        ("clustering", "unet", UNET),
        ("clustering", "hdpcl", CLUSTERING | {"units": 4}),
        ("clustering", "hdpcl", CLUSTERING | {"layers": 2}),
        ("clustering", "dpcl", CLUSTERING),  # has no head
        ("unet", "uhnet", UHNET),
    ],
    ids=str,
)
def test_weights_of_another_net_or_of_other_options_are_refused(
    material: Material, dsd100_root: Path, tmp_path: Path, part: str, net: str, options: dict[str, Any]
) -> None:
    name = store(tmp_path / "other.safetensors", net, options)
    made = make_trainer(material, dsd100_root, parts={part: name})
    with pytest.raises(ConfigError) as error:
        made.load_initial_weights()
    message = "these weights belong to another net or to other options"
    assert str(error.value) == f"training.parts.{part} = {name!r}: {message}"


def test_missing_weights_are_refused(material: Material, dsd100_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such weights file"):
        make_trainer(material, dsd100_root, parts={"unet": str(tmp_path / "none.safetensors")}).load_initial_weights()
    with pytest.raises(ModelError, match="did you mean 'unet'"):
        make_trainer(material, dsd100_root, parts={"unet": "unnet"}).load_initial_weights()


@pytest.mark.parametrize("part", ["clustering", "unet"])
def test_a_part_with_another_front_end_is_refused_before_recordings_are_opened(
    dsd100_root: Path, parts: dict[str, str], tmp_path: Path, part: str
) -> None:
    model, path = weights.load(parts[part]), tmp_path / "other.safetensors"
    weights.save(path, model.net, replace(tiny_recipes.SMALL, hop=128), {})
    with pytest.raises(ConfigError, match=r"cannot start from .*other\.safetensors': its front end is") as refused:
        training.fit(make_recipe(tmp_path / "nothing", parts=parts | {part: str(path)}), tmp_path / "run", device=CPU)
    assert "hop=128" in str(refused.value).split("; the recipe's is ")[0]
    assert not (tmp_path / "run").exists()


# Songs and singers heard


def load_heard(root: Path, lines: list[str] | None = None, **fit_options: Any) -> Mapping[str, Any]:
    report = [] if lines is None else lines
    return guards.load_heard(make_recipe(root, **fit_options), root / "none", report.append, resume=False)


def test_heard_songs_and_singers_are_those_of_all_parts_together(tmp_path: Path, parts: dict[str, str]) -> None:
    lines: list[str] = []
    assert load_heard(tmp_path) == {}
    assert load_heard(tmp_path, lines, parts={"unet": parts["unet"]}) == HEARD["unet"]
    both = {"songs": ["adasong4", "noether", "weyl"], "singers": ["ada", "hilbert"]}
    assert load_heard(tmp_path, lines, parts=parts) == both
    assert lines == []
    whole = store(tmp_path / "whole.safetensors", "uhnet", UHNET, heard={"songs": ["zuse"], "singers": []})
    assert load_heard(tmp_path, init=whole, parts=parts) == both | {"songs": [*both["songs"], "zuse"]}


def test_parts_that_do_not_say_what_they_heard_are_named(tmp_path: Path, parts: dict[str, str]) -> None:
    silent, lines = store(tmp_path / "silent.safetensors", "hdpcl", CLUSTERING), list[str]()
    assert load_heard(tmp_path, lines, parts=parts | {"clustering": silent}) == HEARD["unet"]
    assert lines == [f"{silent} does not say what it was trained on; make sure that this includes no held-out song"]


def test_a_run_keeps_what_its_parts_have_heard_and_resumes_without_their_files(
    material: Material, dsd100_root: Path, tmp_path: Path
) -> None:
    run, made = tmp_path / "run", {}
    for part, net, options in (("clustering", "hdpcl", CLUSTERING), ("unet", "unet", UNET)):
        made[part] = store(tmp_path / f"{net}.safetensors", net, options, heard=HEARD[part])
    chosen = make_recipe(dsd100_root, parts=made, steps=2)
    training.fit(chosen, run, device=CPU, should_stop=lambda: True)
    known = weights.load(str(run / "uhnet.safetensors")).metadata["heard"]
    own = material.heard
    assert "weyl" not in own["songs"]
    for kind in ("songs", "singers"):
        assert known[kind] == sorted({*own[kind], *HEARD["clustering"][kind], *HEARD["unet"][kind]})
    assert recipes.read_recipe(str(run / "recipe.toml")) == chosen
    settings = weights.load(str(run / "uhnet.safetensors")).metadata["recipe"]["training"]
    assert settings["parts"] == {"clustering": "hdpcl.safetensors", "unet": "unet.safetensors"}  # without their folders

    before = json.loads((run / "tracks.json").read_text(encoding="utf-8"))["before"]
    assert before == {"songs": ["adasong4", "noether", "weyl"], "singers": ["ada", "hilbert"]}
    for name in made.values():
        Path(name).unlink()
    result = training.fit(chosen, run, device=CPU, resume=True)
    assert weights.load(str(result)).metadata["heard"] == known
    assert len((run / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize("known", [{"songs": ["curiesong6"]}, {"singers": ["curie"]}], ids=str)
def test_a_song_or_singer_that_a_part_has_heard_cannot_be_held_out(
    dsd100_root: Path, tmp_path: Path, parts: dict[str, str], known: dict[str, list[str]]
) -> None:
    path = store(tmp_path / "knows.safetensors", "hdpcl", CLUSTERING, heard=known)
    with pytest.raises(DatasetError, match=r"to validate or test on are also trained on: .*Curie"):
        training.fit(make_recipe(dsd100_root, parts=parts | {"clustering": path}), tmp_path / "run", device=CPU)


# Recipes


def test_recipes_name_parts(dsd100_root: Path) -> None:
    preset = recipes.read_recipe("uhnet")
    assert preset.training.parts == {"clustering": "hdpcl", "unet": "unet"}
    assert recipes.read_recipe("unet").training.parts == {}
    changed = recipes.read_recipe("uhnet", ["training.parts.unet=runs/mine/unet.safetensors"])
    assert changed.training.parts == {"clustering": "hdpcl", "unet": "runs/mine/unet.safetensors"}
    assert config.build(Recipe, config.to_dict(changed)) == changed
    with pytest.raises(ConfigError, match=r"training\.parts = 'unet'"):
        recipes.read_recipe("uhnet", ["training.parts=unet"])


def test_a_part_with_an_empty_name_starts_from_random_weights(
    material: Material, dsd100_root: Path, parts: dict[str, str]
) -> None:
    plain, some = (
        Trainer(make_recipe(dsd100_root, parts=given), material, Team(device=CPU))
        for given in ({}, parts | {"clustering": ""})
    )
    some.load_initial_weights()
    random, kept = plain.net.state_dict(), some.net.state_dict()
    for name, tensor in kept.items():
        if name.startswith("clustering."):
            assert torch.equal(tensor, random[name]), name
    assert not torch.equal(kept["unet.head.weight"], random["unet.head.weight"])


def test_a_part_must_be_a_string() -> None:
    with pytest.raises(ConfigError, match=r"training\.parts\.unet = 3: expected str"):
        recipes.read_recipe("uhnet", ["training.parts.unet=3"])
