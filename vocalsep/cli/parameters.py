"""The options of ``vocalsep extract``, some of which other commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from vocalsep.cli.common import DEVICE_HELP, Device, Inversion, MasksFrom, complete_models
from vocalsep.release import DEFAULT_MODEL

OutputFormat = Literal["wav", "flac", "aiff", "ogg", "opus", "mp3", "m4a"]
Subtype = Literal["pcm16", "pcm24", "pcm32", "float"]
Stem = Literal["vocals", "accompaniment", "both"]
Preset = Literal["ultrastar"]
Clip = Literal["clamp", "scale", "error"]
Progress = Literal["auto", "bar", "json", "none"]

_OUTPUTS, _SOUND, _MANY, _REPORT = "Outputs", "Model and sound", "Many songs", "Progress and results"

SongsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SONG",
        help="Audio or video files, folders, patterns such as '*.flac', or addresses such as s3://bucket/song.flac. "
        "Use - for standard input.",
    ),
]
OutputOption = Annotated[
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
]
StemOption = Annotated[
    Stem | None,
    typer.Option(
        help="What to write: the vocals, the accompaniment alone, or both. With both, -o names the vocals.",
        show_default="vocals",
        rich_help_panel=_OUTPUTS,
    ),
]
InstrumentalOption = Annotated[
    bool,
    typer.Option("--instrumental", "--karaoke", help="Same as --stem accompaniment.", rich_help_panel=_OUTPUTS),
]
AccompanimentOption = Annotated[
    str | None,
    typer.Option(
        metavar="[PATH]",
        help="Also write the accompaniment, as --stem both does. PATH works as in -o PATH. Without PATH, the file "
        "goes beside the vocals.",
        show_default=False,
        rich_help_panel=_OUTPUTS,
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="[PATH]",
        help="Also write an Audacity label track that marks where someone sings. PATH works as in -o PATH. "
        "Without PATH, the file goes beside the vocals.",
        show_default=False,
        rich_help_panel=_OUTPUTS,
    ),
]
PictureOption = Annotated[
    str | None,
    typer.Option(
        metavar="[PATH]",
        help="Also draw a picture (PNG): spectrograms of song, vocals and accompaniment, and where someone sings. "
        "PATH works as in -o PATH. Without PATH, the file goes beside the vocals.",
        show_default=False,
        rich_help_panel=_OUTPUTS,
    ),
]
PageOption = Annotated[
    str | None,
    typer.Option(
        metavar="[PATH]",
        help="Also write a web page to listen to all songs and their parts, as one HTML file that works offline. "
        "Without PATH, it goes beside the vocals.",
        show_default=False,
        rich_help_panel=_OUTPUTS,
    ),
]
OutputFormatOption = Annotated[
    OutputFormat | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Output format when -o gives no file extension: wav, flac, aiff, ogg, opus, mp3 or m4a.",
        show_default="wav",
        rich_help_panel=_OUTPUTS,
    ),
]
SubtypeOption = Annotated[
    Subtype | None,
    typer.Option(
        metavar="TYPE",
        help="Sample format of the outputs: pcm16, pcm24, pcm32 or float.",
        show_default="as in the song; 16 bits for songs from mp3 and other lossy formats",
        rich_help_panel=_OUTPUTS,
    ),
]
BitrateOption = Annotated[
    str | None,
    typer.Option(
        metavar="RATE",
        help="Bit rate of mp3, m4a, opus and ogg outputs, as in 320k. mp3 uses a constant bit rate; the others "
        "reach it on average.",
        show_default="200 to 300k for stereo",
        rich_help_panel=_OUTPUTS,
    ),
]
PresetOption = Annotated[
    Preset | None,
    typer.Option(
        help="Names and format that other programs expect. ultrastar writes 'SONG [VOC].mp3' and 'SONG [INSTR].mp3'.",
        show_default=False,
        rich_help_panel=_OUTPUTS,
    ),
]
ClipOption = Annotated[
    Clip,
    typer.Option(
        help="What to do when an output exceeds full scale: clamp the samples, scale the whole song, or fail with "
        "an error.",
        rich_help_panel=_OUTPUTS,
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Overwrite existing outputs.", rich_help_panel=_OUTPUTS)
]
SkipExistingOption = Annotated[
    bool,
    typer.Option("--skip-existing", help="Skip songs whose outputs all exist.", rich_help_panel=_OUTPUTS),
]
ModelOption = Annotated[
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
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBERS",
        help="Weights of several models, in the order of -m, as in 0.4,0.6.",
        show_default="equal",
        rich_help_panel=_SOUND,
    ),
]
ModelDataOption = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Parameters that the file of another program's model does not contain: UVR's mdx_model_data.json, a "
        "TOML file, or values, as in n_fft=6144,primary_stem=vocals.",
        show_default="searched for beside the model and in the folders of UVR and audio-separator",
        rich_help_panel=_SOUND,
    ),
]
AsOriginalOption = Annotated[
    bool,
    typer.Option(
        "--as-original",
        help="Cut songs exactly as the model's original program does, for comparisons.",
        rich_help_panel=_SOUND,
    ),
]
InversionOption = Annotated[
    Inversion,
    typer.Option(
        metavar="METHOD",
        help="How to turn the masked spectrogram back into audio. phase keeps the song's phase; griffin-lim "
        "estimates the phase from scratch; griffin-lim-phase starts the estimate from the song's phase.",
        rich_help_panel=_SOUND,
    ),
]
MasksOption = Annotated[
    MasksFrom,
    typer.Option(
        help="Where dpcl and hdpcl models take their masks from: the net's output, or clusters found in the song. "
        "auto uses whichever the model was made for.",
        rich_help_panel=_SOUND,
    ),
]
GateOption = Annotated[
    bool,
    typer.Option("--gate/--no-gate", help="Fade the vocals out where nobody sings.", rich_help_panel=_SOUND),
]
RawOption = Annotated[
    str | None,
    typer.Option(
        metavar="LAYOUT",
        help="Read SONG as samples without a header. LAYOUT is rate,channels,format, as in 44100,2,s16le; formats "
        "are u8, s16le, s24le, s32le, f32le and f64le. Output to stdout has no header either.",
        show_default=False,
        rich_help_panel=_SOUND,
    ),
]
DeviceOption = Annotated[Device, typer.Option(help=DEVICE_HELP, rich_help_panel=_SOUND)]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Threads per song.",
        show_default="all cores, divided among the jobs",
        rich_help_panel=_SOUND,
    ),
]
RecursiveOption = Annotated[
    bool, typer.Option("-r", "--recursive", help="Also search subfolders.", rich_help_panel=_MANY)
]
FromFileOption = Annotated[
    str | None,
    typer.Option(
        "--from-file",
        metavar="FILE",
        help="Also process the songs and folders listed in FILE, one per line. Use - to read the list from "
        "standard input.",
        rich_help_panel=_MANY,
    ),
]
NumberOption = Annotated[
    bool,
    typer.Option(
        "--number",
        help="Number songs that would otherwise get the same output name: a, a-2, a-3.",
        rich_help_panel=_MANY,
    ),
]
JobsOption = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Songs to process at a time, each in its own process.", rich_help_panel=_MANY
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Process only part I of N, for example on one of N machines. I counts from 1 to N or from 0 to N-1.",
        rich_help_panel=_MANY,
    ),
]
ManifestOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Append one JSON line per song to FILE: what was done, with which model, and what went wrong. Repeat the "
        "command to resume: songs whose outputs exist and songs that failed are skipped.",
        rich_help_panel=_MANY,
    ),
]
RetryFailedOption = Annotated[
    bool,
    typer.Option("--retry-failed", help="With --manifest: try the failed songs again.", rich_help_panel=_MANY),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be done, without doing it.", rich_help_panel=_MANY)
]
AsJsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per song.", rich_help_panel=_REPORT)]
ProgressOption = Annotated[
    Progress,
    typer.Option(
        help="Progress display on stderr: bars, JSON with one object per line, or none. auto draws bars on a terminal.",
        rich_help_panel=_REPORT,
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="Print only results, warnings and errors.", rich_help_panel=_REPORT),
]
