"""The command line: parse, call, report. Results go to stdout, everything else to stderr.

Exit status: 0 all done, 1 something failed (the rest is still done), 2 misuse. torch is imported inside the commands,
so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import signal
import sys
from typing import Annotated

import typer

from vocalsep.cli import data, doctor, evaluate, extract, models, train
from vocalsep.cli.common import OptionalValueCommand, stdout
from vocalsep.release import __version__

app = typer.Typer(
    name="vocalsep",
    help="Takes a song and gives back its vocals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=OptionalValueCommand)(extract.extract)
app.command()(train.train)
app.command("eval")(evaluate.evaluate)
app.command()(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")


def main() -> None:
    """Entry point of the command ``vocalsep``."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that unfinished files are cleared away
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names that are no text come out as they are
    app()


def _version(wanted: bool) -> None:
    if wanted:
        stdout.print(f"vocalsep {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    del version
