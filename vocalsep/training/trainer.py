"""The state of a run, and what is done to it: one step of the optimiser, one validation."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocalsep import nets, weights
from vocalsep.errors import ConfigError, VocalsepError, describe_unknown
from vocalsep.training import schedule
from vocalsep.training.excerpts.sampler import Drawn
from vocalsep.training.material import Material
from vocalsep.training.recipes import Recipe
from vocalsep.training.schedule import Standing
from vocalsep.training.team import Team

NORM_BATCHES = 16  # excerpts of so many steps, far beyond those of any training, settle the batch norms
_NORM_STEP = 2**40
_SNR_DB = (-10.0, 30.0)  # of an excerpt
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """State of a run: net, running mean of its weights, optimiser, counters.

    What happens at random in a step (the excerpts, the dropout) follows from the seed and the step's number, so there
    is no state of a generator to keep.

    Args:
        recipe: The recipe.
        material: Opened recordings.
        team: The processes that share the work, this one among them.
    """

    def __init__(self, recipe: Recipe, material: Material, team: Team) -> None:
        self.recipe, self.material, self.team = recipe, material, team
        options = recipe.training
        with torch.random.fork_rng():
            torch.manual_seed(options.seed)
            self.net = nets.build(recipe.net, recipe.options)
        self.net.to(team.device, memory_format=self.net.memory_format)  # type: ignore[call-overload]
        self.mean = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.loss = team.joined(self.net)
        self.optimiser = schedule.optimiser(self.net, options)
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=options.precision == "fp16")
        self.step = 0
        self.seconds = 0.0  # of steps, waiting included
        self.waited = 0.0  # of them, for excerpts
        self.validated = 0.0  # when that was done last, in seconds of training
        self.standing = Standing()

    def start(self) -> None:
        """Takes over the weights that the recipe starts from: of a whole model, and then of models for single parts.

        Raises:
            ConfigError: If there is no such part, or the weights are of another net or of other options.
            ModelError: If there is no such model.
        """
        options = self.recipe.training
        for part, name in ({"": options.init} | options.parts).items():
            if not name:
                continue
            setting = f"training.{f'parts.{part}' if part else 'init'} = {name!r}"
            known = weights.load(name).net.state_dict()
            for net in (self.net, self.mean):
                try:
                    module = net.get_submodule(part)
                except AttributeError as error:
                    parts = [called for called, _ in net.named_children()]
                    raise ConfigError(f"{setting}: {describe_unknown('part', part, parts)}") from error
                wanted = module.state_dict()
                try:
                    module.load_state_dict({key: _widened(held, wanted.get(key, held)) for key, held in known.items()})
                except RuntimeError as error:
                    raise ConfigError(f"{setting}: its weights are of another net or of other options") from error

    @property
    def progress(self) -> float:
        """Share of the training that is done."""
        return self.step / self.steps if self.steps else self.seconds / (60 * self.recipe.training.minutes)

    @functools.cached_property
    def steps(self) -> int:
        """Steps in all; 0 where minutes decide."""
        options = self.recipe.training
        return options.steps or self._steps_of(options.epochs)

    @functools.cached_property
    def validate_steps(self) -> int:
        """Steps between validations; 0 where minutes decide."""
        options = self.recipe.training
        return options.validate_steps or self._steps_of(options.validate_epochs)

    def _steps_of(self, epochs: float) -> int:
        return math.ceil(epochs * self.material.training.epoch / self.recipe.training.batch_size)

    def draw(self, step: int) -> Drawn:
        """This process's share of the excerpts of a step."""
        size = self.recipe.training.batch_size
        return self.material.training.batch(step, size, first=self.team.rank, every=self.team.size)

    def update(self, drawn: Drawn) -> dict[str, float]:
        """One step of the optimiser.

        Returns:
            The loss, its terms, and the learning rate.

        Raises:
            VocalsepError: If the loss or its gradient is not finite; names the tracks. The optimiser makes no step.
        """
        options = self.recipe.training
        rate = schedule.learning_rate(options, self.step, self.progress, self.standing.factor)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.net.train()
        terms = self.terms(drawn)
        loss = torch.stack(list(terms.values())).sum()
        told = dict(zip(("loss", *terms), self.team.mean(torch.stack([loss, *terms.values()])).tolist(), strict=True))
        if not math.isfinite(told["loss"]):
            raise VocalsepError(f"step {self.step}: the loss is {told['loss']}. {self._suspects(drawn)}")
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), options.clip or math.inf)
        if not torch.isfinite(norm) and not self.scaler.is_enabled():  # a scaler passes over such a step by itself
            raise VocalsepError(f"step {self.step}: the gradient is not finite. {self._suspects(drawn)}")
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:  # every step so far was passed over
            raise VocalsepError(f"step {self.step}: no finite gradient in {options.precision}. {self._suspects(drawn)}")
        self._average(min(options.ema, (1 + self.step) / (10 + self.step)))
        self.step += 1
        return told | {"lr": rate}

    def terms(self, drawn: Drawn) -> dict[str, Tensor]:
        """The terms of the training loss on some excerpts, with what their gradient needs."""
        options, device = self.recipe.training, self.team.device
        batch = self._batch(drawn)
        half = _AUTOCAST.get(options.precision)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(_seed(options.seed, self.step, self.team.rank))  # of the dropout
            with torch.autocast(device.type, half, enabled=half is not None):
                terms: dict[str, Tensor] = self.loss(batch)
        return terms

    def _batch(self, drawn: Drawn) -> nets.Batch:
        stems = (stem.to(self.team.device, non_blocking=True) for stem in (drawn.vocals, drawn.accompaniment))
        return nets.make_batch(self.recipe.front_end, *stems)

    @torch.no_grad()
    def _suspects(self, drawn: Drawn) -> str:
        """Which excerpts have no finite loss by themselves, by their tracks; all of them if each has one.

        The averaged net is asked: the batch has left its trace in the other one's batch norms.
        """
        found = []
        for index, tracks in enumerate(drawn.tracks):
            one = Drawn(drawn.vocals[index, None], drawn.accompaniment[index, None], (tracks,))
            alone = self.mean.loss(self._batch(one)).values()
            if not torch.isfinite(torch.stack(list(alone))).all():
                found.append(" with ".join(tracks))
        if not found and self.team.size > 1:
            return "No excerpt of this process has that by itself; see the others"
        names = found or sorted({name for tracks in drawn.tracks for name in tracks})
        return f"Excerpts of: {'; '.join(names)}. Check these recordings, or lower the learning rate"

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for mean, weight in zip(self.mean.parameters(), self.net.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)

    @torch.no_grad()
    def _settle_norms(self) -> None:
        """Measures the statistics of the averaged net's batch norms, on training excerpts and without dropout.

        Those that the trained net has gathered belong to other weights, and to activations with dropout.
        """
        norms = [module for module in self.mean.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        for step in range(NORM_BATCHES if norms else 0):
            drawn = self.material.training.batch(_NORM_STEP + step, self.recipe.training.batch_size)
            self.mean(self._batch(drawn).features)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.mean.eval()

    def validate(self) -> dict[str, float]:
        """Makes the averaged weights ready for use, and scores them on held-out excerpts, always the same ones.

        The scores are the loss and the mean spectral SNR.

        The SNR is of the masked mixture's spectrum against the vocals', on the front end's grid, in dB, over
        excerpts whose vocals are not silent, if there are any; it lies close to the SDR of the sound. Each excerpt's
        counts as what of it lies in -10 to 30 dB, so that one with hardly any vocals does not decide.
        """
        self._settle_norms()
        if self.material.validation is None:
            return {}
        losses, ratios = [], []
        size = self.recipe.training.batch_size
        with torch.inference_mode():
            for step in range(math.ceil(self.recipe.training.validate_excerpts / size)):
                batch = self._batch(self.material.validation.batch(step, size))
                losses.append(sum(term.item() for term in self.mean.loss(batch).values()))
                estimate = batch.apply_mask(self.mean(batch.features))
                signal = batch.vocals.abs().square().sum(dim=(1, 2, 3))
                noise = (batch.vocals - estimate).abs().square().sum(dim=(1, 2, 3))
                audible = signal > 1e-4 * batch.mixture.abs().square().sum(dim=(1, 2, 3))
                ratios.append((10 * torch.log10(signal / noise.clamp_min(1e-12)))[audible])
        found = torch.cat(ratios)
        scores = {"validation_loss": sum(losses) / len(losses)}
        return scores | ({"validation_snr_db": found.clamp(*_SNR_DB).mean().item()} if len(found) else {})

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on as if nothing had happened."""
        return {
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "waited": self.waited,
            "validated": self.validated,
            "standing": {"best": self.standing.best, "stale": self.standing.stale, "factor": self.standing.factor},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.waited, self.validated = state["waited"], state["validated"]
        self.standing = Standing(**state["standing"])


def _widened(kernel: Tensor, like: Tensor) -> Tensor:
    """A kernel for more maps than it was trained on, to which the added ones mean nothing yet; others as they are."""
    if kernel.ndim != 4 or kernel.shape[1] >= like.shape[1]:
        return kernel
    return torch.cat([kernel, kernel.new_zeros(len(kernel), like.shape[1] - kernel.shape[1], *kernel.shape[2:])], dim=1)


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
