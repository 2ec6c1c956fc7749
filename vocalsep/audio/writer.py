"""Write recordings block by block; the file extension chooses the format."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import soundfile

from vocalsep import files
from vocalsep.audio import bitrates
from vocalsep.audio.formats import BITS, Format, check_output, count_bytes, interleave, reorder_from_wav
from vocalsep.audio.reader import encode_path
from vocalsep.audio.resampling import Resampler
from vocalsep.audio.tags import Tags, write_tags
from vocalsep.errors import AudioError, ConfigError, describe_error, describe_unknown
from vocalsep.shapes import AnyArray, Waveform

CLIPPING = ("error", "clamp", "scale")
"""What to do with samples that exceed the output's range."""

LOSSY_PEAK = 8.0
"""Largest sample that vocalsep writes to a lossy file, as a multiple of full scale. Such files can hold samples beyond
1, but LAME aborts the process at 10,000."""

_FLOATS = ("FLOAT", "DOUBLE")
_SET_ADD_PEAK_CHUNK = 0x1050  # libsndfile's SFC_SET_ADD_PEAK_CHUNK
_LONG_BYTES = 2**31  # longer wav files are written as RF64, which has 64-bit sizes
_MAX_BYTES = 2**32 - 2**20  # the largest file with 32-bit sizes, less some room for headers and tags
_PROBE_BYTES = 2**20
_ERRORS = (soundfile.LibsndfileError, OSError)


class Encoder(Protocol):
    """An encoder for one file."""

    def write(self, samples: AnyArray) -> None:
        """Append a ``(channel, time)`` block, as `fit_to_subtype` returns it."""

    def close(self) -> None:
        """Write what is buffered and close the file."""


class _SndfileEncoder:
    """An `Encoder` that uses libsndfile."""

    def __init__(
        self, path: Path, kind: Format, subtype: str, rate: int, channels: int, *, long: bool, bitrate: int | None
    ) -> None:
        self._subtype = subtype
        level, mode = kind.quality, "VARIABLE"
        if bitrate:
            level, mode = bitrates.find_compression(kind.name, bitrate, rate, channels), "CONSTANT"
        self._stamped = path if long else None
        self._unsure = path if kind.name == "OGG" else None
        self._frames = 0
        self._file = soundfile.SoundFile(
            encode_path(path),
            "w",
            samplerate=rate,
            channels=channels,
            format="RF64" if long else kind.name,
            subtype=subtype,
            compression_level=level,
            bitrate_mode=mode if kind.name == "MP3" else None,
            endian="LITTLE" if kind.name == "RAW" else None,
        )
        if subtype in _FLOATS:  # the peak chunk holds a time stamp, but the same sound must give the same bytes
            soundfile._snd.sf_command(self._file._file, _SET_ADD_PEAK_CHUNK, soundfile._ffi.NULL, 0)

    def write(self, samples: AnyArray) -> None:
        self._frames += samples.shape[-1]
        self._file.write(interleave(reorder_from_wav(samples, self._subtype)))

    def close(self) -> None:
        self._file.close()
        if self._unsure and soundfile.info(encode_path(self._unsure)).frames != self._frames:
            raise OSError("the file is not complete")  # libsndfile does not say that a page of an ogg file is lost
        if self._stamped:  # libsndfile always writes the peak chunk into RF64, so clear its time stamp
            with self._stamped.open("r+b") as file:
                place = file.read(256).find(b"PEAK")
                if place >= 0:
                    file.seek(place + 12)
                    file.write(bytes(4))


class Writer:
    """Write a recording block by block. A context manager.

    The samples go to a temporary file. Leaving the ``with`` block normally renames it to `path`; leaving it with an
    exception deletes it.

    Args:
        path: The output file; its extension chooses the format. The folder must exist.
        rate: Sample rate, Hz. Opus files are always resampled to 48000 Hz.
        channels: Channel count.
        subtype: Preferred sample format, in libsndfile's names. `Format.choose_subtype` replaces it if the format does
            not support it.
        clip: What to do with samples out of range (beyond full scale in a fixed-point format, beyond `LOSSY_PEAK` in a
            lossy one): "clamp" limits them and counts them in `clipped_samples`, "error" raises. "scale" is for
            `Outputs`, which sees the whole song before it writes; here it acts like "clamp".
        samples: Expected length; long wav files become RF64.
        bitrate: Bit rate of a lossy format, bits per second; None for the format's own choice.
        tags: Tags to add. If that fails, `warning` says why, and the file is written without them.

    Attributes:
        path: The output file.
        subtype: Sample format of the file, in libsndfile's names.
        clipped_samples: Number of samples clamped so far.
        warning: A problem that does not affect the sound; empty if there is none.

    Raises:
        AudioError: If the format is unknown or does not support such a recording, or the file cannot be written.
        ConfigError: If `clip` is unknown.
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
        bitrate: int | None = None,
        tags: Tags | None = None,
    ) -> None:
        if clip not in CLIPPING:
            raise ConfigError(describe_unknown("clip mode", clip, CLIPPING))
        kind = check_output(path, rate=rate, channels=channels, bitrate=bitrate)
        self.path, self.clipped_samples, self.warning = path, 0, ""
        self.subtype, self._kind = kind.choose_subtype(subtype), kind.name
        self._clip, self._tags, self._bytes = clip, tags if kind.tagged else None, 0
        long = kind.name in ("WAV", "AIFF") and count_bytes(samples, channels, self.subtype) > _LONG_BYTES
        if kind.name == "AIFF" and long:
            raise AudioError(f"{path}: aiff is limited to 4 GB, which the song may exceed; choose .wav or .flac")
        self._max_bytes = _MAX_BYTES if kind.name in ("WAV", "AIFF") and not long else 0
        to_rate = kind.resampled or rate
        self._resampler = Resampler(rate, to_rate, channels)
        with contextlib.ExitStack() as stack:
            try:
                self._temporary = stack.enter_context(files.write_atomically(path))
                self._encoder = _open_encoder(
                    self._temporary, kind, self.subtype, to_rate, channels, long=long, bitrate=bitrate
                )
            except _ERRORS as error:
                raise AudioError(f"{path}: cannot be written ({self._explain(error)})") from error
            self._stack = stack.pop_all()
        self._channels = channels

    def write(self, block: Waveform) -> None:
        """Append a ``(channel, time)`` block.

        Raises:
            AudioError: If the file cannot be written or grows too large, or `clip` is "error" and a sample is out of
                range.
        """
        self._push(self._resampler.push(block))

    def _push(self, block: Waveform) -> None:
        self.clipped_samples += count_clipped(block, self.subtype, self._clip, str(self.path))
        if self._max_bytes:
            self._bytes += count_bytes(block.shape[-1], block.shape[0], self.subtype)
            if self._bytes > self._max_bytes:
                raise AudioError(f"{self.path}: the song is too long: this format is limited to 4 GB; choose .flac")
        try:
            self._encoder.write(fit_to_subtype(block, self.subtype))
        except _ERRORS as error:
            raise AudioError(f"{self.path}: cannot be written ({self._explain(error)})") from error

    def _explain(self, error: Exception) -> str:
        """Return why a file cannot be written. Libraries lose the reason, but another attempt has the same one."""
        try:
            with self._temporary.open("ab") as file:
                file.write(bytes(_PROBE_BYTES))
        except (OSError, AttributeError) as again:  # AttributeError: there is no temporary file
            return describe_error(again if isinstance(again, OSError) else error)
        return describe_error(error)

    def _finish(self) -> None:
        try:
            self._push(self._resampler.push(np.zeros((self._channels, 0), np.float32), last=True))
        except BaseException:
            with contextlib.suppress(*_ERRORS):
                self._encoder.close()
            raise
        try:
            self._encoder.close()
            if self._tags:
                self.warning = write_tags(self._temporary, self._tags, self._kind, self.path.name)
        except _ERRORS as error:
            raise AudioError(f"{self.path}: cannot be written ({self._explain(error)})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            with self._stack:  # renames the temporary file, or deletes it if _finish raises
                self._finish()
            return
        try:
            with contextlib.suppress(*_ERRORS):
                self._encoder.close()
        finally:
            self._stack.__exit__(kind, error, trace)


def _open_encoder(
    path: Path, kind: Format, subtype: str, rate: int, channels: int, *, long: bool, bitrate: int | None
) -> Encoder:
    if kind.by_ffmpeg:
        from vocalsep.audio import encoding

        return encoding.FFmpegEncoder(path, subtype, rate, channels, bitrate)
    return _SndfileEncoder(path, kind, subtype, rate, channels, long=long, bitrate=bitrate)


def count_clipped(block: Waveform, subtype: str, clip: str, name: str) -> int:
    """Count the samples of a block that `fit_to_subtype` will clamp.

    Args:
        block: The samples.
        subtype: Sample format of the output.
        clip: One of `CLIPPING`.
        name: The output's name, for the error.

    Raises:
        AudioError: If there are any and `clip` is "error".
    """
    over = count_out_of_range(block, subtype)
    if over and clip == "error":
        peak = f"a peak of {float(np.abs(block).max()):.3f} times full scale"
        raise AudioError(f"{name}: {subtype} cannot hold {peak}; clamp or scale it, or choose float samples")
    return over


def count_out_of_range(samples: Waveform, subtype: str) -> int:
    """Count the samples that exceed the range of a sample format."""
    if subtype in _FLOATS or not samples.size:
        return 0
    if subtype not in BITS:
        return int(np.count_nonzero(np.abs(samples) > LOSSY_PEAK))
    full = 2.0 ** (BITS[subtype] - 1)
    # One more half step rounds up to full scale. In float32 and 32 bits, full scale itself is the first value beyond.
    below, above = -1 - 0.5 / full, 1 - 0.5 / full
    if samples.max() < above and samples.min() >= below:  # almost always
        return 0
    return int(np.count_nonzero((samples >= above) | (samples < below)))


def fit_to_subtype(samples: Waveform, subtype: str) -> AnyArray:
    """Return the samples as an encoder expects them.

    Samples for a float format pass unchanged. Those for a lossy format are clamped to `LOSSY_PEAK`. Those for a
    fixed-point format are clamped and rounded; libsndfile would truncate them. The result is int16 with full scale
    2**15 for 16 bits, and int32 with full scale 2**31 for other depths. NaN becomes 0 in lossy and fixed-point formats.
    """
    if subtype in _FLOATS:
        return samples
    bits = BITS.get(subtype, 0)
    full = 2.0 ** (bits - 1)
    if bits > 24:  # float32 cannot hold the largest step
        samples = samples.astype(np.float64)
    steps = np.clip(samples, -1.0, 1 - 1 / full) if bits else np.clip(samples, -LOSSY_PEAK, LOSSY_PEAK)
    steps[np.isnan(steps)] = 0
    if not bits:
        return steps
    steps *= full
    np.rint(steps, out=steps)
    return steps.astype(np.int16) if bits == 16 else steps.astype(np.int32) << (32 - bits)
