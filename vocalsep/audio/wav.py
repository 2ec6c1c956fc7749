"""Wav as it comes through a pipe: headers that cannot be gone back to, lengths that are not known, samples as bytes.

Programs that write to a pipe do not know the length of what they write. They put 0 into the header, or all ones
(FFmpeg), or 2 GB less a little (SoX); then the sound goes on until the pipe is closed. Here such a length is 0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vocalsep.shapes import Waveform

BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
"""Sample formats, in libsndfile's words, and their sizes."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SUBTYPES = {(_PCM, 1): "PCM_U8", (_PCM, 2): "PCM_16", (_PCM, 3): "PCM_24", (_PCM, 4): "PCM_32"} | {
    (_FLOAT, 4): "FLOAT",
    (_FLOAT, 8): "DOUBLE",
}
_GUID = bytes.fromhex("000000001000800000aa00389b71")  # of WAVE_FORMAT_EXTENSIBLE's kinds, after the first two bytes
_UNKNOWN, _LARGE_UNKNOWN = 0x7FFFF000, 2**62  # sizes from there on are none, of 32 and 64 bits
_ALL_ONES = 2**32 - 1
_ASIDE = 2**20  # bytes of a chunk that is passed over on the way to the format


class ForeignError(Exception):
    """What comes is not wav, or not one of plain samples."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How samples lie one after the other, and how many there are.

    Attributes:
        rate: Sampling rate, Hz.
        channels: Channel count.
        subtype: Sample format, a key of `BYTES`; wav's order of bytes.
        samples: Length; 0 where it is not known.
    """

    rate: int
    channels: int
    subtype: str
    samples: int = 0

    @property
    def step(self) -> int:
        """Bytes to a sample of all channels."""
        return BYTES[self.subtype] * self.channels


def read_header(take: Callable[[int], bytes]) -> Layout:
    """Reads a wav header, up to the first sample.

    Args:
        take: Gives the next so many bytes; fewer at the end of the stream.

    Raises:
        ForeignError: If it is none, or the samples are compressed.
    """
    head = take(12)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        raise ForeignError("not wav")
    kind: tuple[int, int, str] | None = None
    large = 0
    while True:
        name, size = _chunk(take)
        if name == b"data":
            break
        if kind is None and size > _ASIDE:
            raise ForeignError("no format")
        content = _passed(take, size + size % 2, keep=name in (b"fmt ", b"ds64"))
        if name == b"fmt ":
            kind = _format(content)
        elif name == b"ds64" and len(content) >= 16:
            large = int.from_bytes(content[8:16], "little")
    if kind is None:
        raise ForeignError("no format")
    rate, channels, subtype = kind
    layout = Layout(rate=rate, channels=channels, subtype=subtype)
    if head[:4] != b"RIFF" and size == _ALL_ONES:
        size = large if large < _LARGE_UNKNOWN else 0
    elif size >= _UNKNOWN:
        size = 0
    return Layout(rate=rate, channels=channels, subtype=subtype, samples=size // layout.step)


def _chunk(take: Callable[[int], bytes]) -> tuple[bytes, int]:
    head = take(8)
    if len(head) < 8:
        raise ForeignError("no samples")
    return head[:4], int.from_bytes(head[4:], "little")


def _passed(take: Callable[[int], bytes], size: int, *, keep: bool) -> bytes:
    content = b""
    while size:
        part = take(min(size, _ASIDE))
        if not part:
            raise ForeignError("no samples")
        content, size = content + part if keep else b"", size - len(part)
    return content


def _format(content: bytes) -> tuple[int, int, str]:
    """Rate, channels and sample format of a format chunk."""
    if len(content) < 16:
        raise ForeignError("no format")
    tag, channels, rate, _, step, _ = struct.unpack("<HHIIHH", content[:16])
    if tag == _EXTENSIBLE and content[26:40] == _GUID:
        tag = int.from_bytes(content[24:26], "little")
    subtype = _SUBTYPES.get((tag, step // channels)) if channels and not step % channels else None
    if subtype is None:
        raise ForeignError("compressed samples")
    return rate, channels, subtype


def header(layout: Layout) -> bytes:
    """A wav header, up to the first sample; the sizes are all ones where the length is not known or 4 GB or more."""
    size = layout.samples * layout.step
    known = 0 < size < _ALL_ONES - 100
    floating = layout.subtype in ("FLOAT", "DOUBLE")
    width = 8 * BYTES[layout.subtype]
    values = (_FLOAT if floating else _PCM, layout.channels, layout.rate, layout.rate * layout.step, layout.step, width)
    kind = struct.pack("<HHIIHH", *values) + (b"\0\0" if floating else b"")
    before = b"WAVE" + b"fmt " + struct.pack("<I", len(kind)) + kind + b"data"
    sizes = (len(before) + 4 + size + size % 2, size) if known else (_ALL_ONES, _ALL_ONES)
    return b"RIFF" + struct.pack("<I", sizes[0]) + before + struct.pack("<I", sizes[1])


def decode(content: bytes, layout: Layout) -> Waveform:
    """Samples from bytes, ``(channel, time)`` float32, as libsndfile reads them."""
    if layout.subtype == "PCM_U8":
        samples = (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    elif layout.subtype == "PCM_24":
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        samples = (wide.view("<i4")[:, 0].astype(np.float64) / 2**31).astype(np.float32)
    elif layout.subtype in ("FLOAT", "DOUBLE"):
        with np.errstate(over="ignore"):  # doubles beyond float32 become infinite
            samples = np.frombuffer(content, f"<f{BYTES[layout.subtype]}").astype(np.float32)
    else:
        width = BYTES[layout.subtype]
        samples = (np.frombuffer(content, f"<i{width}").astype(np.float64) / 2 ** (8 * width - 1)).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(samples.reshape(-1, layout.channels).T))


def encode(samples: Tensor, subtype: str) -> bytes:
    """Bytes of ``(channel, time)`` samples: float32, or int32 with full scale 2**31 for fixed-point formats."""
    across = np.ascontiguousarray(samples.numpy().T)
    if subtype in ("FLOAT", "DOUBLE"):
        return across.astype(f"<f{BYTES[subtype]}").tobytes()
    if subtype == "PCM_U8":
        return ((across >> 24) + 128).astype(np.uint8).tobytes()
    width = BYTES[subtype]
    return across.astype("<i4").view(np.uint8).reshape(*across.shape, 4)[..., 4 - width :].tobytes()
