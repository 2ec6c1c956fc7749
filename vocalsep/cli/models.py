"""``vocalsep models``: the models that come with vocalsep."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vocalsep.cli.common import exit_on_error, stdout, widen_for_tables

app = typer.Typer(invoke_without_command=True)


@app.callback()
def models(ctx: typer.Context) -> None:
    """List the models, or show one model's card.

    The list says what each model is for, how good and how fast it is, and how
    you may use it.
    """
    if ctx.invoked_subcommand:
        return
    with exit_on_error():
        from rich.table import Table
        from rich.text import Text

        from vocalsep import weights

        table = Table(
            show_edge=False,
            pad_edge=False,
            caption="Speed is relative to real time, on two x86-64 cores.\n"
            "To use a model: vocalsep extract SONG -m NAME. To read its card: vocalsep models show NAME.",
            caption_justify="left",
        )
        for column in ("name", "use it for", "quality", "speed", "licence"):
            table.add_column(column, no_wrap=column in ("name", "speed"))
        for model in weights.list_models():
            name = f"{model.name}\n(default)" if model.is_default else model.name
            speed = model.speed.partition(" on ")[0].replace(" times real time", "x")
            row = (name, model.purpose, model.scores, speed, model.licence)
            table.add_row(*(Text(cell.replace("`", "")) for cell in row))
        widen_for_tables(stdout).print(table)


@app.command("show")
def show(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")]) -> None:
    """Print the card of a model: training data, licence, scores and limits."""
    with exit_on_error():
        from vocalsep import weights

        sys.stdout.write(weights.read_card(name).text)
