"""``vocalsep data``: check data sets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from vocalsep.cli import streams
from vocalsep.cli.common import Dataset, RootOption, exit_on_error, stderr, stdout, widen_for_tables
from vocalsep.text import escape

if TYPE_CHECKING:
    from vocalsep.datasets.check import DatasetCheck

app = typer.Typer(no_args_is_help=True)


@app.callback()
def data() -> None:
    """Check data sets before you train or evaluate on them."""


@app.command("check")
def check_data(
    dataset: Annotated[Dataset, typer.Option(help="Data set to check; stems is for your own songs.")],
    root: RootOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Read every file of a data set and report problems.

    Prints a table with one row per split, then notes and problems. The exit
    status is 1 if there are problems.
    """
    with exit_on_error():
        from rich.progress import Progress

        from vocalsep.datasets import check, layouts

        with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
            task = bar.add_task("reading", total=None)
            found = check.check_dataset(
                dataset,
                layouts.find_root(dataset, root),
                progress=lambda _, done, count: bar.update(task, completed=done, total=count),
            )
        if as_json:
            streams.write_object(sys.stdout, found.to_dict())
        else:
            _print_check(found)
        if found.problems:
            raise typer.Exit(1)


def _print_check(found: DatasetCheck) -> None:
    """Print a row for each split, then a line for each note and problem."""
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for column in ("split", "tracks", "singers", "minutes", "Hz", "labels", "voice level", "largest residual", "bad"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for row in found.totals:
        residual = "" if row.worst_residual_db is None else f"{row.worst_residual_db:.1f} dB"
        voice = "" if row.voice_db is None else f"{row.voice_db:.1f} ± {row.voice_spread_db:.1f} dB"
        labels = f"{row.pitch} + {row.voicing}" if row.pitch or row.voicing else ""
        tracks = f"{row.tracks} of {row.complete}" if row.complete else str(row.tracks)
        rates = ", ".join(map(str, row.rates))
        table.add_row(
            row.split, tracks, str(row.groups), f"{row.minutes:.1f}", rates, labels, voice, residual, str(row.bad or "")
        )
    widen_for_tables(stdout).print(table)
    notes = [f"note: {note}" for note in found.notes]
    problems = [f"problem: {problem}" for problem in found.problems] or ["no problems"]
    stdout.print("\n".join(["", *map(escape, notes), *map(escape, problems)]), markup=False)
