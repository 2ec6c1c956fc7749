"""Sound through pipes: read onwards as it comes, written as it is known, of any length or none.

What comes as wav with plain samples, or without a header, is read piece by piece. Anything else goes to a temporary
file first, from where it is read as any recording is, and so has to end.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from vocalsep.audio import wav
from vocalsep.audio.formats import Format
from vocalsep.audio.reader import RATES, Reader, block_samples, reason
from vocalsep.audio.wav import ForeignError, Layout
from vocalsep.audio.writer import CLIPPING, clipped, stored
from vocalsep.errors import AudioError, ConfigError, unknown
from vocalsep.shapes import Waveform

PIPE_BLOCK_SECONDS = 0.5
_HEADER = 2**24  # bytes before the first sample, at most
INPUT, OUTPUT = "standard input", "standard output"

_RAW = {"u8": "PCM_U8", "s16le": "PCM_16", "s24le": "PCM_24", "s32le": "PCM_32", "f32le": "FLOAT", "f64le": "DOUBLE"}
_WAV = Format(name="WAV", subtypes=tuple(wav.BYTES), channels=range(1, 1_025))


def raw_layout(text: str) -> Layout:
    """How samples without a header lie.

    Args:
        text: ``rate,channels,format``, as in "44100,2,s16le".

    Raises:
        ConfigError: If it is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts[:2]):
        raise ConfigError(f"raw samples {text!r}: expected rate,channels,format, as in 44100,2,s16le")
    rate, channels, kind = int(parts[0]), int(parts[1]), parts[2].lower()
    if kind not in _RAW:
        raise ConfigError(unknown("raw sample format", kind, _RAW))
    if rate not in RATES or channels not in _WAV.channels:
        expected = f"expected {min(RATES)} to {max(RATES)} Hz and 1 to {max(_WAV.channels)} channels"
        raise ConfigError(f"raw samples {text!r}: {expected}")
    return Layout(rate=rate, channels=channels, subtype=_RAW[kind])


class Stream:
    """Samples that come through a pipe, piece by piece; as `Reader`, but it can be read once.

    Args:
        source: An open binary file, at the first sample.
        layout: How the samples lie.

    Attributes:
        path: None.
        rate: Sampling rate, Hz.
        channels: Channel count.
        samples: Length; 0 where it is not known.
        subtype: Sample format in libsndfile's words.
        estimated: False.
        complaint: What went wrong on the way, without harm to what came.
    """

    path = None
    estimated = False

    def __init__(self, source: BinaryIO, layout: Layout) -> None:
        self._source, self._layout, self.complaint = source, layout, ""
        self.rate, self.channels = layout.rate, layout.channels
        self.samples, self.subtype = layout.samples, layout.subtype

    def __iter__(self) -> Iterator[Waveform]:
        step, left = self._layout.step, self.samples
        size = block_samples(PIPE_BLOCK_SECONDS, self.rate, self.channels)
        while not self.samples or left:
            wanted = min(size, left) if self.samples else size
            content = _filled(self._source, wanted * step)
            left -= len(content) // step
            if len(content) >= step:
                yield wav.decode(content[: len(content) // step * step], self._layout)
            if len(content) < wanted * step:
                break
        if self.samples and left:
            came, said = ((count / self.rate) for count in (self.samples - left, self.samples))
            self.complaint = f"{INPUT}: breaks off after {came:.1f} of {said:.1f} seconds"


@contextlib.contextmanager
def opened(song: Path | BinaryIO, raw: Layout | None = None) -> Iterator[Reader | Stream]:
    """A song, ready to be read.

    Args:
        song: A recording, or an open binary file that need not know its end nor go back.
        raw: How its samples lie, if it has no header.

    Raises:
        AudioError: As `Reader`.
    """
    if isinstance(song, Path):
        with Reader(song) if raw is None else _raw_file(song, raw) as reader:
            yield reader
        return
    begun = bytearray()

    def take(count: int) -> bytes:
        if len(begun) > _HEADER:
            raise ForeignError("no samples")
        content = _filled(song, count)
        begun.extend(content)
        return content

    try:
        layout = raw or wav.read_header(take)
    except ForeignError:
        with _spooled(bytes(begun), song) as reader:
            yield reader
        return
    if layout.rate not in RATES or layout.channels not in _WAV.channels:
        raise AudioError(f"{INPUT}: says that it has {layout.channels} channels of {layout.rate} samples a second")
    yield Stream(song, layout)


@contextlib.contextmanager
def _raw_file(path: Path, raw: Layout) -> Iterator[Stream]:
    try:
        file, size = path.open("rb"), path.stat().st_size
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({reason(error)})") from error
    with file:
        yield Stream(file, replace(raw, samples=size // raw.step))


@contextlib.contextmanager
def _spooled(begun: bytes, rest: BinaryIO) -> Iterator[Reader]:
    """What came as no wav, from a temporary file."""
    if not begun:
        raise AudioError(f"{INPUT}: nothing came")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / INPUT
        try:
            with path.open("wb") as file:
                file.write(begun)
                shutil.copyfileobj(rest, file)
        except OSError as error:
            raise AudioError(f"{INPUT}: cannot be kept in a temporary file ({reason(error)})") from error
        with Reader(path) as reader:
            yield reader


def _filled(source: BinaryIO, count: int) -> bytes:
    """The next so many bytes; fewer only at the end."""
    parts, left = [], count
    while left and (part := source.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


class PipeWriter:
    """A recording that goes through a pipe as wav, or without a header; each block is on its way when it is written.

    Args:
        sink: An open binary file.
        rate: Sampling rate, Hz.
        channels: Channel count.
        subtype: Sample format wanted, in libsndfile's words; see `Writer`.
        clip: "clamp" or "error", as `Writer`.
        samples: Length, if it is known; 0 leaves it open.
        raw: Whether to leave the header out.

    Raises:
        AudioError: If the pipe does not take it. (If it was closed at the other end: BrokenPipeError.)
        ConfigError: If a gain is asked for that fits the whole song.
    """

    path = Path(OUTPUT)
    complaint = ""

    def __init__(
        self,
        sink: BinaryIO,
        *,
        rate: int,
        channels: int,
        subtype: str,
        clip: str = "clamp",
        samples: int = 0,
        raw: bool = False,
    ) -> None:
        if clip not in CLIPPING:
            raise ConfigError(unknown("way of clipping", clip, CLIPPING))
        if clip == "scale":
            raise ConfigError(f"clip 'scale' needs the whole song, for which {OUTPUT} does not wait; write to a file")
        self._sink, self._clip = sink, clip
        self.subtype, self.clipped = _WAV.subtype(subtype), 0
        if not raw:
            self._send(wav.header(Layout(rate=rate, channels=channels, subtype=self.subtype, samples=samples)))

    def write(self, block: Waveform) -> None:
        """Sends a ``(channel, time)`` block.

        Raises:
            AudioError: If the pipe or the format does not take it.
        """
        self.clipped += clipped(block, self.subtype, self._clip, OUTPUT)
        self._send(wav.encode(stored(block, self.subtype), self.subtype))

    def _send(self, content: bytes) -> None:
        try:
            self._sink.write(content)
            self._sink.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise AudioError(f"{OUTPUT}: cannot be written ({reason(error)})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
