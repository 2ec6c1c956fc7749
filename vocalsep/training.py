"""Training: one loop, told as one story, that can be stopped anywhere and goes on exactly where it was.

A run is a folder: ``recipe.toml`` (all settings), ``log.jsonl`` (one JSON object a line), ``checkpoint.pt`` (all
state, replaced atomically) and ``<net>.safetensors`` (the best weights so far, by validation).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocalsep import __version__, config, files, nets, weights
from vocalsep.datasets.excerpts import Excerpts
from vocalsep.errors import ConfigError, VocalsepError
from vocalsep.material import Material, open_material
from vocalsep.recipes import FitOptions, Recipe
from vocalsep.shapes import Waveform

_AHEAD = 3  # batches prepared while the net is busy
_NORM_BATCHES = 16  # excerpts of so many steps, far beyond those of any training, settle the batch norms
_NORM_STEP = 2**40


def learning_rate(options: FitOptions, step: int, progress: float) -> float:
    """Warm-up times cosine.

    Args:
        options: The loop's settings.
        step: Steps done.
        progress: Share of the training that is done, in [0, 1].
    """
    rise = min(1.0, (step + 1) / max(1, options.warmup_steps))
    return options.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Trainer:
    """State of a run: net, running mean of its weights, optimiser, counters.

    Args:
        recipe: The recipe.
        material: Opened recordings.
        device: Where to compute.
    """

    def __init__(self, recipe: Recipe, material: Material, device: torch.device) -> None:
        self.recipe, self.material, self.device = recipe, material, device
        with torch.random.fork_rng():
            torch.manual_seed(recipe.training.seed)
            self.net = nets.build(recipe.net, recipe.options)
        self.net.to(device, memory_format=self.net.memory_format)  # type: ignore[call-overload]
        self.mean = copy.deepcopy(self.net).eval().requires_grad_(False)
        many = [p for p in self.net.parameters() if p.ndim > 1]
        few = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": many, "weight_decay": recipe.training.weight_decay}, {"params": few, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.training.learning_rate)
        self.step = 0
        self.seconds = 0.0
        self.best = -math.inf

    @property
    def progress(self) -> float:
        """Share of the training that is done."""
        options = self.recipe.training
        return self.step / options.steps if options.steps else self.seconds / (60 * options.minutes)

    def update(self, vocals: Waveform, accompaniment: Waveform) -> dict[str, float]:
        """One step of the optimiser.

        Raises:
            VocalsepError: If the loss or its gradient is not finite; the optimiser makes no step then.
        """
        options = self.recipe.training
        rate = learning_rate(options, self.step, self.progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = self._batch(vocals, accompaniment)
        self.net.train()
        terms = self.net.loss(batch)
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            raise VocalsepError(
                f"step {self.step}: the loss is {loss.item()}; lower the learning rate or check the data"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), options.clip)
        if not torch.isfinite(norm):
            raise VocalsepError(f"step {self.step}: the gradient is not finite; lower the learning rate")
        self.optimiser.step()
        self._average(min(options.ema, (1 + self.step) / (10 + self.step)))
        self.step += 1
        return {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}, "lr": rate}

    def _batch(self, vocals: Waveform, accompaniment: Waveform) -> nets.Batch:
        return nets.make_batch(
            self.recipe.front_end,
            vocals.to(self.device, non_blocking=True),
            accompaniment.to(self.device, non_blocking=True),
        )

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
        for step in range(_NORM_BATCHES if norms else 0):
            excerpts = self.material.training.batch(_NORM_STEP + step, self.recipe.training.batch_size)
            self.mean.mask(self._batch(*excerpts).features)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.mean.eval()

    def validate(self) -> dict[str, float]:
        """Makes the averaged weights ready for use, and scores them on held-out excerpts, always the same ones.

        The scores are the loss and the median spectral SNR.

        The SNR is of the masked mixture's spectrum against the vocals', on the front end's grid, in dB, over
        excerpts whose vocals are not silent, if there are any; it lies close to the SDR of the sound.
        """
        self._settle_norms()
        if self.material.validation is None:
            return {}
        losses, ratios = [], []
        size = self.recipe.training.batch_size
        with torch.inference_mode():
            for step in range(math.ceil(self.recipe.training.validate_excerpts / size)):
                batch = self._batch(*self.material.validation.batch(step, size))
                losses.append(sum(term.item() for term in self.mean.loss(batch).values()))
                estimate = batch.masked(self.mean.mask(batch.features))
                signal = batch.vocals.abs().square().sum(dim=(1, 2, 3))
                noise = (batch.vocals - estimate).abs().square().sum(dim=(1, 2, 3))
                audible = signal > 1e-4 * batch.mixture.abs().square().sum(dim=(1, 2, 3))
                ratios.append((10 * torch.log10(signal / noise.clamp_min(1e-12)))[audible])
        found = torch.cat(ratios)
        scores = {"validation_loss": sum(losses) / len(losses)}
        return scores | ({"validation_snr_db": found.median().item()} if len(found) else {})

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on as if nothing had happened."""
        return {
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random_cuda"])


def fit(
    recipe: Recipe,
    run: Path,
    *,
    device: torch.device,
    resume: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> Path:
    """Trains a net.

    Args:
        recipe: The recipe.
        run: The run's folder.
        device: Where to compute.
        resume: Whether to go on from the run's checkpoint.
        report: Receives a line for each thing worth telling.

    Returns:
        The weights file.

    Raises:
        ConfigError: If the folder holds a run and `resume` is off, or the other way round.
        DatasetError: If recordings are missing or cannot be read.
        VocalsepError: If the loss stops being finite.
    """
    checkpoint, result = run / "checkpoint.pt", run / f"{recipe.net}{weights.SUFFIX}"
    if resume and not checkpoint.exists():
        raise ConfigError(f"{run}: no checkpoint to resume from")
    if not resume and checkpoint.exists():
        raise ConfigError(f"{run}: holds a run already; use --resume, or another folder")
    material = open_material(recipe, report)
    trainer = Trainer(recipe, material, device)
    run.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():  # dropout draws from torch's own generator, which is the caller's
        if resume:
            trainer.restore(torch.load(checkpoint, map_location=device, weights_only=True))
            _trim(run / "log.jsonl", trainer.step)
        else:
            (run / "recipe.toml").write_text(config.dump_toml(config.to_dict(recipe)), encoding="utf-8")
            (run / "tracks.json").write_text(json.dumps(material.names, indent=1), encoding="utf-8")
            torch.manual_seed(recipe.training.seed)
        report(f"{recipe.net}: {trainer.net.parameters_count:,} parameters, from step {trainer.step}")
        if trainer.progress < 1:
            _loop(trainer, run, result, report)
    return result


def _loop(trainer: Trainer, run: Path, result: Path, report: Callable[[str], None]) -> None:
    """Steps until the training is done; validates, logs and saves on the way."""
    options, material = trainer.recipe.training, trainer.material
    validated = saved = trainer.seconds
    with (run / "log.jsonl").open("a", encoding="utf-8") as log:
        for vocals, accompaniment in _ahead(material.training, trainer.step, options.batch_size):
            started = time.perf_counter()
            entry: dict[str, Any] = {"step": trainer.step, **trainer.update(vocals, accompaniment)}
            trainer.seconds += time.perf_counter() - started
            done = trainer.progress >= 1
            if done or trainer.seconds - validated >= 60 * options.validate_minutes:
                validated = trainer.seconds
                entry |= trainer.validate()
                quality = entry.get("validation_snr_db", -entry.get("validation_loss", entry["loss"]))
                if quality > trainer.best or material.validation is None:
                    trainer.best = quality
                    weights.store(result, trainer.mean, trainer.recipe.front_end, _about(trainer, entry))
                report(_line(trainer, entry))
            log.write(json.dumps({**entry, "seconds": round(trainer.seconds, 3)}) + "\n")
            if done or trainer.seconds - saved >= 60 * options.checkpoint_minutes:
                saved = trainer.seconds
                log.flush()
                with files.whole(run / "checkpoint.pt") as temporary:
                    torch.save(trainer.state(), temporary)
            if done:
                return


def _trim(log: Path, step: int) -> None:
    """Takes back what was logged after the checkpoint, and a last line that a crash has torn."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] < step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue
    with files.whole(log) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def _about(trainer: Trainer, entry: Mapping[str, Any]) -> dict[str, Any]:
    recipe = trainer.recipe
    return {
        "version": __version__,
        "licence": recipe.licence,
        "data": [pool.layout for pool in recipe.pools],
        "recipe": config.to_dict(recipe) | {"pools": [{"layout": p.layout, "weight": p.weight} for p in recipe.pools]},
        "steps": trainer.step,
        "hours": round(trainer.seconds / 3600, 3),
        "metrics": {key: round(value, 4) for key, value in entry.items() if key.startswith("validation")},
    }


def _line(trainer: Trainer, entry: Mapping[str, Any]) -> str:
    figures = ", ".join(f"{key} {entry[key]:.4g}" for key in entry if key not in ("step", "lr"))
    return f"step {trainer.step}, {trainer.seconds / 60:.1f} min, {100 * min(1, trainer.progress):.0f} %: {figures}"


def _ahead(material: Excerpts, step: int, size: int) -> Iterator[tuple[Waveform, Waveform]]:
    """Batches from `step` on, without end, prepared in a thread while the net is busy."""
    with ThreadPoolExecutor(1) as thread:
        waiting: list[Future[tuple[Tensor, Tensor]]] = []
        try:
            while True:
                while len(waiting) < _AHEAD:
                    waiting.append(thread.submit(material.batch, step, size))
                    step += 1
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
