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

from vocalsep.cli.batch import processes as running
from vocalsep.cli.batch.inputs import PIPE
from vocalsep.cli.batch.plan import Job
from vocalsep.cli.batch.progress import Reporter
from vocalsep.cli.batch.work import Settings, place_bundle
from vocalsep.cli.common import Misuse
from vocalsep.errors import AudioError
from vocalsep.release import __version__
from vocalsep.remote import is_address

_EXTENSIONS = (".html", ".htm")
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

        command = shlex.join(["vocalsep", *self.arguments])
        songs = [
            listening.Song(
                name=Path(jobs[index].label).name,
                bundle=place_bundle(self.bundles, index),
                summary=_summarise(reports[index]),
                facts=list_facts(reports[index]),
                command=command,
            )
            for index in sorted(reports)
        ]
        if not songs:
            return False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AudioError(f"{self.path}: cannot be written ({error.strerror})") from error
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
    if path.exists() and not overwrite:
        raise AudioError(f"{path}: already exists; choose another page, or add --overwrite")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
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
            running.run_plan(jobs, dataclasses.replace(settings, bundles=page.bundles), processes, reporter)
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
    if place == PIPE:
        raise Misuse("--page needs a file; standard output is for sound")
    if is_address(place):
        raise Misuse(f"--page {place}: needs a local file")
    if "{" in place or "}" in place:
        raise Misuse(f"--page {place}: all songs go on one page, so its name has no fields in braces")
    path = Path(place)
    if place and not (path.is_dir() or place.endswith(("/", os.sep))):
        if path.suffix.lower() not in _EXTENSIONS:
            hint = "the name of a page ends in .html. To use the default name, put --page last"
            raise Misuse(f"--page {place}: {hint}")
        return path
    outputs = [output for job in jobs for output in job.files]
    if not place and not outputs:
        raise Misuse("--page needs a path when there is no output file that it could go beside")
    folder = path if place else _find_common_folder(outputs)
    only = jobs[0].song if len(jobs) == 1 else PIPE
    return folder / (f"{only.stem}.html" if isinstance(only, Path) else _MANY)


def _find_common_folder(paths: Sequence[Path]) -> Path:
    """Return the folder that holds all paths, or else the current one."""
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # on different drives, or some relative and some absolute
        return Path()


def _summarise(report: dict[str, Any]) -> str:
    voice = f"voice in {report['voice_share']:.0%} of the song" if report["voice"] else "no voice found"
    return f"{report['model']} · {voice}"


def _format_db(value: float) -> str:
    return f"{value:.1f} dB".replace("-", "\N{MINUS SIGN}")


def list_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a page tells about a song: labels and texts.

    Args:
        report: The fields of its `extraction.Report`.
    """
    speed = f"{report['times_real_time']:.0f} times real time ({report['taken_seconds']:.1f} s)"
    passages = "1 passage" if len(report["voice"]) == 1 else f"{len(report['voice'])} passages"
    facts = [
        ("Model", f"{report['model']}, vocalsep {__version__}"),
        ("Voice", f"{report['voice_share']:.0%} of the song, in {passages}" if report["voice"] else "none found"),
    ]
    if report["vocals_db"] is not None:
        facts.append(("Level of the vocals", f"{_format_db(report['vocals_db'])} relative to the song"))
    if report["cluster_confidence"] is not None:
        used = "used" if report["clusters_used"] else "not used"
        facts.append(("Clusters", f"confidence {report['cluster_confidence']:.2f}, {used}"))
    if report["clipped_samples"]:
        facts.append(("Clamped samples", f"{report['clipped_samples']:,}"))
    if report["gain_db"]:
        facts.append(("Gain of the files", _format_db(report["gain_db"])))
    return [*facts, ("Speed", speed), *(("Warning", warning) for warning in report["warnings"])]
