"""Training: one loop, told as one story, that can be stopped anywhere and goes on exactly where it was.

A run is a folder: ``recipe.toml`` (all settings), ``tracks.json`` (all recordings), ``log.jsonl`` (one JSON object a
line), ``curves.png``, ``checkpoint.pt`` (all state, replaced atomically) and ``<net>.safetensors`` (the best weights so
far, by validation).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch

from vocalsep import config, files, weights
from vocalsep.errors import ConfigError
from vocalsep.release import __version__
from vocalsep.training import cost, guards, schedule, team
from vocalsep.training.excerpts.sampler import Drawn
from vocalsep.training.material import open_material
from vocalsep.training.recipes import Recipe
from vocalsep.training.record import Record
from vocalsep.training.trainer import Trainer

CHECKPOINT, RECIPE, TRACKS = "checkpoint.pt", "recipe.toml", "tracks.json"
_AHEAD = 3  # batches prepared while the net is busy


def fit(
    recipe: Recipe,
    run: Path,
    *,
    device: torch.device,
    resume: bool = False,
    report: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """Trains a net.

    Under ``torchrun`` the processes share the work.

    Args:
        recipe: The recipe.
        run: The run's folder.
        device: Where to compute.
        resume: Whether to go on from the run's checkpoint.
        report: Receives a line for each thing worth telling.
        stopped: Is asked after each step whether to stop there, with a checkpoint to go on from.

    Returns:
        The weights file; a run that was stopped before its first validation has none yet.

    Raises:
        ConfigError: If the folder holds a run and `resume` is off, or the other way round; if settings do not fit
            each other or the recordings; if a resumed run would find other recordings.
        DatasetError: If recordings are missing or cannot be read.
        VocalsepError: If the loss stops being finite.
    """
    checkpoint, result = run / CHECKPOINT, run / f"{recipe.net}{weights.SUFFIX}"
    if resume and not checkpoint.exists():
        raise ConfigError(f"{run}: no checkpoint to resume from")
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run}: is a file; a run needs a folder")
    if not resume and checkpoint.exists():
        raise ConfigError(f"{run}: holds a run already; use --resume, or another folder")
    with team.gathered(device) as ours:
        tell = report if ours.leads else lambda _: None
        guards.refuse(recipe, ours)
        before = guards.heard_before(recipe, run / TRACKS, tell, resume=resume)
        with ours.leader_first():
            material = open_material(recipe, tell, before)
        if resume:
            guards.refuse_other_recordings(run / TRACKS, material)
        guards.refuse_without_validation(recipe, material)
        if recipe.training.precision == "auto":
            tell("measuring which precision is fastest here")
        recipe = cost.settled(recipe, material, ours)
        trainer = Trainer(recipe, material, ours)
        if resume:
            trainer.restore(torch.load(checkpoint, map_location=ours.device, weights_only=True))
        else:
            trainer.start()
        if ours.leads:
            try:
                run.mkdir(parents=True, exist_ok=True)
                files.write_text(run / RECIPE, config.dump_toml(config.to_dict(recipe)))
                files.write_text(run / TRACKS, files.dump_json({**material.names, "before": before}, indent=1))
            except OSError as error:
                raise ConfigError(f"{run}: cannot be written ({error.strerror})") from error
        if trainer.progress >= 1 or schedule.gave_up(trainer.standing, recipe.training):
            tell(f"{run}: this run is done, after {trainer.step} steps")
        else:
            tell(f"{recipe.net}: from step {trainer.step}, {cost.measured(trainer) if ours.leads else ''}")
            _loop(trainer, run, result, tell, stopped)
    return result


def _loop(
    trainer: Trainer, run: Path, result: Path, report: Callable[[str], None], stopped: Callable[[], bool]
) -> None:
    """Steps until the training is done or stopped; validates, logs and saves on the way."""
    options, ours = trainer.recipe.training, trainer.team
    saved = trainer.seconds
    record = Record(run, trainer.step, tensorboard=options.tensorboard) if ours.leads else None
    with closing(_ahead(trainer.draw, trainer.step)) as batches, closing(record) if record else nullcontext():
        ended = False
        while not ended:
            started = time.perf_counter()
            drawn = next(batches)
            trainer.waited += time.perf_counter() - started
            entry: dict[str, Any] = {"step": trainer.step, **trainer.update(drawn)}
            trainer.seconds += ours.shared(time.perf_counter() - started)
            done = trainer.progress >= 1
            due = done or _due(trainer)
            if due:
                trainer.validated = trainer.seconds
                entry |= _validate(trainer, result)
            stop = bool(ours.shared(stopped()))
            ended = done or stop or schedule.gave_up(trainer.standing, options)
            if record:
                record.add(entry | {"seconds": round(trainer.seconds, 3), "waited": round(trainer.waited, 3)})
                if due:
                    record.draw()
                    report(_line(trainer, entry))
                if due or ended or trainer.seconds - saved >= 60 * options.checkpoint_minutes:
                    saved = trainer.seconds
                    record.flush()
                    with files.write_atomically(run / CHECKPOINT) as temporary:
                        torch.save(trainer.state(), temporary)
            if stop and not done:
                report(f"stopped after step {trainer.step}; vocalsep train --resume {run} goes on from there")


def _due(trainer: Trainer) -> bool:
    """Whether to validate now."""
    if trainer.validate_steps:
        return trainer.step % trainer.validate_steps == 0
    return trainer.seconds - trainer.validated >= 60 * trainer.recipe.training.validate_minutes


def _validate(trainer: Trainer, result: Path) -> dict[str, float]:
    """Validates, judges how the run stands, and keeps the weights if they are the best; without validation always."""
    ours = trainer.team
    scores = trainer.validate() if ours.leads else {}
    if trainer.material.validation is not None:
        quality = scores.get("validation_snr_db", -scores.get("validation_loss", math.inf))
        trainer.standing = schedule.judged(trainer.standing, ours.shared(quality), trainer.recipe.training)
    if ours.leads and trainer.standing.stale == 0:
        weights.save(result, trainer.mean, trainer.recipe.front_end, _about(trainer, scores))
    return scores


def _about(trainer: Trainer, scores: Mapping[str, float]) -> dict[str, Any]:
    recipe = trainer.recipe
    told = config.to_dict(recipe)
    told["pools"] = [{"layout": p.layout, "weight": p.weight} for p in recipe.pools]
    told["training"]["init"] = Path(recipe.training.init).name  # no folders of this machine
    told["training"]["parts"] = {part: Path(name).name for part, name in recipe.training.parts.items()}
    return {
        "version": __version__,
        "licence": recipe.licence,
        "data": [pool.layout for pool in recipe.pools],
        "recipe": told,
        "heard": trainer.material.heard,
        "steps": trainer.step,
        "hours": round(trainer.seconds / 3600, 3),
        "metrics": {key: round(value, 4) for key, value in scores.items()},
    }


def _line(trainer: Trainer, entry: Mapping[str, Any]) -> str:
    figures = ", ".join(f"{key} {entry[key]:.4g}" for key in entry if key not in ("step", "lr"))
    done, waited = min(1, trainer.progress), trainer.waited / max(trainer.seconds, 1e-9)
    return (
        f"step {trainer.step}, {trainer.seconds / 60:.1f} min, {100 * done:.0f} %: {figures}; "
        f"waited for excerpts {100 * waited:.1f} % of the time"
    )


def _ahead(draw: Callable[[int], Drawn], step: int) -> Generator[Drawn]:
    """Batches from `step` on, without end, prepared in a thread while the net is busy."""
    with ThreadPoolExecutor(1) as thread:
        waiting: list[Future[Drawn]] = []
        try:
            while True:
                while len(waiting) < _AHEAD:
                    waiting.append(thread.submit(draw, step))
                    step += 1
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
