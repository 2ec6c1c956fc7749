"""``vocalsep train``: from recordings to a model."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vocalsep.cli.common import Device, DeviceOption, RootOption, stderr, told


class Material(StrEnum):
    """Recordings to train on."""

    DSD100 = "dsd100"
    MIR1K = "mir1k"
    STEMS = "stems"
    TEACHER = "teacher"


class PrecisionName(StrEnum):
    """Of the numbers in the net."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


def train(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="A preset's name or a recipe (TOML).")] = "unet",
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/<preset>.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    dataset: Annotated[
        Material | None,
        typer.Option(help="Train on this alone; teacher: songs with the vocals that another separator has found."),
    ] = None,
    root: RootOption = None,
    vocals: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For teacher: where <song>.vocals.* lie. Default: as --root.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Split of --dataset: for mir1k standard (default) or drnn, which shares singers.")
    ] = "",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Train without recordings that are bad.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Minutes of training; with --resume, in all.")] = None,
    epochs: Annotated[
        float | None, typer.Option(min=0.01, help="Times through the songs; with --resume, in all.")
    ] = None,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="Of the numbers in the net; auto measures what is fastest.")
    ] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Train a net; stops and resumes exactly. The weights land in the run's folder.

    Says before it starts what it will cost. Under torchrun several processes share the work.
    """
    if dataset is None and (root or split):
        raise typer.BadParameter("--root and --split belong to a --dataset")
    if vocals and dataset is not Material.TEACHER:
        raise typer.BadParameter("--vocals belongs to --dataset teacher")
    if minutes and epochs:
        raise typer.BadParameter("--minutes and --epochs both say how long; give one")
    if resume and (dataset or settings or out or skip_bad or precision):
        raise typer.BadParameter("--resume goes on with the run's own recipe; it only takes --minutes or --epochs")
    with told():
        from vocalsep import datasets, training, weights
        from vocalsep.training import recipes

        changes = [*(settings or []), *recipes.length(minutes, epochs)]
        if skip_bad:
            changes.append("training.skip_bad=true")
        if precision:
            changes.append(f"training.precision={precision.value}")
        if dataset:
            changes += recipes.single_pool(dataset.value, datasets.root_of(dataset.value, root), split, vocals)
        recipe = recipes.read_recipe(str(resume / "recipe.toml") if resume else preset, changes)
        run = resume or out or Path("runs") / Path(preset).stem
        path = training.fit(
            recipe,
            run,
            device=weights.best_device(device.value),
            resume=resume is not None,
            report=lambda line: stderr.print(line, markup=False),
        )
        if os.environ.get("RANK", "0") == "0":  # one of those that torchrun starts is enough
            sys.stdout.write(f"{path}\n")
