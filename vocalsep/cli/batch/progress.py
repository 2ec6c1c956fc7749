"""What is told of the work: results on stdout in the order of the plan, all else on stderr when it happens.

`Teller` tells results and complaints. `Bars` draws as well how far the songs are, and `Lines` tells everything as JSON
(the contract stands in docs/usage.md).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vocalsep import files
from vocalsep.cli.batch.plan import Job
from vocalsep.cli.batch.work import Begun, Ended, Event, Moved
from vocalsep.cli.common import escape_controls, report_error, report_warning, stderr, widen_for_tables
from vocalsep.errors import AudioError, VocalsepError

_WRITTEN = ("vocals", "accompaniment", "labels")  # files that a report names


class Teller:
    """Tells of a call. A context manager: the end is told when it is left normally.

    Args:
        jobs: The plan.
        model: Name of the model.
        as_json: Whether results are JSON objects, and not the written paths.
        summary: Whether a table stands at the end, where there are several songs.
    """

    def __init__(self, jobs: Sequence[Job], model: str = "", *, as_json: bool = False, summary: bool = False) -> None:
        self.jobs, self.model, self._as_json, self._summary = jobs, model, as_json, summary
        self._ended: dict[int, Ended] = {}
        self._written = 0  # songs of the plan whose results are on stdout, if they have any
        self._started = time.perf_counter()
        self.failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, VocalsepError):
            self.end()

    def __call__(self, event: Event) -> None:
        """Tells of an event."""
        if isinstance(event, Begun):
            self.begun(event)
        elif isinstance(event, Moved):
            self.moved(event)
        else:
            self._ended[event.index] = event
            self.failed = self.failed or bool(event.error)
            with self.aside():
                self._write()  # first: who is told that a song is done may stop the call
                self.ended(event)

    def report_error(self, error: VocalsepError) -> None:
        """Tells what is wrong with the call, and with no song in particular."""
        self.failed = True
        report_error(error)

    def begun(self, event: Begun) -> None:
        """Tells that a song is begun."""

    def moved(self, event: Moved) -> None:
        """Tells how far a song is."""

    def ended(self, event: Ended) -> None:
        """Tells what became of a song, but for its results."""
        if event.trace:
            sys.stderr.write(event.trace)
        if event.error:
            report_error(AudioError(event.error))
        for text in remarks(event.report) if event.report else ():
            report_warning(text)

    def end(self) -> None:
        """Tells that all is over."""
        if self._summary and len(self.jobs) > 1:
            table = summary_table(self.jobs, self._ended, time.perf_counter() - self._started)
            widen_for_tables(stderr).print(table)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Room for lines between what is drawn."""
        yield

    def outcomes(self) -> dict[str, int]:
        """How many songs there are of each outcome."""
        counts = dict.fromkeys(("done", "skipped", "failed"), 0)
        for event in self._ended.values():
            counts[outcome(event)] += 1
        return counts

    def _write(self) -> None:
        while self._written in self._ended:
            report = self._ended[self._written].report
            self._written += 1
            if report:
                sys.stdout.write(result(report, as_json=self._as_json))
                sys.stdout.flush()


class Bars(Teller):
    """Tells with bars: one for each song at work, and one for all songs where there are several."""

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
        )
        console = stderr if stderr.is_terminal else Console(stderr=True, force_terminal=True, emoji=False)
        # stdout is not redirected: it may be a file, and results belong there
        self._bar = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        self._songs: dict[int, Any] = {}
        self._all = self._bar.add_task("", total=len(self.jobs), visible=len(self.jobs) > 1)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        super().__exit__(kind, error, trace)

    def begun(self, event: Begun) -> None:
        """Draws a bar."""
        name = escape_controls(self.jobs[event.index].song.name)
        self._songs[event.index] = self._bar.add_task(name, total=event.seconds)

    def moved(self, event: Moved) -> None:
        """Moves it."""
        self._bar.update(self._songs[event.index], completed=event.seconds)

    def ended(self, event: Ended) -> None:
        """Takes it away."""
        if event.index in self._songs:
            self._bar.remove_task(self._songs.pop(event.index))
        count = len(self._ended)
        self._bar.update(self._all, completed=count, description=f"{count} of {len(self.jobs)} songs")
        super().ended(event)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Takes the bars away meanwhile."""
        self._bar.stop()
        yield
        self._bar.start()


class Lines(Teller):
    """Tells everything on stderr as JSON, an object a line."""

    def __enter__(self) -> Self:
        self._lengths: dict[int, float | None] = {}
        self._line("start", songs=len(self.jobs), model=self.model)
        return super().__enter__()

    def report_error(self, error: VocalsepError) -> None:
        """Tells what is wrong with the call."""
        self.failed = True
        self._line("error", message=str(error))

    def begun(self, event: Begun) -> None:
        """Tells that a song is begun."""
        self._lengths[event.index] = event.seconds and round(event.seconds, 3)
        self._line("song", event.index, of=len(self.jobs), seconds=self._lengths[event.index])

    def moved(self, event: Moved) -> None:
        """Tells how far a song is."""
        self._line("progress", event.index, seconds=round(event.seconds, 3), of=self._lengths[event.index])

    def ended(self, event: Ended) -> None:
        """Tells what became of a song."""
        self._lengths.pop(event.index, None)
        for text in remarks(event.report) if event.report else ():
            self._line("warning", event.index, message=text)
        more: dict[str, Any] = {"report": arranged(event.report)} if event.report else {}
        if event.error:
            more = {"error": event.error} | ({"traceback": event.trace} if event.trace else {})
        self._line("done", event.index, outcome=outcome(event), **more)

    def end(self) -> None:
        """Tells the counts."""
        self._line("end", **self.outcomes(), taken_seconds=round(time.perf_counter() - self._started, 3))

    def _line(self, name: str, index: int | None = None, **values: Any) -> None:
        about = {} if index is None else {"song": str(self.jobs[index].song), "index": index + 1}
        with contextlib.suppress(OSError):  # work goes on where nobody listens
            sys.stderr.write(as_line({"event": name} | about | values))
            sys.stderr.flush()


def tell_plan(jobs: Sequence[Job], teller: Teller, *, as_json: bool) -> None:
    """Tells what would be done, and computes nothing."""
    for index, job in enumerate(jobs):
        outputs = {stem: str(path) for stem, path in job.outputs.items()}
        if job.refusal:
            teller(Ended(index=index, error=job.refusal))
        elif as_json:
            sys.stdout.write(as_line({"input": str(job.song), "outputs": outputs, "skipped": job.skipped}))
        elif job.is_open:
            sys.stdout.write(f"{job.song} -> {', '.join(outputs.values())}\n")


def outcome(event: Ended) -> str:
    """In a word, what became of a song."""
    if event.report:
        return "done"
    return "failed" if event.error else "skipped"


def remarks(report: dict[str, Any]) -> list[str]:
    """What a user should know of a song that is done."""
    told = list(report["warnings"])
    song, clipped, gain_db = (report[key] for key in ("input", "clipped_samples", "gain_db"))
    if clipped:
        clamped = f"{clipped} samples beyond full scale were put to it; --clip scale or --subtype float"
        told.append(f"{song}: {clamped} keeps them")
    if gain_db:
        told.append(f"{song}: the outputs are scaled by {gain_db} dB to stay within full scale")
    return told


def arranged(report: dict[str, Any]) -> dict[str, Any]:
    """A report with its outputs by stem."""
    values = dict(report)
    outputs = {stem: values.pop(stem) for stem in _WRITTEN}
    return values | {"outputs": {stem: path for stem, path in outputs.items() if path}}


def as_line(values: dict[str, Any]) -> str:
    """A JSON object on a line."""
    return files.dump_json(values) + "\n"


def result(report: dict[str, Any], *, as_json: bool) -> str:
    """What stdout gets of a song that is done: its report as JSON, or the paths written."""
    if as_json:
        return as_line(arranged(report))
    return "".join(f"{report[stem]}\n" for stem in _WRITTEN if report[stem])


ROWS = 100  # of more songs only those that failed have one


def summary_table(jobs: Sequence[Job], ended: Mapping[int, Ended], taken_seconds: float) -> Table:
    """Makes the table.

    Args:
        jobs: The plan.
        ended: What became of its songs, by their place in it.
        taken_seconds: Time that everything took together.
    """
    grid = Table(show_edge=False, pad_edge=False, show_footer=True)
    events = list(ended.values())
    reports = [event.report for event in events if event.report]
    seconds = sum(report["audio_seconds"] for report in reports)
    failed = sum(bool(event.error) for event in events)
    counts = f"{len(reports)} done, {len(events) - len(reports) - failed} skipped, {failed} failed"
    grid.add_column("song", f"{len(jobs)} songs", overflow="fold", ratio=3)
    grid.add_column("seconds", f"{seconds:.1f}", justify="right")
    grid.add_column("x real time", f"{seconds / taken_seconds:.1f}" if reports else "", justify="right")
    grid.add_column("voice", justify="right")
    grid.add_column("outcome", counts, overflow="fold", ratio=2)
    for index in sorted(ended):
        if len(jobs) <= ROWS or ended[index].error:
            grid.add_row(*_row(jobs[index], ended[index]))
    return grid


def _row(job: Job, event: Ended) -> list[Text]:
    cells = ["", "", "", "skipped"]
    if event.report:
        share = f"{event.report['voice_share']:.0%}"
        cells = [f"{event.report['audio_seconds']:.1f}", f"{event.report['times_real_time']:.1f}", share, "done"]
    elif event.error:
        cells[-1] = f"failed: {event.error.removeprefix(f'{job.song}: ')}"
    return [Text(escape_controls(cell)) for cell in (str(job.song), *cells)]
