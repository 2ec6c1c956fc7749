"""Hold the state of a run, and update it by steps of the optimiser and validations."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from vocalsep import nets
from vocalsep.errors import ConfigError, VocalsepError, describe_unknown
from vocalsep.training import schedule
from vocalsep.training.excerpts.sampler import ExcerptBatch
from vocalsep.training.guards import load_weights
from vocalsep.training.material import Material
from vocalsep.training.recipes import Recipe
from vocalsep.training.schedule import ValidationHistory
from vocalsep.training.team import Team

NORM_BATCHES = 16  # training batches that give the averaged net's batch-norm statistics
_NORM_STEP = 2**40  # number of the first of these batches, far beyond the steps of any run
_SNR_DB = (-10.0, 30.0)  # the range to which an excerpt's SNR is clipped
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """The state of a run: net, moving average of its weights, optimiser, counters.

    Everything random in a step (excerpts, dropout) follows from the seed and the number of the step. So there is no
    state of a random generator to save.

    Args:
        recipe: The recipe. Its precision must not be "auto".
        material: The recordings.
        team: The processes that share the work, including this one.
    """

    def __init__(self, recipe: Recipe, material: Material, team: Team) -> None:
        self.recipe, self.material, self.team = recipe, material, team
        options = recipe.training
        with self._seed(options.seed):
            self.net = nets.build(recipe.net, recipe.options)
        self.average = AveragedModel(self.net, multi_avg_fn=_make_moving_average(options.ema))
        for module in (self.net, self.average):  # the copy is made before: cuDNN wants a GRU's weights in one piece
            module.to(team.device, memory_format=self.net.memory_format)  # type: ignore[call-overload]
        self.average.eval().requires_grad_(False)
        self.average.n_averaged.fill_(1)  # the first weights count: at 0, the first update would replace them
        self.loss = team.wrap_loss(self.net)
        self.optimiser = schedule.make_optimiser(self.net, options)
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=options.precision == "fp16")
        self.step = 0
        self.seconds = 0.0  # since the recordings were opened: spent in preparing, steps, waiting and validations
        self.waited = 0.0  # of these, spent waiting for excerpts
        self.validated = 0.0  # value of `seconds` at the last validation
        self.validation_seconds = 0.0  # duration of the last validation, or its estimate
        self.history = ValidationHistory()

    @property
    def averaged_net(self) -> nets.Net:
        """The net with averaged weights: this one is validated and saved."""
        return cast("nets.Net", self.average.module)

    def load_initial_weights(self) -> None:
        """Load the weights the recipe starts from: those of a whole model first, then those of single parts.

        Raises:
            ConfigError: If the net has no such part, or the weights belong to another net or to other options.
            ModelError: If there is no such model.
        """
        options = self.recipe.training
        for part, name in ({"": options.init} | options.parts).items():
            if not name:
                continue
            setting = f"training.{f'parts.{part}' if part else 'init'} = {name!r}"
            loaded = load_weights(name).net.state_dict()
            for net in (self.net, self.averaged_net):
                try:
                    module = net.get_submodule(part)
                except AttributeError as error:
                    known = [child for child, _ in net.named_children()]
                    raise ConfigError(f"{setting}: {describe_unknown('part', part, known)}") from error
                own = module.state_dict()
                try:
                    module.load_state_dict(
                        {key: _widen(tensor, own.get(key, tensor)) for key, tensor in loaded.items()}
                    )
                except RuntimeError as error:
                    raise ConfigError(f"{setting}: these weights belong to another net or to other options") from error

    @property
    def progress(self) -> float:
        """Share of the training that is done. A run of some minutes leaves time for its last validation."""
        if self.steps:
            return self.step / self.steps
        minutes = 60 * self.recipe.training.minutes
        return self.seconds / (minutes - min(self.validation_seconds, minutes / 2))

    @functools.cached_property
    def steps(self) -> int:
        """Steps in total; 0 if the recipe gives minutes instead."""
        options = self.recipe.training
        return options.steps or self._count_steps(options.epochs)

    @functools.cached_property
    def validate_steps(self) -> int:
        """Steps between validations; 0 if the recipe gives minutes instead."""
        options = self.recipe.training
        return options.validate_steps or self._count_steps(options.validate_epochs)

    def _count_steps(self, epochs: float) -> int:
        return math.ceil(epochs * self.material.training.excerpts_per_epoch / self.recipe.training.batch_size)

    def draw_batch(self, step: int) -> ExcerptBatch:
        """Draw this process's share of the excerpts of a step."""
        size = self.recipe.training.batch_size
        drawn = self.material.training.draw_batch(step, size, first=self.team.rank, every=self.team.size)
        return drawn.pin_memory() if self.team.device.type == "cuda" else drawn

    def update(self, excerpts: ExcerptBatch) -> dict[str, float]:
        """Make one step of the optimiser.

        Returns:
            The loss, its terms and the learning rate, by their keys in the log.

        Raises:
            VocalsepError: If the loss or its gradient is not finite. The message names the tracks, and the optimiser
                makes no step.
        """
        options = self.recipe.training
        rate = schedule.compute_learning_rate(options, self.step, self.progress, self.history.factor)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.net.train()
        terms = self.compute_loss(excerpts)
        loss = torch.stack(list(terms.values())).sum()
        means = self.team.average(torch.stack([loss, *terms.values()])).tolist()
        entry = dict(zip(("loss", *terms), means, strict=True))
        if not math.isfinite(entry["loss"]):
            raise VocalsepError(f"step {self.step}: the loss is {entry['loss']}. {self._describe_suspects(excerpts)}")
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), options.clip or math.inf)
        if not torch.isfinite(norm) and not self.scaler.is_enabled():  # a scaler skips such a step by itself
            raise VocalsepError(f"step {self.step}: the gradient is not finite. {self._describe_suspects(excerpts)}")
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:  # the scaler has skipped every step so far
            suspects = self._describe_suspects(excerpts)
            raise VocalsepError(f"step {self.step}: no finite gradient in {options.precision}. {suspects}")
        self.average.update_parameters(self.net)
        self.step += 1
        return entry | {"lr": rate}

    def compute_loss(self, excerpts: ExcerptBatch) -> dict[str, Tensor]:
        """Return the terms of the training loss on excerpts, attached to their graph."""
        options = self.recipe.training
        batch = self._make_batch(excerpts)
        half = _AUTOCAST.get(options.precision)
        with (
            self._seed(_make_seed(options.seed, self.step, self.team.rank)),  # for dropout
            torch.autocast(self.team.device.type, half, enabled=half is not None),
        ):
            terms: dict[str, Tensor] = self.loss(batch)
        return terms

    @contextlib.contextmanager
    def _seed(self, seed: int) -> Iterator[None]:
        """Seed torch's random numbers, and restore the state of its generators afterwards."""
        device = self.team.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def _make_batch(self, excerpts: ExcerptBatch) -> nets.Batch:
        stems = (stem.to(self.team.device, non_blocking=True) for stem in (excerpts.vocals, excerpts.accompaniment))
        return nets.make_batch(self.recipe.front_end, *stems)

    @torch.no_grad()
    def _describe_suspects(self, excerpts: ExcerptBatch) -> str:
        """Name the tracks of the excerpts whose own loss is not finite, or all tracks if there is no such excerpt.

        This uses the averaged net, because the bad batch has already spoilt the batch norms of the other one.
        """
        suspects = []
        for index, tracks in enumerate(excerpts.tracks):
            one = ExcerptBatch(excerpts.vocals[index, None], excerpts.accompaniment[index, None], (tracks,))
            terms = self.averaged_net.loss(self._make_batch(one)).values()
            if not torch.isfinite(torch.stack(list(terms))).all():
                suspects.append(" with ".join(tracks))
        if not suspects and self.team.size > 1:
            return "No excerpt of this process causes it alone; see the errors of the other processes"
        names = suspects or sorted({name for tracks in excerpts.tracks for name in tracks})
        return f"Excerpts of: {'; '.join(names)}. Check these recordings, or lower the learning rate"

    @torch.no_grad()
    def measure_batch_norms(self) -> None:
        """Measure the batch-norm statistics of the averaged net on training excerpts.

        The statistics that the trained net has collected belong to other weights, and to activations with dropout.
        `torch.optim.swa_utils.update_bn` would not do: it puts the whole net into training mode, where dropout is
        active. This method puts only the batch norms into training mode, and of those only the ones that collect
        statistics in training. A net may freeze the others.
        """
        kind = torch.nn.modules.batchnorm._BatchNorm
        self.net.train()  # a net may leave some batch norms out
        pairs = zip(self.net.modules(), self.averaged_net.modules(), strict=True)
        norms = [averaged for trained, averaged in pairs if isinstance(averaged, kind) and trained.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        for step in range(NORM_BATCHES if norms else 0):
            excerpts = self.material.training.draw_batch(_NORM_STEP + step, self.recipe.training.batch_size)
            self.averaged_net(self._make_batch(excerpts).features)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.averaged_net.eval()

    def validate(self) -> dict[str, float]:
        """Prepare the averaged net for use, and score it on excerpts of the held-out songs, always the same ones.

        The scores are the loss and the mean SNR of the masked spectrum against the vocals' spectrum, in dB, on the grid
        of the front end. The SNR is close to the SDR of the sound. The mean is over excerpts with audible vocals, if
        there are any. Each excerpt's SNR is first clipped to -10 to 30 dB, so that no excerpt with hardly any vocals
        dominates.

        Returns:
            The scores by their keys in the log; empty if no songs are held out.
        """
        self.measure_batch_norms()
        if self.material.validation is None:
            return {}
        losses, ratios = [], []
        size = self.recipe.training.batch_size
        with torch.inference_mode():
            for step in range(math.ceil(self.recipe.training.validate_excerpts / size)):
                batch = self._make_batch(self.material.validation.draw_batch(step, size))
                losses.append(sum(term.item() for term in self.averaged_net.loss(batch).values()))
                estimate = batch.apply_mask(self.averaged_net(batch.features))
                signal = batch.vocals.abs().square().sum(dim=(1, 2, 3))
                noise = (batch.vocals - estimate).abs().square().sum(dim=(1, 2, 3))
                audible = signal > 1e-4 * batch.mixture.abs().square().sum(dim=(1, 2, 3))
                ratios.append((10 * torch.log10(signal / noise.clamp_min(1e-12)))[audible])
        ratios_db = torch.cat(ratios)
        # The mean, because the median of so few excerpts is noisy: it has picked worse weights.
        scores = {"validation_loss": sum(losses) / len(losses)}
        return scores | ({"validation_snr_db": ratios_db.clamp(*_SNR_DB).mean().item()} if len(ratios_db) else {})

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs to continue as if it had never stopped."""
        history = self.history
        return {
            "net": self.net.state_dict(),
            "mean": self.averaged_net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "waited": self.waited,
            "validated": self.validated,
            "validation_seconds": self.validation_seconds,
            "standing": {"best": history.best, "stale": history.stale, "factor": history.factor},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.net.load_state_dict(state["net"])
        self.averaged_net.load_state_dict(state["mean"])
        self.average.n_averaged.fill_(1 + state["step"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.waited, self.validated = state["waited"], state["validated"]
        self.validation_seconds = state.get("validation_seconds", 0.0)  # older checkpoints lack it
        self.history = ValidationHistory(**state["standing"])


def _make_moving_average(ema: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Return the averaging function for `AveragedModel`: an exponential moving average whose decay rises to `ema`.

    A low decay in the first steps lets the average forget the random weights it starts from.
    """

    @torch.no_grad()
    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        decay = min(ema, int(count) / (9 + int(count)))
        for mean, weight in zip(averaged, current, strict=True):
            mean.lerp_(weight, 1 - decay)

    return average


def _widen(kernel: Tensor, like: Tensor) -> Tensor:
    """Pad a convolution kernel with zeros to as many input maps as `like` has. Return other tensors unchanged."""
    if kernel.ndim != 4 or kernel.shape[1] >= like.shape[1]:
        return kernel
    return torch.cat([kernel, kernel.new_zeros(len(kernel), like.shape[1] - kernel.shape[1], *kernel.shape[2:])], dim=1)


def _make_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
