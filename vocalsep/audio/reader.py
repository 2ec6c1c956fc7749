"""Read recordings block by block, with libsndfile, or with FFmpeg if libsndfile cannot read the format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import soundfile

from vocalsep.audio import wav
from vocalsep.audio.formats import TOLERANCE_SECONDS, reorder_to_wav
from vocalsep.errors import AudioError, describe_error
from vocalsep.shapes import Waveform

BLOCK_SECONDS = 4.0
RATES = range(1_000, 4_000_001)  # Hz, from telephone to DSD
_MAX_VALUES = 2**23  # in a block, over all channels: a damaged header may claim anything
_OTHER_FILES = {
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"pk\3\4": "a zip archive",
    b"%pdf": "a PDF",
    b"\x89png": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"#extm3u": "a playlist",
}
"""What people take for recordings, by its first bytes in lower case."""
_UNINFORMATIVE = ("possibly a pipe", "not recognised", "unknown format", "unimplemented")
_UNKNOWN = 2**62  # libsndfile reports at least this length if it does not know the length


class Decoder(Protocol):
    """A decoder for one file."""

    rate: int
    channels: int
    samples: int
    subtype: str
    estimated: bool
    comments: dict[str, str]

    def read_blocks(self, size: int) -> Iterator[Waveform]:
        """Yield the recording in ``(channel, time)`` blocks of `size` samples; the last may be shorter."""

    def close(self) -> None:
        """Close the file."""


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that never seeks. Otherwise, soundfile seeks after each block, which makes MP3s click."""

    def seekable(self) -> bool:
        """Return False."""
        return False


class _SndfileDecoder:
    """A `Decoder` that uses libsndfile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _SequentialFile(encode_path(path))
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.samples: int = self._file.frames if self._file.frames < _UNKNOWN else 0
        self.estimated = self.samples < 1
        self.subtype: str = self._file.subtype
        self.comments = {name: text for name, text in self._file.copy_metadata().items() if name != "software"}
        self.empty = self._file.frames < 1

    def read_blocks(self, size: int) -> Iterator[Waveform]:
        kind = "int16" if self.subtype == "PCM_16" else "float32"  # numpy converts faster than libsndfile
        while True:
            try:
                block = self._file.read(size, dtype=kind, always_2d=True)
            except (soundfile.LibsndfileError, OSError) as error:
                raise AudioError(f"{self._path}: cannot be read to the end ({describe_error(error)})") from error
            if not len(block):
                return
            samples = block.T.astype(np.float32, order="C", copy=False)
            if kind == "int16":
                samples *= np.float32(2**-15)
            yield reorder_to_wav(samples, self.subtype)

    def close(self) -> None:
        self._file.close()


class Reader:
    """Read a recording block by block. A context manager, and an iterator of ``(channel, time)`` blocks.

    In a video, it reads the first audio track.

    Args:
        path: The file.

    Attributes:
        path: The file.
        rate: Sample rate, Hz.
        channels: Channel count.
        samples: Length that the file states or implies; 0 if unknown.
        subtype: Sample format in libsndfile's names, such as "PCM_16".
        estimated: Whether `samples` is unknown or only a guess from the bit rate.
        comments: Title, artist and other tags that the decoder found.
        by_ffmpeg: Whether FFmpeg decodes the file.
        warning: Says that the recording ended earlier than stated, once it has been read; until then empty.

    Raises:
        AudioError: If the file is missing, empty or not audio, or states an impossible sample rate.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.warning = path, ""
        self._decoder = _open(path)
        self.rate, self.channels = self._decoder.rate, self._decoder.channels
        self.samples, self.subtype = self._decoder.samples, self._decoder.subtype
        self.estimated, self.comments = self._decoder.estimated, self._decoder.comments
        self.by_ffmpeg = not isinstance(self._decoder, _SndfileDecoder)
        if self.rate not in RATES:
            self.close()
            expected = f"expected {min(RATES)} to {max(RATES)} Hz"
            raise AudioError(f"{path}: states a sample rate of {self.rate} Hz; {expected}")

    def __iter__(self) -> Iterator[Waveform]:
        read = 0
        for block in self._decoder.read_blocks(choose_block_size(BLOCK_SECONDS, self.rate, self.channels)):
            read += block.shape[-1]
            yield block
        stated = 0 if self.estimated else max(self.samples, _read_stated_length(self.path))
        if read < stated - TOLERANCE_SECONDS * self.rate:
            self.warning = describe_early_end(str(self.path), read / self.rate, stated / self.rate)

    def close(self) -> None:
        """Close the file, as leaving the ``with`` block does."""
        self._decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def describe_early_end(name: str, seconds: float, stated: float) -> str:
    """Return the warning about a recording that ends earlier than it states."""
    return f"{name}: breaks off after {seconds:.1f} of {stated:.1f} seconds"


def _read_stated_length(path: Path) -> int:
    """Return the length in the header of a wav file, in samples; 0 for other files, and if the header states none.

    libsndfile ignores a length that the file is too short for.
    """
    try:
        with path.open("rb") as file:
            return wav.read_header(file.read).samples
    except (OSError, wav.UnsupportedWavError):
        return 0


def choose_block_size(seconds: float, rate: int, channels: int) -> int:
    """Return the number of samples in a block of `seconds`, or fewer if a damaged header would make it huge."""
    return max(1, min(round(seconds * rate), _MAX_VALUES // channels))


def _open(path: Path) -> Decoder:
    try:
        if not path.exists():
            raise AudioError(f"{path}: no such file")
        if path.is_dir():
            raise AudioError(f"{path}: is a folder; expected an audio file")
        if not path.is_file():
            raise AudioError(f"{path}: is a pipe or a device; expected an audio file")
        path.open("rb").close()  # libsndfile does not report missing permissions
    except (OSError, UnicodeError, ValueError) as error:
        raise AudioError(f"{path}: cannot be opened ({describe_error(error)})") from error
    try:
        decoder = _SndfileDecoder(path)
    except (soundfile.LibsndfileError, OSError, TypeError, UnicodeError) as error:
        why = describe_error(error)
        return _open_with_ffmpeg(path, _describe_content(path) if _says_nothing(why) else why)
    if decoder.subtype == "OPUS":  # libsndfile loses the upper band of some files and stops in the middle of others
        decoder.close()
        return _open_with_ffmpeg(path, "Opus")
    if decoder.empty:
        decoder.close()
        raise AudioError(f"{path}: the recording is empty")
    return decoder


def _says_nothing(why: str) -> bool:
    """Return whether libsndfile's error tells no more than that it does not know the file."""
    return any(words in why.lower() for words in _UNINFORMATIVE)


def _describe_content(path: Path) -> str:
    """Return what a file that libsndfile does not know begins with."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        return describe_error(error)
    for start, kind in _OTHER_FILES.items():
        if head.lstrip().lower().startswith(start):
            return f"it is {kind}"
    if not head.strip(b"\0"):
        return "it begins with zeros" if head else "it is empty"
    try:
        head[:500].decode()
    except UnicodeDecodeError as error:
        if error.start < len(head[:500]) - 3:  # not just a letter that was cut in two
            return "neither libsndfile nor FFmpeg knows its content"
    return "it is text"


def encode_path(path: Path) -> Path | bytes:
    """Return a path in a form that soundfile accepts, even if the name is not valid Unicode."""
    return path if os.name == "nt" else os.fsencode(path)


def _open_with_ffmpeg(path: Path, why: str) -> Decoder:
    """Open a file that libsndfile cannot read.

    Args:
        path: The file.
        why: libsndfile's error, to be quoted in ours.
    """
    from vocalsep.audio import decoding  # loads FFmpeg, which most songs do not need

    return decoding.FFmpegDecoder(path, why)


def read(path: Path) -> tuple[Waveform, int]:
    """Read a whole recording.

    Returns:
        ``(channel, time)`` samples and the sample rate in Hz.

    Raises:
        AudioError: See `Reader`.
    """
    with Reader(path) as reader:
        blocks = list(reader)
    if not blocks:
        raise AudioError(f"{path}: the recording is empty")
    return np.concatenate(blocks, axis=-1), reader.rate
