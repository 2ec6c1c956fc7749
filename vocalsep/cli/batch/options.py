"""Refuse options of extract that contradict each other or cannot be meant, before anything else is done."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vocalsep import latency, library, means, remote
from vocalsep.audio import bitrates
from vocalsep.audio.formats import FORMATS, SUFFIXES
from vocalsep.batches.jobs import EXTENSIONS, PIPE, describe_missing
from vocalsep.cli.batch.inputs import Song
from vocalsep.cli.batch.naming import Naming, is_folder, is_template, list_fields
from vocalsep.cli.common import Misuse
from vocalsep.errors import AudioError, ConfigError, ModelError

if TYPE_CHECKING:
    from vocalsep.audio import SampleLayout


def choose_places(
    *, output: str | None, stem: str | None, accompaniment: str | None, others: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Return what the options say about the place of each output, in the form of `naming.Naming.places`.

    Args:
        output: Value of -o.
        stem: What to write: "vocals", "accompaniment" or "both"; None if the user did not say.
        accompaniment: Value of --accompaniment: empty without a path, None without the option.
        others: Values of the options for outputs that are no recordings, likewise, by stem.

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
    return places | {stem: place for stem, place in others.items() if place is not None}


def check_songs(songs: Sequence[str], output: str | None) -> None:
    """Check that the arguments can all be songs.

    Args:
        songs: The arguments.
        output: Value of -o.

    Raises:
        Misuse: If one is an address without a scheme, or the last one looks like an output.
    """
    for text in songs:
        if text.lower().startswith("www.") and not os.path.lexists(text):
            raise Misuse(f"{text}: no such file. Did you mean https://{text}?")
    last = songs[-1] if len(songs) > 1 and output is None else PIPE
    if last == PIPE or os.path.lexists(last) or glob.has_magic(last) or remote.is_address(last):
        return
    if len(songs) == 2 or Path(last).suffix.lower() not in SUFFIXES:
        missing, _, similar = describe_missing(Path(last)).partition(". Did you mean ")
        choice = f"-o {last}, or {similar}" if similar else f"-o {last}?"
        raise Misuse(f"{missing}. Did you mean {choice}")


def check_model(model: str) -> None:
    """Check that there is a model of this name. Whether it can be loaded shows later.

    Raises:
        Misuse: If there is none.
    """
    try:
        for name in means.split(model):
            library.find_file(name)
    except ModelError as error:
        raise Misuse(f"{error}; see 'vocalsep models'") from error


def parse_bitrate(text: str | None) -> int | None:
    """Parse the value of --bitrate. Return bits per second.

    Raises:
        Misuse: If it is no bit rate.
    """
    try:
        return None if text is None else bitrates.parse(text)
    except ConfigError as error:
        raise Misuse(str(error)) from error


def check_remote_places(naming: Naming) -> None:
    """Check that remote outputs can be written, as far as that shows without writing.

    Raises:
        Misuse: If fsspec or a package for the service is missing, the bucket does not exist, or credentials are wrong.
    """
    for stem, place in naming.places.items():
        if place and remote.is_address(place):
            try:
                remote.check_writable(remote.Remote(place))
            except AudioError as error:
                raise Misuse(f"{naming.get_option(stem)} {error}") from error


def parse_shard(text: str | None) -> tuple[int, int]:
    """Parse the value of --shard. Return the part, counted from 0, and the number of parts.

    Parts may be counted from 1 to N or from 0 to N-1: part N is part 0.

    Raises:
        Misuse: If it is no part.
    """
    if text is None:
        return 0, 1
    part, _, parts = text.partition("/")
    if not all(number.isascii() and number.isdigit() for number in (part, parts)) or int(parts) < 1:
        raise Misuse(f"--shard {text}: expected I/N, as in 3/8 for the third of eight parts")
    if int(part) > int(parts):
        raise Misuse(f"--shard {text}: there are only {parts} parts; I counts from 1 to {parts}, or from 0")
    return int(part) % int(parts), int(parts)


def check_format(naming: Naming) -> None:
    """Check that no output's name contradicts the format that --format asks for.

    Raises:
        Misuse: If a file name has another extension, a template lacks ``{ext}``, or --format asks for
            anything but wav on standard output.
    """
    for stem, place in naming.places.items():
        if stem in EXTENSIONS or not place or is_folder(place):
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
        raise Misuse("pipes and --raw take one song at a time; give one SONG, and no --from-file, --jobs or --shard")
    if from_stdin and naming.places[naming.main] is None:
        raise Misuse(f"where should the {naming.main} go? Give -o PATH, or -o - for standard output")
    if naming.places[naming.main] == PIPE and "" in naming.places.values():
        raise Misuse("--accompaniment, --labels and --picture need a path when -o is standard output")
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


def parse_weights(text: str | None, models: tuple[str, ...]) -> tuple[float, ...]:
    """Parse the value of --weights. Return the weights of the models, none if the user gave none.

    Raises:
        Misuse: If they are not one positive number for each of several models.
    """
    try:
        weights = tuple(float(number) for number in text.split(",")) if text is not None else ()
        if len(models) > 1:
            means.Settings(models=models, weights=weights)
        elif weights:
            raise ConfigError("give several models: -m A -m B")
    except (ConfigError, ValueError) as error:
        raise Misuse(f"{'' if text is None else f'--weights {text}: '}{error}") from error
    return weights


def find_swallowed_song(optional: Mapping[str, str | None]) -> tuple[list[str], dict[str, str | None]]:
    """Find the song of a call such as ``--labels song.mp3``, which has no other song.

    Args:
        optional: Values of the options that work without a value.

    Returns:
        The song, and the values without it.

    Raises:
        Misuse: If none of them is a song.
    """
    for option, value in reversed(list(optional.items())):
        if value and os.path.lexists(value):
            return [value], {**optional, option: ""}
    raise Misuse("no songs given. Name files or folders, or list them in a file for --from-file")


def parse_raw(text: str) -> SampleLayout:
    """Parse the value of --raw.

    Raises:
        Misuse: If it is no layout of samples.
    """
    from vocalsep import audio

    try:
        return audio.parse_sample_layout(text)
    except ConfigError as error:
        raise Misuse(str(error)) from error


def parse_latency(text: str) -> float | Literal["auto"]:
    """Parse the value of --latency. Return seconds, or "auto".

    Raises:
        Misuse: If it is neither.
    """
    try:
        return latency.parse(text) or "auto"
    except ConfigError as error:
        raise Misuse(f"{error}, or auto") from error


def check_live(
    models: Sequence[str],
    *,
    inversion: str = "phase",
    masks: str = "auto",
    gate: bool = False,
    as_original: bool = False,
) -> None:
    """Check that the options work with a latency.

    Args:
        models: Names or files of the models.
        inversion: How the masked spectrogram becomes audio.
        masks: Where masks come from.
        gate: Whether to fade the vocals out where there is no voice.
        as_original: Whether songs are cut for models of other programs as those programs do.

    Raises:
        Misuse: If they do not.
    """
    for model in models:
        try:
            found = means.list_files(model)
        except ModelError as error:
            raise Misuse(str(error)) from error
        if any(path.suffix != library.SUFFIX for path in found):
            raise Misuse(f"{model}: a latency needs vocalsep's own models, not another program's")
    others = {"--as-original": as_original, "--gate": gate, f"--inversion {inversion}": inversion != "phase"}
    for option, is_given in (others | {"--masks clusters": masks == "clusters"}).items():
        if is_given:
            raise Misuse(f"--latency cannot be combined with {option}, which needs more of the song at a time")
