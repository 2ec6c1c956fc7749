"""The command ``vocalsep`` itself: it extracts if its first argument is no command."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from vocalsep.cli import hints
from vocalsep.text import escape

_DEFAULT = "extract"
_UsageError: type[Any] = typer.BadParameter.__bases__[0]  # Typer does not export it


class SongsFirstGroup(TyperGroup):
    """A group of commands that calls ``extract`` when its arguments begin with a song or with an option of extract."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the command ``extract`` where it is meant, then parse as usual."""
        with _escape_errors():
            return self._parse(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _escape_errors():
            return super().invoke(ctx)

    def _parse(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_DEFAULT, *args] if args and self._means_extract(ctx, args[0]) else args)

    def _means_extract(self, ctx: Any, first: str) -> bool:
        if first in self.commands:
            return False
        if first.startswith("-"):
            return first.partition("=")[0] not in {name for option in self.get_params(ctx) for name in option.opts}
        return looks_like_song(first)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command. If there is none, say what to type instead."""
        try:
            return super().resolve_command(ctx, args)
        except _UsageError as error:
            if args[0] in hints.COMMANDS or (args[0] not in self.commands and "Did you mean" not in error.message):
                error.message = hints.explain_command(args[0])
            raise

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command whose help shows no type for options that take no value."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _hide_flag_types(command, ctx)
        return command

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of the group, without a type for those that take no value."""
        params = super().get_params(ctx)
        _hide_types(params)
        return params


@contextlib.contextmanager
def _escape_errors() -> Iterator[None]:
    """Escape what the user or the file system has put into the message of a usage error."""
    try:
        yield
    except _UsageError as error:
        error.message = escape(error.message)
        raise


def looks_like_song(text: str) -> bool:
    """Return whether a word can only be a song, rather than a mistyped command."""
    named = "/" in text or os.sep in text or Path(text).suffix
    return bool(named or os.path.lexists(text) or glob.has_magic(text))


def _hide_flag_types(command: Any, ctx: Any) -> None:
    _hide_types(command.get_params(ctx))
    for name in getattr(command, "commands", ()):
        _hide_flag_types(command.commands[name], ctx)


def _hide_types(params: list[Any]) -> None:
    """Show nothing, rather than "<bool>", beside options that take no value."""
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
