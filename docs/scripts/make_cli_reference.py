"""Write the command-line reference from the commands themselves.

    python docs/scripts/make_cli_reference.py [--out docs/cli.md]

Reads every command and option of the Typer app, so that the page cannot differ from ``vocalsep --help``. A test runs
this script and compares its result with the page.
"""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo

from vocalsep.cli import app

PAGE = Path(__file__).parents[1] / "cli.md"
HEAD = """# Command reference

For everyone who uses vocalsep in a terminal or a script: every command and option, with defaults and choices.
To learn by example, start with [Extract vocals](extract.md), [Train](train.md) or [Evaluate](evaluate.md).

<!-- Written by `python docs/scripts/make_cli_reference.py` from the help texts in `vocalsep/cli`: change those. -->
"""
OUTPUT = """Results go to stdout; progress, warnings and errors go to stderr. `--help` or `-h` explains a command.
`vocalsep --install-completion` installs tab completion for your shell.
"""
CODE = re.compile(r"(?<!\w)'[^']+'(?!\w)|(?<![\w-])--?[a-z][a-z-]*|VOCALSEP_\w+|<\w+>[\w.*]*")
REPORT = {
    "input": "the song, or `-`",
    "outputs": "the written files by stem: `vocals`, `accompaniment`, `labels`, `picture`",
    "model": "name of the model",
    "audio_seconds": "length of the song",
    "taken_seconds": "time that the extraction took, without start-up",
    "times_real_time": "`audio_seconds` divided by `taken_seconds`",
    "peak_memory_mb": "peak memory of the process so far, MiB; `null` where the system does not report it",
    "voice": "segments with a voice, `[[start, end], ...]` in seconds",
    "voice_share": "share of the song that these segments take, 0 to 1",
    "vocals_db": "level of the vocals relative to the song, dB; `null` if either is silent",
    "cluster_confidence": "confidence in the choice of cluster, 0 to 1; `null` without clustering",
    "clusters_used": "whether the vocals come from the clusters",
    "clipped_samples": "samples that were clamped to full scale, in all outputs",
    "gain_db": "gain of all outputs; 0 except with `--clip scale`",
    "shorter_than_stated": "whether the song ended earlier than its file states; see `--strict`",
    "warnings": "problems that did not affect the sound; also printed on stderr",
}
EVENTS = {
    "start": (("songs", "model"), "first; `songs` is their number"),
    "song": (("song", "index", "of", "seconds"), "work on a song starts; `index` counts from 1 to `of`"),
    "progress": (("song", "index", "seconds", "of"), "every few seconds of sound; `seconds` of `of` are done"),
    "warning": (("song", "index", "message"), "something went wrong without harm"),
    "done": (
        ("song", "index", "outcome", "report", "error", "traceback", "reason"),
        "a song is `done` (with the `report` above), `failed` (with `error`; bugs have a `traceback`) or `skipped` "
        "(with `reason`: `exists` if its outputs exist, `failed` if it failed in an earlier call, `claimed` if another "
        "call is working on it)",
    ),
    "error": (("message",), "an error that is not about one song, such as a missing model"),
    "end": (
        ("done", "skipped", "failed", "taken_seconds", "page"),
        "last, with the number of songs, and the path of the listening page if there is one; missing after a signal",
    ),
}
TRAIN_EVENTS = {
    "message": (("message",), "a line that people would see"),
    "step": (
        ("step", "loss", "snr_db", "share", "left_seconds"),
        "after each step; `loss` is the mean of the last 20, `snr_db` that of the last validation, `share` from 0 to 1",
    ),
    "error": (("message",), "last, if the training fails"),
    "end": (("weights", "stopped"), "last; `stopped` after Ctrl-C"),
}
OTHER_JSON = {
    "models --json": "`name`, `description`, `purpose`, `scores`, `speed`, `data`, `licence`, `size_mb`, `is_default`, "
    "`is_own`; one object per model",
    "doctor --json": "`ok`, and `findings` with `group`, `name`, `ok` and `detail`",
    "eval --json": "the content of `summary.json`: see [Evaluate](evaluate.md)",
    "data check --json": "`dataset`, `root`, `totals` for each split, `tracks`, `notes` and `problems`",
    "manifest summary --json": "`songs`, `done`, `failed`, `skipped`, `models` as `[name, SHA-256]`, `versions`, "
    "`audio_seconds`, `voice_seconds`, `taken_seconds`, `times_real_time`, `warnings`, and `errors` by song",
    "extract --manifest": "see [Thousands of songs](batches.md#record-what-was-done)",
    "extract --dry-run --json": "`input`, `outputs` and `skipped`, one object per song",
}
STATUS = {
    "0": "Everything worked. Skipped songs count as done.",
    "1": "Something failed. The other songs are still done.",
    "2": "Misuse: an unknown option or model, a missing value, or conflicting options. Nothing was computed.",
    "130": "Stopped by Ctrl-C; `train` also by SIGTERM. No half-written file stays behind.",
    "143": "Stopped by SIGTERM. No half-written file stays behind.",
}
DATASET = "Folder of the data set `{}`, when you do not give `--root`. Presets read it too."
ENVIRONMENT = {
    **{f"VOCALSEP_{name.upper()}": DATASET.format(name) for name in ("dsd100", "mir1k", "stems")},
    "VOCALSEP_TEACHER": "Folder of the songs for `train --dataset teacher`, when you do not give `--root`.",
    "VOCALSEP_VOICES": "Folder of recordings of lone voices, which some presets train on.",
    "VOCALSEP_INSTRUMENTALS": "Folder of music without vocals, which some presets train on.",
    "VOCALSEP_MODELS": "More folders of [your own models](models.md#your-own-models), separated as in PATH.",
    "VOCALSEP_CACHE": "Folder of decoded tracks. `vocalsep doctor` shows the one in use.",
}


class Command(NamedTuple):
    """A command, or a group of commands that does something by itself.

    Attributes:
        name: Its full name, such as "vocalsep models show".
        function: The function that Typer calls.
        help: Its help text: a summary, then more paragraphs.
        is_group: Whether other commands may follow it.
    """

    name: str
    function: Callable[..., Any]
    help: str
    is_group: bool


def make_reference() -> str:
    """Return the page as Markdown."""
    commands = list(find_commands(app, "vocalsep"))
    links = [(f"[`{each.name}`](#{each.name.replace(' ', '-')})", split_help(each)[0]) for each in commands]
    parts = [HEAD, "## Commands\n", make_table(("command", "what it does"), links), OUTPUT]
    for command in commands:
        parts += describe(command)
    parts += describe_json()
    parts += ["## Exit status\n", make_table(("status", "meaning"), list_codes(STATUS))]
    parts += ["## Environment variables\n", make_table(("variable", "meaning"), list_codes(ENVIRONMENT))]
    return "\n".join(parts)


def describe_json() -> list[str]:
    """Return the section about JSON output."""
    return [
        "## JSON\n",
        "Later versions may add fields: ignore those that you do not know.\n",
        "### extract --json\n",
        "stdout gets one object per song, in the order of the songs. If sound goes to stdout, they go to stderr.",
        "`--page` adds a last object with the path of the `page`.\n",
        make_table(("field", "meaning"), list_codes(REPORT)),
        "### extract --progress json\n",
        "stderr gets one object per event, and nothing else. The field `event` names it. With `--jobs`, the events",
        "of several songs are mixed; `index` tells them apart. Lengths are in seconds, or `null` if unknown.\n",
        make_events_table(EVENTS),
        "### train --progress json\n",
        "stderr gets one object per event. The field `event` names it.\n",
        make_events_table(TRAIN_EVENTS),
        "### Other commands\n",
        make_table(("command", "fields"), list_codes(OTHER_JSON)),
    ]


def make_events_table(events: dict[str, tuple[tuple[str, ...], str]]) -> str:
    """Return a table of events with their fields."""
    rows = [(f"`{name}`", ", ".join(f"`{key}`" for key in keys), text) for name, (keys, text) in events.items()]
    return make_table(("event", "other fields", "when"), rows)


def list_codes(meanings: dict[str, str]) -> list[tuple[str, ...]]:
    """Return a row for each name, in code font, and its meaning."""
    return [(f"`{name}`", meaning) for name, meaning in meanings.items()]


def find_commands(group: typer.Typer, name: str) -> Iterator[Command]:
    """Yield a group and all commands below it in the order of its help. Skip groups that do nothing themselves."""
    callback = group.registered_callback
    if callback and callback.callback and inspect.signature(callback.callback).parameters:
        text = group.info.help if isinstance(group.info.help, str) else callback.callback.__doc__ or ""
        yield Command(name, callback.callback, inspect.cleandoc(text), True)
    panels: dict[Any, list[Command]] = {}
    for info in group.registered_commands:
        if info.callback:
            text = inspect.cleandoc(info.callback.__doc__ or "")
            command = Command(f"{name} {info.name or info.callback.__name__}", info.callback, text, False)
            panels.setdefault(info.rich_help_panel, []).append(command)
    for below in group.registered_groups:
        if below.typer_instance:
            found = find_commands(below.typer_instance, f"{name} {below.name}")
            panels.setdefault(below.rich_help_panel, []).extend(found)
    for commands in panels.values():
        yield from commands


def split_help(command: Command) -> list[str]:
    """Return the paragraphs of a command's help as Markdown. Lists of examples become code blocks."""
    paragraphs = command.help.split("\n\n")
    return [
        f"```\n{part[1:].strip()}\n```" if part.startswith("\b") else textwrap.fill(format_text(part), 120)
        for part in paragraphs
    ]


def describe(command: Command) -> list[str]:
    """Return the section of a command: its usage, its help, and a table for each panel of options."""
    arguments, panels = [], dict[str, list[tuple[str, ...]]]()
    hints = get_type_hints(command.function, include_extras=True)
    for parameter in inspect.signature(command.function).parameters.values():
        if get_origin(hints[parameter.name]) is not Annotated:
            continue  # Typer's context
        kind, info = get_args(hints[parameter.name])
        row = (*describe_value(kind, info, parameter), format_text(info.help), describe_default(info, parameter))
        if isinstance(info, ArgumentInfo):
            arguments.append(describe_argument(kind, info, parameter))
            panels.setdefault("Arguments", []).append(row)
        else:
            panels.setdefault(info.rich_help_panel or "Options", []).append(row)
    usage = [command.name, "[OPTIONS]", *arguments, *(["[COMMAND] ..."] if command.is_group else [])]
    parts = [f"## {command.name}\n", f"```\n{' '.join(usage)}\n```\n", *(f"{part}\n" for part in split_help(command))]
    for panel, rows in panels.items():
        parts.append(f"### {panel}\n")
        head = ("argument" if panel == "Arguments" else "option", "value", "meaning", "default")
        parts.append(make_table(head, rows))
    return parts


def describe_argument(kind: Any, info: ArgumentInfo, parameter: inspect.Parameter) -> str:
    """Return an argument as a usage line shows it."""
    text = info.metavar or parameter.name.upper()
    text = text if parameter.default is parameter.empty else f"[{text}]"
    return f"{text}..." if is_list(kind) else text


def describe_value(kind: Any, info: Any, parameter: inspect.Parameter) -> tuple[str, str]:
    """Return the name of a parameter and what its value may be."""
    if isinstance(info, ArgumentInfo):
        return f"`{info.metavar or parameter.name.upper()}`", ""
    declared = [info.default] if isinstance(info.default, str) else []  # where Annotated options keep their first name
    names = [name for part in (*declared, *(info.param_decls or ())) for name in part.split("/")]
    names = names or [f"--{parameter.name.replace('_', '-')}"]
    literal = next((part for part in (kind, *get_args(kind)) if get_origin(part) is Literal), None)
    values = [f"`{choice}`" for choice in get_args(literal)] if literal else []
    if not values and kind is not bool:
        values = [f"`{part}`" for part in (info.metavar or "VALUE").split("|")]
    least = f" (at least {info.min:g})" if info.min is not None else ""
    return ", ".join(f"`{name}`" for name in names), ", ".join(values) + least


def describe_default(info: Any, parameter: inspect.Parameter) -> str:
    """Return the default of a parameter as its help shows it."""
    if parameter.default is parameter.empty:
        return "required"
    if isinstance(info.show_default, str):
        return format_text(info.show_default)
    return "" if parameter.default in (None, False, "") else f"`{parameter.default}`"


def is_list(kind: Any) -> bool:
    """Return whether a parameter takes several values."""
    return any(get_origin(part) is list for part in (kind, *get_args(kind)))


def format_text(text: str) -> str:
    """Return a help text as Markdown: options, variables and quoted commands in code font, the rest escaped."""
    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [escape(text[end : code.start()]), f"`{code.group().strip(chr(39))}`"]
        end = code.end()
    return "".join((*parts, escape(text[end:])))


def escape(text: str) -> str:
    """Escape what Markdown would read as a tag or as emphasis, and the bar that ends a cell."""
    return re.sub(r"[<|*]", lambda found: "\\" + found.group(), text)


def make_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table without the columns that are empty throughout."""
    kept = [column for column in range(len(head)) if any(row[column] for row in rows)]
    lines = [f"| {' | '.join(row[column] for column in kept)} |\n" for row in (head, *rows)]
    return "".join((lines[0], f"|{'---|' * len(kept)}\n", *lines[1:]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.parse_args().out.write_text(make_reference(), encoding="utf-8")
