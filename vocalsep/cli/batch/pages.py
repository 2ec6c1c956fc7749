"""The listening page of a call: one HTML file with all its songs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocalsep import files
from vocalsep.batches.jobs import PIPE, Job
from vocalsep.batches.work import Settings
from vocalsep.cli.batch import processes as running
from vocalsep.cli.batch.progress import Reporter
from vocalsep.cli.common import Misuse, parse_page
from vocalsep.errors import AudioError, describe_error
from vocalsep.remote import is_address

_MANY = "songs.html"  # the name of a page with several songs


@dataclass(frozen=True, kw_only=True)
class OpenPage:
    """A page that is not yet written.

    Attributes:
        path: The page.
        bundles: A temporary folder in which one bundle per song waits.
        arguments: The arguments of the call.
    """

    path: Path
    bundles: Path
    arguments: Sequence[str]

    def place_bundle(self, index: int) -> Path:
        """Return where the bundle of a song goes, by its position in the plan."""
        return self.bundles / f"{index}.zip"

    def write(self, jobs: Sequence[Job], reports: dict[int, dict[str, Any]]) -> bool:
        """Write the page, unless no song is done.

        Args:
            jobs: The plan of the call.
            reports: Reports of the songs that are done, by position in the plan.

        Returns:
            Whether the page was written.

        Raises:
            AudioError: If it cannot be written.
        """
        from vocalsep import listening
        from vocalsep.listening import facts

        command = shlex.join(["vocalsep", *self.arguments])
        songs = [
            listening.Song(
                name=Path(jobs[index].label).name,
                bundle=self.place_bundle(index),
                summary=facts.summarise(reports[index]),
                facts=facts.list_facts(reports[index]),
                command=command,
            )
            for index in sorted(reports)
        ]
        if not songs:
            return False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AudioError(f"{self.path}: cannot be written ({describe_error(error)})") from error
        listening.write_page(self.path, songs)
        return True


@contextlib.contextmanager
def open_page(path: Path, arguments: Sequence[str], *, overwrite: bool) -> Iterator[OpenPage]:
    """Check that a page can be written, and keep a temporary folder for its parts until the ``with`` block ends.

    Args:
        path: The page.
        arguments: The arguments of the call.
        overwrite: Whether an existing page may be replaced.

    Raises:
        AudioError: If a file is there already, or the folder is not writable.
    """
    if os.path.lexists(path) and not overwrite:
        raise AudioError(f"{path}: already exists; choose another page, or add --overwrite")
    folder = next(parent for parent in path.absolute().parents if files.is_folder(parent))
    if not os.access(folder, os.W_OK):
        raise AudioError(f"{path}: cannot be written (no permission to write to {folder})")
    with tempfile.TemporaryDirectory(prefix="vocalsep-", ignore_cleanup_errors=True) as bundles:
        yield OpenPage(path=path, bundles=Path(bundles), arguments=arguments)


def run_plan(
    opened: contextlib.AbstractContextManager[OpenPage],
    jobs: Sequence[Job],
    settings: Settings,
    processes: int,
    reporter: Reporter,
) -> None:
    """Run the jobs of a plan as `processes.run_plan` does, then write the page.

    Args:
        opened: Result of `open_page`.
        jobs: The plan.
        settings: How songs are separated.
        processes: Number of songs at a time.
        reporter: Gets all events, and the path of the page.
    """
    try:
        with opened as page:
            reports = reporter.keep_reports()
            with_bundles = [dataclasses.replace(job, bundle=page.place_bundle(index)) for index, job in enumerate(jobs)]
            running.run_plan(with_bundles, settings, processes, reporter)
            if page.write(jobs, reports):
                reporter.report_page(page.path)
    except AudioError as error:
        reporter.report_error(error)


def choose_path(place: str, jobs: Sequence[Job]) -> Path:
    """Return the path of the page.

    Args:
        place: What --page says: a file, a folder, or an empty string.
        jobs: The plan of the call.

    Raises:
        Misuse: If the page cannot be at this place.
    """
    if is_address(place):
        raise Misuse(f"--page {place}: must be a local file")
    page = parse_page(place)
    if page:
        return page
    outputs = [output for job in jobs for output in job.files]
    if not place and not outputs:
        raise Misuse("--page needs a path when there is no output file that it could go beside")
    folder = Path(place) if place else _find_common_folder(outputs)
    only = jobs[0].song if len(jobs) == 1 else PIPE
    return folder / (f"{only.stem}.html" if isinstance(only, Path) else _MANY)


def _find_common_folder(paths: Sequence[Path]) -> Path:
    """Return the folder that holds all paths, or else the current one."""
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # on different drives, or some relative and some absolute
        return Path()
