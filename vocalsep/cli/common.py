"""What the commands share: consoles, common options and error reports."""

from __future__ import annotations

import importlib.resources
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from rich.console import Console
from typer.core import TyperCommand

from vocalsep import files
from vocalsep.cli import hints
from vocalsep.errors import VocalsepError
from vocalsep.text import escape

TABLE_WIDTH = 120  # of a table in a file or pipe, in characters

_OPTIONAL_VALUES = ("--accompaniment", "--labels", "--picture", "--page")
_PAGES = (".html", ".htm")

ARGUMENTS = "vocalsep.arguments"
"""Where the context keeps the arguments as the user wrote them."""

stderr = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
stdout = Console(highlight=False, soft_wrap=True, emoji=False)

Device = Literal["auto", "cpu", "cuda"]
Dataset = Literal["dsd100", "mir1k", "stems"]
Inversion = Literal["phase", "griffin-lim", "griffin-lim-phase"]
MasksFrom = Literal["auto", "net", "clusters"]

DEVICE_HELP = "Device to run on. auto uses CUDA when available."
ROOT_HELP = "Folder of the data set. The default comes from the environment: VOCALSEP_DSD100, VOCALSEP_MIR1K, ..."
RootOption = Annotated[Path | None, typer.Option(metavar="DIR", help=ROOT_HELP)]


class Misuse(typer.BadParameter):
    """Options or arguments that make no sense. Exit status 2."""

    def format_message(self) -> str:
        """Return the message without Typer's "Invalid value:", because it says what is wrong with which value."""
        return str(self.message)


def get_bar_console() -> Console:
    """Return the console for progress bars. It draws them even if stderr is no terminal, because the user asked."""
    return stderr if stderr.is_terminal else Console(stderr=True, force_terminal=True, emoji=False)


def widen_for_tables(console: Console) -> Console:
    """Return a console that is wide enough for tables.

    Rich assumes 80 columns when the output is a file or a pipe. Terminals keep their own width.
    """
    if console.is_terminal:
        return console
    return Console(stderr=console.stderr, width=TABLE_WIDTH, highlight=False, emoji=False)


class OptionalValueCommand(TyperCommand):
    """A command with options that also work without a value, such as a bare ``--accompaniment``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give each bare option an empty value, then parse as usual."""
        ctx.meta[ARGUMENTS] = [ctx.info_name, *args]
        filled = list(args)
        for index, argument in enumerate(args):
            follower = args[index + 1] if index + 1 < len(args) else "--"
            if argument in _OPTIONAL_VALUES and follower.startswith("-") and follower != "-":
                filled[index] = f"{argument}="
        return super().parse_args(ctx, filled)


class ExtractCommand(OptionalValueCommand):
    """The command that separates songs. It knows what options are called elsewhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and add a hint to the error about an unknown option."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            hints.explain_option(error)
            raise


def parse_page(place: str) -> Path | None:
    """Return the page that an option names; None if it names a folder, or nothing.

    Args:
        place: A file, a folder, or an empty string.

    Raises:
        Misuse: If a page cannot have this name.
    """
    if place == "-":
        raise Misuse("--page needs a file; it cannot go to standard output")
    if "{" in place or "}" in place:
        raise Misuse(f"--page {place}: all songs go on one page, so its name has no fields in braces")
    path = Path(place)
    if not place or files.is_folder(path) or place.endswith(("/", os.sep)):
        return None
    if path.suffix.lower() not in _PAGES:
        raise Misuse(f"--page {place}: the name of a page ends in .html. To use the default name, put --page last")
    return path


def make_choice_parser(choices: Any) -> Callable[[str], str]:
    """Make a parser for a repeatable option with a fixed set of values. Typer does not support a list of Literals.

    Args:
        choices: A Literal with the values.
    """

    def parse(value: str) -> str:
        if value not in get_args(choices):
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(map(repr, get_args(choices)))}.")
        return value

    return parse


def complete_models(incomplete: str) -> list[str]:
    """Return the names of models that begin with what was typed, for the shell."""
    from vocalsep import library

    return sorted(name for name in library.find_models() if name.startswith(incomplete))


def complete_presets(incomplete: str) -> list[str]:
    """Return the names of presets that begin with what was typed, for the shell."""
    presets = importlib.resources.files("vocalsep") / "presets"
    names = (Path(entry.name).stem for entry in presets.iterdir() if entry.name.endswith(".toml"))
    return sorted(name for name in names if name.startswith(incomplete))


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Report an expected error in one line on stderr and exit with status 1."""
    try:
        yield
    except VocalsepError as error:
        report_error(error)
        raise typer.Exit(1) from error


def report_error(error: VocalsepError) -> None:
    """Print an error to stderr, in one line."""
    stderr.print(f"vocalsep: {escape(error)}", style="red", markup=False)


def report_warning(text: str) -> None:
    """Print a warning to stderr, in one line."""
    stderr.print(f"vocalsep: {escape(text)}", style="yellow", markup=False)


def print_line(text: object) -> None:
    """Print a text to stdout, in one line whatever it holds."""
    sys.stdout.write(f"{escape(text)}\n")


def print_note(text: object) -> None:
    """Print a text to stderr, in one line whatever it holds. Rich would print it twice if Ctrl-C came in the middle."""
    sys.stderr.write(f"{escape(text)}\n")
