"""Train a net in one loop, which can stop after any step and later continue exactly where it stopped.

A run is a folder: ``recipe.toml`` (all settings), ``tracks.json`` (all recordings), ``log.jsonl`` (one JSON object per
step), ``curves.png``, ``checkpoint.pt`` (the whole state, replaced atomically) and ``<net>.safetensors`` (the best
weights so far, by validation).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vocalsep import config, files, weights
from vocalsep.errors import ConfigError, VocalsepError, describe_error
from vocalsep.release import __version__
from vocalsep.runs import CHECKPOINT, RECIPE, TRACKS
from vocalsep.training import checkpoints, cost, guards
from vocalsep.training.excerpts.sampler import ExcerptBatch
from vocalsep.training.material import Material, open_material
from vocalsep.training.recipes import Recipe
from vocalsep.training.record import Record
from vocalsep.training.team import Team, join_team
from vocalsep.training.trainer import Trainer

_PREFETCHED = 3  # batches drawn ahead while the net is busy
_AVERAGED = 20  # steps over which the loss is averaged for people


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a run is after a step.

    Attributes:
        step: Steps done.
        loss: Mean loss of the last 20 steps.
        snr_db: SNR of the last validation in dB; None before the first one, and without songs to validate on.
        share: Share of the training that is done, in [0, 1].
        seconds_left: Estimated seconds until the end, with validations.
    """

    step: int
    loss: float
    snr_db: float | None
    share: float
    seconds_left: float


def fit(
    recipe: Recipe,
    run: Path,
    *,
    device: torch.device,
    resume: bool = False,
    report: Callable[[str], None] = lambda _: None,
    on_step: Callable[[Status], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train a net. Under ``torchrun``, the processes share the work.

    Args:
        recipe: The recipe.
        run: Folder of the run.
        device: Device to run on.
        resume: Whether to continue from the run's checkpoint.
        report: Receives each line of progress.
        on_step: Called after each step.
        should_stop: Called after each step. If it returns True, the run saves a checkpoint and stops.

    Returns:
        Path of the weights file. It does not exist yet if the run stopped before its first validation.

    Raises:
        ConfigError: If `resume` is off and the folder holds a run, or `resume` is on and it holds none; if settings
            contradict each other or do not fit the recordings; if the recordings have changed since the run began.
        DatasetError: If recordings are missing or cannot be read.
        VocalsepError: If the loss stops being finite, or the folder cannot be written any more.
    """
    _check_folder(run, resume=resume)
    with join_team(device) as team:
        report = report if team.leads else lambda _: None
        on_step = on_step if team.leads else lambda _: None
        material = _open_material(recipe, run, team, report, resume=resume)
        started = time.perf_counter()
        trainer = _set_up(recipe, run, team, material, report, resume=resume)
        if team.leads:
            _write_setup(run, trainer)
        if trainer.progress >= 1 or trainer.history.stops_early(recipe.training):
            report(f"{run}: already finished, after {trainer.step} steps")
        else:
            estimate = cost.estimate_cost(trainer) if team.leads else None
            report(f"{recipe.net}: from step {trainer.step}, {estimate}")
            trainer.validation_seconds = team.broadcast(
                trainer.validation_seconds or (estimate.validation_seconds if estimate else 0.0)
            )
            prepared = team.broadcast(time.perf_counter() - started)
            trainer.seconds, trainer.validated = trainer.seconds + prepared, trainer.validated + prepared
            try:
                _train(trainer, run, report, on_step, should_stop)
            except OSError as error:
                raise VocalsepError(_explain_stop(run, error)) from error
    return _weights_path(run, recipe)


def _explain_stop(run: Path, error: OSError) -> str:
    """Say why a run cannot go on, and what to do. What it has saved so far is whole."""
    resume = f"then continue with: vocalsep train --resume {run}"
    remedy = resume if (run / CHECKPOINT).exists() else "then start it again; it has no checkpoint yet"
    return f"{error.filename or run}: {describe_error(error)}; the training has stopped. Make space, {remedy}"


def _check_folder(run: Path, *, resume: bool) -> None:
    if resume and not (run / CHECKPOINT).exists():
        raise ConfigError(f"{run}: no checkpoint to resume from")
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run}: is a file; a run needs a folder")
    if not resume and (run / CHECKPOINT).exists():
        raise ConfigError(f"{run}: already holds a run; use --resume, or another folder")


def _open_material(recipe: Recipe, run: Path, team: Team, report: Callable[[str], None], *, resume: bool) -> Material:
    """Check the recipe, and open its recordings."""
    guards.check_recipe(recipe, team)
    before = guards.load_heard(recipe, run / TRACKS, report, resume=resume)
    with team.leader_first():
        material = open_material(recipe, report, before)
    if resume:
        guards.check_same_recordings(run / TRACKS, material)
    guards.check_validation(recipe, material)
    return material


def _set_up(
    recipe: Recipe, run: Path, team: Team, material: Material, report: Callable[[str], None], *, resume: bool
) -> Trainer:
    """Make a trainer with its initial state or that of the checkpoint."""
    if recipe.training.precision == "auto":
        report("measuring which precision is fastest on this device")
    trainer = Trainer(cost.choose_precision(recipe, material, team), material, team)
    if resume:
        trainer.load_state_dict(checkpoints.read(run / CHECKPOINT, trainer))
    else:
        trainer.load_initial_weights()
    return trainer


def _write_setup(run: Path, trainer: Trainer) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        files.write_text(run / RECIPE, config.dump_toml(config.to_dict(trainer.recipe)))
        files.write_text(run / TRACKS, files.dump_json(dict(trainer.material.names), indent=1))
    except OSError as error:
        raise ConfigError(f"{run}: cannot be written ({describe_error(error)})") from error


def _train(
    trainer: Trainer,
    run: Path,
    report: Callable[[str], None],
    on_step: Callable[[Status], None],
    should_stop: Callable[[], bool],
) -> None:
    """Step until the training is done or stopped; validate, log and save on the way."""
    options, team = trainer.recipe.training, trainer.team
    saved, snr_db = trainer.seconds, None
    record = Record(run, trainer.step, tensorboard=options.tensorboard) if team.leads else None
    first_step, first_second, losses = trainer.step, trainer.seconds, deque[float](maxlen=_AVERAGED)
    zero = time.perf_counter() - trainer.seconds  # of the clock that `seconds` shows
    with closing(_prefetch(trainer.draw_batch, trainer.step)) as batches, closing(record) if record else nullcontext():
        ended = False
        while not ended:
            # Step.
            started = time.perf_counter()
            excerpts = next(batches)
            trainer.waited += time.perf_counter() - started
            entry: dict[str, Any] = {"step": trainer.step, **trainer.update(excerpts)}
            trainer.seconds = team.broadcast(time.perf_counter() - zero)
            losses.append(entry["loss"])

            # Validate if it is due.
            done = trainer.progress >= 1
            validating = done or _is_validation_due(trainer)
            if validating:
                scores = _validate(trainer, _weights_path(run, trainer.recipe))
                trainer.validated = team.broadcast(time.perf_counter() - zero)
                taken = trainer.validated - trainer.seconds
                trainer.validation_seconds = max(taken, trainer.validation_seconds) if done else taken  # stay done
                trainer.seconds = trainer.validated
                snr_db = scores.get("validation_snr_db", snr_db)
                entry |= scores
            done = done or trainer.progress >= 1
            stopping = bool(team.broadcast(should_stop()))
            ended = done or stopping or trainer.history.stops_early(options)

            # Log and save: only the leader does.
            if record:
                record.add(entry | {"seconds": round(trainer.seconds, 3), "waited": round(trainer.waited, 3)})
                pace = (trainer.seconds - first_second) / (trainer.step - first_step)
                on_step(_describe_status(trainer, pace, sum(losses) / len(losses), snr_db))
                if validating:
                    record.draw_curves()
                    report(_format_progress(trainer, entry))
                if validating or ended or trainer.seconds - saved >= 60 * options.checkpoint_minutes:
                    saved = trainer.seconds
                    record.flush()
                    checkpoints.write(run / CHECKPOINT, trainer)
            if stopping and not done:
                report(f"stopped after step {trainer.step}; continue with: vocalsep train --resume {run}")


def _describe_status(trainer: Trainer, pace: float, loss: float, snr_db: float | None) -> Status:
    """Describe how far a run is. `pace` is the time per step in seconds, with validations."""
    seconds = pace * trainer.steps if trainer.steps else 60 * trainer.recipe.training.minutes
    done = pace * trainer.step if trainer.steps else trainer.seconds
    share, left = min(1.0, trainer.progress), max(0.0, seconds - done)
    return Status(step=trainer.step, loss=loss, snr_db=snr_db, share=share, seconds_left=left)


def _is_validation_due(trainer: Trainer) -> bool:
    if trainer.validate_steps:
        return trainer.step % trainer.validate_steps == 0
    return trainer.seconds - trainer.validated >= 60 * trainer.recipe.training.validate_minutes


def _validate(trainer: Trainer, path: Path) -> dict[str, float]:
    """Validate, update the history, and save the weights if they are the best; without validation, always save."""
    team = trainer.team
    scores = trainer.validate() if team.leads else {}
    if trainer.material.validation is not None:
        quality = scores.get("validation_snr_db", -scores.get("validation_loss", math.inf))
        trainer.history = trainer.history.add(team.broadcast(quality), trainer.recipe.training)
    if team.leads and trainer.history.stale == 0:
        weights.save(
            path, trainer.averaged_net, trainer.recipe.front_end, _describe_weights(trainer, path.parent, scores)
        )
    return scores


def _weights_path(run: Path, recipe: Recipe) -> Path:
    return run / f"{recipe.net}{weights.SUFFIX}"


def _describe_weights(trainer: Trainer, run: Path, scores: Mapping[str, float]) -> dict[str, Any]:
    """Return the metadata to save with the weights. Of the folders on this machine, it only names the run."""
    recipe = trainer.recipe
    settings = config.to_dict(recipe)
    settings["pools"] = [{"layout": pool.layout, "weight": pool.weight} for pool in recipe.pools]
    settings["training"]["init"] = Path(recipe.training.init).name
    settings["training"]["parts"] = {part: Path(name).name for part, name in recipe.training.parts.items()}
    return {
        "version": __version__,
        "run_name": run.resolve().name,
        "licence": recipe.licence,
        "data": [pool.layout for pool in recipe.pools],
        "recipe": settings,
        "heard": trainer.material.heard,
        "steps": trainer.step,
        "hours": round(trainer.seconds / 3600, 3),
        "metrics": {key: round(value, 4) for key, value in scores.items()},
    }


def _format_progress(trainer: Trainer, entry: Mapping[str, Any]) -> str:
    figures = ", ".join(f"{key} {entry[key]:.4g}" for key in entry if key not in ("step", "lr"))
    done, waited = min(1, trainer.progress), trainer.waited / max(trainer.seconds, 1e-9)
    return (
        f"step {trainer.step}, {trainer.seconds / 60:.1f} min, {100 * done:.0f} %: {figures}; "
        f"{100 * waited:.1f} % of the time spent waiting for excerpts"
    )


def _prefetch(draw_batch: Callable[[int], ExcerptBatch], step: int) -> Generator[ExcerptBatch]:
    """Yield batches from `step` on, without end. A thread draws the next ones while the net is busy."""
    with ThreadPoolExecutor(1) as thread:
        waiting: list[Future[ExcerptBatch]] = []
        try:
            while True:
                while len(waiting) < _PREFETCHED:
                    waiting.append(thread.submit(draw_batch, step))
                    step += 1
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
