"""``vocalsep extract``: extract the vocals of songs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vocalsep.cli.common import ARGUMENTS, DEVICE_HELP, Device, Inversion, MasksFrom, Misuse, complete_models, stderr
from vocalsep.cores import count_cores
from vocalsep.errors import AudioError, VocalsepError
from vocalsep.release import DEFAULT_MODEL

if TYPE_CHECKING:
    from vocalsep.cli.batch import plan
    from vocalsep.cli.batch import progress as reporting

OutputFormat = Literal["wav", "flac", "aiff", "ogg", "opus", "mp3", "m4a"]
Subtype = Literal["pcm16", "pcm24", "pcm32", "float"]
Stem = Literal["vocals", "accompaniment", "both"]
Preset = Literal["ultrastar"]
Clip = Literal["clamp", "scale", "error"]
Progress = Literal["auto", "bar", "json", "none"]

_OUTPUTS, _SOUND, _MANY, _REPORT = "Outputs", "Model and sound", "Many songs", "Progress and results"


def extract(
    context: typer.Context,
    songs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SONG",
            help="Audio or video files, folders, or patterns such as '*.flac'. Use - for standard input.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Output file for one song, folder for several, or a template with the fields {stem}, {song}, "
            "{folder}, {model}, {ext} and {source} (the song's own extension). Use - for standard output.",
            show_default="SONG.vocals.wav beside each song",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    stem: Annotated[
        Stem | None,
        typer.Option(
            help="What to write: the vocals, the accompaniment alone, or both. With both, -o names the vocals.",
            show_default="vocals",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    instrumental: Annotated[
        bool,
        typer.Option("--instrumental", "--karaoke", help="Same as --stem accompaniment.", rich_help_panel=_OUTPUTS),
    ] = False,
    accompaniment: Annotated[
        str | None,
        typer.Option(
            metavar="[PATH]",
            help="Also write the accompaniment, as --stem both does. PATH works as in -o PATH. Without PATH, the file "
            "goes beside the vocals.",
            show_default=False,
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="[PATH]",
            help="Also write an Audacity label track that marks where someone sings. PATH works as in -o PATH. "
            "Without PATH, the file goes beside the vocals.",
            show_default=False,
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            metavar="[PATH]",
            help="Also draw a picture (PNG): spectrograms of song, vocals and accompaniment, and where someone sings. "
            "PATH works as in -o PATH. Without PATH, the file goes beside the vocals.",
            show_default=False,
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(
            metavar="[PATH]",
            help="Also write a web page to listen to all songs and their parts, as one HTML file that works offline. "
            "Without PATH, it goes beside the vocals.",
            show_default=False,
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    output_format: Annotated[
        OutputFormat | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Output format when -o gives no file extension: wav, flac, aiff, ogg, opus, mp3 or m4a.",
            show_default="wav",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    subtype: Annotated[
        Subtype | None,
        typer.Option(
            metavar="TYPE",
            help="Sample format of the outputs: pcm16, pcm24, pcm32 or float.",
            show_default="as in the song; 16 bits for songs from mp3 and other lossy formats",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    bitrate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="Bit rate of mp3, m4a, opus and ogg outputs, as in 320k. mp3 uses a constant bit rate; the others "
            "reach it on average.",
            show_default="200 to 300k for stereo",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    preset: Annotated[
        Preset | None,
        typer.Option(
            help="Names and format that other programs expect. ultrastar writes 'SONG [VOC].mp3' and "
            "'SONG [INSTR].mp3'.",
            show_default=False,
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    clip: Annotated[
        Clip,
        typer.Option(
            help="What to do when an output exceeds full scale: clamp the samples, scale the whole song, or fail with "
            "an error.",
            rich_help_panel=_OUTPUTS,
        ),
    ] = "clamp",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Overwrite existing outputs.", rich_help_panel=_OUTPUTS)
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Skip songs whose outputs all exist.", rich_help_panel=_OUTPUTS),
    ] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            metavar="MODEL",
            autocompletion=complete_models,
            help="Model name (see 'vocalsep models'), weights file, folder of a training run, or model of another "
            "program (.onnx). If you give several, vocalsep averages their vocals.",
            show_default=DEFAULT_MODEL,
            rich_help_panel=_SOUND,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Weights of several models, in the order of -m, as in 0.4,0.6.",
            show_default="equal",
            rich_help_panel=_SOUND,
        ),
    ] = None,
    model_data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Parameters that the file of another program's model does not contain: UVR's mdx_model_data.json, a "
            "TOML file, or values, as in n_fft=6144,primary_stem=vocals.",
            show_default="searched for beside the model and in the folders of UVR and audio-separator",
            rich_help_panel=_SOUND,
        ),
    ] = None,
    as_original: Annotated[
        bool,
        typer.Option(
            "--as-original",
            help="Cut songs exactly as the model's original program does, for comparisons.",
            rich_help_panel=_SOUND,
        ),
    ] = False,
    inversion: Annotated[
        Inversion,
        typer.Option(
            metavar="METHOD",
            help="How to turn the masked spectrogram back into audio. phase keeps the song's phase; griffin-lim "
            "estimates the phase from scratch; griffin-lim-phase starts the estimate from the song's phase.",
            rich_help_panel=_SOUND,
        ),
    ] = "phase",
    masks: Annotated[
        MasksFrom,
        typer.Option(
            help="Where dpcl and hdpcl models take their masks from: the net's output, or clusters found in the song. "
            "auto uses whichever the model was made for.",
            rich_help_panel=_SOUND,
        ),
    ] = "auto",
    gate: Annotated[
        bool,
        typer.Option("--gate/--no-gate", help="Fade the vocals out where nobody sings.", rich_help_panel=_SOUND),
    ] = False,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="LAYOUT",
            help="Read SONG as samples without a header. LAYOUT is rate,channels,format, as in 44100,2,s16le; formats "
            "are u8, s16le, s24le, s32le, f32le and f64le. Output to stdout has no header either.",
            show_default=False,
            rich_help_panel=_SOUND,
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help=DEVICE_HELP, rich_help_panel=_SOUND)] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Threads per song.",
            show_default="all cores, divided among the jobs",
            rich_help_panel=_SOUND,
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Also search subfolders.", rich_help_panel=_MANY)
    ] = False,
    from_file: Annotated[
        str | None,
        typer.Option(
            "--from-file",
            metavar="FILE",
            help="Also process the songs and folders listed in FILE, one per line. Use - to read the list from "
            "standard input.",
            rich_help_panel=_MANY,
        ),
    ] = None,
    number: Annotated[
        bool,
        typer.Option(
            "--number",
            help="Number songs that would otherwise get the same output name: a, a-2, a-3.",
            rich_help_panel=_MANY,
        ),
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Songs to process at a time, each in its own process.", rich_help_panel=_MANY
        ),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, without doing it.", rich_help_panel=_MANY)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per song.", rich_help_panel=_REPORT)
    ] = False,
    progress: Annotated[
        Progress,
        typer.Option(
            help="Progress display on stderr: bars, JSON with one object per line, or none. auto draws bars on a "
            "terminal.",
            rich_help_panel=_REPORT,
        ),
    ] = "auto",
    quiet: Annotated[
        bool,
        typer.Option("-q", "--quiet", help="Print only results, warnings and errors.", rich_help_panel=_REPORT),
    ] = False,
) -> None:
    """Extract the vocals of one or more songs.

    The vocals keep the song's sample rate, channels, length, level and tags.
    vocalsep does not replace existing files unless you add --overwrite.
    """
    from vocalsep.cli.batch import inputs, naming, options, pages, plan, processes, work
    from vocalsep.cli.batch import progress as reporting

    songs = songs or []
    optional = {"accompaniment": accompaniment, naming.LABELS: labels, naming.PICTURE: picture, "page": page}
    if not songs and from_file is None:
        songs, optional = options.find_swallowed_song(optional)
    page = optional.pop("page")
    if overwrite and skip_existing:
        raise Misuse("--overwrite and --skip-existing cannot be combined")
    if page is not None and skip_existing:
        raise Misuse("--page needs all songs, so it cannot be combined with --skip-existing")
    if quiet and progress in ("bar", "json"):
        raise Misuse(f"--quiet and --progress {progress} cannot be combined")
    if instrumental and stem not in (None, "accompaniment"):
        raise Misuse(f"--instrumental and --stem {stem} cannot be combined")
    models = tuple(model or [DEFAULT_MODEL])
    for name in models:
        options.check_model(name)
    if songs:
        options.check_songs(songs, output)
    chosen = naming.PRESETS[preset] if preset else naming.Preset(names={}, extension="wav")
    places = options.choose_places(
        output=output,
        stem="accompaniment" if instrumental else stem or ("both" if preset else None),
        accompaniment=optional.pop("accompaniment"),
        others=optional,
    )
    bits_per_second = options.parse_bitrate(bitrate)
    layout = None if raw is None else options.parse_raw(raw)
    listed: list[str] = []
    problems: list[VocalsepError] = []
    try:
        listed = inputs.read_list(from_file) if from_file is not None else []
    except AudioError as error:
        problems.append(error)
    found, unfound = inputs.find(songs, listed, recursive=recursive)
    if preset == "ultrastar":
        found = inputs.leave_out_videos(found)
    names = naming.Naming(
        places=places,
        extension=output_format or chosen.extension,
        model="+".join(map(options.name_model, models)),
        many=len(found) > 1 or from_file is not None or not all(song.named for song in found),
        names=chosen.names,
    )
    if output_format:
        options.check_format(names)
    options.check_pipes(found, names, raw=raw is not None, clip=clip, processes=jobs, bitrate=bits_per_second)
    existing = "overwrite" if overwrite else "skip" if skip_existing else "refuse"
    todo = plan.make(found, names, existing=existing, number=number, subtype=subtype, bitrate=bits_per_second)
    page_path = None if page is None else pages.choose_path(page, todo)
    settings = work.Settings(
        models=models,
        shares=options.parse_weights(weights, models),
        model_data=model_data,
        as_original=as_original,
        device=device,
        inversion=inversion,
        masks=masks,
        subtype=subtype,
        bitrate=bits_per_second,
        clip=clip,
        gate=gate,
        raw=layout,
        threads=threads or max(1, count_cores() // jobs),
        mute=progress == "json",
    )
    verbose = progress != "none" and not quiet and not dry_run
    kind = _choose_reporter(progress, todo) if verbose or progress == "json" else reporting.Reporter
    with kind(todo, names.model, as_json=as_json, talkative=verbose, overwrite=overwrite) as reporter:
        for problem in problems + unfound:
            reporter.report_error(problem)
        if dry_run:
            reporting.report_plan(todo, reporter, as_json=as_json)
            if page_path:
                reporter.report_page(page_path)
        elif page_path:
            opened = pages.open_page(page_path, context.meta[ARGUMENTS], overwrite=overwrite)
            pages.run_plan(opened, todo, settings, jobs, reporter)
        else:
            processes.run_plan(todo, settings, jobs, reporter)
    if reporter.failed:
        raise typer.Exit(1)


def _choose_reporter(progress: Progress, jobs: list[plan.Job]) -> type[reporting.Reporter]:
    """Return the reporter that --progress asks for. In a pipeline, auto leaves the terminal to the other programs."""
    from vocalsep.cli.batch import progress as reporting

    if progress == "json":
        return reporting.JsonLines
    automatic = stderr.is_terminal and not any(job.uses_pipe for job in jobs)
    return reporting.ProgressBars if progress == "bar" or automatic else reporting.Reporter
