"""The table at the end of a call with several songs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from vocalsep.cli.batch.events import Ended
from vocalsep.cli.batch.plan import Job
from vocalsep.cli.common import one_line

ROWS = 100  # of more songs only those that failed have one


def table(jobs: Sequence[Job], ended: Mapping[int, Ended], taken_seconds: float) -> Table:
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
    return [Text(one_line(cell)) for cell in (str(job.song), *cells)]
