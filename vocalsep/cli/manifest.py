"""``vocalsep manifest``: merge and summarise the manifests of batches."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vocalsep.cli.common import exit_on_error, report_error, stdout
from vocalsep.errors import ManifestError
from vocalsep.text import escape

app = typer.Typer(no_args_is_help=True)

_PARQUET = ".parquet"
_ERRORS_SHOWN = 20

ManifestArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Manifest to summarise.")]


@app.callback()
def manifest() -> None:
    """Merge and summarise the manifests that 'vocalsep extract --manifest' writes."""


@app.command()
def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: .jsonl, or .parquet for a table.")],
    manifests: Annotated[list[Path], typer.Argument(metavar="IN", help="Manifests to merge.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Merge manifests, such as those of several machines, into one with a line per song.

    The latest line of each song counts. Manifests that are damaged or belong to
    another model than the first one are left out, with exit status 1.
    """
    from vocalsep import manifests as reading

    with exit_on_error():
        if out.exists() and not overwrite:
            raise ManifestError(f"{out}: already exists; choose another file, or add --overwrite")
        merged, problems = reading.merge(manifests)
        for problem in problems:
            report_error(problem)
        if merged or not problems:
            write = reading.write_parquet if out.suffix.lower() == _PARQUET else reading.write
            write(out, merged)
            sys.stdout.write(f"{out}\n")
    if problems:
        raise typer.Exit(1)


@app.command()
def summary(
    file: ManifestArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Print how many songs are done, their length, the time they took, and what went wrong."""
    from vocalsep import files
    from vocalsep import manifests as reading
    from vocalsep.cli.batch.describing import format_time

    with exit_on_error():
        found = reading.summarise(reading.read(file).values())
    if as_json:
        sys.stdout.write(files.dump_json(found) + "\n")
        return
    counts = ", ".join(f"{found[status]} {status}" for status in reading.STATUSES)
    audio, voice, taken = (format_time(found[f"{what}_seconds"]) for what in ("audio", "voice", "taken"))
    rows = [
        ("songs", f"{found['songs']}: {counts}"),
        ("models", ", ".join(f"{name} ({digest[:12]})" for name, digest in found["models"])),
        ("versions", ", ".join(found["versions"])),
        ("audio", f"{audio}, of which {voice} with a voice"),
        ("time taken", f"{taken}, {found['times_real_time']:.1f}x real time in each process"),
        ("warnings", f"{found['warnings']} songs"),
    ]
    for name, value in rows:
        stdout.print(f"{name:12}{escape(value)}", markup=False)
    errors = list(found["errors"].items())
    for song, error in errors[:_ERRORS_SHOWN]:
        stdout.print(f"failed: {escape(f'{song}: {error}')}", markup=False)
    if len(errors) > _ERRORS_SHOWN:
        stdout.print(f"... and {len(errors) - _ERRORS_SHOWN} more; --json lists them all", markup=False)
