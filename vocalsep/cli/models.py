"""``vocalsep models``: what comes with the program."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vocalsep.cli.common import exit_on_error, stdout

app = typer.Typer(help="Lists the models that come with vocalsep.", invoke_without_command=True)


@app.callback()
def models(ctx: typer.Context) -> None:
    """List the models that come with vocalsep; 'models show NAME' prints a card."""
    if ctx.invoked_subcommand:
        return
    with exit_on_error():
        from rich.table import Table

        from vocalsep import weights

        table = Table(show_edge=False, pad_edge=False)
        for column in ("name", "what it is", "size", "data", "licence", "scores"):
            table.add_column(column)
        for name, path in weights.list_models().items():
            facts = weights.read_card(name).facts
            size = f"{path.stat().st_size / 1e6:.1f} MB"
            default = " (default)" if name == weights.DEFAULT_MODEL else ""
            described = [facts.get(key, "") for key in ("what", "data", "licence", "scores")]
            table.add_row(name + default, described[0], size, *described[1:])
        stdout.print(table)


@app.command("show")
def show(name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]) -> None:
    """Print a model's card."""
    with exit_on_error():
        from vocalsep import weights

        sys.stdout.write(weights.read_card(name).text)
