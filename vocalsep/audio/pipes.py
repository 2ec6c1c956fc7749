"""Read and write sound of any length through pipes, without seeking.

Plain wav and raw samples are read as they arrive. Any other format is first saved to a temporary file, so its stream
has to end.
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
from vocalsep.audio.reader import RATES, Reader, choose_block_size, describe_early_end
from vocalsep.audio.wav import SampleLayout, UnsupportedWavError
from vocalsep.audio.writer import CLIPPING, count_clipped, fit_to_subtype
from vocalsep.errors import AudioError, ConfigError, describe_error, describe_unknown
from vocalsep.shapes import Waveform

PIPE_BLOCK_SECONDS = 0.5
STDIN, STDOUT = "standard input", "standard output"
"""What messages call the two pipes."""

_MAX_HEADER = 2**24  # bytes before the first sample
_RAW = {"u8": "PCM_U8", "s16le": "PCM_16", "s24le": "PCM_24", "s32le": "PCM_32", "f32le": "FLOAT", "f64le": "DOUBLE"}
_WAV = Format(name="WAV", subtypes=tuple(wav.BYTES), channels=range(1, 1_025))


def parse_sample_layout(text: str) -> SampleLayout:
    """Parse the layout of samples without a header.

    Args:
        text: ``rate,channels,format``, such as "44100,2,s16le".

    Raises:
        ConfigError: If the text does not have this form, or a value is out of range.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts[:2]):
        raise ConfigError(f"raw samples {text!r}: expected rate,channels,format, such as 44100,2,s16le")
    rate, channels, kind = int(parts[0]), int(parts[1]), parts[2].lower()
    if kind not in _RAW:
        raise ConfigError(describe_unknown("raw sample format", kind, _RAW))
    if rate not in RATES or channels not in _WAV.channels:
        expected = f"expected {min(RATES)} to {max(RATES)} Hz and 1 to {max(_WAV.channels)} channels"
        raise ConfigError(f"raw samples {text!r}: {expected}")
    return SampleLayout(rate=rate, channels=channels, subtype=_RAW[kind])


class Stream:
    """Read samples from a pipe as they arrive. Like `Reader`, but it can be read only once.

    Args:
        source: An open binary file, positioned at the first sample.
        layout: How the samples are stored.

    Attributes:
        path: None.
        rate: Sample rate, Hz.
        channels: Channel count.
        samples: Length; 0 if unknown.
        block_samples: Number of samples to wait for before they are handed on. May be changed before the first.
        subtype: Sample format in libsndfile's names.
        estimated: Always False.
        warning: A problem that does not affect the samples that arrived; empty if there is none.
    """

    path = None
    estimated = False

    def __init__(self, source: BinaryIO, layout: SampleLayout) -> None:
        self._source, self._layout, self.warning = source, layout, ""
        self.rate, self.channels = layout.rate, layout.channels
        self.samples, self.subtype = layout.samples, layout.subtype
        self.block_samples = choose_block_size(PIPE_BLOCK_SECONDS, self.rate, self.channels)

    def __iter__(self) -> Iterator[Waveform]:
        stride, left = self._layout.stride, self.samples
        size = self.block_samples
        while not self.samples or left:
            wanted = min(size, left) if self.samples else size
            content = _read_fully(self._source, wanted * stride)
            left -= len(content) // stride
            if len(content) >= stride:
                yield wav.decode(content[: len(content) // stride * stride], self._layout)
            if len(content) < wanted * stride:
                break
        if self.samples and left:
            received, stated = ((count / self.rate) for count in (self.samples - left, self.samples))
            self.warning = describe_early_end(STDIN, received, stated)


@contextlib.contextmanager
def open_song(song: Path | BinaryIO, raw: SampleLayout | None = None) -> Iterator[Reader | Stream]:
    """Open a song for reading.

    Args:
        song: A path, or an open binary file. The file may be endless, and need not support seeking.
        raw: Layout of the samples if the song has no header.

    Raises:
        AudioError: See `Reader`.
    """
    if isinstance(song, Path):
        with Reader(song) if raw is None else _open_raw_file(song, raw) as reader:
            yield reader
        return
    header = bytearray()

    def take(count: int) -> bytes:
        if len(header) > _MAX_HEADER:
            raise UnsupportedWavError("no samples")
        content = _read_fully(song, count)
        header.extend(content)
        return content

    try:
        layout = raw or wav.read_header(take)
    except UnsupportedWavError:
        with _save_and_open(bytes(header), song) as reader:
            yield reader
        return
    if layout.rate not in RATES or layout.channels not in _WAV.channels:
        raise AudioError(f"{STDIN}: states {layout.channels} channels and a sample rate of {layout.rate} Hz")
    yield Stream(song, layout)


@contextlib.contextmanager
def _open_raw_file(path: Path, raw: SampleLayout) -> Iterator[Stream]:
    try:
        file, size = path.open("rb"), path.stat().st_size
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({describe_error(error)})") from error
    with file:
        yield Stream(file, replace(raw, samples=size // raw.stride))


@contextlib.contextmanager
def _save_and_open(start: bytes, rest: BinaryIO) -> Iterator[Reader]:
    """Save a stream that is not plain wav to a temporary file, and open that file."""
    if not start:
        raise AudioError(f"{STDIN}: is empty")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / STDIN
        try:
            with path.open("wb") as file:
                file.write(start)
                shutil.copyfileobj(rest, file)
        except OSError as error:
            raise AudioError(f"{STDIN}: cannot be saved to a temporary file ({describe_error(error)})") from error
        with Reader(path) as reader:
            yield reader


def _read_fully(source: BinaryIO, count: int) -> bytes:
    """Return the next `count` bytes, fewer only at the end of the stream."""
    parts, left = [], count
    while left and (part := source.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


class PipeWriter:
    """Write a recording to a pipe, as wav or without a header. Each block is sent as soon as it is written.

    Args:
        sink: An open binary file.
        rate: Sample rate, Hz.
        channels: Channel count.
        subtype: Preferred sample format, in libsndfile's names; see `Writer`.
        clip: "clamp" or "error", as in `Writer`.
        samples: Length; 0 if unknown.
        raw: Whether to leave the header out.

    Attributes:
        path: Name of the output in messages.
        subtype: Sample format of the output, in libsndfile's names.
        clipped_samples: Number of samples clamped so far.
        warning: Always empty.

    Raises:
        AudioError: If the pipe cannot be written to.
        BrokenPipeError: If the other end is closed.
        ConfigError: If `clip` is unknown, or "scale", which needs the whole song.
    """

    path = Path(STDOUT)
    warning = ""

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
            raise ConfigError(describe_unknown("clip mode", clip, CLIPPING))
        if clip == "scale":
            raise ConfigError(f"clip 'scale' needs the whole song before {STDOUT} gets its first sample; use a file")
        self._sink, self._clip = sink, clip
        self.subtype, self.clipped_samples = _WAV.choose_subtype(subtype), 0
        if not raw:
            layout = SampleLayout(rate=rate, channels=channels, subtype=self.subtype, samples=samples)
            self._send(wav.build_header(layout))

    def write(self, block: Waveform) -> None:
        """Send a ``(channel, time)`` block.

        Raises:
            AudioError: If the pipe cannot be written to, or `clip` is "error" and a sample is out of range.
            BrokenPipeError: If the other end is closed.
        """
        self.clipped_samples += count_clipped(block, self.subtype, self._clip, STDOUT)
        self._send(wav.encode(fit_to_subtype(block, self.subtype), self.subtype))

    def _send(self, content: bytes) -> None:
        try:
            self._sink.write(content)
            self._sink.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise AudioError(f"{STDOUT}: cannot be written ({describe_error(error)})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
