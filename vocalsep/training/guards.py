"""Check a run before its first step for contradictory settings, and for recordings that leak into validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vocalsep import files, nets, weights
from vocalsep.datasets import splits
from vocalsep.datasets.splits import Heard, join_names
from vocalsep.errors import ConfigError, ModelError, describe_error
from vocalsep.training.material import CHANNELS, Material
from vocalsep.training.recipes import Recipe
from vocalsep.training.record import require_tensorboard
from vocalsep.training.team import Team
from vocalsep.weights import Model

_MAX_BATCH_BYTES = 2**32  # of the excerpts of one step in one process; some steps are drawn ahead


def check_recipe(recipe: Recipe, team: Team) -> None:
    """Check everything that can be checked without the recordings.

    Raises:
        ConfigError: If the options do not fit the net, TensorBoard is missing, or the processes cannot share a batch.
    """
    with torch.device("meta"):  # uses no memory and draws no random numbers
        nets.build(recipe.net, recipe.options)
    if recipe.training.tensorboard:
        require_tensorboard()
    excerpt = 4 * 2 * CHANNELS * nets.count_excerpt_samples(recipe.front_end)  # bytes: vocals and accompaniment
    most = team.size * _MAX_BATCH_BYTES // excerpt
    if recipe.training.batch_size > most:
        raise ConfigError(
            f"training.batch_size = {recipe.training.batch_size}: the excerpts of a step would not fit into memory; "
            f"expected at most {most}"
        )
    if recipe.training.batch_size % team.size:
        raise ConfigError(
            f"training.batch_size = {recipe.training.batch_size}: expected a multiple of {team.size}, "
            "the number of processes"
        )


def check_validation(recipe: Recipe, material: Material) -> None:
    """Check that songs are held out if the recipe needs validation.

    Raises:
        ConfigError: If the recipe needs validation but no songs are held out.
    """
    needed = recipe.training.schedule == "plateau" or recipe.training.stop_validations
    if needed and material.validation is None:
        raise ConfigError("plateaus and early stopping need validation: set hold_out in a pool of songs")


def load_weights(name: str) -> Model:
    """Load a model to start a training from.

    Raises:
        ModelError: If it cannot be loaded, or has no weights to train.
    """
    model = weights.load(name)
    if not isinstance(model, Model):
        raise ModelError(f"model {model.name}: cannot be trained; start from a model of vocalsep's own")
    return model


def load_heard(recipe: Recipe, tracks: Path, report: Callable[[str], None], *, resume: bool) -> Heard:
    """Return the songs and singers that a run's initial weights were trained on, as far as their files list them.

    Args:
        recipe: The recipe.
        tracks: The run's list of recordings. A resumed run reads the songs and singers from it.
        report: Receives a line for each weights file that does not say what it was trained on.
        resume: Whether the run continues from its checkpoint.

    Raises:
        ConfigError: If the weights' front end differs from the recipe's, or the list cannot be read.
    """
    if resume:
        before: Heard = _read_tracks(tracks).get("before", {})
        return before
    heard: Heard = {}
    for name in filter(None, (recipe.training.init, *recipe.training.parts.values())):
        model = load_weights(name)
        if model.front_end != recipe.front_end:
            raise ConfigError(
                f"cannot start from {name!r}: its front end is {model.front_end}; the recipe's is {recipe.front_end}"
            )
        if "heard" not in model.metadata:
            report(f"{name} does not say what it was trained on; make sure that this includes no held-out song")
        heard = splits.merge_heard(heard, model.metadata.get("heard", {}))
    return heard


def check_same_recordings(tracks: Path, material: Material) -> None:
    """Check that a resumed run finds the recordings it began with.

    With others, it could validate on songs that it was trained on.

    Args:
        tracks: The run's list of recordings.
        material: The recordings found now.

    Raises:
        ConfigError: If they differ. The message names the recordings that changed.
    """
    known = _read_tracks(tracks)
    for part in ("training", "validation"):
        changed = set(known.get(part, ())) ^ set(material.names[part])
        if changed:
            raise ConfigError(
                f"{tracks.parent}: the recordings for {part} have changed since the run began: "
                f"{join_names(sorted(changed))}. Restore them, or start a new run with training.init"
            )


def _read_tracks(tracks: Path) -> dict[str, Any]:
    try:
        known = files.parse_json(tracks.read_text(encoding="utf-8"))
        if not isinstance(known, dict) or not isinstance(known.get("before", {}), dict):
            raise ValueError("it is not a list of recordings")
        for part in ("training", "validation"):
            _check_names(known.get(part, []))
        for names in known.get("before", {}).values():
            _check_names(names)
    except (OSError, ValueError) as error:
        reason = describe_error(error)
        raise ConfigError(f"{tracks}: cannot be read, so the run cannot be resumed ({reason})") from error
    return known


def _check_names(names: object) -> None:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("it is not a list of recordings")
