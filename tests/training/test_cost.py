from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_recipes import CPU, make_recipe, make_trainer

from vocalsep.training import cost
from vocalsep.training.material import Material
from vocalsep.training.team import Team
from vocalsep.training.trainer import Trainer

ALONE = Team(device=CPU)


def test_counts_are_exact(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root, steps=40)
    made.step = 10
    found = cost.estimate_cost(made)
    assert found.parameters == made.net.parameter_count
    assert found.precision == "fp32"
    assert found.steps == 30
    assert found.step_seconds > 0
    assert found.draw_seconds > 0


def test_time_and_steps_agree(material: Material, dsd100_root: Path) -> None:
    steps = cost.estimate_cost(make_trainer(material, dsd100_root, steps=1_000, validate_minutes=5.0))
    assert steps.seconds >= 1_000 * max(steps.step_seconds, steps.draw_seconds)
    minutes = cost.estimate_cost(make_trainer(material, dsd100_root, steps=0, minutes=10.0, validate_minutes=5.0))
    assert minutes.seconds == 600
    validating = 3 * minutes.validation_seconds  # after 5 minutes, a little later, and at the end
    assert minutes.steps == pytest.approx(
        (600 - validating) / max(minutes.step_seconds, minutes.draw_seconds), rel=0.01
    )
    often = cost.estimate_cost(make_trainer(material, dsd100_root, steps=1_000, validate_steps=1))
    assert often.seconds > 1.2 * 1_000 * max(often.step_seconds, often.draw_seconds)


def test_memory_grows_with_the_net_and_with_the_batch(material: Material, dsd100_root: Path) -> None:
    small, batch = (cost.estimate_cost(make_trainer(material, dsd100_root, batch_size=size)) for size in (2, 32))
    wide_recipe = replace(make_recipe(dsd100_root), options={"width": 16})
    wide = cost.estimate_cost(Trainer(wide_recipe, material, ALONE))
    assert 5 * 4 * small.parameters / 2**20 < small.memory_mb < batch.memory_mb
    weights = 5 * 4 * (wide.parameters - small.parameters) / 2**20
    assert wide.memory_mb - small.memory_mb > weights
    held = small.memory_mb - 5 * 4 * small.parameters / 2**20
    assert batch.memory_mb - small.memory_mb == pytest.approx(15 * held, rel=0.2)


def test_measuring_leaves_the_trainer_and_the_generators_as_they_were(material: Material, dsd100_root: Path) -> None:
    made = make_trainer(material, dsd100_root)
    made.update(made.draw_batch(0))
    before, random = copy.deepcopy(made.state_dict()), torch.get_rng_state()
    cost.estimate_cost(made)
    assert torch.equal(torch.get_rng_state(), random)
    after = made.state_dict()
    for part in ("net", "mean"):
        assert all(torch.equal(before[part][key], tensor) for key, tensor in after[part].items())
    assert (after["step"], after["seconds"]) == (before["step"], before["seconds"])


@pytest.mark.parametrize(("half_is", "expected"), [(0.5, "bf16"), (0.9, "fp32"), (2.0, "fp32")])
def test_half_precision_is_chosen_only_if_it_is_clearly_faster(
    material: Material, dsd100_root: Path, monkeypatch: pytest.MonkeyPatch, half_is: float, expected: str
) -> None:
    precisions = []

    def time_step(trial: Any) -> float:
        precisions.append(trial._trainer.recipe.training.precision)
        return {"fp32": 1.0, "bf16": half_is}[precisions[-1]]

    monkeypatch.setattr(cost._Trial, "time_step", time_step)
    found = cost.choose_precision(make_recipe(dsd100_root, precision="auto"), material, ALONE)
    assert found.training.precision == expected
    assert set(precisions) == {"fp32", "bf16"}


def test_a_given_precision_is_kept(material: Material, dsd100_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cost._Trial, "time_step")
    chosen = make_recipe(dsd100_root, precision="bf16")
    assert cost.choose_precision(chosen, material, ALONE) == chosen


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.2, "1 s"), (59.0, "59 s"), (61.0, "2 min"), (3_600.0, "60 min"), (36_000.0, "10.0 h")]
)
def test_durations_are_readable(seconds: float, expected: str) -> None:
    assert cost._format_duration(seconds) == expected


def test_the_summary_states_parameters_precision_memory_and_time(material: Material, dsd100_root: Path) -> None:
    line = str(cost.estimate_cost(make_trainer(material, dsd100_root, steps=40)))
    for part in ("80,933 parameters", "fp32", "MiB", "s per step", "40 steps to go", "about"):
        assert part in line
