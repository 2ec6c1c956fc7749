"""The command line: parse, call, report. Results go to stdout, everything else to stderr.

Exit status: 0 all done, 1 something failed (the rest is still done), 2 misuse. torch is imported inside the commands,
so that ``--help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from vocalsep import __version__
from vocalsep.errors import AudioError, VocalsepError

if TYPE_CHECKING:
    from vocalsep.datasets.check import Check
    from vocalsep.extraction import Report

app = typer.Typer(
    name="vocalsep",
    help="Takes a song and gives back its vocals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(help="Lists the models that come with vocalsep.", invoke_without_command=True)
app.add_typer(models_app, name="models")
data_app = typer.Typer(help="Looks after data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

_stderr = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
_stdout = Console(highlight=False, soft_wrap=True, emoji=False)


class Device(StrEnum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Dataset(StrEnum):
    """Recordings to train on."""

    DSD100 = "dsd100"
    MIR1K = "mir1k"
    STEMS = "stems"


class InversionName(StrEnum):
    """How spectra become sound."""

    PHASE = "phase"
    GRIFFIN_LIM = "griffin-lim"


DeviceOption = Annotated[Device, typer.Option(help="Where to compute; auto takes CUDA if there is one.")]
RootOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of --dataset. Default: what VOCALSEP_DSD100, _MIR1K or _STEMS names."),
]


def main() -> None:
    """Entry point of the command ``vocalsep``."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that unfinished files are cleared away
    app()


@contextmanager
def _told() -> Iterator[None]:
    """Turns an expected error into one line on stderr and exit status 1."""
    try:
        yield
    except VocalsepError as error:
        _complain(error)
        raise typer.Exit(1) from error


def _complain(error: VocalsepError) -> None:
    _stderr.print(f"vocalsep: {error}", style="red", markup=False)


def _version(wanted: bool) -> None:
    if wanted:
        _stdout.print(f"vocalsep {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    del version


class _OptionalValue(TyperCommand):
    """A command whose option ``--accompaniment`` may stand without a value, which then is empty."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Gives a bare option its empty value."""
        filled = list(args)
        for index, argument in enumerate(args):
            follower = args[index + 1] if index + 1 < len(args) else "-"
            if argument == "--accompaniment" and follower.startswith("-"):
                filled[index] = "--accompaniment="
        return super().parse_args(ctx, filled)


@app.command(cls=_OptionalValue)
def extract(
    songs: Annotated[list[Path], typer.Argument(metavar="SONG", help="Recordings: wav, flac, ogg, mp3, ...")],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="A file for one song, a folder for several. Default: <song>.vocals.wav beside each song.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="A model's name (see 'vocalsep models') or weights file.")
    ] = None,
    accompaniment: Annotated[
        str | None,
        typer.Option(
            metavar="[PATH]",
            help="Also write the mixture minus the vocals. PATH as for -o; without it, beside the vocals.",
            show_default=False,
        ),
    ] = None,
    inversion: Annotated[
        InversionName, typer.Option(help="From spectra to sound: the mixture's phase, or Griffin-Lim.")
    ] = InversionName.PHASE,
    device: DeviceOption = Device.AUTO,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per song.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar.")] = False,
) -> None:
    """Extract the vocals of one or more songs.

    The vocals have the song's sampling rate, channels and length; its level is not touched.
    """
    plan = _plan(songs, output, accompaniment)
    inputs = {song.resolve() for song in songs}
    refusals = [_refusal(job, inputs, overwrite=overwrite) for job in plan]
    failed = False
    for refusal in filter(None, refusals):
        _complain(refusal)
        failed = True
    jobs = [job for job, refusal in zip(plan, refusals, strict=True) if not refusal]
    if not jobs:
        raise typer.Exit(1)
    with _told():
        from vocalsep import extraction, weights

        extractor = extraction.Extractor(
            weights.load(model or weights.DEFAULT_MODEL), device=device.value, inversion=inversion.value
        )
    for job in jobs:
        try:
            for path in job.outputs:
                path.parent.mkdir(parents=True, exist_ok=True)
            with _bar(job.song, quiet=quiet) as advance:
                report = extraction.extract(
                    job.song, job.vocals, accompaniment=job.accompaniment, extractor=extractor, progress=advance
                )
        except OSError as error:
            _complain(AudioError(f"{error.filename or job.vocals}: {error.strerror}"))
            failed = True
        except VocalsepError as error:
            _complain(error)
            failed = True
        else:
            _tell(report, as_json=as_json)
    if failed:
        raise typer.Exit(1)


@dataclasses.dataclass(frozen=True)
class _Job:
    song: Path
    vocals: Path
    accompaniment: Path | None

    @property
    def outputs(self) -> list[Path]:
        return [path for path in (self.vocals, self.accompaniment) if path]


def _plan(songs: list[Path], output: str | None, accompaniment: str | None) -> list[_Job]:
    """Decides which song goes where.

    Raises:
        typer.BadParameter: If two songs would go to one file, or several to something that is a file.
    """
    jobs = []
    for song in songs:
        vocals = _place(song, output, "vocals", many=len(songs) > 1, option="-o")
        other = None
        if accompaniment is not None:
            place = accompaniment or (f"{vocals.parent}/" if output else None)
            other = _place(song, place, "accompaniment", many=len(songs) > 1, option="--accompaniment")
        jobs.append(_Job(song, vocals, other))
    taken: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs:
            if taken.setdefault(path.resolve(), path) is not path:
                raise typer.BadParameter(f"{path} would be written twice; give the outputs different names or folders")
    return jobs


def _place(song: Path, output: str | None, stem: str, *, many: bool, option: str) -> Path:
    name = f"{song.stem}.{stem}.wav"
    if output is None:
        return song.with_name(name)
    path = Path(output)
    if many and path.is_file():
        raise typer.BadParameter(f"{option} {output} is a file; several songs need a folder")
    if many or path.is_dir() or output.endswith(("/", os.sep)):
        return path / name
    return path


def _refusal(job: _Job, inputs: set[Path], *, overwrite: bool) -> AudioError | None:
    """What speaks against a job before anything is computed; `inputs` are all songs of the call."""
    from vocalsep import audio

    try:
        audio.Reader(job.song).close()
        for path in job.outputs:
            audio.check_output(path)
            if path.resolve() in inputs:
                return AudioError(f"{path}: is a song to be read; choose another output")
            if path.exists() and not overwrite:
                return AudioError(f"{path}: exists already; choose another output or add --overwrite")
    except AudioError as error:
        return error
    return None


@contextmanager
def _bar(song: Path, *, quiet: bool) -> Iterator[Any]:
    """A progress bar for one song; yields the function that moves it by seconds of sound."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from vocalsep import audio

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=_stderr, transient=True, disable=quiet or not _stderr.is_terminal) as bar:
        with audio.Reader(song) as reader:
            seconds = reader.samples / reader.rate
        task = bar.add_task(song.name, total=seconds)
        yield lambda done: bar.advance(task, done)


def _tell(report: Report, *, as_json: bool) -> None:
    if as_json:
        values = dataclasses.asdict(report)
        outputs = {stem: values.pop(stem) for stem in ("vocals", "accompaniment")}
        values["outputs"] = {stem: path for stem, path in outputs.items() if path}
        sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
        return
    for path in (report.vocals, report.accompaniment):
        if path:
            sys.stdout.write(f"{path}\n")


@models_app.callback()
def models(ctx: typer.Context) -> None:
    """List the models that come with vocalsep; 'models show NAME' prints a card."""
    if ctx.invoked_subcommand:
        return
    with _told():
        from rich.table import Table

        from vocalsep import weights

        table = Table(show_edge=False, pad_edge=False)
        for column in ("name", "what it is", "size", "data", "licence", "scores"):
            table.add_column(column)
        for name, path in weights.published().items():
            facts = weights.card(name).facts
            size = f"{path.stat().st_size / 1e6:.1f} MB"
            default = " (default)" if name == weights.DEFAULT_MODEL else ""
            described = [facts.get(key, "") for key in ("what", "data", "licence", "scores")]
            table.add_row(name + default, described[0], size, *described[1:])
        _stdout.print(table)


@models_app.command("show")
def models_show(name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]) -> None:
    """Print a model's card."""
    with _told():
        from vocalsep import weights

        sys.stdout.write(weights.card(name).text)


@data_app.command("check")
def data_check(
    dataset: Annotated[Dataset, typer.Option(help="How the folder is laid out.")],
    root: RootOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read every file of a data set and tell what is wrong; exit status 1 if anything is."""
    with _told():
        from rich.progress import Progress

        from vocalsep import datasets
        from vocalsep.datasets import check

        with Progress(console=_stderr, transient=True, disable=not _stderr.is_terminal) as bar:
            task = bar.add_task("reading", total=None)
            found = check.check(
                dataset.value,
                datasets.root_of(dataset.value, root),
                progress=lambda _, done, count: bar.update(task, completed=done, total=count),
            )
        if as_json:
            sys.stdout.write(json.dumps(found.to_dict(), ensure_ascii=False) + "\n")
        else:
            _tell_check(found)
        if found.problems:
            raise typer.Exit(1)


def _tell_check(found: Check) -> None:
    """Prints a row for each split, then notes and problems, a line each."""
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for column in ("split", "tracks", "singers", "minutes", "Hz", "labels", "largest residual", "bad"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for row in found.totals:
        residual = "" if row.worst_residual_db is None else f"{row.worst_residual_db:.1f} dB"
        labels = f"{row.pitch} + {row.voicing}" if row.pitch or row.voicing else ""
        tracks = f"{row.tracks} of {row.complete}" if row.complete else str(row.tracks)
        rates = ", ".join(map(str, row.rates))
        table.add_row(
            row.split, tracks, str(row.groups), f"{row.minutes:.1f}", rates, labels, residual, str(row.bad or "")
        )
    _stdout.print(table)
    lines = [f"note: {note}" for note in found.notes] + [f"problem: {problem}" for problem in found.problems]
    _stdout.print("\n".join(["", *(lines or ["no problems"])]), markup=False)


@app.command()
def train(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="A preset's name or a recipe (TOML).")] = "unet",
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/<preset>.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    dataset: Annotated[Dataset | None, typer.Option(help="Train on this alone.")] = None,
    root: RootOption = None,
    split: Annotated[
        str, typer.Option(help="Split of --dataset: for mir1k standard (default) or drnn, which shares singers.")
    ] = "",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Train without recordings that are bad.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Minutes of training.")] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Train a net; stops and resumes exactly. The weights land in the run's folder."""
    if dataset is None and (root or split):
        raise typer.BadParameter("--root and --split belong to a --dataset")
    if resume and (dataset or settings or minutes or out or skip_bad):
        raise typer.BadParameter("--resume goes on with the run's own recipe; it takes no other settings")
    with _told():
        from vocalsep import datasets, recipes, training, weights

        changes = list(settings or [])
        if skip_bad:
            changes.append("training.skip_bad=true")
        if minutes:
            changes += ["training.steps=0", f"training.minutes={minutes}"]
        if dataset:
            changes += recipes.single_pool(dataset.value, datasets.root_of(dataset.value, root), split)
        recipe = recipes.read_recipe(str(resume / "recipe.toml") if resume else preset, changes)
        run = resume or out or Path("runs") / Path(preset).stem
        path = training.fit(
            recipe,
            run,
            device=weights.best_device(device.value),
            resume=resume is not None,
            report=lambda line: _stderr.print(line, markup=False),
        )
        sys.stdout.write(f"{path}\n")
