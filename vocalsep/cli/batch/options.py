"""Refuse options of extract that contradict each other or cannot be meant, before anything else is done."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from vocalsep import published
from vocalsep.audio import bitrates
from vocalsep.audio.formats import FORMATS, SUFFIXES
from vocalsep.cli.batch import inputs
from vocalsep.cli.batch.inputs import PIPE, Song
from vocalsep.cli.batch.naming import EXTENSIONS, LABELS, Naming, is_template, list_fields
from vocalsep.cli.common import Misuse
from vocalsep.errors import ConfigError, describe_unknown

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|www\.", re.IGNORECASE)


def choose_places(
    *, output: str | None, stem: str | None, accompaniment: str | None, labels: str | None
) -> dict[str, str | None]:
    """Return what the options say about the place of each output, in the form of `naming.Naming.places`.

    Args:
        output: Value of -o.
        stem: What to write: "vocals", "accompaniment" or "both"; None if the user did not say.
        accompaniment: Value of --accompaniment: empty without a path, None without the option.
        labels: Value of --labels, likewise.

    Raises:
        Misuse: If the options contradict each other.
    """
    places: dict[str, str | None]
    if stem == "accompaniment":
        if output and accompaniment:
            raise Misuse("-o and --accompaniment both say where the accompaniment goes; give only one")
        places = {"accompaniment": output or accompaniment or None}
    else:
        if stem == "vocals" and accompaniment is not None:
            raise Misuse("--stem vocals and --accompaniment cannot be combined; use --stem both")
        places = {"vocals": output or None}
        if stem == "both" or accompaniment is not None:
            places["accompaniment"] = accompaniment or ""
    return places if labels is None else places | {LABELS: labels}


def check_songs(songs: Sequence[str], output: str | None) -> None:
    """Check that the arguments can all be songs.

    Args:
        songs: The arguments.
        output: Value of -o.

    Raises:
        Misuse: If one is an address, or the last one looks like an output.
    """
    for text in songs:
        if _ADDRESS.match(text) and not os.path.lexists(text):
            raise Misuse(
                f"{text}: vocalsep reads files, not addresses. Download the song first, for example with yt-dlp -x"
            )
    last = songs[-1] if len(songs) > 1 and output is None else PIPE
    if last == PIPE or os.path.lexists(last) or glob.has_magic(last):
        return
    if len(songs) == 2 or Path(last).suffix.lower() not in SUFFIXES:
        missing, _, similar = inputs.describe_missing(Path(last)).partition(". Did you mean ")
        choice = f"-o {last}, or {similar}" if similar else f"-o {last}?"
        raise Misuse(f"{missing}. Did you mean {choice}")


def check_model(model: str) -> None:
    """Check that there is a model of this name. Whether it can be loaded shows later.

    Raises:
        Misuse: If there is none.
    """
    path, known = Path(model), published.find_models(published.find_models_folder())
    if model in known or path.exists():
        return
    if path.suffix == published.SUFFIX or len(path.parts) > 1:
        raise Misuse(f"{model}: no such weights file")
    raise Misuse(f"{describe_unknown('model', model, known)}; see 'vocalsep models'")


def parse_bitrate(text: str | None) -> int | None:
    """Parse the value of --bitrate. Return bits per second.

    Raises:
        Misuse: If it is no bit rate.
    """
    try:
        return None if text is None else bitrates.parse(text)
    except ConfigError as error:
        raise Misuse(str(error)) from error


def check_format(naming: Naming) -> None:
    """Check that no output's name contradicts the format that --format asks for.

    Raises:
        Misuse: If a file name has another extension, a template lacks ``{ext}``, or --format asks for
            anything but wav on standard output.
    """
    for stem, place in naming.places.items():
        if stem in EXTENSIONS or not place or place.endswith(("/", os.sep)) or Path(place).is_dir():
            continue
        option = naming.get_option(stem)
        if is_template(place):
            if "ext" not in list_fields(place):
                raise Misuse(f"{option} {place} has no {{ext}} for --format to fill in")
        elif not naming.many and (place == PIPE or Path(place).suffix):
            extension = "wav" if place == PIPE else Path(place).suffix.lower().removeprefix(".")
            if FORMATS.get(extension) is not FORMATS[naming.extension]:
                what = f"{option} {place}" + (" (wav)" if place == PIPE else "")
                raise Misuse(f"{what} and --format {naming.extension} are different formats; give only one")


def check_pipes(
    songs: Sequence[Song], naming: Naming, *, raw: bool, clip: str, processes: int, bitrate: int | None = None
) -> None:
    """Check that the options work with pipes and with samples without a header.

    Args:
        songs: The songs.
        naming: How outputs are named.
        raw: Whether the song is samples without a header.
        clip: What to do with samples beyond full scale; see `audio.CLIPPING`.
        processes: Number of songs at a time.
        bitrate: Bit rate of lossy outputs, bits per second; None if the user chose none.

    Raises:
        Misuse: If they do not.
    """
    from_stdin = any(song.path == PIPE for song in songs)
    to_stdout = [stem for stem, place in naming.places.items() if place == PIPE]
    for stem in EXTENSIONS.keys() & to_stdout:
        raise Misuse(f"--{stem} needs a file; standard output is for sound")
    if not (from_stdin or to_stdout or raw):
        return
    if naming.many or processes > 1:
        raise Misuse("pipes and --raw take one song at a time; give one SONG, and no --from-file or --jobs")
    if from_stdin and naming.places[naming.main] is None:
        raise Misuse(f"where should the {naming.main} go? Give -o PATH, or -o - for standard output")
    if naming.places[naming.main] == PIPE and "" in naming.places.values():
        raise Misuse("--accompaniment and --labels need a path when -o is standard output")
    if len(to_stdout) > 1:
        raise Misuse("vocals and accompaniment cannot both go to standard output")
    if to_stdout and clip == "scale":
        raise Misuse("--clip scale needs the whole song first, so it does not work with standard output")
    if to_stdout and bitrate:
        raise Misuse("standard output gets wav, which has no bit rate; leave out --bitrate")
    if to_stdout and sys.stdout.isatty():
        raise Misuse("standard output is a terminal; send the sound to a program or a file")
    if from_stdin and sys.stdin.isatty():
        raise Misuse("standard input is a terminal; send a recording to it")
