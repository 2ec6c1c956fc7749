"""Decide how far each step goes and when to stop: optimiser, learning rate, plateaus, early stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from vocalsep.nets import Net
from vocalsep.training.muon import Muon
from vocalsep.training.recipes import FitOptions


def make_optimiser(net: Net, options: FitOptions) -> torch.optim.Optimizer:
    """Make the optimiser that the options name, with weight decay on matrices and kernels only.

    "adam" and "rmsprop" add the decay to the gradient; "adamw" and "muon" subtract it from the weights (Loshchilov and
    Hutter, "Decoupled weight decay regularization", 2019). Muon leaves to AdamW what `Net.without_muon` names.
    """
    hidden, kernels, vectors = [], [], []
    for name, parameter in net.named_parameters():
        if parameter.ndim <= 1:
            vectors.append(parameter)  # biases and norms
        elif options.optimiser == "muon" and name.partition(".")[0] not in net.without_muon:
            hidden.append(parameter)
        else:
            kernels.append(parameter)
    groups = [{"params": kernels, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if options.optimiser == "muon":
        iterate_in = torch.bfloat16 if options.precision == "bf16" else torch.float32
        return Muon(hidden, groups, options.learning_rate, options.weight_decay, iterate_in)
    if options.optimiser == "rmsprop":
        return torch.optim.RMSprop(groups, lr=options.learning_rate)
    kind = torch.optim.Adam if options.optimiser == "adam" else torch.optim.AdamW
    return kind(groups, lr=options.learning_rate, fused=True)


def compute_learning_rate(options: FitOptions, step: int, progress: float, factor: float = 1.0) -> float:
    """Return the learning rate of a step: a linear warm-up, times what the schedule leaves of the peak.

    Args:
        options: The settings of the loop.
        step: Steps done so far.
        progress: Share of the training done so far, in [0, 1].
        factor: `ValidationHistory.factor`; ignored unless the schedule is "plateau".
    """
    rise = min(1.0, (step + 1) / max(1, options.warmup_steps))
    left = 1 - min(1.0, progress)
    cosine, line = 0.5 * (1 - math.cos(math.pi * left)), min(1.0, left / options.decay)
    return options.learning_rate * rise * {"cosine": cosine, "steady": line, "plateau": factor}[options.schedule]


@dataclass(frozen=True, kw_only=True)
class ValidationHistory:
    """What the validations of a run have shown so far.

    Attributes:
        best: The best quality so far; larger is better.
        stale: Validations since the best one.
        factor: Share of the learning rate that plateaus have left.
    """

    best: float = -math.inf
    stale: int = 0
    factor: float = 1.0

    def add(self, quality: float, options: FitOptions) -> ValidationHistory:
        """Return the history with one more validation. `stale` is 0 if this one is the best, which NaN never is."""
        if quality > self.best:
            return replace(self, best=quality, stale=0)
        stale = self.stale + 1
        plateau = options.schedule == "plateau" and stale % options.plateau_validations == 0
        factor = self.factor * (options.plateau_factor if plateau else 1.0)
        return ValidationHistory(best=self.best, stale=stale, factor=factor)

    def stops_early(self, options: FitOptions) -> bool:
        """Return whether early stopping ends the run."""
        return 0 < options.stop_validations <= self.stale
