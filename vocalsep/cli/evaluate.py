"""``vocalsep eval``: score models and other separators on a data set."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from vocalsep.cli import signals, streams
from vocalsep.cli.common import (
    ARGUMENTS,
    ROOT_HELP,
    Dataset,
    Inversion,
    MasksFrom,
    complete_models,
    exit_on_error,
    make_choice_parser,
    parse_page,
    print_line,
    print_note,
    report_error,
    stderr,
    stdout,
    widen_for_tables,
)
from vocalsep.cores import count_cores
from vocalsep.errors import DatasetError, describe_error
from vocalsep.release import DEFAULT_MODEL, __version__
from vocalsep.text import escape

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from vocalsep.evaluation.report import Table


_DATA, _SCORED, _RUN = "Recordings", "What to score", "Run and results"


def evaluate(
    context: typer.Context,
    dataset: Annotated[Dataset, typer.Option(help="Data set to score on.", rich_help_panel=_DATA)],
    root: Annotated[Path | None, typer.Option(metavar="DIR", help=ROOT_HELP, rich_help_panel=_DATA)] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Split of the data set. dsd100 has test and dev; mir1k has test, train and drnn.",
            show_default="test",
            rich_help_panel=_DATA,
        ),
    ] = "",
    snr: Annotated[
        float | None,
        typer.Option(
            metavar="DB",
            help="Level of the voice relative to the accompaniment, in dB. Only for mir1k.",
            show_default="0",
            rich_help_panel=_DATA,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Score only the first N tracks.", rich_help_panel=_DATA)
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            metavar="MODEL",
            autocompletion=complete_models,
            help="Model name, file or folder of a run; A+B scores the mean of two. Repeatable.",
            show_default=f"{DEFAULT_MODEL}, unless you give --estimates",
            rich_help_panel=_SCORED,
        ),
    ] = None,
    estimates: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of vocals from another separator: TRACK/vocals.wav or TRACK.vocals.wav. Repeatable.",
            rich_help_panel=_SCORED,
        ),
    ] = None,
    inversion: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(get_args(Inversion)),
            parser=make_choice_parser(Inversion),
            help="How the models turn the masked spectrogram back into audio. Repeatable.",
            show_default="phase",
            rich_help_panel=_SCORED,
        ),
    ] = None,
    masks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(get_args(MasksFrom)),
            parser=make_choice_parser(MasksFrom),
            help="Where clustering models take their masks from. Repeatable.",
            show_default="auto",
            rich_help_panel=_SCORED,
        ),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate", help="Score each model without and with the gate of extract --gate.", rich_help_panel=_SCORED
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the scores, tables and plots.",
            show_default="scores/DATASET-SPLIT",
            rich_help_panel=_RUN,
        ),
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(
            metavar="[PATH]",
            help="Also write a web page with sortable scores, passages of each song to listen to, and blind tests: one "
            "HTML file that works offline. Without PATH, it goes into the --out folder.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Score N songs at once.", show_default="number of cores", rich_help_panel=_RUN
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as one JSON object.", rich_help_panel=_RUN)
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Hide the progress bar.", rich_help_panel=_RUN)] = False,
) -> None:
    """Score models and other separators on a data set.

    The tables include the unprocessed mixture as a lower bound, and ideal masks
    as upper bounds. They are also saved in the --out folder, with plots and the
    scores of every track. If you stop a run, the same command continues it.
    """
    named = parse_page(page or "")
    with exit_on_error():
        from vocalsep.datasets import layouts
        from vocalsep.evaluation import estimators, report, runs, songs, summary
        from vocalsep.evaluation import page as pages

        setup = songs.set_up(dataset, layouts.find_root(dataset, root), split, snr)
        chosen = models or ([] if estimates else [DEFAULT_MODEL])
        compared = estimators.list_estimators(
            chosen, inversion or ["phase"], estimates or [], masks or ["auto"], [False, True] if gate else [False]
        )
        level = f"{setup.snr_db:+g}dB" if setup.snr_db else ""
        folder = out or Path("scores") / f"{setup.dataset}-{setup.split}{level}"
        target = None if page is None else named or (Path(page) if page else folder) / "page.html"
        passages = folder / "passages" if target else None
        if target:
            pages.check_page(target)
        with _show_progress(quiet=quiet) as progress, _start_workers(jobs or count_cores()) as executor:
            lines, problems = runs.evaluate(
                setup, compared, folder, limit=limit, passages=passages, executor=executor, progress=progress
            )
        found = summary.summarise(lines, [estimator.name for estimator in compared])
        comparison = summary.compare(lines, [estimator.name for estimator in compared if estimator.is_compared])
        about = report.make_json(setup, found, comparison, problems, __version__)
        try:
            report.write_files(folder, setup, lines, found, comparison, about)
        except OSError as error:
            raise DatasetError(f"{error.filename or folder}: {describe_error(error)}") from error
        if target and passages and lines:
            run = pages.Run(
                setup=setup,
                estimators=compared,
                lines=lines,
                summary=found,
                passages=passages,
                version=__version__,
                command=shlex.join(["vocalsep", *context.meta[ARGUMENTS]]),
            )
            pages.write_page(target, run)
            if not quiet:
                print_note(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    if as_json:
        streams.write_object(sys.stdout, about)
    else:
        for table in report.make_tables(found, comparison):
            _print_table(table)
        print_line(folder)
        if target and lines:
            print_line(target)
    for problem in problems:
        report_error(DatasetError(str(problem)))
    if problems:
        raise typer.Exit(1)


def _print_table(table: Table) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(show_edge=False, pad_edge=False)
    for index, head in enumerate(table.head):
        grid.add_column(head, justify="right" if index else "left")
    for row in table.rows:
        grid.add_row(*map(Text, map(escape, row)))
    console = widen_for_tables(stdout)
    console.print(table.title, style="italic", soft_wrap=True)
    console.print(grid)
    console.print()


@contextmanager
def _show_progress(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar with the time left. Yields the function that updates it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, disable=quiet or not stderr.is_terminal) as bar:
        task = bar.add_task("scoring", total=None)
        yield lambda done, count: bar.update(task, completed=done, total=count)


@contextmanager
def _start_workers(jobs: int) -> Iterator[Executor | None]:
    """Start processes that score songs in parallel. With one job, yields None: this process then does the work."""
    if jobs == 1:
        yield None
        return
    from concurrent.futures import ProcessPoolExecutor

    executor = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_set_up_worker)
    try:
        yield executor
    except BaseException:  # stopped: the next run scores unfinished tracks again
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _set_up_worker() -> None:
    """Prepare a worker process: ignore Ctrl-C, and exit when the parent process ends."""
    signals.ignore_interrupts()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
