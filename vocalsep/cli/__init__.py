"""The command line: parse, call, report.

Results go to stdout, everything else to stderr. The exit status is 0 if everything worked, 1 if something failed (the
rest is still done) and 2 for misuse. Commands import libraries only when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from typing import Annotated

# Imports make a few hundred thousand objects, and none is garbage. By default, Python looks for garbage after every 700
# of them, which takes a tenth of a second in total.
gc.set_threshold(100_000)

import typer

from vocalsep.cli import cluster, data, doctor, evaluate, export, extract, manifest, models, signals, train
from vocalsep.cli.common import OptionalValueCommand, stdout
from vocalsep.cli.group import SongsFirstGroup
from vocalsep.release import __version__

_SONGS, _RESEARCH = "Separate songs", "Train and evaluate"
_HELP = """Separate a song into vocals and accompaniment.

Start with one of these:

\b
vocalsep song.mp3                 write song.vocals.wav
vocalsep song.mp3 --stem both     write song.accompaniment.wav too
vocalsep song.mp3 --karaoke       write the accompaniment alone
vocalsep album/ -o vocals/        separate a whole folder

'vocalsep extract --help' lists all options for songs, and 'vocalsep COMMAND --help' explains each command.
"""  # the backspace keeps the line breaks below it

app = typer.Typer(
    name="vocalsep",
    cls=SongsFirstGroup,
    subcommand_metavar="SONG... | COMMAND [ARGS]...",
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=OptionalValueCommand, rich_help_panel=_SONGS)(extract.extract)
app.add_typer(models.app, name="models", rich_help_panel=_SONGS)
app.command(rich_help_panel=_SONGS)(cluster.cluster)
app.add_typer(manifest.app, name="manifest", rich_help_panel=_SONGS)
app.command(rich_help_panel=_SONGS)(export.export)
app.command(rich_help_panel=_SONGS)(doctor.doctor)
app.command(rich_help_panel=_RESEARCH)(train.train)
app.command("eval", rich_help_panel=_RESEARCH)(evaluate.evaluate)
app.add_typer(data.app, name="data", rich_help_panel=_RESEARCH)


def main() -> None:
    """Run the command ``vocalsep``."""
    signals.exit_on_terminate()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names that are not valid text pass through unchanged
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        stdout.print(f"vocalsep {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Handle the options that stand before a command, and prepare for it."""
    del version
    if context.invoked_subcommand != "train":  # the others have their own workers, which share the cores
        for library in ("OMP", "OPENBLAS", "MKL"):
            os.environ.setdefault(f"{library}_NUM_THREADS", "1")
