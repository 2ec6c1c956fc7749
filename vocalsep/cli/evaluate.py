"""``vocalsep eval``: scores that can be quoted."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vocalsep import files
from vocalsep.cli import signals
from vocalsep.cli.common import (
    Dataset,
    RootOption,
    count_cores,
    exit_on_error,
    report_error,
    stderr,
    stdout,
    widen_for_tables,
)
from vocalsep.cli.extract import InversionName, MasksFrom
from vocalsep.errors import DatasetError
from vocalsep.release import __version__

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from vocalsep.evaluation.report import Table


def evaluate(
    dataset: Annotated[Dataset, typer.Option(help="What to score on.")],
    root: RootOption = None,
    models: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", help="A model's name or weights file; give it again for more."),
    ] = None,
    estimates: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Files another separator wrote: TRACK/vocals.wav or TRACK.vocals.wav."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="dsd100: test (default), dev; mir1k: test (standard, default), drnn, train.")
    ] = "",
    snr: Annotated[
        float | None, typer.Option(metavar="DB", help="mir1k: level of the voice over the accompaniment; 0 by default.")
    ] = None,
    inversion: Annotated[
        list[InversionName] | None, typer.Option(help="The models' way from spectra to sound; phase by default.")
    ] = None,
    masks: Annotated[
        list[MasksFrom] | None, typer.Option(help="Where models that cluster take their masks from; auto by default.")
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Also score models with vocals that fade out where there is no voice.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder. Default: scores/<dataset>-<split>.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Songs at once; by default one to each core.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many tracks.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar.")] = False,
) -> None:
    """Score models and other separators' estimates, between the mixture (floor) and ideal masks (ceilings).

    Stopped and started again it goes on. --out gets a line per track, a summary, a CSV table and plots.
    """
    with exit_on_error():
        from vocalsep import weights
        from vocalsep.datasets import layouts
        from vocalsep.evaluation import report, rows, runs, songs, summary

        setup = songs.set_up(dataset, layouts.root_of(dataset, root), split, snr)
        chosen = models or ([] if estimates else [weights.DEFAULT_MODEL])
        ways = [way.value for way in inversion or [InversionName.PHASE]]
        sources = [source.value for source in masks or [MasksFrom.AUTO]]
        compared = rows.standard(chosen, ways, estimates or [], sources, [False, True] if gate else [False])
        level = f"{setup.snr_db:+g}dB" if setup.snr_db else ""
        folder = out or Path("scores") / f"{setup.dataset}-{setup.split}{level}"
        with _bar(quiet=quiet) as progress, _workers(jobs or count_cores()) as executor:
            lines, problems = runs.evaluate(setup, compared, folder, limit=limit, executor=executor, progress=progress)
        found = summary.summarise(lines, [row.name for row in compared])
        about = report.as_json(setup, found, problems, __version__)
        try:
            report.write(folder, setup, lines, found, about)
        except OSError as error:
            raise DatasetError(f"{error.filename or folder}: {error.strerror}") from error
    if as_json:
        sys.stdout.write(files.dump_json(about) + "\n")
    else:
        for table in report.tables(found):
            _tell(table)
        sys.stdout.write(f"{folder}\n")
    for problem in problems:
        report_error(DatasetError(str(problem)))
    if problems:
        raise typer.Exit(1)


def _tell(shown: Table) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(title=shown.title, title_justify="left", show_edge=False, pad_edge=False)
    for index, head in enumerate(shown.head):
        grid.add_column(head, justify="right" if index else "left")
    for row in shown.rows:
        grid.add_row(*map(Text, row))
    console = widen_for_tables(stdout)
    console.print(grid)
    console.print()


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left; yields the function that moves it."""
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
def _workers(jobs: int) -> Iterator[Executor | None]:
    """Processes that score side by side, or None to do it here."""
    if jobs == 1:
        yield None
        return
    from concurrent.futures import ProcessPoolExecutor

    executor = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread)
    try:
        yield executor
    except BaseException:  # stopped: what is half done is done again next time
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """Starts a worker: one thread, none that waits busily; its parent alone stops it, and takes it along if it dies."""
    signals.ignore_interrupts()
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    import torch

    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
