from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import CPU, make_recipe

from vocalsep import config, nets, training
from vocalsep.errors import ConfigError
from vocalsep.features import MFCC, Linear, LogMel
from vocalsep.training import recipes
from vocalsep.training.excerpts.augment import AugmentOptions
from vocalsep.training.excerpts.sampler import ExcerptOptions
from vocalsep.training.recipes import FitOptions, PoolOptions, Recipe

REFERENCE = Path(__file__).parents[2] / "docs" / "recipes.md"


def test_every_preset_parses_and_builds_its_net() -> None:
    assert "unet" in recipes.list_presets()
    for name in recipes.list_presets():
        found = recipes.read_recipe(name)
        assert nets.build(found.net, found.options).parameter_count > 0
        assert found.pools
        assert found.licence != "not stated", name


def test_every_recipe_of_the_lab_notes_parses_and_builds_its_net() -> None:
    found = [recipes.read_recipe(str(path)) for path in sorted((REFERENCE.parent / "lab" / "recipes").glob("*.toml"))]
    assert len(found) >= 12
    for recipe in found:
        assert nets.build(recipe.net, recipe.options).parameter_count > 0
        assert len(recipe.pools) >= 8


def test_overrides_reach_a_recipe() -> None:
    found = recipes.read_recipe("unet", ["options.width=4", "training.minutes=0", "training.steps=7"])
    assert found.options["width"] == 4
    assert (found.training.steps, found.training.minutes) == (7, 0.0)
    assert found.pools == recipes.read_recipe("unet").pools


def test_a_recipe_extends_another_setting_by_setting(tmp_path: Path) -> None:
    (tmp_path / "below.toml").write_text('extends = "unet"\n[options]\nwidth = 4\n[excerpts.augment]\necho = 0.9\n')
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'extends = "below.toml"\n[training]\nsteps = 3\n[[pools]]\nlayout = "voices"\nroot = "here"\nweight = 2\n'
    )
    preset, found = recipes.read_recipe("unet"), recipes.read_recipe(str(mine), ["options.bce=0.5"])
    assert found.options == preset.options | {"width": 4, "bce": 0.5}
    assert found.excerpts == replace(preset.excerpts, augment=replace(preset.excerpts.augment, echo=0.9))
    assert found.training == replace(preset.training, steps=3, minutes=0.0)
    assert found.pools == (PoolOptions(layout="voices", root="here", weight=2),)
    assert (found.net, found.licence) == (preset.net, preset.licence)
    assert recipes.read_recipe(str(mine), ["training.epochs=2"]).training.steps == 0


def test_presets_for_songs_share_their_recordings() -> None:
    songs = [
        recipes.read_recipe(name)
        for name in ("unet", "uhnet", "hdpcl", "dpcl", "uhnet-hd", "uhnet-hd-large", "unet-hd")
    ]
    assert {found.pools for found in songs} == {songs[0].pools}
    assert len(songs[0].pools) == 5
    assert "songs" not in recipes.list_presets()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "mine.toml"', "mine.toml: extends itself"),
        ('extends = "../{folder}/mine.toml"', "mine.toml: extends itself"),
        ('extends = "unett"', "unknown preset 'unett'; did you mean 'unet'"),
        ('extends = "none.toml"', "none.toml: cannot read"),
        ("extends = 3", "extends = 3: expected the name of a preset"),
        ('extends = "unet"\noptions = 3', "options"),
        ('extends = "unet"\ntraining = 3', "training = 3"),
    ],
)
def test_a_recipe_that_extends_nothing_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text.format(folder=tmp_path.name))
    with pytest.raises(ConfigError, match=message):
        recipes.read_recipe(str(path))


def test_a_recipe_selects_its_front_end_by_kind() -> None:
    assert recipes.read_recipe("unet").front_end == LogMel()
    assert recipes.read_recipe("uhnet-hd").front_end == Linear(side=True)
    linear = recipes.read_recipe("unet", ["front_end={kind='linear', freqs=513, channels=1}"])
    assert linear.front_end == Linear(freqs=513, channels=1)
    assert config.build(recipes.Recipe, config.to_dict(linear)) == linear


@pytest.mark.parametrize(
    ("front_end", "message"),
    [
        ("{kind='lin'}", "unknown front_end.kind 'lin'; did you mean 'linear'"),
        ("{kind=3}", "front_end.kind"),
        ("{kind='linear', bands=3}", "front_end.bands"),
        ("3", "front_end = 3: expected LogMel"),
    ],
)
def test_an_unknown_front_end_is_refused(front_end: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipes.read_recipe("unet", [f"front_end={front_end}"])


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("training.step=3", "training.steps"),
        ("excerpts.polarty=0.5", "excerpts.polarity"),
        ("front_end.hopp=3", "front_end.hop"),
        ("nett='unet'", "net"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_one(setting: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{hint}'"):
        recipes.read_recipe("unet", [setting])


@pytest.mark.parametrize("length", ["steps", "minutes", "epochs"])
def test_a_new_length_replaces_the_one_in_the_recipe(length: str) -> None:
    found = recipes.read_recipe("unet", [f"training.{length}=7"]).training
    assert {name: getattr(found, name) for name in ("steps", "minutes", "epochs")} == {
        "steps": 0,
        "minutes": 0.0,
        "epochs": 0.0,
        length: 7,
    }
    with pytest.raises(ConfigError, match="exactly one"):
        recipes.read_recipe("unet", ["training.steps=7", "training.epochs=7"])


def test_an_unknown_net_option_is_refused(dsd100_root: Path, tmp_path: Path) -> None:
    wrong = replace(make_recipe(dsd100_root), options={"widht": 4})
    with pytest.raises(ConfigError, match=r"options\.width"):
        training.fit(wrong, tmp_path / "run", device=CPU)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_an_unknown_preset_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'unet'"):
        recipes.read_recipe("unett")


def test_a_missing_or_malformed_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml"):
        recipes.read_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "words.toml").write_text("these are words", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"words\.toml"):
        recipes.read_recipe(str(tmp_path / "words.toml"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": 5, "minutes": 1.0},
        {"steps": 5, "batch_size": 0},
        {"steps": 5, "learning_rate": 0.0},
        {"steps": 5, "clip": -1.0},
        {"steps": 5, "validate_steps": 1, "validate_epochs": 1.0},
        {"steps": 5, "ema": 1.0},
        {"steps": 5, "validate_excerpts": 0},
        {"steps": 5, "minutes": -1.0},
        {"steps": 5, "seed": -1},
        {"steps": 5, "stop_validations": -1},
        {"steps": 5, "plateau_factor": 1.0},
        {"steps": 5, "validate_minutes": -5.0},
        {"steps": 5, "checkpoint_minutes": -1.0},
        {"steps": 5, "epochs": 1.0},
    ],
)
def test_loop_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FitOptions(**options)


@pytest.mark.parametrize("options", [Recipe, FitOptions, PoolOptions, ExcerptOptions, AugmentOptions])
def test_the_reference_lists_every_setting(options: type) -> None:
    listed = set(re.findall(r"`(?:excerpts\.)?(\w+)`", REFERENCE.read_text(encoding="utf-8")))
    assert {field.name for field in fields(options)} <= listed


def test_the_reference_lists_every_preset_and_front_end() -> None:
    listed = set(re.findall(r'`"?([\w-]+)"?`', REFERENCE.read_text(encoding="utf-8")))
    assert set(recipes.list_presets()) <= listed
    assert {"log-mel", "linear", "mfcc"} <= listed
    for front_end in (LogMel, Linear, MFCC):
        assert {field.name for field in fields(front_end)} <= listed
