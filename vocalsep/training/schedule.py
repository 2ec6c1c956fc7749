"""What decides how far each step goes and when to stop: optimisers, learning rate, and the standing of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from vocalsep.nets import Net
from vocalsep.training.recipes import FitOptions


def optimiser(net: Net, options: FitOptions) -> torch.optim.Optimizer:
    """The optimiser that the options name; weight decay is for matrices and kernels only.

    "adam" and "rmsprop" add the decay to the gradient, "adamw" takes it from the weights (Loshchilov and Hutter,
    "Decoupled weight decay regularization", 2019).
    """
    many = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    few = [parameter for parameter in net.parameters() if parameter.ndim <= 1]
    groups = [{"params": many, "weight_decay": options.weight_decay}, {"params": few, "weight_decay": 0.0}]
    kinds: dict[str, type[torch.optim.Optimizer]] = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
        "rmsprop": torch.optim.RMSprop,
    }
    return kinds[options.optimiser](groups, lr=options.learning_rate)  # type: ignore[call-arg]


def learning_rate(options: FitOptions, step: int, progress: float, factor: float = 1.0) -> float:
    """Warm-up, times a cosine or what the plateaus so far have left.

    Args:
        options: The loop's settings.
        step: Steps done.
        progress: Share of the training that is done, in [0, 1].
        factor: From the run's `Standing`; 1 unless the schedule is "plateau".
    """
    rise = min(1.0, (step + 1) / max(1, options.warmup_steps))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, progress))) if options.schedule == "cosine" else factor
    return options.learning_rate * rise * fall


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a run stands, by its validations.

    Attributes:
        best: The best quality so far; larger is better.
        stale: Validations since then.
        factor: What plateaus have left of the learning rate.
    """

    best: float = -math.inf
    stale: int = 0
    factor: float = 1.0


def judged(standing: Standing, quality: float, options: FitOptions) -> Standing:
    """The standing after one more validation; `stale` is 0 if it was the best."""
    if quality > standing.best:
        return replace(standing, best=quality, stale=0)
    stale = standing.stale + 1
    plateau = options.schedule == "plateau" and stale % options.plateau_validations == 0
    factor = standing.factor * (options.plateau_factor if plateau else 1.0)
    return Standing(best=standing.best, stale=stale, factor=factor)


def gave_up(standing: Standing, options: FitOptions) -> bool:
    """Whether early stopping ends the run."""
    return 0 < options.stop_validations <= standing.stale
