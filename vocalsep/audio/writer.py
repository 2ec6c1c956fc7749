"""Recordings, written block by block, in the format that the ending names."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import soundfile
import torch
from torch import Tensor

from vocalsep import files
from vocalsep.audio import tags
from vocalsep.audio.formats import BITS, Format, channels_from_wav, check_output, data_bytes
from vocalsep.audio.reader import for_libsndfile, reason
from vocalsep.audio.resampling import Resampler
from vocalsep.errors import AudioError, ConfigError, unknown
from vocalsep.shapes import Waveform

CLIPPING = ("error", "clamp", "scale")
"""What to do with samples that a fixed-point format cannot hold."""

LOSSY_PEAK = 8.0
"""What a lossy format holds, times full scale: decoders give more than 1 back, but LAME breaks off at 10,000."""

_FLOATS = ("FLOAT", "DOUBLE")
_SET_ADD_PEAK_CHUNK = 0x1050  # libsndfile's SFC_SET_ADD_PEAK_CHUNK
_LONG = 2**31  # bytes; a wav of more becomes RF64, which has sizes of 64 bits
_FULL = 2**32 - 2**20  # bytes that sizes of 32 bits can tell; some room for headers and tags
_ERRORS = (soundfile.LibsndfileError, OSError)


class Sink(Protocol):
    """An encoder at work on one file."""

    def write(self, samples: Tensor) -> None:
        """Appends a ``(channel, time)`` block: float32, or int32 with full scale 2**31 for fixed-point formats."""

    def close(self) -> None:
        """Writes what is left and closes the file."""


class _Sndfile:
    """A `Sink` that libsndfile encodes."""

    def __init__(self, path: Path, kind: Format, subtype: str, rate: int, channels: int, *, long: bool) -> None:
        self._subtype = subtype
        self._stamped = path if long else None
        self._file = soundfile.SoundFile(
            for_libsndfile(path),
            "w",
            samplerate=rate,
            channels=channels,
            format="RF64" if long else kind.name,
            subtype=subtype,
            compression_level=kind.quality,
            bitrate_mode="VARIABLE" if kind.name == "MP3" else None,
            endian="LITTLE" if kind.name == "RAW" else None,
        )
        if subtype in _FLOATS:  # its peak chunk holds the time of day: same sound, other bytes
            soundfile._snd.sf_command(self._file._file, _SET_ADD_PEAK_CHUNK, soundfile._ffi.NULL, 0)

    def write(self, samples: Tensor) -> None:
        self._file.write(channels_from_wav(samples, self._subtype).numpy().T)

    def close(self) -> None:
        self._file.close()
        if self._stamped:  # libsndfile cannot leave the peak chunk out of RF64
            with self._stamped.open("r+b") as file:
                place = file.read(256).find(b"PEAK")
                if place >= 0:
                    file.seek(place + 12)
                    file.write(bytes(4))


class Writer:
    """A recording, written block by block to a temporary file that takes its name only when all is well.

    Leaving the ``with`` block normally moves the file to `path`; leaving it by an error removes it.

    Args:
        path: The file to be; its ending chooses the format. The folder must exist.
        rate: Sampling rate, Hz. Opus files have 48000 Hz whatever it is.
        channels: Channel count.
        subtype: Sample format wanted, in libsndfile's words; if the format has none of that name, its usual one.
        clip: What to do with samples that the format cannot hold (beyond full scale in a fixed-point one, beyond
            `LOSSY_PEAK` in a lossy one): "clamp" puts them to that and counts them in `clipped`, "error" refuses them.
            ("scale" needs to know the whole song; see `Outputs`.)
        samples: Expected length; long wav files become RF64.
        about: Tags to give to the file. If that fails, `complaint` says why, and the file is written all the same.

    Raises:
        AudioError: If the format is unknown or does not hold such a recording, or the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate: int,
        channels: int,
        subtype: str,
        clip: str = "clamp",
        samples: int = 0,
        about: tags.Tags | None = None,
    ) -> None:
        if clip not in CLIPPING:
            raise ConfigError(unknown("way of clipping", clip, CLIPPING))
        kind = check_output(path, rate=rate, channels=channels)
        self.path, self.clipped, self.complaint = path, 0, ""
        self.subtype, self._kind = kind.subtype(subtype), kind.name
        self._clip, self._about, self._bytes = clip, about if kind.tagged else None, 0
        long = kind.name in ("WAV", "AIFF") and data_bytes(samples, channels, self.subtype) > _LONG
        if kind.name == "AIFF" and long:
            raise AudioError(f"{path}: aiff holds at most 4 GB, which the song may exceed; choose .wav or .flac")
        self._limit = _FULL if kind.name in ("WAV", "AIFF") and not long else 0
        to_rate = kind.resampled or rate
        self._resampler = Resampler(rate, to_rate, channels)
        with contextlib.ExitStack() as stack:
            try:
                self._temporary = stack.enter_context(files.whole(path))
                self._sink = _sink(self._temporary, kind, self.subtype, to_rate, channels, long=long)
            except _ERRORS as error:
                raise AudioError(f"{path}: cannot be written ({reason(error)})") from error
            self._stack = stack.pop_all()
        self._channels = channels

    def write(self, block: Waveform) -> None:
        """Appends a ``(channel, time)`` block.

        Raises:
            AudioError: If the disk or the format does not take it.
        """
        self._push(self._resampler.push(block))

    def _push(self, block: Waveform) -> None:
        self.clipped += clipped(block, self.subtype, self._clip, str(self.path))
        if self._limit:
            self._bytes += data_bytes(block.shape[-1], block.shape[0], self.subtype)
            if self._bytes > self._limit:
                raise AudioError(f"{self.path}: grows beyond the 4 GB that the format holds; choose .flac")
        try:
            self._sink.write(stored(block, self.subtype))
        except _ERRORS as error:
            raise AudioError(f"{self.path}: cannot be written ({reason(error)})") from error

    def _finish(self) -> None:
        try:
            self._push(self._resampler.push(torch.zeros(self._channels, 0), last=True))
        except BaseException:
            with contextlib.suppress(*_ERRORS):
                self._sink.close()
            raise
        try:
            self._sink.close()
            if self._about:
                self.complaint = tags.write(self._temporary, self._about, self._kind, self.path.name)
        except _ERRORS as error:
            raise AudioError(f"{self.path}: cannot be written ({reason(error)})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            with self._stack:  # gives the file its name, or removes it
                self._finish()
            return
        try:
            with contextlib.suppress(*_ERRORS):
                self._sink.close()
        finally:
            self._stack.__exit__(kind, error, trace)


def _sink(path: Path, kind: Format, subtype: str, rate: int, channels: int, *, long: bool) -> Sink:
    if kind.by_ffmpeg:
        from vocalsep.audio import encoding

        return encoding.Sink(path, subtype, rate, channels)
    return _Sndfile(path, kind, subtype, rate, channels, long=long)


def clipped(block: Waveform, subtype: str, clip: str, name: str) -> int:
    """How many samples of a block will be put to full scale.

    Raises:
        AudioError: If there are some and `clip` is "error"; `name` is the file.
    """
    over = exceeding(block, subtype)
    if over and clip == "error":
        peak = f"a peak of {float(block.abs().max()):.3f} times full scale"
        raise AudioError(f"{name}: {subtype} does not hold {peak}; clamp or scale it, or choose float")
    return over


def exceeding(samples: Waveform, subtype: str) -> int:
    """How many samples a file of that sample format cannot hold."""
    if subtype in _FLOATS:
        return 0
    if subtype not in BITS:
        return int((samples.abs() > LOSSY_PEAK).sum())
    full = 2.0 ** (BITS[subtype] - 1)
    steps = torch.round(samples.double() * full)
    return int(((steps > full - 1) | (steps < -full)).sum())


def stored(samples: Waveform, subtype: str) -> Tensor:
    """Samples as an encoder should get them: in range, and rounded for fixed-point formats, where it would cut off."""
    if subtype in _FLOATS:
        return samples
    samples = torch.nan_to_num(samples, nan=0.0)
    if subtype not in BITS:
        return samples.clamp(-LOSSY_PEAK, LOSSY_PEAK)
    bits = BITS[subtype]
    full = 2.0 ** (bits - 1)
    steps = torch.round(samples.double() * full).clamp(-full, full - 1)
    return (steps.long() << (32 - bits)).int()
