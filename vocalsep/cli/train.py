"""``vocalsep train``: from recordings to a model."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vocalsep.cli import signals
from vocalsep.cli.common import DeviceOption, RootOption, exit_on_error, stderr


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
    preset: Annotated[
        str | None, typer.Argument(metavar="PRESET", help="A preset's name or a recipe (TOML). Default: unet.")
    ] = None,
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
    device: DeviceOption = "auto",
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
    if resume and (preset or dataset or settings or out or skip_bad or precision):
        raise typer.BadParameter("--resume goes on with the run's own recipe; it only takes --minutes or --epochs")
    preset = preset or "unet"
    with exit_on_error():
        from vocalsep import training, weights
        from vocalsep.datasets import layouts
        from vocalsep.training import recipes

        changes = []
        if dataset:
            changes += recipes.single_pool(dataset.value, layouts.root_of(dataset.value, root), split, vocals)
        changes += settings or []
        options = {"minutes": minutes, "epochs": epochs, "skip_bad": skip_bad or None, "precision": precision}
        changes += [f"training.{key}={str(value).lower()}" for key, value in options.items() if value is not None]
        recipe = recipes.read_recipe(str(resume / "recipe.toml") if resume else preset, changes)
        run = resume or out or Path("runs") / Path(preset).stem
        with signals.stop_on_signal(_announce_stop) as should_stop:
            path = training.fit(
                recipe,
                run,
                device=weights.choose_device(device),
                resume=resume is not None,
                report=lambda line: stderr.print(line, markup=False),
                stopped=should_stop,
            )
            halted = should_stop()
    if halted:
        raise typer.Exit(130)
    if os.environ.get("RANK", "0") == "0":  # one of those that torchrun starts is enough
        sys.stdout.write(f"{path}\n")


def _announce_stop() -> None:
    stderr.print("stopping after this step; press Ctrl-C again to stop at once")
