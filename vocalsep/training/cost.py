"""What a training will cost on this device, measured before it starts: time, memory, and the fastest precision."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vocalsep.datasets.excerpts import Drawn
from vocalsep.training.material import Material
from vocalsep.training.recipes import Precision, Recipe
from vocalsep.training.team import Team
from vocalsep.training.trainer import Trainer

_FEW = 4  # excerpts to a trial step
_TRIALS, _TRIAL_SECONDS = 3, 5.0
_WORTH = 0.85  # another precision than fp32 must take at most this share of its time
_PLAIN: Precision = "fp32"
_COPIES = 5  # of the weights: net, running mean, gradient, two moments


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training costs; times and memory are estimates from a few small trial steps.

    Attributes:
        parameters: Trained numbers.
        precision: Of the forward and backward pass.
        step_seconds: A step of the optimiser.
        draw_seconds: Drawing the excerpts of a step, which goes on beside it.
        memory_mb: Weights, optimiser and what is kept for the backward pass, MiB; the program itself not counted.
        steps: Steps that are left.
        seconds: Until the end, validation included.
    """

    parameters: int
    precision: str
    step_seconds: float
    draw_seconds: float
    memory_mb: float
    steps: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.parameters:,} parameters, {self.precision}, about {self.memory_mb:,.0f} MiB; "
            f"{self.step_seconds:.2g} s a step (excerpts {self.draw_seconds:.2g} s beside it), "
            f"{self.steps:,} steps to go: about {_spoken(self.seconds)}"
        )


def _spoken(seconds: float) -> str:
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def settled(recipe: Recipe, material: Material, team: Team) -> Recipe:
    """The recipe with a precision in place of "auto": another than fp32 only if it is clearly faster here."""
    if recipe.training.precision != "auto":
        return recipe
    half: Precision = "bf16" if team.device.type == "cpu" or torch.cuda.is_bf16_supported() else "fp16"
    one, other = (replace(recipe, training=replace(recipe.training, precision=kind)) for kind in (_PLAIN, half))
    faster = False
    if team.leads:
        faster = _step_seconds(other, material, team) < _WORTH * _step_seconds(one, material, team)
    return other if team.shared(float(faster)) else one


def measured(trainer: Trainer) -> Cost:
    """Measures what is left of a training; the trainer itself is not touched."""
    recipe, material, options = trainer.recipe, trainer.material, trainer.recipe.training
    started = time.perf_counter()
    trainer.draw(0)
    draw = time.perf_counter() - started
    step = _step_seconds(recipe, material, trainer.team) / trainer.team.size
    each = max(step, draw)
    seconds = (1 - trainer.progress) * (each * trainer.steps if trainer.steps else 60 * options.minutes)
    steps = math.ceil(seconds / each)
    if options.validate_steps:
        validations = steps / options.validate_steps
    else:
        validations = seconds / max(each, 60 * options.validate_minutes)
    forward = step / 3 / options.batch_size  # of one excerpt
    seconds += (1 + validations) * forward * options.validate_excerpts * (material.validation is not None)
    return Cost(
        parameters=trainer.net.parameters_count,
        precision=options.precision,
        step_seconds=step,
        draw_seconds=draw,
        memory_mb=_memory_mb(trainer),
        steps=steps,
        seconds=seconds,
    )


def _trial(recipe: Recipe, material: Material, team: Team) -> tuple[Trainer, Drawn]:
    few = min(_FEW, recipe.training.batch_size)
    small = replace(recipe, training=replace(recipe.training, batch_size=few))
    trial = Trainer(small, material, Team(device=team.device))
    return trial, trial.draw(0)


def _step_seconds(recipe: Recipe, material: Material, team: Team) -> float:
    """Seconds to a step, from steps of a few excerpts; the first one does not count unless it is a long one."""
    trial, drawn = _trial(recipe, material, team)
    times: list[float] = []
    while len(times) <= _TRIALS and sum(times) < _TRIAL_SECONDS:
        started = time.perf_counter()
        trial.update(drawn)
        if team.device.type == "cuda":
            torch.cuda.synchronize(team.device)
        times.append(time.perf_counter() - started)
    return min(times[1:] or times) * recipe.training.batch_size / len(drawn.tracks)


def _memory_mb(trainer: Trainer) -> float:
    """MiB of weights and their companions, and of what a step keeps for its backward pass on each device."""
    trial, drawn = _trial(trainer.recipe, trainer.material, trainer.team)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = trial.terms(drawn)
    share = trainer.recipe.training.batch_size / trainer.team.size / len(drawn.tracks)
    del terms
    return (_COPIES * 4 * trainer.net.parameters_count + share * sum(kept.values())) / 2**20
