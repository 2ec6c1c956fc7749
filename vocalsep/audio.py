"""Reading and writing recordings in blocks, and changing their rate: the only place that touches sound files.

Inside the package sound is ``(channel, time)`` float32 with full scale 1; files and libsndfile see ``(time,
channel)``. Levels are never touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch

from vocalsep import files
from vocalsep.errors import AudioError
from vocalsep.shapes import Waveform

SUFFIXES = frozenset({".wav", ".aiff", ".aif", ".flac", ".ogg", ".oga", ".opus", ".mp3"})
"""File endings that are looked for in folders. What a file really is, its content tells."""

BLOCK_SECONDS = 4.0
_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_DEPTHS = (*_BITS, "FLOAT", "DOUBLE")
_SET_ADD_PEAK_CHUNK = 0x1050  # libsndfile's SFC_SET_ADD_PEAK_CHUNK


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is only read onwards: soundfile seeks after each block otherwise, and MP3 decoding clicks there."""

    def seekable(self) -> bool:
        """Never."""
        return False


class Reader:
    """A recording, read block by block. A context manager and an iterator of ``(channel, time)`` blocks.

    Args:
        path: The file.

    Attributes:
        rate: Sampling rate, Hz.
        channels: Channel count.
        samples: Length as the file states it.
        subtype: Sample format in libsndfile's words, as "PCM_16".

    Raises:
        AudioError: If there is no such file, or it is not audio, or it is empty.
    """

    def __init__(self, path: Path) -> None:
        try:
            if not path.exists():
                raise AudioError(f"{path}: no such file")
            if path.is_dir():
                raise AudioError(f"{path}: is a folder; expected an audio file")
            self._file = _Forward(path)
        except (soundfile.LibsndfileError, OSError, TypeError, UnicodeError) as error:
            raise AudioError(f"{path}: not an audio file that can be read ({_reason(error)})") from error
        self.path = path
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.samples: int = self._file.frames
        self.subtype: str = self._file.subtype
        if self.samples < 1:
            self._file.close()
            raise AudioError(f"{path}: the recording is empty")

    def __iter__(self) -> Iterator[Waveform]:
        size = max(1, round(BLOCK_SECONDS * self.rate))
        while True:
            try:
                block = self._file.read(size, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, OSError) as error:
                raise AudioError(f"{self.path}: cannot be read to its end ({_reason(error)})") from error
            if not len(block):
                return
            yield torch.from_numpy(np.ascontiguousarray(block.T))

    def close(self) -> None:
        """Closes the file; leaving the ``with`` block does so, too."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Writer:
    """A recording, written block by block to a temporary file that takes its name only when all is well.

    Leaving the ``with`` block normally moves the file to `path`; leaving it by an error removes it.

    Args:
        path: The file to be; its ending chooses the format. The folder must exist.
        rate: Sampling rate, Hz.
        channels: Channel count.
        subtype: Sample format wanted, in libsndfile's words; if the format has none of that name, its usual one.

    Raises:
        AudioError: If the format is unknown or the file cannot be written.
    """

    def __init__(self, path: Path, *, rate: int, channels: int, subtype: str) -> None:
        self.path = path
        kind = check_output(path)
        if subtype not in _DEPTHS:  # a lossy recording has no depth: keep all that its decoder gives
            subtype = "FLOAT"
        if not soundfile.check_format(kind, subtype):
            subtype = "PCM_24" if soundfile.check_format(kind, "PCM_24") else soundfile.default_subtype(kind)
        self.subtype = subtype
        with contextlib.ExitStack() as stack:
            try:
                temporary = stack.enter_context(files.whole(path))
                self._file = soundfile.SoundFile(
                    temporary, "w", samplerate=rate, channels=channels, format=kind, subtype=subtype
                )
            except (soundfile.LibsndfileError, OSError) as error:
                raise AudioError(f"{path}: cannot be written ({_reason(error)})") from error
            if subtype in ("FLOAT", "DOUBLE"):  # its peak chunk holds the time of day: same sound, other bytes
                soundfile._snd.sf_command(self._file._file, _SET_ADD_PEAK_CHUNK, soundfile._ffi.NULL, 0)
            self._stack = stack.pop_all()

    def write(self, block: Waveform) -> None:
        """Appends a ``(channel, time)`` block.

        Raises:
            AudioError: If the disk does not take it.
        """
        try:
            self._file.write(_quantised(block.numpy().T, self.subtype))
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(f"{self.path}: cannot be written ({_reason(error)})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._stack.__exit__(kind, error, trace)


def _quantised(samples: npt.NDArray[np.float32], subtype: str) -> npt.NDArray[Any]:
    """Samples as libsndfile should get them: rounded for fixed-point formats, where it would cut off instead."""
    if subtype not in _BITS:
        return samples
    bits = _BITS[subtype]
    full = 2.0 ** (bits - 1)
    steps = np.clip(np.round(samples.astype(np.float64) * full), -full, full - 1)
    return (steps.astype(np.int64) << (32 - bits)).astype(np.int32)


def check_output(path: Path) -> str:
    """Makes sure, before any work is done, that `path` names a file of a format that can be written.

    Returns:
        The format, in libsndfile's words.

    Raises:
        AudioError: If its ending is unknown, or it is a folder.
    """
    if path.is_dir():
        raise AudioError(f"{path}: is a folder; expected a file to write")
    endings = {"aif": "AIFF", "oga": "OGG"}
    ending = path.suffix.lower().removeprefix(".")
    kind = endings.get(ending, ending.upper())
    if kind not in ("WAV", "FLAC", "AIFF", "OGG"):
        raise AudioError(f"{path}: unknown output format {path.suffix!r}; expected .wav, .flac, .aiff or .ogg")
    return kind


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


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


class Resampler:
    """Streaming change of rate (soxr, high quality). What comes out is aligned in time with what went in.

    Even the shortest signal comes out with at least one sample.

    Args:
        rate: Rate of the input, Hz.
        to_rate: Rate of the output, Hz.
        channels: Channel count.
    """

    def __init__(self, rate: int, to_rate: int, channels: int) -> None:
        self._channels = channels
        self._stream = None if rate == to_rate else soxr.ResampleStream(rate, to_rate, channels, dtype="float32")
        self._given = 0

    def push(self, samples: Waveform, *, last: bool = False) -> Waveform:
        """Takes the next ``(channel, time)`` samples and gives those that are ready.

        Args:
            samples: Any number of samples, also none.
            last: Whether this is the end; nothing may be pushed afterwards.
        """
        if self._stream is None:
            return samples
        out = self._stream.resample_chunk(np.ascontiguousarray(samples.numpy().T), last=last)
        self._given += len(out)
        if last and not self._given:
            return samples.new_zeros((self._channels, 1))
        return torch.from_numpy(np.ascontiguousarray(out.reshape(-1, self._channels).T))


def resample(samples: Waveform, rate: int, to_rate: int) -> Waveform:
    """Changes the rate of a whole ``(channel, time)`` recording."""
    return Resampler(rate, to_rate, samples.shape[0]).push(samples, last=True)
