"""Decode files that libsndfile cannot read, with FFmpeg through PyAV.

Importing this module loads FFmpeg, so import it only where it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.stream import Disposition, Stream

from vocalsep.audio.formats import TOLERANCE_SECONDS
from vocalsep.errors import AudioError, describe_error
from vocalsep.shapes import Waveform

_ERRORS = (FFmpegError, OSError, ValueError, IndexError, UnicodeError, MemoryError)
_MOV = "mov,mp4,m4a,3gp,3g2,mj2"
_CONTAINERS_WITH_LENGTH = frozenset({_MOV, "matroska,webm", "wv", "tta", "ape"})
_DEMUXERS = (
    f"{_MOV},matroska,aac,ac3,eac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,flac,flv,loas,mp3,mpc,mpc8,mpeg,mpegts,"
    "ogg,rm,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
"""The only formats that FFmpeg may open. Playlists are excluded because they point to other files, and so are pictures
and text."""
_TAIL = 8_192  # samples held back until the end is known; padding is shorter
_MAX_PLANES = 7  # PyAV miscounts the planes of 8 channels or more, and crashes


class _QuietFile:
    """An open file that returns -1 when a seek fails. PyAV would print an exception."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.tell = file.read, file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


class FFmpegDecoder:
    """A `reader.Decoder` that uses FFmpeg.

    It removes the encoder's delay and padding as far as the container states them.

    Args:
        path: The file.
        why: Why libsndfile could not read it, for the error message.

    Raises:
        AudioError: If the file is empty or not audio.
    """

    def __init__(self, path: Path, why: str) -> None:
        self._path = path
        self._file = path.open("rb")  # opened here, since Python accepts names that FFmpeg does not
        self._declared = self._delay = 0  # total length of the packets and encoder delay, in the stream's time base
        try:
            self._container = av.open(
                _QuietFile(self._file), "r", options={"format_whitelist": _DEMUXERS}, metadata_errors="replace"
            )
            self._stream = self._choose_track()
            self._stream.codec_context.thread_count = 1
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                raise AudioError(f"{path}: the recording is empty")
            self._first: AudioFrame | None = first
            self.rate, self.channels = first.sample_rate, first.layout.nb_channels
            self.subtype = self._find_subtype(first)
            self.samples = round(self._compute_stated_seconds() * self.rate)
            self.estimated = self.samples < 1 or not self._states_length()
            self.comments = dict(self._container.metadata) | dict(self._stream.metadata)
        except AudioError:
            self.close()
            raise
        except _ERRORS as error:
            self.close()
            raise AudioError(f"{path}: not an audio file, or damaged ({why})") from error

    def _choose_track(self) -> AudioStream:
        if not self._container.streams.audio:
            raise AudioError(f"{self._path}: has no audio track")
        track = self._container.streams.audio[0]
        if track.codec_context is None:
            raise AudioError(f"{self._path}: FFmpeg does not know the codec of its audio track")
        return track

    def _decode(self) -> Iterator[AudioFrame]:
        first = True
        for packet in self._container.demux(self._stream):
            self._declared += packet.duration or 0
            if first:
                self._delay = max(0, -(packet.pts or 0))
            first = False
            for frame in packet.decode():
                if isinstance(frame, AudioFrame) and frame.samples:
                    yield frame

    def _find_subtype(self, frame: AudioFrame) -> str:
        """Return the sample format in libsndfile's names, or the name of a lossy codec, which has no sample format."""
        if not self._stream.codec_context.codec.lossless:
            return self._stream.codec_context.name.upper()
        kind = frame.format.name.removesuffix("p")
        if kind == "s32":
            return "PCM_32" if (_to_array(frame) & 0xFF).any() else "PCM_24"
        return {"u8": "PCM_U8", "s16": "PCM_16", "dbl": "DOUBLE"}.get(kind, "FLOAT")

    def _compute_stated_seconds(self) -> Fraction:
        """Return the length that the file states, in seconds; 0 if it states none."""
        if self._stream.duration and self._stream.time_base:
            return max(Fraction(0), self._stream.duration * self._stream.time_base - self._compute_pre_skip())
        return max(Fraction(0), Fraction(self._container.duration or 0, av.time_base))

    def _compute_pre_skip(self) -> Fraction:
        """Return the encoder delay in seconds, which Ogg adds to the length of Opus (RFC 7845, sections 4 and 5.1)."""
        header = self._stream.codec_context.extradata or b""
        if self._container.format.name != "ogg" or not header.startswith(b"OpusHead"):
            return Fraction(0)
        return Fraction(int.from_bytes(header[10:12], "little"), 48_000)

    def read_blocks(self, size: int) -> Iterator[Waveform]:
        """Yield the recording in ``(channel, time)`` blocks of `size` samples; the last may be shorter.

        Raises:
            AudioError: If the recording is damaged, ends early, or changes its rate or channel count.
        """
        waiting: list[Waveform] = []
        returned = held = 0
        for samples in self._convert_frames():
            waiting.append(samples)
            held += samples.shape[-1]
            while held >= size + _TAIL:
                whole = np.concatenate(waiting, axis=-1)
                yield np.ascontiguousarray(whole[:, :size])
                waiting, returned, held = [whole[:, size:]], returned + size, held - size
        self._check_end(returned + held)
        whole = np.concatenate(waiting, axis=-1)[:, : max(0, self._find_end(returned + held) - returned)]
        for start in range(0, whole.shape[-1], size):
            yield np.ascontiguousarray(whole[:, start : start + size])

    def _convert_frames(self) -> Iterator[Waveform]:
        frame, self._first = self._first, None
        while frame is not None:
            now = (frame.sample_rate, frame.layout.nb_channels)
            if now != (self.rate, self.channels):
                before, after = (f"{channels} x {rate} Hz" for rate, channels in ((self.rate, self.channels), now))
                raise AudioError(f"{self._path}: changes from {before} to {after}; split it there, or convert it")
            try:
                samples = _to_floats(frame)
                frame = next(self._frames, None)
            except _ERRORS as error:
                raise AudioError(f"{self._path}: cannot be read to the end ({describe_error(error)})") from error
            yield samples

    def _states_length(self) -> bool:
        """Return whether the container states a length, and has no other track, such as a video, that could set it."""
        others = (stream for stream in self._container.streams if stream is not self._stream)
        return self._container.format.name in _CONTAINERS_WITH_LENGTH and all(map(_is_picture, others))

    def _check_end(self, samples: int) -> None:
        """Raise an error if the recording is shorter than it states."""
        if not self.estimated and samples < self.samples - TOLERANCE_SECONDS * self.rate:
            seconds = f"{samples / self.rate:.1f} of {self.samples / self.rate:.1f} seconds"
            raise AudioError(f"{self._path}: cannot be read to the end (it breaks off after {seconds})")

    def _find_end(self, samples: int) -> int:
        """Return how many of the decoded samples belong to the recording; the rest is the encoder's padding.

        MP4 states the length twice. The packets' durations are exact if the last packet states a shorter duration than
        it decodes to, as in FFmpeg's files. The edit list is exact if it counts in samples, as in Apple's files, but
        many others count in milliseconds.
        """
        if self._container.format.name != _MOV:
            return samples
        packets = round((self._declared - self._delay) * (self._stream.time_base or 0) * self.rate)
        edited = packets - self.samples
        exact = self.samples if self.samples and edited > self.rate / 1_000 else packets
        return exact if 0 < exact < samples else samples

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_container"):
            self._container.close()
        self._file.close()


def _to_array(frame: AudioFrame) -> npt.NDArray[Any]:
    """Return the samples of a frame, ``(channel, time)``, in the decoder's type."""
    if frame.format.is_planar and frame.layout.nb_channels > _MAX_PLANES:
        packed = av.AudioResampler(frame.format.name.removesuffix("p"), frame.layout, frame.sample_rate)
        (frame,) = packed.resample(frame)
    samples: npt.NDArray[Any] = frame.to_ndarray()
    if frame.format.is_planar:
        return samples
    return samples.reshape(-1, frame.layout.nb_channels).T


def _to_floats(frame: AudioFrame) -> Waveform:
    """Return the samples of a frame as ``(channel, time)`` float32 with full scale 1."""
    samples = _to_array(frame)
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float64) / 2.0 ** (8 * samples.dtype.itemsize - 1)
    with np.errstate(over="ignore"):  # doubles beyond float32 become infinite
        return np.ascontiguousarray(samples, dtype=np.float32)


def _is_picture(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def read_picture(path: Path) -> tuple[str, bytes] | None:
    """Return the cover of a file as MIME type and encoded bytes, or None if there is no cover."""
    with path.open("rb") as file, av.open(_QuietFile(file), "r", options={"format_whitelist": _DEMUXERS}) as container:
        for stream in container.streams.video:
            if _is_picture(stream) and stream.codec_context is not None:
                kinds = {"mjpeg": "image/jpeg", "png": "image/png"}
                kind = kinds.get(stream.codec_context.name)
                packet = next(container.demux(stream), None)
                if kind and packet is not None and packet.size:
                    return kind, bytes(packet)
    return None
