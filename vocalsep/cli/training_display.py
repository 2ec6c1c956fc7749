"""Show how far a training is: lines for people, with a live bar on terminals, or JSON for programs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from vocalsep.cli import streams
from vocalsep.cli.common import get_bar_console, stderr
from vocalsep.errors import VocalsepError
from vocalsep.text import escape

if TYPE_CHECKING:
    from vocalsep.training import Status


class Silent:
    """Shows nothing. The base of the other displays; a context manager around the training."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear what is drawn."""

    def report(self, line: str) -> None:
        """Show a line."""

    def show_step(self, status: Status) -> None:
        """Show how far the training is after a step."""

    def end(self, weights: Path, *, was_stopped: bool) -> None:
        """Show how the training ended."""


class Lines(Silent):
    """Prints each line on stderr."""

    def report(self, line: str) -> None:
        """Print a line."""
        stderr.print(escape(line), markup=False)


class Bar(Lines):
    """Also draws a bar with loss, SNR and time left. It appears with the first step."""

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
        self._console = get_bar_console()
        # stdout is not redirected: it may be a file, and results belong there
        self._progress = Progress(
            *columns,
            TextColumn("{task.fields[left]}", markup=False),
            console=self._console,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: Any = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""
        self._progress.stop()

    def report(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(escape(line), markup=False, highlight=False, soft_wrap=True)

    def show_step(self, status: Status) -> None:
        """Move the bar."""
        values: dict[str, Any] = {"description": describe_step(status), "left": describe_time_left(status.seconds_left)}
        if self._task is None:
            self._task = self._progress.add_task(total=1.0, **values)
            self._progress.start()
        self._progress.update(self._task, completed=status.share, **values)


class JsonLines(Silent):
    """Writes each event to stderr as JSON, one object per line."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the error that ends the training, if any, and exit."""
        if isinstance(error, VocalsepError):
            self._write("error", message=str(error))
            raise typer.Exit(1) from error

    def report(self, line: str) -> None:
        """Write a line."""
        self._write("message", message=line)

    def show_step(self, status: Status) -> None:
        """Write how far the training is."""
        self._write(
            "step",
            step=status.step,
            loss=round(status.loss, 6),
            snr_db=None if status.snr_db is None else round(status.snr_db, 3),
            share=round(status.share, 4),
            left_seconds=round(status.seconds_left, 1),
        )

    def end(self, weights: Path, *, was_stopped: bool) -> None:
        """Write where the weights are."""
        self._write("end", weights=str(weights), stopped=was_stopped)

    def _write(self, name: str, **values: Any) -> None:
        streams.write_object(sys.stderr, {"event": name} | values)


def choose(progress: str) -> Silent:
    """Return the display that ``--progress`` asks for."""
    if progress == "auto":
        return Bar() if stderr.is_terminal else Lines()
    kinds: dict[str, type[Silent]] = {"bar": Bar, "json": JsonLines, "none": Silent}
    return kinds[progress]()


def describe_step(status: Status) -> str:
    """Describe a step in a few words."""
    snr = "" if status.snr_db is None else f", SNR {status.snr_db:.1f} dB"
    return f"step {status.step:,}, loss {status.loss:.4f}{snr}"


def describe_time_left(seconds: float) -> str:
    """Describe a time left in two units at most."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min left"
    return f"{seconds // 60} min {seconds % 60:02d} s left" if seconds >= 60 else f"{seconds} s left"
