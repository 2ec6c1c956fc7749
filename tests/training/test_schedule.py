from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vocalsep import nets
from vocalsep.errors import ConfigError
from vocalsep.training import schedule
from vocalsep.training.muon import Muon
from vocalsep.training.recipes import FitOptions
from vocalsep.training.schedule import ValidationHistory

STEPS = FitOptions(steps=1)
PLATEAU = replace(STEPS, schedule="plateau", plateau_validations=2, plateau_factor=0.5)


# Optimisers


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("rmsprop", torch.optim.RMSprop)]
)
def test_the_named_optimiser_holds_every_parameter(name: Any, kind: type) -> None:
    net = nets.build("unet", {"width": 1})
    made = schedule.make_optimiser(net, replace(STEPS, optimiser=name, learning_rate=0.25, weight_decay=0.5))
    assert type(made) is kind
    held = [parameter for group in made.param_groups for parameter in group["params"]]
    assert {id(parameter) for parameter in held} == {id(parameter) for parameter in net.parameters()}
    for group in made.param_groups:
        assert group["lr"] == 0.25
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] == 0.5}


def test_muon_gets_the_hidden_matrices() -> None:
    net = nets.build("uhnet-hd", {"freqs": 32, "widths": [4, 6], "sub_bands": 2, "voicing": 0.1, "affinity": 0.1})
    made = schedule.make_optimiser(net, replace(STEPS, optimiser="muon", learning_rate=0.25, weight_decay=0.5))
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    held = [[names.pop(id(parameter)) for parameter in group["params"]] for group in made.param_groups]
    assert not names
    assert [group["muon"] for group in made.param_groups] == [True, False, False]
    assert [group["weight_decay"] for group in made.param_groups] == [0.5, 0.5, 0.0]
    assert {name.partition(".")[0] for name in held[0]} == {"encoder", "down", "bottom", "up", "decoder"}
    assert {name.partition(".")[0] for name in held[1]} == {"enter", "recurrent", "leave", "embed", "voicing"}


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_muon_iterates_in_the_precision_of_the_training(precision: Any, expected: torch.dtype) -> None:
    net = nets.build("unet", {"width": 1})
    made = schedule.make_optimiser(net, replace(STEPS, optimiser="muon", precision=precision))
    assert isinstance(made, Muon)
    assert made.iterate_in == expected


@pytest.mark.parametrize("name", ["dpcl", "hdpcl", "uhnet", "uhnet-hd", "drnn"])
def test_muon_leaves_recurrent_layers_to_adamw(name: str) -> None:
    # Muon's steps in the GRU layers of a uhnet made the gradient overflow within 750 steps.
    net = nets.build(name, {})
    made = schedule.make_optimiser(net, replace(STEPS, optimiser="muon"))
    hidden = {id(parameter) for parameter in made.param_groups[0]["params"]}
    layers = [module for module in net.modules() if isinstance(module, nn.RNNBase)]
    assert layers
    assert not any(id(parameter) in hidden for layer in layers for parameter in layer.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    made.step()
    assert all((parameter != old).any() for parameter, old in zip(net.parameters(), before, strict=True))


# Learning rate


@settings(deadline=None, max_examples=50)
@given(
    peak=st.floats(1e-6, 1.0),
    warmup=st.integers(0, 1_000),
    step=st.integers(0, 5_000),
    progress=st.floats(0, 1.5),
)
def test_learning_rate_lies_between_zero_and_its_peak(peak: float, warmup: int, step: int, progress: float) -> None:
    options = FitOptions(steps=1, learning_rate=peak, warmup_steps=warmup)
    rate = schedule.compute_learning_rate(options, step, progress)
    assert 0 <= rate <= peak
    assert rate == schedule.compute_learning_rate(options, step, progress)
    assert schedule.compute_learning_rate(options, step + 1, progress) >= rate
    assert schedule.compute_learning_rate(options, step, progress + 0.1) <= rate


def test_learning_rate_rises_linearly_and_falls_along_a_cosine() -> None:
    options = FitOptions(steps=1, learning_rate=2.0, warmup_steps=4)
    rise = [schedule.compute_learning_rate(options, step, 0.0) for step in range(6)]
    assert rise == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])
    fall = [schedule.compute_learning_rate(options, 100, progress) for progress in (0, 1 / 3, 0.5, 2 / 3, 1, 1.5)]
    assert fall == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0, 0.0])


def test_learning_rate_without_warm_up_starts_at_its_peak() -> None:
    assert schedule.compute_learning_rate(FitOptions(steps=1, learning_rate=1.0, warmup_steps=0), 0, 0.0) == 1.0


def test_a_steady_learning_rate_falls_along_a_line_at_the_end() -> None:
    options = replace(STEPS, schedule="steady", decay=0.25, learning_rate=2.0, warmup_steps=4)
    assert schedule.compute_learning_rate(options, 1, 0.0) == pytest.approx(1.0)
    course = [schedule.compute_learning_rate(options, 100, progress) for progress in (0, 0.5, 0.75, 0.875, 1, 1.5)]
    assert course == pytest.approx([2.0, 2.0, 2.0, 1.0, 0.0, 0.0])


@pytest.mark.parametrize("decay", [0.0, -0.1, 1.1])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ConfigError, match="decay"):
        replace(STEPS, decay=decay)


def test_with_plateaus_the_learning_rate_ignores_progress() -> None:
    options = replace(PLATEAU, learning_rate=2.0, warmup_steps=4)
    assert schedule.compute_learning_rate(options, 1, 0.0) == pytest.approx(1.0)
    assert schedule.compute_learning_rate(options, 100, 0.9) == pytest.approx(2.0)
    assert schedule.compute_learning_rate(options, 100, 0.9, factor=0.25) == pytest.approx(0.5)


def test_a_cosine_schedule_ignores_plateaus() -> None:
    assert schedule.compute_learning_rate(STEPS, 500, 0.3, factor=0.25) == schedule.compute_learning_rate(
        STEPS, 500, 0.3
    )


# Validation history


def follow(qualities: list[float], options: FitOptions) -> list[ValidationHistory]:
    """Return the history after each of these validations."""
    histories, history = [], ValidationHistory()
    for quality in qualities:
        history = history.add(quality, options)
        histories.append(history)
    return histories


@given(qualities=st.lists(st.floats(-100, 100), min_size=1), patience=st.integers(1, 5))
def test_the_best_is_the_maximum_and_stale_counts_from_it(qualities: list[float], patience: int) -> None:
    options = replace(PLATEAU, plateau_validations=patience)
    last = follow(qualities, options)[-1]
    assert last.best == max(qualities)
    assert last.stale == len(qualities) - 1 - qualities.index(max(qualities))


def test_the_learning_rate_is_cut_once_per_plateau() -> None:
    found = follow([1.0, 2.0, 1.5, 2.0, 1.9, 1.8, 2.1, 2.0], PLATEAU)
    assert [history.stale for history in found] == [0, 0, 1, 2, 3, 4, 0, 1]
    assert [history.factor for history in found] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_cosine_schedule_never_cuts_the_learning_rate() -> None:
    assert {history.factor for history in follow([1.0] * 20, STEPS)} == {1.0}


def test_nan_is_never_the_best_quality() -> None:
    assert follow([1.0, math.nan, 0.5], STEPS)[-1] == ValidationHistory(best=1.0, stale=2)


@pytest.mark.parametrize(("patience", "stops_at"), [(0, None), (1, 2), (3, 4)])
def test_a_run_stops_early_after_the_stated_number_of_validations(patience: int, stops_at: int | None) -> None:
    options = replace(STEPS, stop_validations=patience)
    histories = follow([1.0, 2.0, 1.0, 1.0, 1.0, 1.0], options)
    stops = [place for place, history in enumerate(histories) if history.stops_early(options)]
    assert (stops[0] if stops else None) == stops_at
