"""What is refused before the first step of a training: settings that do not fit, and recordings that leak."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vocalsep import nets, weights
from vocalsep.datasets import splits
from vocalsep.datasets.splits import Heard, shown
from vocalsep.errors import ConfigError
from vocalsep.training.material import Material
from vocalsep.training.recipes import Recipe
from vocalsep.training.record import require_tensorboard
from vocalsep.training.team import Team


def refuse(recipe: Recipe, ours: Team) -> None:
    """Refuses early what can be told without recordings.

    Raises:
        ConfigError: If that is so.
    """
    with torch.device("meta"):  # neither memory nor random numbers
        nets.build(recipe.net, recipe.options)
    if recipe.training.tensorboard:
        require_tensorboard()
    if recipe.training.batch_size % ours.size:
        raise ConfigError(
            f"training.batch_size = {recipe.training.batch_size}: expected a multiple of {ours.size} processes"
        )


def refuse_without_validation(recipe: Recipe, material: Material) -> None:
    """Refuses what needs validation where no songs are held out.

    Raises:
        ConfigError: If that is so.
    """
    needs = recipe.training.schedule == "plateau" or recipe.training.stop_validations
    if needs and material.validation is None:
        raise ConfigError("plateaus and early stopping need validation: let a pool hold out songs")


def heard_before(recipe: Recipe, tracks: Path, report: Callable[[str], None], *, resume: bool) -> Heard:
    """What the net that a run starts from has heard, as far as its weights tell.

    Args:
        recipe: The recipe.
        tracks: The run's record of its recordings, which a resumed run reads.
        report: Is told if the weights do not tell.
        resume: Whether the run goes on.

    Raises:
        ConfigError: If the weights are of another front end, or the record cannot be read.
    """
    if resume:
        found: Heard = _read(tracks).get("before", {})
        return found
    heard: Heard = {}
    for name in filter(None, (recipe.training.init, *recipe.training.parts.values())):
        model = weights.load(name)
        if model.front_end != recipe.front_end:
            raise ConfigError(
                f"{name!r} to start from: its front end is another, {model.front_end}; "
                f"the recipe's is {recipe.front_end}"
            )
        if "heard" not in model.metadata:
            report(f"{name} does not tell what it was trained on; make sure that no song held out here is among it")
        heard = splits.both(heard, model.metadata.get("heard", {}))
    return heard


def refuse_other_recordings(tracks: Path, material: Material) -> None:
    """Refuses to go on with other recordings, which would be validated on though they were trained on, or be missing.

    Args:
        tracks: The run's record of its recordings.
        material: What has been opened now.

    Raises:
        ConfigError: If that is so; names them.
    """
    known = _read(tracks)
    for part in ("training", "validation"):
        changed = set(known.get(part, ())) ^ set(material.names[part])
        if changed:
            raise ConfigError(
                f"{tracks.parent}: other recordings for {part} than when it began: {shown(sorted(changed))}. "
                "Put them back as they were, or begin a new run, with training.init"
            )


def _read(tracks: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(tracks.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{tracks}: not readable; the run cannot be resumed ({error})") from error
    return known
