"""Encode AAC and Opus with FFmpeg, through PyAV.

Importing this module loads FFmpeg, so import it only where it is needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import FFmpegError

from vocalsep.audio.formats import interleave

_BITS_PER_SECOND = 128_000  # per channel
_CHANNEL_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")  # by channel count
_QUICK = 5  # takes 60 % of the time of 10
_CODECS = {"AAC": ("ipod", "aac", "fltp"), "OPUS": ("ogg", "libopus", "flt")}  # container, codec, sample format


class FFmpegEncoder:
    """An encoder for one m4a (AAC) or Opus file. The file decodes to exactly as many samples as were written.

    Args:
        path: An existing file, which is overwritten, or a buffer, which stays open.
        subtype: "AAC" or "OPUS".
        rate: Sample rate, Hz.
        channels: Channel count.
        bitrate: Bits per second; None for 128,000 per channel.
        effort: How long Opus searches for the best use of its bits, up to 10.

    Raises:
        OSError: If the file cannot be written.
    """

    def __init__(
        self,
        path: Path | io.BytesIO,
        subtype: str,
        rate: int,
        channels: int,
        bitrate: int | None = None,
        effort: int = 10,
    ) -> None:
        self._layout, self._rate, self._written = _CHANNEL_LAYOUTS[channels - 1], rate, 0
        container, codec, kind = _CODECS[subtype]
        options = {"fflags": "+bitexact"}  # the same sound must give the same bytes
        if subtype == "AAC":
            options["movie_timescale"] = str(rate)  # makes the edit list count in samples
        self._file = path.open("wb") if isinstance(path, Path) else None  # a file that must be closed
        with _raise_oserror():
            self._container = av.open(self._file or path, "w", format=container, options=options)
            self._stream = cast(AudioStream, self._container.add_stream(codec, rate=rate, layout=self._layout))
            if subtype == "OPUS":
                self._stream.codec_context.options = {"compression_level": str(effort)}
            self._stream.format = av.AudioFormat(kind)
            self._stream.bit_rate = bitrate or _BITS_PER_SECOND * channels
            self._stream.codec_context.time_base = Fraction(1, rate)

    def write(self, samples: npt.NDArray[np.float32]) -> None:
        """Append a ``(channel, time)`` block.

        Raises:
            OSError: If the file cannot be written.
        """
        if not samples.shape[-1]:
            return
        packed = interleave(samples).reshape(1, -1)
        frame = AudioFrame.from_ndarray(packed, format="flt", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate, self._written
        self._written += samples.shape[-1]
        self._encode(frame)

    def _encode(self, frame: AudioFrame | None) -> None:
        with _raise_oserror():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is buffered and close the file.

        Raises:
            OSError: If the file cannot be written.
        """
        try:
            if self._written:
                self._encode(None)
            with _raise_oserror():
                self._container.close()
        finally:
            if self._file:
                self._file.close()


def encode_opus(samples: npt.NDArray[np.float32], rate: int, bitrate: int) -> bytes:
    """Encode a ``(channel, time)`` sound with at least one sample and at most eight channels as an Opus file, quickly.

    Args:
        samples: The sound.
        rate: Its sample rate in Hz, one that Opus supports: 48,000, 24,000, 16,000, 12,000 or 8,000.
        bitrate: Bits per second of all channels together.
    """
    buffer = io.BytesIO()
    encoder = FFmpegEncoder(buffer, "OPUS", rate, samples.shape[0], bitrate, _QUICK)
    encoder.write(samples)
    encoder.close()
    return buffer.getvalue()


@contextmanager
def _raise_oserror() -> Iterator[None]:
    """Turn FFmpeg's errors into OSError."""
    try:
        yield
    except FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error
