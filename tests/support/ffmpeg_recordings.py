"""Write recordings with FFmpeg in formats that soundfile cannot write, and make a signal that is easy to locate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt

CHANNEL_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}

USUAL_RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000)
AAC_RATES = USUAL_RATES[:10]


class Kind(NamedTuple):
    """A format: FFmpeg's names of container, codec and sample format, its rates in Hz, its largest channel count."""

    muxer: str
    codec: str
    samples: str
    rates: tuple[int, ...] = USUAL_RATES
    channels: int = 8


KINDS = {
    "m4a, AAC": Kind("ipod", "aac", "fltp", AAC_RATES),
    "m4a, ALAC": Kind("ipod", "alac", "s16p", channels=6),
    "m4a, 24-bit ALAC": Kind("ipod", "alac", "s32p", channels=6),
    "mp4, AAC": Kind("mp4", "aac", "fltp", AAC_RATES),
    "mov, PCM": Kind("mov", "pcm_s16le", "s16"),
    "mkv, AAC": Kind("matroska", "aac", "fltp", AAC_RATES),
    "mkv, FLAC": Kind("matroska", "flac", "s16"),
    "mkv, 24-bit PCM": Kind("matroska", "pcm_s24le", "s32"),
    "mkv, 32-bit PCM": Kind("matroska", "pcm_s32le", "s32"),
    "mkv, float": Kind("matroska", "pcm_f32le", "flt"),
    "mkv, double": Kind("matroska", "pcm_f64le", "dbl"),
    "mkv, 8-bit PCM": Kind("matroska", "pcm_u8", "u8"),
    "webm, Opus": Kind("webm", "libopus", "flt", (8_000, 16_000, 24_000, 48_000)),
    "opus of up to 24 kHz": Kind("ogg", "libopus", "flt", (8_000, 16_000, 24_000)),
    "wma": Kind("asf", "wmav2", "fltp", USUAL_RATES[:8], 2),
    "aac": Kind("adts", "aac", "fltp", AAC_RATES),
    "ac3": Kind("ac3", "ac3", "fltp", (32_000, 44_100, 48_000), 6),
    "wv": Kind("wv", "wavpack", "s16p"),
    "wv, float": Kind("wv", "wavpack", "fltp"),
    "tta": Kind("tta", "tta", "s16"),
    "avi, MP3": Kind("avi", "libmp3lame", "fltp", USUAL_RATES[:8], 2),
    "flv, AAC": Kind("flv", "aac", "fltp", AAC_RATES, 2),
}
"""Kinds of files that FFmpeg writes, and that `audio.Reader` reads through FFmpeg."""


def pulse(rate: int, samples: int, channels: int) -> npt.NDArray[np.float32]:
    """Return ``(channel, time)`` samples that 8 bits hold exactly: a tone with a pulse halfway.

    Each channel is quieter than the one before. From six channels on, the fourth is a low tone.
    """
    at = np.arange(samples)
    tone = 0.15 * np.sin(2 * np.pi * 0.01 * at) + 0.7 * np.exp(-0.5 * ((at - samples // 2) / 12) ** 2)
    whole = np.stack([tone * (1 - 0.1 * channel) for channel in range(channels)])
    if channels >= 6:  # encoders remove everything else from the LFE channel
        whole[3] = 0.5 * np.sin(2 * np.pi * 0.002 * at)
    return (np.round(whole * 128) / 128).astype(np.float32)


def write(
    path: Path,
    samples: npt.NDArray[np.float32],
    rate: int,
    kind: Kind,
    *,
    options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    video: bool = False,
) -> Path:
    """Write ``(channel, time)`` samples.

    Args:
        path: The file.
        samples: The samples.
        rate: Sample rate, Hz.
        kind: The format.
        options: FFmpeg's options of the muxer.
        tags: Tags of the file.
        video: Whether to add a video track.
    """
    layout = CHANNEL_LAYOUTS[samples.shape[0]]
    with av.open(str(path), "w", format=kind.muxer, options=options or {}) as container:
        container.metadata.update(tags or {})
        pictures = container.add_stream("mpeg4", rate=10, width=16, height=16, pix_fmt="yuv420p") if video else None
        stream = container.add_stream(kind.codec, rate=rate, layout=layout)
        stream.codec_context.format = kind.samples
        stream.codec_context.time_base = Fraction(1, rate)
        if kind.codec not in ("alac", "flac", "wavpack", "tta") and not kind.codec.startswith("pcm"):
            stream.bit_rate = 96_000 * samples.shape[0]
        for start in range(0, samples.shape[1], 5_000):
            block = samples[:, start : start + 5_000]
            if kind.samples.startswith("s16"):
                block = np.round(block * 2**15).astype(np.int16)
            elif kind.samples.startswith("s32"):
                block = np.round(block.astype(np.float64) * 2**31).astype(np.int32)
            elif kind.samples == "u8":
                block = np.round(block * 128 + 128).astype(np.uint8)
            elif kind.samples == "dbl":
                block = block.astype(np.float64)
            packed = np.ascontiguousarray(block.T).reshape(1, -1)  # PyAV miscounts the planes of 8 channels
            frame = av.AudioFrame.from_ndarray(packed, kind.samples.removesuffix("p"), layout)
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if pictures:
            for _ in range(round(10 * samples.shape[1] / rate)):
                picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
                container.mux(pictures.encode(picture))
            container.mux(pictures.encode(None))
    return path
