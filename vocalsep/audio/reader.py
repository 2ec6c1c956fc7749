"""Recordings, read block by block: by libsndfile, or by FFmpeg where libsndfile does not know the format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import soundfile
import torch

from vocalsep.audio.formats import channels_to_wav
from vocalsep.errors import AudioError
from vocalsep.shapes import Waveform

BLOCK_SECONDS = 4.0
RATES = range(1_000, 4_000_001)  # from telephones to DSD, Hz
_BLOCK_VALUES = 2**23  # of all channels, at most: headers may lie
_UNKNOWN = 2**62  # libsndfile says a length beyond this where it knows none


class Source(Protocol):
    """A decoder at work on one file."""

    rate: int
    channels: int
    samples: int
    subtype: str
    estimated: bool
    comments: dict[str, str]

    def blocks(self, size: int) -> Iterator[Waveform]:
        """The recording, ``(channel, time)`` each, `size` samples but for the last."""

    def close(self) -> None:
        """Gives the file back."""


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is only read onwards: soundfile seeks after each block otherwise, and MP3 decoding clicks there."""

    def seekable(self) -> bool:
        """Never."""
        return False


class _Sndfile:
    """A `Source` that libsndfile decodes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _Forward(for_libsndfile(path))
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.samples: int = self._file.frames if self._file.frames < _UNKNOWN else 0
        self.estimated = self.samples < 1
        self.subtype: str = self._file.subtype
        self.comments = {name: text for name, text in self._file.copy_metadata().items() if name != "software"}
        self.empty = self._file.frames < 1

    def blocks(self, size: int) -> Iterator[Waveform]:
        while True:
            try:
                block = self._file.read(size, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, OSError) as error:
                raise AudioError(f"{self._path}: cannot be read to its end ({reason(error)})") from error
            if not len(block):
                return
            yield channels_to_wav(torch.from_numpy(np.ascontiguousarray(block.T)), self.subtype)

    def close(self) -> None:
        self._file.close()


class Reader:
    """A recording, read block by block. A context manager and an iterator of ``(channel, time)`` blocks.

    Of a video it is the first audio track.

    Args:
        path: The file.

    Attributes:
        rate: Sampling rate, Hz.
        channels: Channel count.
        samples: Length as the file states it, or as it follows from what it states; 0 where that is nothing.
        subtype: Sample format in libsndfile's words, as "PCM_16".
        estimated: Whether that is a guess from the bit rate, or not known.
        comments: What the decoder knows of title, artist, and so on.
        by_ffmpeg: Whether FFmpeg decodes it.
        complaint: Empty; see `pipes.Stream`.

    Raises:
        AudioError: If there is no such file, or it is not audio, or it is empty, or its rate is none that exists.
    """

    complaint = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._source = _open(path)
        self.rate, self.channels = self._source.rate, self._source.channels
        self.samples, self.subtype = self._source.samples, self._source.subtype
        self.estimated, self.comments = self._source.estimated, self._source.comments
        self.by_ffmpeg = not isinstance(self._source, _Sndfile)
        if self.rate not in RATES:
            self.close()
            expected = f"expected {min(RATES)} to {max(RATES)}"
            raise AudioError(f"{path}: says that it has {self.rate} samples a second; {expected}")

    def __iter__(self) -> Iterator[Waveform]:
        return self._source.blocks(block_samples(BLOCK_SECONDS, self.rate, self.channels))

    def close(self) -> None:
        """Closes the file; leaving the ``with`` block does so, too."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def block_samples(seconds: float, rate: int, channels: int) -> int:
    """Samples to a block of so many seconds; fewer where a header that may lie would make it huge."""
    return max(1, min(round(seconds * rate), _BLOCK_VALUES // channels))


def _open(path: Path) -> Source:
    try:
        if not path.exists():
            raise AudioError(f"{path}: no such file")
        if path.is_dir():
            raise AudioError(f"{path}: is a folder; expected an audio file")
        if not path.is_file():
            raise AudioError(f"{path}: is a pipe or a device; expected an audio file")
        path.open("rb").close()  # libsndfile does not say that it may not read a file
    except (OSError, UnicodeError, ValueError) as error:
        raise AudioError(f"{path}: not an audio file that can be read ({reason(error)})") from error
    try:
        source = _Sndfile(path)
    except (soundfile.LibsndfileError, OSError, TypeError, UnicodeError) as error:
        return _ffmpeg(path, reason(error))
    if source.subtype == "OPUS":  # libsndfile decodes a part of the band of some, and stops in the middle of others
        source.close()
        return _ffmpeg(path, "Opus")
    if source.empty:
        source.close()
        raise AudioError(f"{path}: the recording is empty")
    return source


def for_libsndfile(path: Path) -> Path | bytes:
    """A path as soundfile takes it, also where it is no text."""
    return path if os.name == "nt" else os.fsencode(path)


def _ffmpeg(path: Path, why: str) -> Source:
    """What libsndfile does not read; FFmpeg is loaded only now.

    Args:
        path: The file.
        why: What libsndfile said, for an error.
    """
    from vocalsep.audio import decoding

    return decoding.Source(path, why)


def reason(error: BaseException) -> str:
    """What a library said, without its decoration."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()).rstrip(".")


def read(path: Path) -> tuple[Waveform, int]:
    """Reads a whole recording.

    Returns:
        ``(channel, time)`` and the rate in Hz.

    Raises:
        AudioError: As `Reader`.
    """
    with Reader(path) as reader:
        blocks = list(reader)
    if not blocks:
        raise AudioError(f"{path}: the recording is empty")
    return torch.cat(blocks, dim=-1), reader.rate
