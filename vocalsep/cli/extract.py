"""``vocalsep extract``: songs in, vocals out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vocalsep.cli import pipes
from vocalsep.cli.batch import inputs, plan, processes, work
from vocalsep.cli.batch import progress as reporting
from vocalsep.cli.batch.work import Ended
from vocalsep.cli.common import DEVICE_HELP, Device, count_cores, stderr
from vocalsep.errors import AudioError, VocalsepError
from vocalsep.release import DEFAULT_MODEL


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


class Ending(StrEnum):
    """Formats of outputs that are not named in full."""

    WAV = "wav"
    FLAC = "flac"
    AIFF = "aiff"
    OGG = "ogg"
    OPUS = "opus"
    MP3 = "mp3"
    M4A = "m4a"


class Progress(StrEnum):
    """How to tell how far the work is."""

    AUTO = "auto"
    BAR = "bar"
    JSON = "json"
    NONE = "none"


_OUTPUTS, _SOUND, _BATCH, _TOLD = "Outputs", "Model and sound", "Many songs", "What is told"


def extract(
    songs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SONG", help="Recordings (wav, flac, mp3, m4a, mkv, ...), folders of them, patterns, or -."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="A file for one song, a folder for several, or a name for each with {stem}, {song}, {folder}, {model} "
            "and {ext} in it. Default: <song>.vocals.wav beside each song.",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    accompaniment: Annotated[
        str | None,
        typer.Option(
            metavar="[PATH]",
            help="Also write the mixture minus the vocals. PATH as for -o; without it, as the vocals.",
            show_default=False,
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="[PATH]",
            help="Also write where there is a voice, as a label track of Audacity. PATH as for -o; without it, as the "
            "vocals.",
            show_default=False,
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    ending: Annotated[
        Ending | None,
        typer.Option(
            "--format", help="Of outputs that -o does not name in full. Default: wav.", rich_help_panel=_OUTPUTS
        ),
    ] = None,
    subtype: Annotated[
        Subtype | None,
        typer.Option(
            help="Sample format of the outputs. Default: the song's.", show_default=False, rich_help_panel=_OUTPUTS
        ),
    ] = None,
    clip: Annotated[
        Clip,
        typer.Option(
            help="Samples beyond full scale, in fixed-point outputs: put them to full scale, or scale all outputs of "
            "the song by the gain that fits, or give the song up.",
            rich_help_panel=_OUTPUTS,
        ),
    ] = Clip.CLAMP,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist.", rich_help_panel=_OUTPUTS)
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Leave out songs whose outputs all exist.", rich_help_panel=_OUTPUTS),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            "-m",
            "--model",
            help="A model's name (see 'vocalsep models') or weights file.",
            rich_help_panel=_SOUND,
        ),
    ] = DEFAULT_MODEL,
    inversion: Annotated[
        InversionName,
        typer.Option(
            help="From spectra to sound: the mixture's phase, or Griffin-Lim from random phases or from it.",
            rich_help_panel=_SOUND,
        ),
    ] = InversionName.PHASE,
    masks: Annotated[
        MasksFrom,
        typer.Option(
            help="dpcl, hdpcl: the net's own masks or the song's clusters; auto: what it is for.",
            rich_help_panel=_SOUND,
        ),
    ] = MasksFrom.AUTO,
    gate: Annotated[
        bool,
        typer.Option("--gate/--no-gate", help="Fade the vocals out where there is no voice.", rich_help_panel=_SOUND),
    ] = False,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="RATE,CHANNELS,FORMAT",
            help="The song has no header: samples in u8, s16le, s24le, s32le, f32le or f64le. Nor has what goes to -.",
            show_default=False,
            rich_help_panel=_SOUND,
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help=DEVICE_HELP, rich_help_panel=_SOUND)] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads to a song. Default: the cores, shared among jobs.",
            rich_help_panel=_SOUND,
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Of folders take those below, too.", rich_help_panel=_BATCH)
    ] = False,
    from_file: Annotated[
        str | None,
        typer.Option(
            "--from-file",
            metavar="FILE",
            help="Also take the songs and folders in this list, one a line; - is standard input.",
            rich_help_panel=_BATCH,
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Songs at once, each in a process of its own.", rich_help_panel=_BATCH)
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be done.", rich_help_panel=_BATCH)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per song.", rich_help_panel=_TOLD)
    ] = False,
    progress: Annotated[
        Progress,
        typer.Option(
            help="How to tell how far the work is; json: an object a line, on stderr. auto: bars on a terminal.",
            rich_help_panel=_TOLD,
        ),
    ] = Progress.AUTO,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="As --progress none; no summary either.", rich_help_panel=_TOLD)
    ] = False,
) -> None:
    """Extract the vocals of one or more songs.

    The vocals have the song's sampling rate, channels, length and tags; its level is not touched. - as the SONG is
    standard input (wav as it comes, of any length; other formats when they have ended), as PATH standard output (wav).
    """
    if not songs and from_file is None:
        raise typer.BadParameter("which songs? Give recordings or folders, or --from-file with a list of them")
    if overwrite and skip_existing:
        raise typer.BadParameter("--overwrite and --skip-existing exclude each other")
    if quiet and progress in (Progress.BAR, Progress.JSON):
        raise typer.BadParameter(f"--quiet and --progress {progress.value} exclude each other")
    settings = work.Settings(
        model=model,
        device=device,
        inversion=inversion.value,
        masks=masks.value,
        subtype=subtype,
        clip=clip.value,
        gate=gate,
        threads=threads or max(1, count_cores() // jobs),
        mute=progress is Progress.JSON,
    )
    if pipes.asked(songs or [], raw, output, accompaniment, labels):
        many = from_file or recursive or skip_existing or dry_run or jobs > 1
        if many or progress in (Progress.BAR, Progress.JSON):
            raise typer.BadParameter("pipes and --raw are for one song, without options for many, and without progress")
        pipes.extract(
            songs or [],
            output,
            accompaniment,
            labels,
            settings=settings,
            ending=ending and ending.value,
            raw=raw,
            overwrite=overwrite,
            as_json=as_json,
        )
        return
    listed: list[str] = []
    problems: list[VocalsepError] = []
    try:
        listed = inputs.read_list(from_file) if from_file is not None else []
    except AudioError as error:
        problems.append(error)
    found, others_wrong = inputs.find(songs or [], listed, recursive=recursive)
    others = {"accompaniment": accompaniment, plan.LABELS: labels}
    naming = plan.Naming(
        places={"vocals": output} | {stem: place for stem, place in others.items() if place is not None},
        ending=(ending or Ending.WAV).value,
        model=Path(model).stem if model.endswith(".safetensors") else model,
        many=len(found) > 1 or from_file is not None or not all(song.named for song in found),
    )
    if ending:
        plan.check_ending(naming)
    existing = "overwrite" if overwrite else "skip" if skip_existing else "refuse"
    todo = plan.make(found, naming, existing=existing, subtype=subtype)
    shown = progress is not Progress.NONE and not quiet and not dry_run
    with _kind(progress, shown=shown)(todo, naming.model, as_json=as_json, summary=shown) as teller:
        for problem in problems + others_wrong:
            teller.report_error(problem)
        if dry_run:
            reporting.tell_plan(todo, teller, as_json=as_json)
        else:
            _do(todo, settings, jobs, teller)
    if teller.failed:
        raise typer.Exit(1)


def _kind(progress: Progress, *, shown: bool) -> type[reporting.Teller]:
    if progress is Progress.JSON:
        return reporting.Lines
    bars = shown and (progress is Progress.BAR or stderr.is_terminal)
    return reporting.Bars if bars else reporting.Teller


def _do(jobs: list[plan.Job], settings: work.Settings, at_once: int, teller: reporting.Teller) -> None:
    """Does what there is to do; what speaks against the rest is told at once."""
    for index, job in enumerate(jobs):
        if not job.is_open:
            teller(Ended(index=index, error=job.refusal))
    try:
        processes.run([(index, job) for index, job in enumerate(jobs) if job.is_open], settings, at_once, teller)
    except work.SetupError as error:
        teller.report_error(error)
