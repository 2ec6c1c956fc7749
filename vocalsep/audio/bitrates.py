"""Bit rates of lossy outputs: read, check and translate them for the encoders."""

from __future__ import annotations

import functools
import re

from vocalsep.errors import AudioError, ConfigError

_MP3 = {  # bit rates in kbit/s by the lowest sample rate that takes them; LAME refuses the lowest of each list
    32_000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    16_000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    8_000: (8, 16, 24, 32, 40, 48, 56, 64),
}
_AAC_BITS = 6  # per sample and channel, at most (ISO/IEC 13818-7: 6144 bits per frame of 1024 samples)
_PER_CHANNEL = {"M4A": 8_000, "OPUS": 6_000}  # the least that is still sound
_OPUS_MOST = 256_000  # per channel
_LEAST, _MOST = 6_000, 5_000_000
_QUALITIES = 1_000  # steps in which Vorbis is searched


def parse(text: str) -> int:
    """Parse a bit rate such as "320k", "320" or "320000".

    Returns:
        Bits per second.

    Raises:
        ConfigError: If the text is no bit rate.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(k?)(?:bps|bit/s|b/s)?", text.strip(), re.IGNORECASE)
    value = float(found[1]) if found else 0.0
    if found and (found[2] or value < 1_000):
        value *= 1_000
    if not _LEAST <= value <= _MOST:
        raise ConfigError(f"bit rate {text!r}: expected a number of kbit/s, such as 320k or 128k")
    return round(value)


def check(kind: str, bitrate: int, rate: int | None = None, channels: int | None = None) -> None:
    """Check that a format can have a bit rate.

    Args:
        kind: Name of the `formats.Format`.
        bitrate: Bits per second.
        rate: Sample rate, Hz; None if it is not known yet.
        channels: Channel count; None if it is not known yet.

    Raises:
        AudioError: If it cannot, with a bit rate that it can have.
    """
    if kind == "MP3":
        tables = [_find_mp3(rate)] if rate else list(_MP3.values())
        allowed = sorted({1_000 * step for table in tables for step in table[1:]})
        if bitrate not in allowed:
            near = min(allowed, key=lambda step: abs(step - bitrate))
            where = f" at {rate} Hz" if rate else ""
            raise AudioError(f"mp3 has no bit rate of {_format(bitrate)}{where}; the nearest is {_format(near)}")
        return
    if not (rate and channels):
        return
    if kind == "OGG":
        low, high = _read_nominal(0, rate, channels), _read_nominal(_QUALITIES, rate, channels)
    else:
        low = _PER_CHANNEL[kind] * channels
        high = (_AAC_BITS * rate if kind == "M4A" else _OPUS_MOST) * channels
    if not low <= bitrate <= high:
        raise AudioError(
            f"{kind.lower()} with {channels} channels at {rate} Hz takes {_format(low, up=True)} to {_format(high)}, "
            f"not {_format(bitrate)}"
        )


def find_compression(kind: str, bitrate: int, rate: int, channels: int) -> float:
    """Return libsndfile's compression level, 0 to 1, for a constant bit rate of mp3 or a nominal one of ogg.

    Args:
        kind: "MP3" or "OGG".
        bitrate: Bits per second, which `check` accepts.
        rate: Sample rate, Hz.
        channels: Channel count.
    """
    if kind == "MP3":
        table = _find_mp3(rate)
        return (table[-1] - bitrate / 1_000) / (table[-1] - table[0])
    low, high = 0, _QUALITIES  # nominal bit rates rise with the quality
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _read_nominal(middle, rate, channels) <= bitrate else (low, middle)
    return 1 - low / _QUALITIES


def _find_mp3(rate: int) -> tuple[int, ...]:
    return next(table for lowest, table in _MP3.items() if rate >= lowest)


@functools.cache
def _read_nominal(quality: int, rate: int, channels: int) -> int:
    """Return the bit rate that Vorbis itself states for a quality, 0 to `_QUALITIES`; Vorbis has no table of them."""
    import io

    import soundfile

    content = io.BytesIO()
    soundfile.SoundFile(
        content,
        "w",
        samplerate=rate,
        channels=channels,
        format="OGG",
        subtype="VORBIS",
        compression_level=1 - quality / _QUALITIES,
    ).close()
    start = content.getvalue().find(b"\x01vorbis") + 20  # after version, channels, rate and the largest bit rate
    return int.from_bytes(content.getvalue()[start : start + 4], "little", signed=True)


def _format(bitrate: int, *, up: bool = False) -> str:
    return f"{-(-bitrate // 1_000) if up else bitrate // 1_000}k"
