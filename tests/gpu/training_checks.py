"""One training step on a device in every precision, against the same step on the CPU in fp32."""

from __future__ import annotations

import dataclasses
import statistics
import time
from dataclasses import replace

import numpy as np
import synthetic_songs
import torch
from torch import Tensor

from vocalsep import nets
from vocalsep.training import recipes
from vocalsep.training.excerpts.sampler import ExcerptBatch
from vocalsep.training.material import Material
from vocalsep.training.recipes import Recipe
from vocalsep.training.team import Team
from vocalsep.training.trainer import Trainer

LIMITS = {
    "fp32 without TF32": (1e-4, 1e-3, 1e-2),
    "fp32": (5e-3, 0.3, 0.3),
    "bf16": (2e-2, 0.7, 0.5),
    "fp16": (5e-3, 0.3, 0.3),
}
"""Largest errors of each kind of step; see `measure_errors`.

By default, cuDNN rounds to TF32 in fp32, which has no more bits than fp16. Half precision is autocast. Deep nets that
have learnt nothing yet amplify rounding: on a CPU, the gradient of `uhnet-hd` in bf16 has an error of direction of 0.4.
It would be 1 for gradients that have nothing to do with each other.
"""

_TRIES = 12  # steps in which the scaler of fp16 may find its scale
_TIMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """What a training step gave.

    Attributes:
        loss: The loss.
        gradient: All gradients in one vector, float64, on the CPU.
        seconds: Median time of further steps.
    """

    loss: float
    gradient: Tensor
    seconds: float


def make_recipe(preset: str, batch: int, precision: str) -> Recipe:
    """Return a preset without dropout, whose random numbers differ between devices, and without clipped gradients."""
    recipe = recipes.read_recipe(preset)
    options = {**recipe.options, "dropout": 0.0}
    length = {"steps": 1_000, "minutes": 0.0, "epochs": 0.0}
    training = replace(recipe.training, **length, batch_size=batch, precision=precision, clip=0.0)  # type: ignore[arg-type]
    return replace(recipe, options=options, training=training)


def make_excerpts(recipe: Recipe) -> ExcerptBatch:
    """Make a batch of excerpts: voices over bands, stereo."""
    rate, samples = recipe.front_end.rate, nets.count_excerpt_samples(recipe.front_end)
    seconds = samples / rate + 0.1
    stems = []
    for number in range(recipe.training.batch_size):
        voice = synthetic_songs.make_voice(number, seconds, rate)
        backing = sum(synthetic_songs.make_backing(number, seconds, rate).values())
        stems.append([np.stack([stem, np.roll(stem, 9)])[:, :samples] for stem in (voice, backing)])
    vocals, accompaniment = (torch.tensor(np.stack(stem), dtype=torch.float32) for stem in zip(*stems, strict=True))
    return ExcerptBatch(vocals, accompaniment, (("made",),) * len(stems))


def make_step(preset: str, device: str, kind: str, batch: int) -> Step:
    """Make a step as `vocalsep train` does.

    Args:
        preset: The preset.
        device: "cpu" or "cuda".
        kind: A key of `LIMITS`.
        batch: Excerpts in the batch.

    Raises:
        ArithmeticError: If the gradient is never finite.
    """
    recipe = make_recipe(preset, batch, kind.split()[0])
    material = Material(training=None, validation=None, names={}, heard={})  # type: ignore[arg-type] # draws nothing
    trainer = Trainer(recipe, material, Team(device=torch.device(device)))
    excerpts = make_excerpts(recipe)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = kind != "fp32 without TF32"
    try:
        for _ in range(_TRIES):  # a step whose gradient overflows in fp16 changes no weight
            loss = trainer.update(excerpts)["loss"]
            gradient = _join_gradients(trainer)
            if gradient.isfinite().all():
                return Step(loss=loss, gradient=gradient, seconds=_time_steps(trainer, excerpts))
    finally:
        torch.backends.cudnn.allow_tf32 = before
    raise ArithmeticError(f"no finite gradient in {_TRIES} steps")


def _join_gradients(trainer: Trainer) -> Tensor:
    """Return the gradients of the last step, which the scaler of fp16 has already divided by its scale."""
    gradients = [parameter.grad for parameter in trainer.net.parameters() if parameter.grad is not None]
    assert gradients
    return torch.cat([gradient.detach().double().cpu().flatten() for gradient in gradients])


def _time_steps(trainer: Trainer, excerpts: ExcerptBatch) -> float:
    seconds = []
    on_cuda = trainer.team.device.type == "cuda"
    for _ in range(_TIMED if on_cuda else 1):
        started = time.perf_counter()
        trainer.update(excerpts)
        if on_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure_errors(reference: Step, step: Step) -> tuple[float, float, float]:
    """Return three errors: of the loss, relative; of the gradient's direction, 1 - cosine; of its norm, relative."""
    expected, found = reference.gradient.norm(), step.gradient.norm()
    cosine = torch.dot(reference.gradient, step.gradient) / (expected * found)
    return abs(step.loss / reference.loss - 1), float(1 - cosine), abs(float(found / expected) - 1)
