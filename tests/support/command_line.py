"""Run the command line in tests, in this process or in another, and read its output."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer.testing
from typer.testing import CliRunner, Result

import vocalsep
from vocalsep.cli import app

SOURCE = Path(vocalsep.__file__).parents[1]
typer.testing._get_command = functools.cache(typer.testing._get_command)  # it builds all commands anew for each call


def run(*arguments: str | Path, stdin: str | bytes = "") -> Result:
    """Run ``vocalsep`` with these arguments and this standard input in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def make_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process that can import the package, with these variables too."""
    return os.environ | {"PYTHONPATH": str(SOURCE)} | variables


@contextmanager
def receiving_ctrl_c() -> Iterator[None]:
    """Start processes that receive Ctrl-C even if it is ignored here, as under nohup or in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def read_objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a text with one object per line."""
    return [json.loads(line) for line in text.splitlines()]


def run_python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in its own process, as a user does."""
    environment = make_environment(PYTHONIOENCODING="utf-8")
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, check=False)


def read_error(result: Result) -> str:
    """Return the single line of an expected failure."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("vocalsep: ")
    return lines[0].removeprefix("vocalsep: ")


class WrappedText(str):
    """A text that was wrapped anywhere, even inside long paths. ``in`` therefore ignores white space."""

    __slots__ = ()

    def __contains__(self, part: str) -> bool:
        return "".join(part.split()) in "".join(self.split())


def read_misuse(result: Result) -> WrappedText:
    """Return the error message for wrong usage, without its frame and line breaks."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    return WrappedText(" ".join(result.stderr.replace("│", " ").split()))


def list_files(folder: Path) -> list[str]:
    """List everything in a folder and its subfolders, including hidden files."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
