"""Before training starts, estimate its time and memory on this device, and find the fastest precision."""

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

_TRIAL_EXCERPTS = 4  # in a trial step
_TRIALS, _TRIAL_SECONDS = 4, 10.0  # trial steps after the warm-up; time after which no further one starts
_WORTHWHILE = 0.75  # half precision must take at most this share of the time of fp32
_FULL: Precision = "fp32"
_COPIES = 5  # of the weights: net, moving average, gradient, two moments


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of the rest of a training run. Times and memory are estimates from a few small trial steps.

    Attributes:
        parameters: Number of trained parameters.
        precision: Precision of the forward and backward pass.
        step_seconds: Time of one step of the optimiser.
        draw_seconds: Time to draw the excerpts of a step, in parallel with the previous step.
        memory_mb: Memory for weights, optimiser and activations, MiB, without the program itself.
        validation_seconds: Time of one validation.
        steps: Steps left.
        seconds: Time left, including validation.
    """

    parameters: int
    precision: str
    step_seconds: float
    draw_seconds: float
    memory_mb: float
    validation_seconds: float
    steps: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.parameters:,} parameters, {self.precision}, about {self.memory_mb:,.0f} MiB; "
            f"{self.step_seconds:.2g} s per step (excerpts take {self.draw_seconds:.2g} s in parallel), "
            f"{self.steps:,} steps to go: about {_format_duration(self.seconds)}"
        )


def _format_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def choose_precision(recipe: Recipe, material: Material, team: Team) -> Recipe:
    """Replace the precision "auto" of a recipe by half precision if that is clearly faster, otherwise by "fp32"."""
    if recipe.training.precision != "auto":
        return recipe
    fast_bf16 = team.device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    kinds: tuple[Precision, Precision] = (_FULL, "bf16" if fast_bf16 else "fp16")
    full, half = (replace(recipe, training=replace(recipe.training, precision=kind)) for kind in kinds)
    faster = False
    if team.leads:
        full_seconds, half_seconds = _time_steps(*(_Trial(each, material, team, excerpts=1) for each in (full, half)))
        faster = half_seconds < _WORTHWHILE * full_seconds
    return half if team.broadcast(float(faster)) else full


def estimate_cost(trainer: Trainer) -> Cost:
    """Estimate the cost of the rest of a training run. The trainer does not change."""
    recipe, material, options = trainer.recipe, trainer.material, trainer.recipe.training
    trial = _Trial(recipe, material, trainer.team)  # draws excerpts too, which warms up the libraries
    started = time.perf_counter()
    trainer.draw_batch(0)
    draw = time.perf_counter() - started
    step = _time_steps(trial)[0] / trainer.team.size
    slower = max(step, draw)
    excerpts = NORM_BATCHES * options.batch_size + options.validate_excerpts * (material.validation is not None)
    # One process validates all excerpts. It has no backward pass, which takes about two thirds of a step, and it draws
    # excerpts in between.
    validation = excerpts / options.batch_size * (step * trainer.team.size / 3 + draw)
    interval = trainer.validate_steps * slower if trainer.validate_steps else max(slower, 60 * options.validate_minutes)
    left = max(0.0, 1 - trainer.progress)
    if trainer.steps:
        steps = math.ceil(left * trainer.steps)
        seconds = steps * slower + (1 + steps * slower / interval) * validation
    else:
        seconds = 60 * left * options.minutes
        steps = max(1, math.ceil((seconds - validation) / slower / (1 + validation / interval)))
    return Cost(
        parameters=trainer.net.parameter_count,
        precision=options.precision,
        step_seconds=step,
        draw_seconds=draw,
        memory_mb=trial.measure_memory_mb(),
        validation_seconds=validation,
        steps=steps,
        seconds=seconds,
    )


class _Trial:
    """A separate trainer that makes small steps, always on the same excerpts."""

    def __init__(self, recipe: Recipe, material: Material, team: Team, excerpts: int = _TRIAL_EXCERPTS) -> None:
        size = min(excerpts, recipe.training.batch_size)
        small = replace(recipe, training=replace(recipe.training, batch_size=size))
        self._trainer = Trainer(small, material, Team(device=team.device))
        self._excerpts = self._trainer.draw_batch(0)
        self._whole_batch = recipe.training.batch_size / size  # in trial batches
        self._share = self._whole_batch / team.size  # of one process, in trial batches

    def time_step(self) -> float:
        """Make a step. Return the seconds that a step with the whole batch would take."""
        started = time.perf_counter()
        self._trainer.update(self._excerpts)
        if self._trainer.team.device.type == "cuda":
            torch.cuda.synchronize(self._trainer.team.device)
        return self._whole_batch * (time.perf_counter() - started)

    def measure_memory_mb(self) -> float:
        """Return the MiB that each process needs for the weights, their copies, and the backward pass's activations."""
        kept: dict[int, int] = {}
        weights = {parameter.untyped_storage().data_ptr() for parameter in self._trainer.net.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            terms = self._trainer.compute_loss(self._excerpts)  # keeps all tensors, so that no address is reused
        activations = self._share * sum(kept.values())
        del terms
        return (_COPIES * 4 * self._trainer.net.parameter_count + activations) / 2**20


def _time_steps(*trials: _Trial) -> list[float]:
    """Return the seconds per step of each trial: the minimum over a few steps. The trials take turns.

    The first step is a warm-up and only counts if there is no time for a second.
    """
    times: list[list[float]] = []
    started = time.perf_counter()
    while len(times) <= _TRIALS and time.perf_counter() - started < _TRIAL_SECONDS:
        times.append([trial.time_step() for trial in trials])
    return [min(seconds) for seconds in zip(*(times[1:] or times), strict=True)]
