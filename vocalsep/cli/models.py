"""``vocalsep models``: the models that come with vocalsep."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vocalsep.cli.common import exit_on_error, stdout, widen_for_tables

_FACTS = {"use it for": "use it for", "quality": "scores", "licence": "licence"}  # column: fact of the card

app = typer.Typer(invoke_without_command=True)


@app.callback()
def models(ctx: typer.Context) -> None:
    """List the models, or show one model's card.

    Without a subcommand, vocalsep prints a table of all models: what each one is for, its quality, speed, size and
    licence.
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
            caption="Choose one with: vocalsep extract SONG -m NAME. More about it: vocalsep models show NAME.",
            caption_justify="left",
        )
        table.add_column("name", no_wrap=True)
        for column in _FACTS:
            table.add_column(column, overflow="fold")
        table.add_column("size", justify="right", no_wrap=True)
        published = weights.find_models()
        for name in sorted(published, key=lambda name: name != weights.DEFAULT_MODEL):
            facts = weights.read_card(name).facts
            row = [facts.get(fact, "") for fact in _FACTS.values()]
            row[0] = row[0] or facts.get("what", "")
            default = "\n(default)" if name == weights.DEFAULT_MODEL else ""
            size = f"{published[name].stat().st_size / 1e6:.1f} MB"
            table.add_row(*map(Text, (name + default, *row, size)))
        widen_for_tables(stdout).print(table)


@app.command("show")
def show(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")]) -> None:
    """Print a model's card: what it is, its training data, licence and scores."""
    with exit_on_error():
        from vocalsep import weights

        sys.stdout.write(weights.read_card(name).text)
