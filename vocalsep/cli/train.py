"""``vocalsep train``: train a model on recordings."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from vocalsep.cli import signals, training_display
from vocalsep.cli.common import DEVICE_HELP, ROOT_HELP, Device, complete_presets, exit_on_error, print_line
from vocalsep.cli.parameters import Progress
from vocalsep.errors import ConfigError

Material = Literal["dsd100", "mir1k", "stems", "teacher"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
_STOPPING = "stopping after this step; if it takes longer than a second, the last checkpoint counts"

_DATA, _RUN, _RECIPE, _REPORT = "Recordings", "Run", "Recipe", "Progress and results"


def train(
    preset: Annotated[
        str | None,
        typer.Argument(
            metavar="PRESET",
            help="Preset name or recipe file (TOML).",
            show_default="unet",
            autocompletion=complete_presets,
        ),
    ] = None,
    dataset: Annotated[
        Material | None,
        typer.Option(
            help="Train on this data set only. teacher is for songs whose vocals another separator extracted.",
            show_default="from the recipe",
            rich_help_panel=_DATA,
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(metavar="DIR", help=ROOT_HELP, rich_help_panel=_DATA)] = None,
    vocals: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with the vocals as <song>.vocals.*, for --dataset teacher.",
            show_default="same as --root",
            rich_help_panel=_DATA,
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Split of --dataset. mir1k has standard and drnn; the parts of drnn share singers.",
            show_default="standard",
            rich_help_panel=_DATA,
        ),
    ] = "",
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Leave out damaged or incomplete tracks instead of stopping.", rich_help_panel=_DATA
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the weights, log and checkpoint.",
            show_default="runs/PRESET",
            rich_help_panel=_RUN,
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Continue the run in this folder.", rich_help_panel=_RUN)
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="N",
            help="Stop after about N minutes, including validations. With --resume, N includes earlier sessions.",
            show_default="from the recipe",
            rich_help_panel=_RUN,
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="N",
            help="Stop after N passes over the songs. With --resume, N includes earlier sessions.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help=DEVICE_HELP, rich_help_panel=_RUN)] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting of the recipe, for example training.seed=2. Repeatable.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Number format inside the net. auto measures which is fastest.",
            show_default="from the recipe",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    progress: Annotated[
        Progress,
        typer.Option(
            help="Progress display on stderr: a bar with loss, SNR and time left, JSON with one object per line, or "
            "none. auto draws the bar on a terminal.",
            rich_help_panel=_REPORT,
        ),
    ] = "auto",
    quiet: Annotated[
        bool,
        typer.Option("-q", "--quiet", help="Print only the result and errors.", rich_help_panel=_REPORT),
    ] = False,
) -> None:
    """Train a model.

    vocalsep first estimates the cost, then trains, and finally prints the path
    of the weights. Ctrl-C stops after the current step, or within two seconds
    at the last checkpoint; --resume continues exactly there. Under torchrun, several processes share the work.
    """
    with exit_on_error():
        if not importlib.util.find_spec("torch"):
            raise ConfigError("training needs torch; run: pip install 'vocalsep[train]'")
    if quiet and progress in ("bar", "json"):
        raise typer.BadParameter(f"--quiet and --progress {progress} cannot be combined")
    if dataset is None and (root or split):
        raise typer.BadParameter("--root and --split need --dataset. Add it, or leave them out.")
    if vocals and dataset != "teacher":
        raise typer.BadParameter("--vocals needs --dataset teacher. Add it, or leave --vocals out.")
    if minutes and epochs:
        raise typer.BadParameter("--minutes and --epochs both set the length of the training; give only one.")
    if resume and (preset or dataset or settings or out or skip_bad or precision):
        raise typer.BadParameter("--resume uses the run's own recipe; add only --minutes, --epochs or --device.")
    preset = preset or "unet"
    leads = os.environ.get("RANK", "0") == "0"  # torchrun starts several processes; one reports
    display = training_display.choose("none" if quiet or not leads else progress)
    with exit_on_error(), display:
        import torch

        from vocalsep import training
        from vocalsep.backends import choose_device
        from vocalsep.datasets import layouts
        from vocalsep.training import recipes

        changes = []
        if dataset:
            changes += recipes.override_pools(dataset, layouts.find_root(dataset, root), split, vocals)
        changes += settings or []
        options = {"minutes": minutes, "epochs": epochs, "skip_bad": skip_bad or None, "precision": precision}
        changes += [f"training.{key}={str(value).lower()}" for key, value in options.items() if value is not None]
        recipe = recipes.read_recipe(str(resume / "recipe.toml") if resume else preset, changes)
        run = resume or out or Path("runs") / Path(preset).stem
        with signals.stop_on_signal(lambda: display.report(_STOPPING)) as should_stop:
            path = training.fit(
                recipe,
                run,
                device=torch.device(choose_device(device)),
                resume=resume is not None,
                report=display.report,
                on_step=display.show_step,
                should_stop=should_stop,
            )
            was_stopped = should_stop()
        display.end(path, was_stopped=was_stopped)
    if was_stopped:
        raise typer.Exit(130)
    if leads:
        print_line(path)
