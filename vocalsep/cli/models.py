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

    The list says what each model is for, how good it is, and how you may use it.
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
            caption="To use one: vocalsep extract SONG -m NAME. To read its card: vocalsep models show NAME.",
            caption_justify="left",
        )
        table.add_column("name", no_wrap=True)
        for column in ("use it for", "quality", "licence"):
            table.add_column(column)
        table.add_column("size", justify="right", no_wrap=True)
        for model in weights.list_models():
            name = f"{model.name}\n(default)" if model.is_default else model.name
            table.add_row(*map(Text, (name, model.purpose, model.scores, model.licence, f"{model.size_mb:.1f} MB")))
        widen_for_tables(stdout).print(table)


@app.command("show")
def show(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")]) -> None:
    """Print the card of a model: training data, licence, scores and limits."""
    with exit_on_error():
        from vocalsep import weights

        sys.stdout.write(weights.read_card(name).text)
