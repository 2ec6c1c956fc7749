"""FFmpeg, by way of PyAV, decodes what libsndfile does not know.

Importing this module loads FFmpeg, so it is imported where it is needed only.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import numpy.typing as npt
import torch
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.stream import Disposition, Stream

from vocalsep.errors import AudioError
from vocalsep.shapes import Waveform

_ERRORS = (FFmpegError, OSError, ValueError, IndexError, UnicodeError, MemoryError)
_MOV = "mov,mp4,m4a,3gp,3g2,mj2"
_STATES_ITS_LENGTH = frozenset({_MOV, "matroska,webm", "wv", "tta", "ape"})
_DEMUXERS = (
    f"{_MOV},matroska,aac,ac3,eac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,flac,flv,loas,mp3,mpc,mpc8,mpeg,mpegts,"
    "ogg,rm,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
"""What may be opened: no playlists that name other files, no pictures, no text."""
_TAIL = 8_192  # samples kept back until the end is known; padding is shorter
_SHORT_SECONDS = 0.5  # by how much a recording may miss its stated length
_PLANES = 8  # PyAV miscounts so many, and crashes


class _Quiet:
    """An open file whose failed seeks are FFmpeg's own affair: PyAV would print them."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.tell = file.read, file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


class Source:
    """A decoder of one file; see `reader.Source`.

    Delay and padding of the encoder are cut off as far as the container states them.

    Args:
        path: The file.
        why: What libsndfile had against it, for an error.

    Raises:
        AudioError: If it is not audio, or is empty.
    """

    def __init__(self, path: Path, why: str) -> None:
        self._path = path
        self._file = path.open("rb")  # FFmpeg knows fewer names than Python does
        self._declared = self._delay = 0  # lengths of all packets, and of what comes before the recording; time base
        try:
            self._container = av.open(
                _Quiet(self._file), "r", options={"format_whitelist": _DEMUXERS}, metadata_errors="replace"
            )
            self._stream = self._first_track()
            self._stream.codec_context.thread_count = 1
            self._frames = self._decoded()
            first = next(self._frames, None)
            if first is None:
                raise AudioError(f"{path}: the recording is empty")
            self._first: AudioFrame | None = first
            self.rate, self.channels, self.subtype = first.sample_rate, first.layout.nb_channels, self._depth(first)
            self.samples = round(self._stated() * self.rate)
            self.estimated = self.samples < 1 or not self._states_its_length()
            self.comments = dict(self._container.metadata) | dict(self._stream.metadata)
        except AudioError:
            self.close()
            raise
        except _ERRORS as error:
            self.close()
            raise AudioError(f"{path}: not an audio file that can be read ({why})") from error

    def _first_track(self) -> AudioStream:
        if not self._container.streams.audio:
            raise AudioError(f"{self._path}: has no audio track")
        track = self._container.streams.audio[0]
        if track.codec_context is None:
            raise AudioError(f"{self._path}: its audio track is of a kind that FFmpeg does not know")
        return track

    def _decoded(self) -> Iterator[AudioFrame]:
        first = True
        for packet in self._container.demux(self._stream):
            self._declared += packet.duration or 0
            if first:
                self._delay = max(0, -(packet.pts or 0))
            first = False
            for frame in packet.decode():
                if isinstance(frame, AudioFrame) and frame.samples:
                    yield frame

    def _depth(self, frame: AudioFrame) -> str:
        """The sample format in libsndfile's words; lossy ones get that which keeps all."""
        if not self._stream.codec_context.codec.lossless:
            return "FLOAT"
        kind = frame.format.name.removesuffix("p")
        if kind == "s32":
            return "PCM_32" if (_array(frame) & 0xFF).any() else "PCM_24"
        return {"u8": "PCM_U8", "s16": "PCM_16", "dbl": "DOUBLE"}.get(kind, "FLOAT")

    def _stated(self) -> Fraction:
        """Length as the file states it, seconds; 0 where it states none."""
        if self._stream.duration and self._stream.time_base:
            return max(Fraction(0), self._stream.duration * self._stream.time_base - self._pre_skip())
        return max(Fraction(0), Fraction(self._container.duration or 0, av.time_base))

    def _pre_skip(self) -> Fraction:
        """Seconds before the recording that Ogg counts into the length of Opus (RFC 7845, sections 4 and 5.1)."""
        header = self._stream.codec_context.extradata or b""
        if self._container.format.name != "ogg" or not header.startswith(b"OpusHead"):
            return Fraction(0)
        return Fraction(int.from_bytes(header[10:12], "little"), 48_000)

    def blocks(self, size: int) -> Iterator[Waveform]:
        """The recording, ``(channel, time)`` each, `size` samples but for the last.

        Raises:
            AudioError: If it cannot be decoded to its end, or ends early, or changes its rate or channels.
        """
        waiting: list[Waveform] = []
        given = held = 0
        for samples in self._converted():
            waiting.append(samples)
            held += samples.shape[-1]
            while held >= size + _TAIL:
                whole = torch.cat(waiting, dim=-1)
                yield whole[:, :size]
                waiting, given, held = [whole[:, size:]], given + size, held - size
        self._check_end(given + held)
        whole = torch.cat(waiting, dim=-1)[:, : max(0, self._end(given + held) - given)]
        yield from (block for block in torch.split(whole, size, dim=-1) if block.shape[-1])

    def _converted(self) -> Iterator[Waveform]:
        frame, self._first = self._first, None
        while frame is not None:
            now = (frame.sample_rate, frame.layout.nb_channels)
            if now != (self.rate, self.channels):
                before, after = (f"{channels} x {rate} Hz" for rate, channels in ((self.rate, self.channels), now))
                raise AudioError(f"{self._path}: changes from {before} to {after}; cut it there, or convert it to one")
            try:
                samples = _floats(frame)
                frame = next(self._frames, None)
            except _ERRORS as error:
                said = " ".join(str(getattr(error, "strerror", None) or error).split())
                raise AudioError(f"{self._path}: cannot be read to its end ({said})") from error
            yield samples

    def _states_its_length(self) -> bool:
        """Whether its length is written down, and is not that of another track."""
        others = (stream for stream in self._container.streams if stream is not self._stream)
        return self._container.format.name in _STATES_ITS_LENGTH and all(map(_is_picture, others))

    def _check_end(self, samples: int) -> None:
        """Notices a file that was cut off, where it says how long it should be."""
        if not self.estimated and samples < self.samples - _SHORT_SECONDS * self.rate:
            seconds = f"{samples / self.rate:.1f} of {self.samples / self.rate:.1f} seconds"
            raise AudioError(f"{self._path}: cannot be read to its end (it breaks off after {seconds})")

    def _end(self, samples: int) -> int:
        """How many of the decoded samples are the recording's, and not padding that its encoder added.

        MP4 says so twice. The durations of its packets are exact, if the last is shorter than what is decoded of
        it (FFmpeg). The edit list is exact too, if it counts in samples (Apple), but many count in milliseconds.
        """
        if self._container.format.name != _MOV:
            return samples
        packets = round((self._declared - self._delay) * (self._stream.time_base or 0) * self.rate)
        edited = packets - self.samples
        exact = self.samples if self.samples and edited > self.rate / 1_000 else packets
        return exact if 0 < exact < samples else samples

    def close(self) -> None:
        """Closes the file."""
        if hasattr(self, "_container"):
            self._container.close()
        self._file.close()


def _array(frame: AudioFrame) -> npt.NDArray[Any]:
    """Decoded samples as they are, ``(channel, time)``."""
    if frame.format.is_planar and frame.layout.nb_channels >= _PLANES:
        packed = av.AudioResampler(frame.format.name.removesuffix("p"), frame.layout, frame.sample_rate)
        (frame,) = packed.resample(frame)
    samples: npt.NDArray[Any] = frame.to_ndarray()
    if frame.format.is_planar:
        return samples
    return samples.reshape(-1, frame.layout.nb_channels).T


def _floats(frame: AudioFrame) -> Waveform:
    """Decoded samples of any kind, as ``(channel, time)`` float32 with full scale 1."""
    samples = _array(frame)
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float64) / 2.0 ** (8 * samples.dtype.itemsize - 1)
    with np.errstate(over="ignore"):  # doubles beyond float32 become infinite
        return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))


def _is_picture(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def picture(path: Path) -> tuple[str, bytes] | None:
    """The cover of a file: its MIME type, and the picture as it is stored."""
    with path.open("rb") as file, av.open(_Quiet(file), "r", options={"format_whitelist": _DEMUXERS}) as container:
        for stream in container.streams.video:
            if _is_picture(stream) and stream.codec_context is not None:
                kinds = {"mjpeg": "image/jpeg", "png": "image/png"}
                kind = kinds.get(stream.codec_context.name)
                packet = next(container.demux(stream), None)
                if kind and packet is not None and packet.size:
                    return kind, bytes(packet)
    return None
