"""Parse and build wav headers for pipes, and convert samples to and from bytes.

A program that writes wav into a pipe does not know the length in advance. It writes 0 into the header, or all ones
(FFmpeg), or slightly less than 2 GB (SoX). The sound then lasts until the pipe closes. This module treats all three as
unknown and returns 0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vocalsep.audio.formats import interleave
from vocalsep.shapes import Waveform

BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
"""Sizes of the sample formats, by libsndfile's names."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SUBTYPES = {(_PCM, 1): "PCM_U8", (_PCM, 2): "PCM_16", (_PCM, 3): "PCM_24", (_PCM, 4): "PCM_32"} | {
    (_FLOAT, 4): "FLOAT",
    (_FLOAT, 8): "DOUBLE",
}
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # the end of WAVE_FORMAT_EXTENSIBLE's GUIDs
_UNKNOWN, _UNKNOWN_64 = 0x7FFFF000, 2**62  # 32- and 64-bit sizes from here on mean "unknown"
_ALL_ONES = 2**32 - 1
_MAX_SKIPPED = 2**20  # bytes: a larger chunk before the format chunk means a damaged header


class UnsupportedWavError(Exception):
    """The stream is not wav, or its samples are compressed."""


@dataclass(frozen=True, kw_only=True)
class SampleLayout:
    """How samples are stored one after the other, little-endian and interleaved, and how many there are.

    Attributes:
        rate: Sample rate, Hz.
        channels: Channel count.
        subtype: Sample format, a key of `BYTES`.
        samples: Length; 0 if unknown.
    """

    rate: int
    channels: int
    subtype: str
    samples: int = 0

    @property
    def stride(self) -> int:
        """Bytes from one sample to the next, all channels included."""
        return BYTES[self.subtype] * self.channels


def read_header(take: Callable[[int], bytes]) -> SampleLayout:
    """Read a wav header up to the first sample.

    Args:
        take: Returns as many of the next bytes of the stream as asked for, and fewer only at its end.

    Raises:
        UnsupportedWavError: If the stream is not wav, or its samples are compressed.
    """
    head = take(12)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        raise UnsupportedWavError("not wav")
    kind: tuple[int, int, str] | None = None
    size_64 = 0
    while True:
        name, size = _read_chunk_head(take)
        if name == b"data":
            break
        if kind is None and size > _MAX_SKIPPED:
            raise UnsupportedWavError("no format chunk")
        content = _read_chunk(take, size + size % 2, keep=name in (b"fmt ", b"ds64"))
        if name == b"fmt ":
            kind = _parse_format(content)
        elif name == b"ds64" and len(content) >= 16:
            size_64 = int.from_bytes(content[8:16], "little")
    if kind is None:
        raise UnsupportedWavError("no format chunk")
    rate, channels, subtype = kind
    layout = SampleLayout(rate=rate, channels=channels, subtype=subtype)
    if head[:4] != b"RIFF" and size == _ALL_ONES:
        size = size_64 if size_64 < _UNKNOWN_64 else 0
    elif size >= _UNKNOWN:
        size = 0
    return SampleLayout(rate=rate, channels=channels, subtype=subtype, samples=size // layout.stride)


def _read_chunk_head(take: Callable[[int], bytes]) -> tuple[bytes, int]:
    head = take(8)
    if len(head) < 8:
        raise UnsupportedWavError("no samples")
    return head[:4], int.from_bytes(head[4:], "little")


def _read_chunk(take: Callable[[int], bytes], size: int, *, keep: bool) -> bytes:
    """Read a chunk piece by piece; return it if `keep`, else nothing."""
    content = b""
    while size:
        part = take(min(size, _MAX_SKIPPED))
        if not part:
            raise UnsupportedWavError("no samples")
        content, size = content + part if keep else b"", size - len(part)
    return content


def _parse_format(content: bytes) -> tuple[int, int, str]:
    """Return rate, channel count and sample format of a format chunk."""
    if len(content) < 16:
        raise UnsupportedWavError("no format chunk")
    tag, channels, rate, _, stride, _ = struct.unpack("<HHIIHH", content[:16])
    if tag == _EXTENSIBLE and content[26:40] == _GUID_TAIL:
        tag = int.from_bytes(content[24:26], "little")
    subtype = _SUBTYPES.get((tag, stride // channels)) if channels and not stride % channels else None
    if subtype is None:
        raise UnsupportedWavError("compressed samples")
    return rate, channels, subtype


def build_header(layout: SampleLayout) -> bytes:
    """Return a wav header up to the first sample.

    The sizes are all ones if the length is unknown or the samples take 4 GB or more.
    """
    size = layout.samples * layout.stride
    known = 0 < size < _ALL_ONES - 100
    floating = layout.subtype in ("FLOAT", "DOUBLE")
    tag, bits, stride = _FLOAT if floating else _PCM, 8 * BYTES[layout.subtype], layout.stride
    kind = struct.pack("<HHIIHH", tag, layout.channels, layout.rate, layout.rate * stride, stride, bits)
    kind += b"\0\0" if floating else b""  # formats other than PCM state the size of an extension, here 0
    before = b"WAVE" + b"fmt " + struct.pack("<I", len(kind)) + kind + b"data"
    sizes = (len(before) + 4 + size + size % 2, size) if known else (_ALL_ONES, _ALL_ONES)
    return b"RIFF" + struct.pack("<I", sizes[0]) + before + struct.pack("<I", sizes[1])


def decode(content: bytes, layout: SampleLayout) -> Waveform:
    """Convert bytes to ``(channel, time)`` float32 samples, bit for bit as libsndfile does."""
    width, floating = BYTES[layout.subtype], layout.subtype in ("FLOAT", "DOUBLE")
    if layout.subtype == "PCM_24":
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        stored, width = wide.view("<i4")[:, 0], 4
    else:
        kind = "u1" if width == 1 else f"<f{width}" if floating else f"<i{width}"
        stored = np.frombuffer(content, kind)
    with np.errstate(over="ignore"):  # doubles beyond float32 become infinite
        samples: npt.NDArray[np.float32] = stored.reshape(-1, layout.channels).T.astype(np.float32, order="C")
    if layout.subtype == "PCM_U8":
        samples -= 128
    if not floating:
        samples *= np.float32(2.0 ** (1 - 8 * width))
    return samples


def encode(samples: npt.NDArray[Any], subtype: str) -> bytes:
    """Convert ``(channel, time)`` samples to bytes.

    Args:
        samples: As `writer.fit_to_subtype` returns them.
        subtype: A key of `BYTES`.
    """
    width, across = BYTES[subtype], interleave(samples)
    if subtype in ("FLOAT", "DOUBLE", "PCM_16"):
        return across.astype(f"<{across.dtype.kind}{width}", copy=False).tobytes()
    if subtype == "PCM_U8":
        return ((across >> 24) + 128).astype(np.uint8).tobytes()
    across = across.astype("<i4", copy=False)
    return across.view(np.uint8).reshape(*across.shape, 4)[..., 4 - width :].tobytes()
