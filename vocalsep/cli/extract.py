"""``vocalsep extract``: songs in, vocals out."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from vocalsep.cli import pipes
from vocalsep.cli.common import Device, DeviceOption, complain, stderr, told, warn
from vocalsep.errors import AudioError, VocalsepError

if TYPE_CHECKING:
    from vocalsep.extraction import Extractor, Report


class InversionName(StrEnum):
    """How spectra become sound."""

    PHASE = "phase"
    GRIFFIN_LIM = "griffin-lim"
    GRIFFIN_LIM_PHASE = "griffin-lim-phase"


class MasksFrom(StrEnum):
    """Where a clustering net's masks come from."""

    AUTO = "auto"
    NET = "net"
    CLUSTERS = "clusters"


class Subtype(StrEnum):
    """Sample formats of the outputs."""

    PCM16 = "pcm16"
    PCM24 = "pcm24"
    PCM32 = "pcm32"
    FLOAT = "float"


class Clip(StrEnum):
    """What to do with samples that a fixed-point output cannot hold."""

    CLAMP = "clamp"
    SCALE = "scale"
    ERROR = "error"


def extract(
    songs: Annotated[list[Path], typer.Argument(metavar="SONG", help="Recordings: wav, flac, mp3, mkv, ...; or -.")],
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
        InversionName,
        typer.Option(help="From spectra to sound: the mixture's phase, or Griffin-Lim from random phases or from it."),
    ] = InversionName.PHASE,
    masks: Annotated[
        MasksFrom, typer.Option(help="dpcl, hdpcl: the net's own masks or the song's clusters; auto: what it is for.")
    ] = MasksFrom.AUTO,
    subtype: Annotated[
        Subtype | None, typer.Option(help="Sample format of the outputs. Default: the song's.", show_default=False)
    ] = None,
    clip: Annotated[
        Clip,
        typer.Option(
            help="Samples beyond full scale, in fixed-point outputs: put them to full scale, or scale all outputs of "
            "the song by the gain that fits, or give the song up."
        ),
    ] = Clip.CLAMP,
    device: DeviceOption = Device.AUTO,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per song.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar.")] = False,
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="Fade the vocals out where there is no voice.")
    ] = False,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="[PATH]",
            help="Also write where there is a voice, as a label track of Audacity. PATH as for -o; without it, beside "
            "the vocals.",
            show_default=False,
        ),
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="RATE,CHANNELS,FORMAT",
            help="The song has no header: samples in u8, s16le, s24le, s32le, f32le or f64le. Nor has what goes to -.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Extract the vocals of one or more songs.

    The vocals have the song's sampling rate, channels, length and tags; its level is not touched. - as the SONG is
    standard input (wav as it comes, of any length; other formats when they have ended), as PATH standard output (wav).
    """

    def make() -> Extractor:
        from vocalsep import extraction, weights

        return extraction.Extractor(
            weights.load(model or weights.DEFAULT_MODEL),
            device=device.value,
            inversion=inversion.value,
            masks_from=masks.value,
            gate=gate,
        )

    if pipes.asked(songs, output, accompaniment, raw):
        pipes.extract(
            songs,
            output,
            accompaniment,
            labels,
            raw=raw,
            subtype=subtype,
            clip=clip.value,
            overwrite=overwrite,
            make=make,
            tell=lambda report, to: _tell(report, as_json=as_json, to=to),
        )
        return
    plan = _plan(songs, output, accompaniment, labels)
    inputs = {song.resolve() for song in songs}
    refusals = [_refusal(job, inputs, overwrite=overwrite, subtype=subtype) for job in plan]
    failed = False
    for refusal in filter(None, refusals):
        complain(refusal)
        failed = True
    jobs = [job for job, refusal in zip(plan, refusals, strict=True) if not refusal]
    if not jobs:
        raise typer.Exit(1)
    with told():
        extractor = make()
    from vocalsep import extraction

    for job in jobs:
        try:
            for path in job.outputs:
                path.parent.mkdir(parents=True, exist_ok=True)
            with _bar(job.song, quiet=quiet) as advance:
                report = extraction.extract(
                    job.song,
                    job.vocals,
                    accompaniment=job.accompaniment,
                    extractor=extractor,
                    progress=advance,
                    subtype=subtype,
                    clip=clip.value,
                    labels=job.labels,
                )
        except OSError as error:
            complain(AudioError(f"{error.filename or job.vocals}: {error.strerror}"))
            failed = True
        except VocalsepError as error:
            complain(error)
            failed = True
        else:
            _tell(report, as_json=as_json, to=sys.stdout)
    if failed:
        raise typer.Exit(1)


@dataclasses.dataclass(frozen=True)
class _Job:
    song: Path
    vocals: Path
    accompaniment: Path | None
    labels: Path | None

    @property
    def sounds(self) -> list[Path]:
        return [path for path in (self.vocals, self.accompaniment) if path]

    @property
    def outputs(self) -> list[Path]:
        return [*self.sounds, self.labels] if self.labels else self.sounds


def _plan(songs: list[Path], output: str | None, accompaniment: str | None, labels: str | None) -> list[_Job]:
    """Decides which song goes where.

    Raises:
        typer.BadParameter: If two songs would go to one file, or several to something that is a file.
    """
    jobs = []
    for song in songs:
        vocals = _place(song, output, "vocals", many=len(songs) > 1, option="-o")
        others = []
        for value, stem, ending in ((accompaniment, "accompaniment", "wav"), (labels, "labels", "txt")):
            place = value or (f"{vocals.parent}/" if output else None)
            path = _place(song, place, stem, many=len(songs) > 1, option=f"--{stem}", ending=ending)
            others.append(None if value is None else path)
        jobs.append(_Job(song, vocals, *others))
    taken: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs:
            if taken.setdefault(path.resolve(), path) is not path:
                raise typer.BadParameter(f"{path} would be written twice; give the outputs different names or folders")
    return jobs


def _place(song: Path, output: str | None, stem: str, *, many: bool, option: str, ending: str = "wav") -> Path:
    name = f"{song.stem}.{stem}.{ending}"
    if output is None:
        return song.with_name(name)
    path = Path(output)
    if many and path.is_file():
        raise typer.BadParameter(f"{option} {output} is a file; several songs need a folder")
    if many or path.is_dir() or output.endswith(("/", os.sep)):
        return path / name
    return path


def _refusal(job: _Job, inputs: set[Path], *, overwrite: bool, subtype: str | None) -> VocalsepError | None:
    """What speaks against a job before anything is computed; `inputs` are all songs of the call."""
    from vocalsep import audio

    try:
        with audio.Reader(job.song) as reader:
            rate, channels = reader.rate, reader.channels
        for path in job.sounds:
            audio.check_output(path, rate=rate, channels=channels, subtype=subtype)
        for path in job.outputs:
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
    with Progress(*columns, console=stderr, transient=True, disable=quiet or not stderr.is_terminal) as bar:
        with audio.Reader(song) as reader:
            seconds = reader.samples / reader.rate or None
        task = bar.add_task(song.name, total=seconds)
        yield lambda done: bar.advance(task, done)


def _tell(report: Report, *, as_json: bool, to: TextIO) -> None:
    for warning in report.warnings:
        warn(warning)
    if report.clipped_samples:
        clamped = f"{report.clipped_samples} samples beyond full scale were put to it; --clip scale or --subtype float"
        warn(f"{report.input}: {clamped} keeps them")
    if report.gain_db:
        warn(f"{report.input}: the outputs are scaled by {report.gain_db} dB to stay within full scale")
    if as_json:
        values = dataclasses.asdict(report)
        outputs = {stem: values.pop(stem) for stem in ("vocals", "accompaniment", "labels")}
        values["outputs"] = {stem: path for stem, path in outputs.items() if path}
        to.write(json.dumps(values, ensure_ascii=False) + "\n")
    elif to is sys.stdout:
        for path in (report.vocals, report.accompaniment, report.labels):
            if path:
                to.write(f"{path}\n")
