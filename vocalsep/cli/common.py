"""What the commands share: consoles, common options, and how an expected error is told."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from typer.core import TyperCommand

from vocalsep.errors import VocalsepError

_STDERR = 2  # its number

stderr = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
stdout = Console(highlight=False, soft_wrap=True, emoji=False)


TABLE_WIDTH = 120  # in files and pipes


def widen_for_tables(console: Console) -> Console:
    """The same console, with room for a table where it is no terminal, which rich takes to be 80 columns wide."""
    if console.is_terminal:
        return console
    return Console(stderr=console.stderr, width=TABLE_WIDTH, highlight=False, emoji=False)


Device = Literal["auto", "cpu", "cuda"]
Dataset = Literal["dsd100", "mir1k", "stems"]


DEVICE_HELP = "Where to compute; auto takes CUDA if there is one."
DeviceOption = Annotated[Device, typer.Option(help=DEVICE_HELP)]
RootOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of --dataset. Default: what VOCALSEP_DSD100, _MIR1K, ... names."),
]


_OPTIONAL = ("--accompaniment", "--labels")


class OptionalValueCommand(TyperCommand):
    """A command some of whose options may stand without a value, which then is empty."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Gives a bare option its empty value."""
        filled = list(args)
        for index, argument in enumerate(args):
            follower = args[index + 1] if index + 1 < len(args) else "--"
            if argument in _OPTIONAL and follower.startswith("-") and follower != "-":
                filled[index] = f"{argument}="
        return super().parse_args(ctx, filled)


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turns an expected error into one line on stderr and exit status 1."""
    try:
        yield
    except VocalsepError as error:
        report_error(error)
        raise typer.Exit(1) from error


@contextmanager
def silence_c_libraries() -> Iterator[None]:
    """Keeps stderr for Python: libraries in C write to it what they think of damaged files (libmpg123 does)."""
    before = sys.stderr
    try:
        is_stderr = before.fileno() == _STDERR
    except (OSError, ValueError):  # a stand-in
        is_stderr = False
    if not is_stderr:
        yield
        return
    before.flush()
    kept = os.dup(_STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    with open(kept, "w", buffering=1, encoding=before.encoding, errors=before.errors, closefd=False) as ours:
        sys.stderr = ours
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(kept, _STDERR)
            os.close(kept)


def report_error(error: VocalsepError) -> None:
    """Prints an error, one line, to stderr."""
    stderr.print(f"vocalsep: {one_line(str(error))}", style="red", markup=False)


def report_warning(text: str) -> None:
    """Prints what went wrong without harm, one line, to stderr."""
    stderr.print(f"vocalsep: {one_line(text)}", style="yellow", markup=False)


def one_line(text: str) -> str:
    """Text with its control characters spelt out: names of files may have line ends, and worse, in them."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: found.group().encode("unicode_escape").decode(), text)
