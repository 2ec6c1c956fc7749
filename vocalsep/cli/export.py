"""``vocalsep export``: write a model for other programs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

import typer

from vocalsep.cli.common import complete_models, exit_on_error, print_line
from vocalsep.errors import ModelError

Program = Literal["onnx", "mdx", "sherpa-onnx"]


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model name (see 'vocalsep models'), weights file or folder of a training run.",
            autocompletion=complete_models,
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write to.", show_default="this folder")
    ] = Path(),
    program: Annotated[
        Program,
        typer.Option(
            "--for",
            help="Format: onnx is the net, from features to mask, and a JSON file with everything else that a "
            "program needs to know; mdx is for UVR and audio-separator; sherpa-onnx is for sherpa-onnx.",
        ),
    ] = "onnx",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of the same name.")] = False,
) -> None:
    """Write a model for another program, as ONNX.

    The licence of the weights also applies in the other program.
    vocalsep prints the names of the files.
    """
    with exit_on_error():
        if not all(map(importlib.util.find_spec, ("torch", "onnx"))):
            raise ModelError("export needs torch and onnx; run: pip install 'vocalsep[train]'")
        from vocalsep import means, weights
        from vocalsep.interchange import export as exporting

        loaded = weights.load(model)
        if isinstance(loaded, means.Mean):
            names = ", ".join(part.name for part in loaded.models)
            raise ModelError(f"model {loaded.name} is a mean of several ({names}); export these one by one")
        if not isinstance(loaded, weights.Model):
            raise ModelError(f"model {loaded.name}: only models of vocalsep's own nets can be exported")
        for path in exporting.write(loaded, output, program, overwrite=overwrite):
            print_line(path)
