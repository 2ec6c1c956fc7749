"""``vocalsep live``: play the vocals of a microphone or line input, or everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vocalsep.cli import signals, streams
from vocalsep.cli.common import Misuse, exit_on_error, stderr, stdout, widen_for_tables
from vocalsep.latency import DEFAULT_LATENCY
from vocalsep.release import DEFAULT_MODEL
from vocalsep.text import escape

if TYPE_CHECKING:
    from vocalsep.live import SoundDevices, Summary


def live(
    source: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="DEVICE",
            help="Input device: its number in --list, or part of its name.",
            show_default="the system's default",
        ),
    ] = None,
    sink: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="DEVICE",
            help="Output device: its number in --list, or part of its name.",
            show_default="the system's default",
        ),
    ] = None,
    keep: Annotated[
        Literal["vocals", "accompaniment"], typer.Option(help="What to play: the vocals, or everything else.")
    ] = "vocals",
    latency: Annotated[
        str,
        typer.Option(
            metavar="SECONDS",
            help="How much later to play, 0.1 to 3 seconds; the devices add their own delay. auto measures this "
            "machine and chooses the shortest latency that it can keep up with. The shorter, the lower the quality.",
        ),
    ] = f"{DEFAULT_LATENCY:g}",
    model: Annotated[
        str,
        typer.Option(
            "-m",
            "--model",
            metavar="MODEL",
            help="One of vocalsep's own models, or A+B for the mean of two: a name, a file or the folder of a training "
            "run.",
        ),
    ] = DEFAULT_MODEL,
    list_devices: Annotated[bool, typer.Option("--list", help="List the devices and exit.")] = False,
) -> None:
    """Play the vocals of a microphone or line input, a moment later.

    With --keep accompaniment, play everything else. If a device disappears,
    vocalsep waits for it. Press Ctrl-C to end; the exit status is then 0.
    """
    from vocalsep.cli.batch import options

    options.check_model(model)
    options.check_live((model,))
    seconds = options.parse_latency(latency)
    with exit_on_error():
        from vocalsep.live import DeviceError, SoundDevices, follow

        devices = SoundDevices()
        if list_devices:
            _print_devices(devices)
            return
        from vocalsep import extraction

        try:
            devices.link(source, sink)
        except DeviceError as error:
            if source is None and sink is None:
                raise
            raise Misuse(str(error)) from error
        with signals.stop_on_signal(lambda: None) as should_stop, streams.silence_c_libraries():
            extractor = extraction.Extractor(model, device="cpu", workers=0, latency=seconds)
            if seconds == "auto":
                _tell(f"this machine can keep up with a latency of {extractor.latency:g} s")
            summary = follow(
                extractor, devices, source=source, sink=sink, keep=keep, tell=_tell, should_stop=should_stop
            )
    _tell(_describe(summary))


def _print_devices(devices: SoundDevices) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    from vocalsep.live import DeviceError

    grid = Grid(show_edge=False, pad_edge=False)
    for head in ("number", "in", "out", "Hz"):
        grid.add_column(head, justify="right")
    grid.add_column("name")
    found = devices.list_devices()
    if not found:
        raise DeviceError("there are no sound devices")
    for each in found:
        counts = (each["max_input_channels"], each["max_output_channels"], round(each["default_samplerate"]))
        name = escape(each["name"]) + (" (default)" if each["is_default"] else "")
        grid.add_row(str(each["index"]), *(str(count or "") for count in counts), Text(name))
    widen_for_tables(stdout).print(grid)


def _tell(text: str) -> None:
    stderr.print(f"vocalsep: {escape(text)}", markup=False)


def _describe(summary: Summary) -> str:
    parts = [f"{summary.seconds:.1f} s"]
    if summary.delay_seconds is not None:
        parts.append(f"{summary.delay_seconds:.2f} s behind")
    count = summary.underruns
    late = f"{count} underrun{'s' * (count > 1)} ({summary.missing_seconds:.2f} s of silence)"
    return ", ".join([*parts, late if count else "no underruns"])
