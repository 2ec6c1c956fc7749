"""``vocalsep doctor``: is everything there, and does it work?"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from vocalsep import files
from vocalsep.cli.common import stdout, widen_for_tables
from vocalsep.errors import AudioError, ModelError
from vocalsep.release import __version__

if TYPE_CHECKING:
    from av.audio.stream import AudioStream

    from vocalsep.audio import SampleLayout
    from vocalsep.shapes import Waveform

_NEEDED = (
    *("torch", "numpy", "scipy", "librosa", "scikit-learn", "threadpoolctl", "soundfile", "soxr", "av", "mutagen"),
    *("safetensors", "matplotlib", "rich", "tomli-w", "typer"),
)
_RATE, _SECONDS, _CHUNK_SECONDS = 44_100, 0.5, 2.5
_LIKE = 0.8  # correlation with the sound that was written
_ROOM = 2**30  # bytes that a temporary folder should have
_SNDFILE = ("W64", "RF64", "CAF", "AU")
_FFMPEG = {
    "mkv (AAC)": ("matroska", "aac", "fltp"),
    "webm (Opus)": ("webm", "libopus", "flt"),
    "m4a (ALAC)": ("ipod", "alac", "s16p"),
    "mov (PCM)": ("mov", "pcm_s16le", "s16"),
    "wma": ("asf", "wmav2", "fltp"),
    "aac": ("adts", "aac", "fltp"),
    "ac3": ("ac3", "ac3", "fltp"),
    "wv": ("wv", "wavpack", "s16p"),
    "tta": ("tta", "tta", "s16"),
}
"""Formats that are read but not written: FFmpeg's container, codec and samples, to make one."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        group: The kind of thing.
        name: The thing.
        ok: Whether it works.
        detail: What there is to say.
    """

    group: str
    name: str
    ok: bool
    detail: str


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON object.")] = False,
) -> None:
    """Check versions, devices, formats, models and the temporary folder, by using them.

    The exit status is 1 if something does not work.
    """
    findings = list(examine())
    ok = all(finding.ok for finding in findings)
    if as_json:
        told = {"ok": ok, "findings": [dataclasses.asdict(finding) for finding in findings]}
        sys.stdout.write(files.dump_json(told) + "\n")
    else:
        _tell(findings)
    if not ok:
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """All findings, in order."""
    yield from _versions()
    for group, probes in (("devices", _devices()), ("read and write", _written()), ("read", _read())):
        for name, probe in probes.items():
            yield _found(group, name, probe)
    yield from _models()
    yield _found("temporary folder", tempfile.gettempdir(), _temporary)


def _found(group: str, name: str, probe: Callable[[], str]) -> Finding:
    try:
        return Finding(group, name, True, probe())
    except Exception as error:  # a broken installation breaks in any way
        return Finding(group, name, False, " ".join(f"{type(error).__name__}: {error}".split()))


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "vocalsep", True, __version__)
    yield Finding("versions", "Python", True, f"{platform.python_version()}, {platform.platform()}")
    for name in _NEEDED:
        yield _found("versions", name, functools.partial(importlib.metadata.version, name))
    yield _found("versions", "libsndfile", _libsndfile)
    yield _found("versions", "FFmpeg", _ffmpeg)


def _libsndfile() -> str:
    import soundfile

    return str(soundfile.__libsndfile_version__)


def _ffmpeg() -> str:
    import av

    return str(av.ffmpeg_version_info)


def _devices() -> dict[str, Callable[[], str]]:
    return {"cpu": _cpu, "cuda": _cuda, "bfloat16": _bfloat16}


def _cpu() -> str:
    import torch

    return f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none; songs are computed on the CPU"
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    (torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")).cpu()
    return ", ".join(names)


def _bfloat16() -> str:
    """Which of bfloat16 and float32 multiplies faster here; training asks the same question for itself."""
    import torch

    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        matrix = torch.ones(256, 256, dtype=kind)
        tries = []
        for _ in range(4):
            started = time.perf_counter()
            matrix @ matrix
            tries.append(time.perf_counter() - started)
        seconds[kind] = min(tries)
    share = seconds[torch.float32] / seconds[torch.bfloat16]
    said = "faster than" if share > 4 / 3 else "slower than" if share < 3 / 4 else "about as fast as"
    return f"{said} float32 on the CPU ({share:.2g} times the speed)"


def _written() -> dict[str, Callable[[], str]]:
    from vocalsep import audio

    return {f".{ending}": functools.partial(_roundtrip, ending) for ending in audio.FORMATS}


def _roundtrip(ending: str) -> str:
    from vocalsep import audio

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sound.{ending}"
        with audio.Writer(path, rate=_RATE, channels=2, subtype="PCM_16") as writer:
            writer.write(_sound(_RATE))
        raw = audio.SampleLayout(rate=_RATE, channels=2, subtype="PCM_16")
        return _compared(path, raw if ending in ("raw", "pcm") else None)


def _read() -> dict[str, Callable[[], str]]:
    by_sndfile: dict[str, Callable[[], str]] = {name.lower(): functools.partial(_by_sndfile, name) for name in _SNDFILE}
    return by_sndfile | {name: functools.partial(_by_ffmpeg, *made) for name, made in _FFMPEG.items()}


def _by_sndfile(name: str) -> str:
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        soundfile.write(path, _sound(_RATE).numpy().T, _RATE, format=name, subtype="PCM_16")
        return _compared(path)


def _by_ffmpeg(container: str, codec: str, kind: str) -> str:
    import av

    rate = 48_000 if codec == "libopus" else _RATE
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        with av.open(str(path), "w", format=container) as file:
            stream = cast("AudioStream", file.add_stream(codec, rate=rate, layout="stereo"))
            stream.format, stream.codec_context.time_base = av.AudioFormat(kind), Fraction(1, rate)
            if not stream.codec_context.codec.lossless:
                stream.bit_rate = 192_000
            samples = _sound(rate).T.contiguous().reshape(1, -1).numpy()
            if kind.startswith("s16"):
                samples = (samples * 32_767).astype("int16")
            frame = av.AudioFrame.from_ndarray(samples, kind.removesuffix("p"), "stereo")
            frame.sample_rate, frame.pts = rate, 0
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        return _compared(path)


def _sound(rate: int) -> Waveform:
    """A rising tone, ``(channel, time)``, by which it is known again."""
    import torch

    seconds = torch.arange(round(_SECONDS * rate)) / rate
    tone = 0.5 * torch.sin(2 * torch.pi * (300 + 2_000 * seconds) * seconds)
    return torch.stack([tone, 0.7 * tone])


def _compared(path: Path, raw: SampleLayout | None = None) -> str:
    """Reads the sound again and says whose format it is."""
    import torch

    from vocalsep import audio

    with audio.open_song(path, raw) as reader:
        rate, back = reader.rate, torch.cat(list(reader), dim=-1)
        library = "FFmpeg" if isinstance(reader, audio.Reader) and reader.by_ffmpeg else "libsndfile"
    expected = _sound(rate)
    if back.shape[0] != len(expected) or back.shape[-1] < 0.8 * expected.shape[-1]:
        raise AudioError(f"{tuple(back.shape)} came back of {tuple(expected.shape)}")
    size = back.shape[-1] + expected.shape[-1]
    product = torch.fft.rfft(back[0], n=size) * torch.fft.rfft(expected[0], n=size).conj()
    likeness = float(torch.fft.irfft(product).max() / (back[0].norm() * expected[0].norm()))
    if not likeness > _LIKE:
        raise AudioError(f"another sound came back (likeness {likeness:.2f})")
    return library


def _models() -> Iterator[Finding]:
    from vocalsep import weights

    published = weights.find_models()
    if weights.DEFAULT_MODEL not in published:
        folder = weights.find_models_folder()
        yield Finding("models", weights.DEFAULT_MODEL, False, f"the default model is not in {folder}; install again")
    for name in published:
        yield _found("models", name, functools.partial(_model, name))


def _model(name: str) -> str:
    """Loads a model, which checks its digest, and lets it hear a chunk."""
    from vocalsep import extraction, weights

    model = weights.load(name)
    song = extraction.Extractor(model, device="cpu").start(_RATE, 2)
    sound = _sound(_RATE).repeat(1, math.ceil(_CHUNK_SECONDS / _SECONDS))
    started = time.perf_counter()
    pieces = [song.push(sound), song.finish()]
    taken = time.perf_counter() - started
    if song.broken or sum(piece.vocals.shape[-1] for piece in pieces) != sound.shape[-1]:
        raise ModelError("its vocals are none")
    return f"{model.net.parameter_count:,} parameters, SHA-256 matches, heard {_CHUNK_SECONDS} s in {taken:.1f} s"


def _temporary() -> str:
    with tempfile.TemporaryFile() as file:
        file.write(b"0" * 2**16)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < _ROOM:
        raise OSError(f"only {free / 2**30:.2f} GiB are free; set TMPDIR to a roomier folder")
    return f"can be written, {free / 2**30:.1f} GiB free"


def _tell(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for column in ("", "what", "state", "detail"):
        table.add_column(column, overflow="fold")
    group = ""
    for finding in findings:
        state = Text("ok", "green") if finding.ok else Text("broken", "bold red")
        table.add_row(finding.group if finding.group != group else "", Text(finding.name), state, Text(finding.detail))
        group = finding.group
    widen_for_tables(stdout).print(table)
