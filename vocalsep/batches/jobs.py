"""A job: one song, and the outputs to make of it."""

from __future__ import annotations

import dataclasses
import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from vocalsep import files
from vocalsep.audio.formats import SUFFIXES
from vocalsep.claims import File
from vocalsep.remote import Remote

PIPE: Final = "-"
Place = File | Literal["-"]
"""A file, or `PIPE`: standard input for a song, standard output for an output."""

LABELS, PICTURE = "labels", "picture"
EXTENSIONS: Final = {LABELS: "txt", PICTURE: "png"}
"""File extensions of the outputs that are no recordings, by stem."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One song to process.

    Attributes:
        song: The recording.
        outputs: Where each output goes, by stem.
        id: What a manifest calls the song: its path relative to the folder that was searched, or as given.
        refusal: Why vocalsep refuses the job; empty if it accepts the job.
        skipped: Why vocalsep skips the job: "exists" if all its outputs exist, "failed" if it failed in an earlier
            call; empty if vocalsep does not skip it.
        bundle: Where to write what the player needs; None without a player.
    """

    song: Place
    outputs: dict[str, Place]
    id: str = ""
    refusal: str = ""
    skipped: str = ""
    bundle: Path | None = None

    @property
    def label(self) -> str:
        """The song's name in messages."""
        return "standard input" if self.song == PIPE else str(self.song)

    @property
    def files(self) -> list[Path]:
        """The outputs that are files on this machine."""
        return [path for path in self.outputs.values() if isinstance(path, Path)]

    @property
    def remote_files(self) -> list[Remote]:
        """The outputs that are remote files."""
        return [path for path in self.outputs.values() if isinstance(path, Remote)]

    @property
    def all_files(self) -> list[File]:
        """The outputs that are files, here or elsewhere."""
        return [path for path in self.outputs.values() if not isinstance(path, str)]

    @property
    def is_remote(self) -> bool:
        """Whether the song or an output is a remote file."""
        return isinstance(self.song, Remote) or bool(self.remote_files)

    @property
    def recordings(self) -> list[File]:
        """The outputs that are files with sound in them."""
        files = [(stem, path) for stem, path in self.outputs.items() if not isinstance(path, str)]
        return [path for stem, path in files if stem not in EXTENSIONS]

    @property
    def uses_pipe(self) -> bool:
        """Whether sound comes from standard input or goes to standard output."""
        return PIPE in (self.song, *self.outputs.values())

    @property
    def is_pending(self) -> bool:
        """Whether there is something to do."""
        return not self.refusal and not self.skipped


def check_existing(job: Job, existing: str, *, now: bool = False) -> Job:
    """Return a job that is refused or skipped if outputs of it exist.

    Args:
        job: The job.
        existing: What to do then: "refuse", "overwrite", or "skip" if all of them exist.
        now: Whether to ask for each remote output again, rather than to list each remote folder once.

    Raises:
        AudioError: If a remote folder is not accessible.
        OSError: If a folder is not accessible.
    """
    if existing == "overwrite":
        return job
    there: list[File] = [path for path in job.files if os.path.lexists(path) and not files.is_special(path)]
    there += [path for path in job.remote_files if (path.exists() if now else path.was_listed())]
    if there and existing == "refuse":
        choice = "choose another output, or add --overwrite or --skip-existing"
        return dataclasses.replace(job, refusal=f"{there[0]}: already exists; {choice}")
    complete = len(there) == len(job.outputs)
    return dataclasses.replace(job, skipped="exists") if existing == "skip" and complete else job


def describe_missing(path: File) -> str:
    """Return an error message for a song that does not exist, with the most similar name in its folder."""
    if isinstance(path, Remote):
        return f"{path}: no such file"
    try:
        names = [name for name in os.listdir(path.parent) if Path(name).suffix.lower() in SUFFIXES]  # noqa: PTH208
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f"{path}: no such file" + (f". Did you mean {path.with_name(near[0])}?" if near else "")
