"""``vocalsep doctor``: check that this installation works, by using each part of it once."""

from __future__ import annotations

import dataclasses
import functools
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

from vocalsep.cli import streams
from vocalsep.cli.common import stderr, stdout, widen_for_tables
from vocalsep.cores import count_cores
from vocalsep.errors import AudioError, ModelError
from vocalsep.release import __version__
from vocalsep.text import escape

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from packaging.requirements import Requirement

    from vocalsep.audio import SampleLayout
    from vocalsep.shapes import Waveform

_RATE, _SECONDS, _CHUNK_SECONDS = 44_100, 0.5, 2.5
_FOR_TRAINING = "only needed for training and CUDA: pip install 'vocalsep[train]'"
_MIN_CORRELATION = 0.8  # between the sound that was written and the one that was read back
_MATRIX, _TRIES = 256, 4  # rows and columns of the matrices that bfloat16 and float32 multiply; the fastest try counts
_MIN_FREE = 2**30  # bytes in the temporary folder
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
"""Formats that vocalsep reads but does not write: FFmpeg's container, codec and sample format for a test file."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        group: Kind of check, such as "devices".
        name: What was checked.
        ok: Whether it works.
        detail: What the check found, or the error.
    """

    group: str
    name: str
    ok: bool
    detail: str


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")] = False,
) -> None:
    """Check that vocalsep works on this machine.

    Uses every library, device, audio format and model once, and checks the
    folders for temporary files and decoded tracks. The exit status is 1 if
    something is broken.
    """
    from rich.progress import Progress, TextColumn

    findings = []
    with Progress(
        TextColumn("{task.description}"), console=stderr, transient=True, disable=not stderr.is_terminal
    ) as bar:
        task = bar.add_task("checking ...")
        for finding in examine():
            findings.append(finding)
            bar.update(task, description=f"checking {finding.group}: {finding.name} ...")
    ok = all(finding.ok for finding in findings)
    if as_json:
        result = {"ok": ok, "findings": [dataclasses.asdict(finding) for finding in findings]}
        streams.write_object(sys.stdout, result)
    else:
        _print_findings(findings)
    if not ok:
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Run all checks in order."""
    yield from _check_versions()
    groups = {"devices": _list_devices(), "read and write": _list_written_formats(), "read": _list_read_formats()}
    for group, checks in groups.items():
        for name, check in checks.items():
            yield _run(group, name, check)
    yield from _check_models()
    yield _run("temporary folder", tempfile.gettempdir(), _check_temporary_folder)
    yield from _check_cache_folder()


def _run(group: str, name: str, check: Callable[[], str]) -> Finding:
    """Run a check, which returns a detail or raises an error."""
    try:
        return Finding(group, name, True, check())
    except Exception as error:  # a broken installation can raise anything
        return Finding(group, name, False, " ".join(f"{type(error).__name__}: {error}".split()))


def _check_versions() -> Iterator[Finding]:
    import importlib.metadata

    from packaging.requirements import Requirement

    yield Finding("versions", "vocalsep", True, __version__)
    yield Finding("versions", "Python", True, f"{platform.python_version()}, {platform.platform()}")
    try:
        lines = importlib.metadata.requires("vocalsep") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
        yield Finding("versions", "packages", False, "vocalsep is not installed; install it with pip")
    for line in lines:
        requirement = Requirement(line)
        required, for_training = (
            requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in ("", "train")
        )
        if required or for_training:
            check = functools.partial(_check_version, requirement, optional=not required)
            yield _run("versions", requirement.name, check)
    yield _run("versions", "libsndfile", _find_libsndfile)
    yield _run("versions", "FFmpeg", _find_ffmpeg)


def _check_version(requirement: Requirement, *, optional: bool) -> str:
    import importlib.metadata

    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        if not optional:
            raise
        return f"not installed; {_FOR_TRAINING}"
    if not requirement.specifier.contains(version, prereleases=True):
        raise ImportError(f"{version} is installed, but vocalsep needs {requirement.specifier}; reinstall vocalsep")
    return version


def _find_libsndfile() -> str:
    import soundfile

    return str(soundfile.__libsndfile_version__)


def _find_ffmpeg() -> str:
    import av

    return str(av.ffmpeg_version_info)


def _list_devices() -> dict[str, Callable[[], str]]:
    import importlib.util

    checks: dict[str, Callable[[], str]] = {
        "cpu": lambda: f"{count_cores()} cores",
        "cuda": _use_cuda,
        "sound": _count_sound_devices,
    }
    return checks | ({"bfloat16": _time_bfloat16} if importlib.util.find_spec("torch") else {})


def _count_sound_devices() -> str:
    """Count the devices for `vocalsep live`, which are no must."""
    from vocalsep.live import DeviceError, SoundDevices

    try:
        found = SoundDevices().list_devices()
    except DeviceError as error:
        return str(error)
    inputs, outputs = (sum(each[f"max_{kind}_channels"] > 0 for each in found) for kind in ("input", "output"))
    return f"{inputs} inputs, {outputs} outputs, for vocalsep live"


def _use_cuda() -> str:
    """Compute something on CUDA. Where there is no NVIDIA driver, torch is not imported."""
    from vocalsep.backends import choose_device

    if choose_device("auto") == "cpu":
        return "not available; vocalsep uses the CPU"
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    (torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")).cpu()
    return ", ".join(names)


def _time_bfloat16() -> str:
    """Compare the speeds of bfloat16 and float32. Training measures this by itself if its precision is auto."""
    import torch

    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        matrix, tries = torch.ones(_MATRIX, _MATRIX, dtype=kind), []
        for _ in range(_TRIES):
            started = time.perf_counter()
            matrix @ matrix
            tries.append(time.perf_counter() - started)
        seconds[kind] = min(tries)
    return f"{seconds[torch.float32] / seconds[torch.bfloat16]:.2g} times the speed of float32 on the CPU, in training"


def _list_written_formats() -> dict[str, Callable[[], str]]:
    from vocalsep import audio

    return {f".{extension}": functools.partial(_write_and_read, extension) for extension in audio.FORMATS}


def _write_and_read(extension: str) -> str:
    from vocalsep import audio

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sound.{extension}"
        with audio.Writer(path, rate=_RATE, channels=2, subtype="PCM_16") as writer:
            writer.write(_make_sound(_RATE))
        raw = audio.SampleLayout(rate=_RATE, channels=2, subtype="PCM_16")
        return _read_back(path, raw if extension in ("raw", "pcm") else None)


def _list_read_formats() -> dict[str, Callable[[], str]]:
    checks: dict[str, Callable[[], str]] = {
        name.lower(): functools.partial(_read_with_libsndfile, name) for name in _SNDFILE
    }
    return checks | {name: functools.partial(_read_with_ffmpeg, *encoding) for name, encoding in _FFMPEG.items()}


def _read_with_libsndfile(name: str) -> str:
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        soundfile.write(path, _make_sound(_RATE).T, _RATE, format=name, subtype="PCM_16")
        return _read_back(path)


def _read_with_ffmpeg(container: str, codec: str, kind: str) -> str:
    import av

    rate = 48_000 if codec == "libopus" else _RATE
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        with av.open(str(path), "w", format=container) as file:
            stream = cast("AudioStream", file.add_stream(codec, rate=rate, layout="stereo"))
            stream.format, stream.codec_context.time_base = av.AudioFormat(kind), Fraction(1, rate)
            if not stream.codec_context.codec.lossless:
                stream.bit_rate = 192_000
            samples = _make_sound(rate).T.reshape(1, -1)
            if kind.startswith("s16"):
                samples = (samples * 32_767).astype("int16")
            frame = av.AudioFrame.from_ndarray(samples, kind.removesuffix("p"), "stereo")
            frame.sample_rate, frame.pts = rate, 0
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        return _read_back(path)


def _make_sound(rate: int) -> Waveform:
    """Make a rising tone, ``(channel, time)``, that is easy to recognise."""
    import numpy as np

    seconds = np.arange(round(_SECONDS * rate)) / rate
    tone = 0.5 * np.sin(2 * np.pi * (300 + 2_000 * seconds) * seconds)
    return np.stack([tone, 0.7 * tone]).astype(np.float32)


def _read_back(path: Path, raw: SampleLayout | None = None) -> str:
    """Read the sound back, compare it with the original and return the library that decoded it."""
    import numpy as np

    from vocalsep import audio

    with audio.open_song(path, raw) as reader:
        rate, back = reader.rate, np.concatenate(list(reader), axis=-1)
        library = "FFmpeg" if isinstance(reader, audio.Reader) and reader.by_ffmpeg else "libsndfile"
    expected = _make_sound(rate)
    if back.shape[0] != len(expected) or back.shape[-1] < 0.8 * expected.shape[-1]:
        raise AudioError(f"wrote {tuple(expected.shape)} samples, read {tuple(back.shape)}")
    size = back.shape[-1] + expected.shape[-1]
    product = np.fft.rfft(back[0], n=size) * np.fft.rfft(expected[0], n=size).conj()
    with np.errstate(invalid="ignore"):  # of silence
        correlation = np.fft.irfft(product).max() / (np.linalg.norm(back[0]) * np.linalg.norm(expected[0]))
    if not correlation > _MIN_CORRELATION:
        raise AudioError(f"the sound read differs from the sound written (correlation {correlation:.2f})")
    return library


def _check_models() -> Iterator[Finding]:
    from vocalsep import library
    from vocalsep.release import DEFAULT_MODEL

    folder = library.find_models_folder()
    published = library.find_models(folder)
    if DEFAULT_MODEL not in published:
        yield Finding("models", DEFAULT_MODEL, False, f"the default model is not in {folder}; reinstall vocalsep")
    for name in published:
        yield _run("models", name, functools.partial(_try_model, name))


def _try_model(name: str) -> str:
    """Load a model, which verifies its SHA-256, and separate a short sound with it."""
    import numpy as np

    from vocalsep import extraction, weights

    model = weights.load(name)
    separator = extraction.Extractor(model, device="cpu").start(_RATE, 2)
    sound = np.tile(_make_sound(_RATE), math.ceil(_CHUNK_SECONDS / _SECONDS))
    started = time.perf_counter()
    pieces = [separator.push(sound), separator.finish()]
    taken = time.perf_counter() - started
    if separator.has_invalid_output or sum(piece.vocals.shape[-1] for piece in pieces) != sound.shape[-1]:
        raise ModelError("its vocals contain NaN, or have the wrong length")
    return f"SHA-256 matches, separates {_CHUNK_SECONDS} s in {taken:.2f} s"


def _check_temporary_folder() -> str:
    with tempfile.TemporaryFile() as file:
        file.write(b"0" * 2**16)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < _MIN_FREE:
        raise OSError(f"only {free / 2**30:.2f} GiB are free; set TMPDIR to a folder with more space")
    return f"writable, {free / 2**30:.1f} GiB free"


def _check_cache_folder() -> Iterator[Finding]:
    from vocalsep.files import find_cache_folder

    folder = find_cache_folder()
    yield _run("cache folder", str(folder), functools.partial(_check_folder, folder))


def _check_folder(folder: Path) -> str:
    """Check a folder that training may create later: its nearest existing parent must be writable."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OSError(f"{existing} is not a writable folder; set VOCALSEP_CACHE to one")
    free = f"{shutil.disk_usage(existing).free / 2**30:.1f} GiB free"
    return f"writable, {free}" if existing == folder else f"not used yet, {free}"


def _print_findings(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for column in ("check", "item", "state", "detail"):
        table.add_column(column, overflow="fold")
    group = ""
    for finding in findings:
        state = Text("ok", "green") if finding.ok else Text("broken", "bold red")
        name, detail = (Text(escape(text)) for text in (finding.name, finding.detail))
        table.add_row(finding.group if finding.group != group else "", name, state, detail)
        group = finding.group
    widen_for_tables(stdout).print(table)
    failed = sum(not finding.ok for finding in findings)
    stdout.print(f"\n{failed} of {len(findings)} checks failed." if failed else "\nEverything works.", markup=False)
