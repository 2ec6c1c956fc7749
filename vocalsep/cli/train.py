"""``vocalsep train``: from recordings to a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vocalsep.cli.common import Dataset, Device, DeviceOption, RootOption, stderr, told


def train(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="A preset's name or a recipe (TOML).")] = "unet",
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/<preset>.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    dataset: Annotated[Dataset | None, typer.Option(help="Train on this alone.")] = None,
    root: RootOption = None,
    split: Annotated[
        str, typer.Option(help="Split of --dataset: for mir1k standard (default) or drnn, which shares singers.")
    ] = "",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Train without recordings that are bad.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Minutes of training.")] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Train a net; stops and resumes exactly. The weights land in the run's folder."""
    if dataset is None and (root or split):
        raise typer.BadParameter("--root and --split belong to a --dataset")
    if resume and (dataset or settings or minutes or out or skip_bad):
        raise typer.BadParameter("--resume goes on with the run's own recipe; it takes no other settings")
    with told():
        from vocalsep import datasets, recipes, training, weights

        changes = list(settings or [])
        if skip_bad:
            changes.append("training.skip_bad=true")
        if minutes:
            changes += ["training.steps=0", f"training.minutes={minutes}"]
        if dataset:
            changes += recipes.single_pool(dataset.value, datasets.root_of(dataset.value, root), split)
        recipe = recipes.read_recipe(str(resume / "recipe.toml") if resume else preset, changes)
        run = resume or out or Path("runs") / Path(preset).stem
        path = training.fit(
            recipe,
            run,
            device=weights.best_device(device.value),
            resume=resume is not None,
            report=lambda line: stderr.print(line, markup=False),
        )
        sys.stdout.write(f"{path}\n")
