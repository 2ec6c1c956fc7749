"""What a training will cost on this device, measured before it starts: time, memory, and the fastest precision."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vocalsep.training.material import Material
from vocalsep.training.recipes import Precision, Recipe
from vocalsep.training.team import Team
from vocalsep.training.trainer import NORM_BATCHES, Trainer

_FEW = 4  # excerpts to a trial step
_TRIALS, _TRIAL_SECONDS = 4, 10.0
_WORTH = 0.75  # another precision than fp32 must take at most this share of its time
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
    half: Precision = (
        "bf16" if team.device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    )
    one, other = (replace(recipe, training=replace(recipe.training, precision=kind)) for kind in (_PLAIN, half))
    faster = False
    if team.leads:
        plain, autocast = _timed(*(_Trial(each, material, team, excerpts=1) for each in (one, other)))
        faster = autocast < _WORTH * plain
    return other if team.shared(float(faster)) else one


def measured(trainer: Trainer) -> Cost:
    """Measures what is left of a training; the trainer itself is not touched."""
    recipe, material, options = trainer.recipe, trainer.material, trainer.recipe.training
    started = time.perf_counter()
    trainer.draw(0)
    draw = time.perf_counter() - started
    trial = _Trial(recipe, material, trainer.team)
    step = _timed(trial)[0] / trainer.team.size
    each = max(step, draw)
    left = max(0.0, 1 - trainer.progress)
    seconds = left * (each * trainer.steps if trainer.steps else 60 * options.minutes)
    steps = math.ceil(seconds / each)
    if trainer.validate_steps:
        validations = steps / trainer.validate_steps
    else:
        validations = seconds / max(each, 60 * options.validate_minutes)
    shown = NORM_BATCHES * options.batch_size + options.validate_excerpts * (material.validation is not None)
    alone = each * trainer.team.size / options.batch_size  # of an excerpt, in the process that validates
    seconds += (1 + validations) * shown * max(alone / 3, draw / options.batch_size)
    return Cost(
        parameters=trainer.net.parameter_count,
        precision=options.precision,
        step_seconds=step,
        draw_seconds=draw,
        memory_mb=trial.memory_mb(),
        steps=steps,
        seconds=seconds,
    )


class _Trial:
    """A trainer of its own that makes small steps, always on the same excerpts."""

    def __init__(self, recipe: Recipe, material: Material, team: Team, excerpts: int = _FEW) -> None:
        few = min(excerpts, recipe.training.batch_size)
        small = replace(recipe, training=replace(recipe.training, batch_size=few))
        self._trainer = Trainer(small, material, Team(device=team.device))
        self._drawn = self._trainer.draw(0)
        self._whole = recipe.training.batch_size / few  # steps of the training to one of these
        self._mine = self._whole / team.size

    def seconds(self) -> float:
        """Makes a step, and says how long one of the whole training would take."""
        started = time.perf_counter()
        self._trainer.update(self._drawn)
        if self._trainer.team.device.type == "cuda":
            torch.cuda.synchronize(self._trainer.team.device)
        return self._whole * (time.perf_counter() - started)

    def memory_mb(self) -> float:
        """MiB of weights and their companions, and of what a step keeps for its backward pass, in each process."""
        kept: dict[int, int] = {}
        weights = {parameter.untyped_storage().data_ptr() for parameter in self._trainer.net.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            terms = self._trainer.terms(self._drawn)  # holds on to all of it, so that no address comes twice
        held = self._mine * sum(kept.values())
        del terms
        return (_COPIES * 4 * self._trainer.net.parameter_count + held) / 2**20


def _timed(*trials: _Trial) -> list[float]:
    """Seconds to a step of each trial: the least of some, taken in turn; the first does not count unless it is long."""
    times: list[list[float]] = []
    started = time.perf_counter()
    while len(times) <= _TRIALS and time.perf_counter() - started < _TRIAL_SECONDS:
        times.append([trial.seconds() for trial in trials])
    return [min(one) for one in zip(*(times[1:] or times), strict=True)]
