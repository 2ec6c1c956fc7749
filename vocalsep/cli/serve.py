"""``vocalsep serve``: separate songs in a browser."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from vocalsep import files
from vocalsep.cli import parameters
from vocalsep.cli.common import Inversion, MasksFrom, exit_on_error, report_warning
from vocalsep.cores import count_cores
from vocalsep.errors import ConfigError
from vocalsep.release import DEFAULT_MODEL

if TYPE_CHECKING:
    from vocalsep.batches.work import Settings
    from vocalsep.listening.server.routes import Choices

_PORT = 8377
_GB = 10**9
_FOLDER = "vocalsep/songs in the user's data folder"


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")] = _PORT,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")] = True,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the songs and their results.", show_default=_FOLDER)
    ] = None,
    limit_gb: Annotated[float, typer.Option(min=0.001, metavar="GB", help="Disk space for all songs.")] = 20.0,
    song_limit_gb: Annotated[float, typer.Option(min=0.001, metavar="GB", help="Largest file to accept.")] = 2.0,
    model: parameters.ModelOption = None,
    device: parameters.DeviceOption = "auto",
    threads: parameters.ThreadsOption = None,
    jobs: parameters.JobsOption = 1,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. With any other than 127.0.0.1, other people may be able to reach the page.",
        ),
    ] = "127.0.0.1",
) -> None:
    """Separate songs in a browser, on this machine.

    Prints the address of a page and opens it. Drop songs there, listen to
    the vocals and accompaniment, and download them. Without --host, only
    programs on this machine can reach the page, and only with the token in the
    address. Ctrl-C ends the server; the songs stay.
    """
    from vocalsep.batches import work
    from vocalsep.cli.batch import options

    models = tuple(model or [DEFAULT_MODEL])
    for name in models:
        options.check_model(name)
    settings = work.Settings(
        models=models, device=device, subtype="float", threads=threads or max(1, count_cores() // jobs), mute=True
    )
    with exit_on_error(), _listen(host, port) as listener:
        from vocalsep.cli.batch.runner import ProcessRunner
        from vocalsep.listening.server import guard, routes, store, web
        from vocalsep.listening.server.queue import Queue

        if not guard.is_local(host):
            report_warning(
                f"{host}: other people on your network can reach this address. Whoever has the link can use vocalsep, "
                "and the traffic is not encrypted"
            )
        choices, known = _make_choices(models)
        make_settings = functools.partial(_make_settings, settings, known)
        songs = store.Store(folder or find_folder(), limit=round(limit_gb * _GB), song_limit=round(song_limit_gb * _GB))
        with contextlib.closing(songs), contextlib.ExitStack() as stack:
            queue = Queue(songs, [ProcessRunner(make_settings) for _ in range(jobs)])
            stack.callback(queue.close)
            app = routes.App(songs, queue, choices)
            guarded = guard.Guard(app.asgi, host=host, port=listener.getsockname()[1])
            address = f"http://{_name_host(host)}:{guarded.port}/?{guard.PARAMETER}="
            sys.stdout.write(f"{address}{guarded.token}\n")
            sys.stdout.flush()
            if browser:
                _open_browser(address + guarded.make_ticket())
            web.run(guarded, listener, app.close, queue.close)


def find_folder() -> Path:
    """Return the folder of the songs, unless the user names another."""
    return files.find_data_folder() / "songs"


def describe_command(name: str, chosen: Mapping[str, Any], models: Mapping[str, Sequence[str]]) -> str:
    """Return the command line that separates a song in the same way.

    Args:
        name: The name of the song.
        chosen: Values by option.
        models: The models that each name of a model stands for.
    """
    words = ["vocalsep", "extract", name, "--stem", "both"]
    for model in models.get(chosen["model"], [chosen["model"]]):
        words += [] if model == DEFAULT_MODEL == chosen["model"] else ["-m", model]
    words += ["--gate"] if chosen["gate"] == "yes" else []
    for option, default in (("masks", "auto"), ("inversion", "phase")):
        words += [] if chosen[option] == default else [f"--{option}", chosen[option]]
    return shlex.join(words)


def _make_choices(first: tuple[str, ...]) -> tuple[Choices, dict[str, tuple[str, ...]]]:
    """Return what the page offers, the models of the option -m first, and the models that each of their names means."""
    from vocalsep import library
    from vocalsep.listening.server.routes import Choices

    listed = library.list_models()
    known = {" + ".join(first): first} | {model.name: (model.name,) for model in listed}
    choices = Choices(
        options={
            "model": list(known),
            "gate": ["no", "yes"],
            "masks": get_args(MasksFrom),
            "inversion": get_args(Inversion),
        },
        purposes={model.name: model.purpose or model.description for model in listed},
        formats=get_args(parameters.OutputFormat),
        describe_command=lambda name, chosen: describe_command(name, chosen, known),
    )
    return choices, known


def _make_settings(settings: Settings, known: Mapping[str, tuple[str, ...]], chosen: Mapping[str, Any]) -> Settings:
    """Return the settings for the options of a song, which may come from an earlier server with other models."""
    return dataclasses.replace(
        settings,
        models=known.get(chosen["model"], (chosen["model"],)),
        inversion=chosen["inversion"],
        masks=chosen["masks"],
        gate=chosen["gate"] == "yes",
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number and number > 0 else str(error)  # a name that is not found has no number
        raise ConfigError(f"cannot listen on {host}, port {port} ({reason}); --port 0 takes any free port") from error


def _name_host(host: str) -> str:
    """Return how an address is written before a port."""
    if host in ("0.0.0.0", "::"):  # all addresses; this is the one that always works
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"
    return f"[{host}]" if ":" in host else host


def _open_browser(address: str) -> None:
    """Open the browser without waiting for it. If there is none, the printed address is enough."""
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
