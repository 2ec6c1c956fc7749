"""Report the events of a call: results on stdout in the order of the plan, everything else on stderr as it happens.

`Reporter` prints results, warnings and errors. `ProgressBars` also draws a bar for each song. `JsonLines` writes all
events as JSON; docs/cli.md lists the fields, and scripts depend on them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from vocalsep.batches.events import Event, Finished, Progressed, Started, Warned
from vocalsep.batches.jobs import PIPE, Job
from vocalsep.cli import streams
from vocalsep.cli.batch.describing import (
    EventFormatter,
    describe_call,
    describe_song,
    format_line,
    format_result,
    list_warnings,
    name_outcome,
)
from vocalsep.cli.common import get_bar_console, print_line, print_note, report_error, report_warning, stderr
from vocalsep.errors import AudioError, VocalsepError
from vocalsep.text import escape

_NO_VOICE = "voice was found"  # in the warnings of `extraction.checks` about songs without a voice


class Reporter:
    """Prints results, warnings and errors. A context manager, which ends the report.

    If sound goes to stdout, JSON results go to stderr; without JSON, no paths are printed.

    Args:
        jobs: The plan.
        model: Name of the model.
        as_json: Whether to print a JSON object for each song rather than the paths of the written files.
        talkative: Whether to tell people on stderr about each song that is done, and how the call ended. Says nothing
            in a pipeline, where other programs use the terminal too.
        overwrite: Whether the call overwrites existing outputs, so that it cannot go on where it was stopped.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        model: str = "",
        *,
        as_json: bool = False,
        talkative: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.jobs, self.model, self._as_json, self._overwrite = jobs, model, as_json, overwrite
        self._sound_on_stdout = any(PIPE in job.outputs.values() for job in jobs)
        self._talkative = talkative and not any(job.uses_pipe for job in jobs)
        self._waiting: dict[int, dict[str, Any] | None] = {}  # reports of jobs that wait for others to be printed first
        self._printed = 0  # jobs at the start of the plan whose results, if any, are printed
        self._counts = dict.fromkeys(("done", "skipped", "failed"), 0)
        self._audio_seconds, self._failed_before = 0.0, 0
        self._kept: dict[int, dict[str, Any]] | None = None
        self._start_time = time.perf_counter()
        self._recorder: Callable[[Finished], None] | None = None
        self.failed = False
        self.page: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, VocalsepError):
            self.end()
        elif isinstance(error, KeyboardInterrupt | SystemExit):
            self.stop()

    def __call__(self, event: Event) -> None:
        """Report an event."""
        if isinstance(event, Started):
            self.on_started(event)
        elif isinstance(event, Progressed):
            self.on_progressed(event)
        elif isinstance(event, Warned):
            with self.hide_bars():
                self.on_warned(event)
        else:
            self._count(event)
            with self.hide_bars():
                self._record(event)
                self._print_results()  # first, because a reader of the event may stop the call
                self.on_finished(event)

    def _count(self, event: Finished) -> None:
        self.failed = self.failed or bool(event.error)
        self._counts[name_outcome(event)] += 1
        self._failed_before += event.skipped == "failed"
        self._waiting[event.index] = event.report
        if event.report:
            self._audio_seconds += event.report["audio_seconds"]
            if self._kept is not None:
                self._kept[event.index] = event.report

    def record_with(self, recorder: Callable[[Finished], None]) -> None:
        """Call a function with the outcome of each song. An error of it is reported, and the work goes on."""
        self._recorder = recorder

    def _record(self, event: Finished) -> None:
        try:
            if self._recorder:
                self._recorder(event)
        except VocalsepError as error:
            self.report_error(error)

    def report_error(self, error: VocalsepError) -> None:
        """Report an error that concerns the call rather than one song."""
        self.failed = True
        report_error(error)

    def on_started(self, event: Started) -> None:
        """Report that work on a song starts."""

    def on_progressed(self, event: Progressed) -> None:
        """Report how much of a song is done."""

    def on_warned(self, event: Warned) -> None:
        """Report a warning."""
        report_warning(event.message)

    def on_finished(self, event: Finished) -> None:
        """Report the outcome of a song, except for its results."""
        if event.trace:
            sys.stderr.write("".join(f"{escape(line)}\n" for line in event.trace.splitlines()))
        if event.error:
            report_error(AudioError(event.error))
        described = event.report is not None and self._talkative and not self._as_json
        if event.report and described:
            print_note(describe_song(event.report))
        if event.skipped == "claimed" and self._talkative:
            print_note(f"{self.jobs[event.index].label}: skipped; another call is working on it")
        for text in list_warnings(event.report) if event.report else ():
            if not (described and _NO_VOICE in text):  # the line has just said so
                report_warning(text)

    def end(self) -> None:
        """Report that the call is over."""
        if self._talkative and len(self.jobs) > 1:
            taken = time.perf_counter() - self._start_time
            print_note(describe_call(self._counts, self._audio_seconds, taken))
        if self._failed_before and self._talkative:
            print_note(
                f"{self._failed_before} of the skipped songs failed before; to try them again, add --retry-failed"
            )

    def stop(self) -> None:
        """Report that a signal stops the call, and how to go on."""
        if not self._talkative:
            return
        counts = self._counts
        done, total = counts["done"] + counts["skipped"], len(self.jobs)
        text = f"stopped after {done} of {total} songs" if total > 1 else "stopped; no file was written"
        how = "" if self._recorder else " with --skip-existing"
        hint = "" if self._overwrite or total == 1 else f"; to go on, repeat the command{how}"
        report_warning(text + hint)

    @contextmanager
    def hide_bars(self) -> Iterator[None]:
        """Hide any progress bars while the ``with`` block prints lines."""
        yield

    def keep_reports(self) -> dict[int, dict[str, Any]]:
        """Keep the reports of songs that are done, from now on. Return them by their positions in the plan."""
        self._kept = {}
        return self._kept

    def report_page(self, path: Path) -> None:
        """Report that the listening page is written."""
        self.page = path
        stream = self._choose_stream()
        if stream:
            stream.write(format_line({"page": str(path)}) if self._as_json else f"{escape(path)}\n")
            stream.flush()

    def _print_results(self) -> None:
        while self._printed in self._waiting:
            report = self._waiting.pop(self._printed)
            self._printed += 1
            stream = self._choose_stream()
            if report and stream:
                stream.write(format_result(report, as_json=self._as_json))
                stream.flush()

    def _choose_stream(self) -> TextIO | None:
        """Return where results go."""
        if self._talkative and not self._as_json and stderr.is_terminal and sys.stdout.isatty():
            return None  # people have just read the names on the same screen
        if not self._sound_on_stdout:
            return sys.stdout
        return sys.stderr if self._as_json else None


class ProgressBars(Reporter):
    """Also draws a progress bar for each song in progress, and one for the whole call if there are several songs."""

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
        )
        console = get_bar_console()
        # stdout is not redirected: it may be a file, and results belong there
        self._progress = Progress(
            *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._bars: dict[int, Any] = {}
        self._total = self._progress.add_task(self._count_songs(), total=len(self.jobs), visible=len(self.jobs) > 1)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        super().__exit__(kind, error, trace)

    def on_started(self, event: Started) -> None:
        """Draw a bar."""
        job = self.jobs[event.index]
        name = job.label if job.song == PIPE else job.song.name
        self._bars[event.index] = self._progress.add_task(escape(name), total=event.seconds)

    def on_progressed(self, event: Progressed) -> None:
        """Move the bar of a song."""
        self._progress.update(self._bars[event.index], completed=event.seconds)

    def on_finished(self, event: Finished) -> None:
        """Remove the bar of a song, and move the bar of the call."""
        if event.index in self._bars:
            self._progress.remove_task(self._bars.pop(event.index))
        self._progress.update(self._total, completed=sum(self._counts.values()), description=self._count_songs())
        super().on_finished(event)

    def _count_songs(self) -> str:
        return f"{sum(self._counts.values())} of {len(self.jobs)} songs"

    @contextmanager
    def hide_bars(self) -> Iterator[None]:
        """Hide the bars during the ``with`` block."""
        self._progress.stop()
        yield
        self._progress.start()


class JsonLines(Reporter):
    """Writes all events to stderr as JSON, one object per line."""

    def __enter__(self) -> Self:
        self._formatter = EventFormatter()
        self._write("start", songs=len(self.jobs), model=self.model)
        return super().__enter__()

    def report_error(self, error: VocalsepError) -> None:
        """Write an error that concerns the call rather than one song."""
        self.failed = True
        self._write("error", message=str(error))

    def __call__(self, event: Event) -> None:
        """Write an event."""
        if isinstance(event, Finished):
            super().__call__(event)  # results go first, because a reader of the event may stop the call
        else:
            self._write_event(event)

    def on_finished(self, event: Finished) -> None:
        """Write the outcome of a song."""
        self._write_event(event)

    def _write_event(self, event: Event) -> None:
        for name, values in self._formatter.format(event):
            of = {"of": len(self.jobs)} if name == "song" else {}
            self._write(name, event.index, **of, **values)

    def stop(self) -> None:
        """Write nothing: readers see that "end" is missing."""

    def end(self) -> None:
        """Write the number of songs for each outcome."""
        taken = round(time.perf_counter() - self._start_time, 3)
        page: dict[str, Any] = {"page": str(self.page)} if self.page else {}
        self._write("end", **self._counts, taken_seconds=taken, **page)

    def _choose_stream(self) -> TextIO | None:
        """Return where results go. On stderr, they would repeat the "done" events."""
        return None if self._sound_on_stdout else sys.stdout

    def _write(self, name: str, index: int | None = None, **values: Any) -> None:
        about = {} if index is None else {"song": str(self.jobs[index].song), "index": index + 1}
        streams.write_object(sys.stderr, {"event": name} | about | values)


def choose_reporter(progress: str, jobs: Sequence[Job], *, verbose: bool) -> type[Reporter]:
    """Return the reporter that --progress asks for. In a pipeline, auto leaves the terminal to the other programs.

    Args:
        progress: The value of --progress.
        jobs: The plan of the call.
        verbose: Whether people want to see progress.
    """
    if progress == "json":
        return JsonLines
    if not verbose:
        return Reporter
    automatic = stderr.is_terminal and not any(job.uses_pipe for job in jobs)
    return ProgressBars if progress == "bar" or automatic else Reporter


def report_plan(jobs: Sequence[Job], reporter: Reporter, *, as_json: bool) -> None:
    """Print what a call would do, without doing it."""
    for index, job in enumerate(jobs):
        outputs = {stem: str(path) for stem, path in job.outputs.items()}
        if job.refusal:
            reporter(Finished(index=index, error=job.refusal))
        elif as_json:
            sys.stdout.write(format_line({"input": str(job.song), "outputs": outputs, "skipped": bool(job.skipped)}))
        elif job.is_pending:
            print_line(f"{job.song} -> {', '.join(outputs.values())}")
