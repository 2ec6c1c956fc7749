"""The command line: parse, call, report.

Results go to stdout, everything else to stderr. The exit status is 0 if everything worked, 1 if something failed (the
rest is still done) and 2 for misuse. Commands import libraries only when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated, Any

# Imports make a few hundred thousand objects, and none is garbage. By default, Python looks for garbage after every 700
# of them, which takes a tenth of a second in total.
gc.set_threshold(100_000)

import typer

from vocalsep import files
from vocalsep.cli import (
    cluster,
    data,
    doctor,
    evaluate,
    export,
    extract,
    live,
    manifest,
    models,
    serve,
    signals,
    streams,
    train,
)
from vocalsep.cli.common import ExtractCommand, OptionalValueCommand, report_error, stdout
from vocalsep.cli.group import SongsFirstGroup
from vocalsep.errors import VocalsepError, describe_error, is_about_memory
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
app.command(cls=ExtractCommand, rich_help_panel=_SONGS)(extract.extract)
app.command(rich_help_panel=_SONGS)(live.live)
app.command(rich_help_panel=_SONGS)(serve.serve)
app.add_typer(models.app, name="models", rich_help_panel=_SONGS)
app.command(rich_help_panel=_SONGS)(cluster.cluster)
app.add_typer(manifest.app, name="manifest", rich_help_panel=_SONGS)
app.command(rich_help_panel=_SONGS)(export.export)
app.command(rich_help_panel=_SONGS)(doctor.doctor)
app.command(rich_help_panel=_RESEARCH)(train.train)
app.command("eval", cls=OptionalValueCommand, rich_help_panel=_RESEARCH)(evaluate.evaluate)
app.add_typer(data.app, name="data", rich_help_panel=_RESEARCH)


def main() -> None:
    """Run the command ``vocalsep``."""
    streams.guard()
    with signals.end_on_signal():
        try:
            sys.exit(_run())
        finally:
            files.remove_unfinished()  # there is memory again


def _run() -> Any:
    """Run the command that the arguments name. Return its exit status.

    What the operating system refuses is no bug, wherever it comes up: a full disk, a name that is too long, memory.
    """
    status: Any = 0
    try:
        app()
    except SystemExit as end:
        status = end.code
    except (OSError, MemoryError, ImportError, RuntimeError) as error:
        if not (isinstance(error, OSError) or is_about_memory(error)):
            raise
        place = getattr(error, "filename", None)
        report_error(VocalsepError(f"{place}: {describe_error(error)}" if place else describe_error(error)))
        status = 1
    unwritten = streams.finish()
    if unwritten:
        report_error(VocalsepError(f"standard output: cannot be written ({unwritten})"))
    return status or int(bool(unwritten))


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
