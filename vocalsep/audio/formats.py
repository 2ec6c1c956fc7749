"""What each format can hold: endings, sample formats, rates, channels; and what is refused before any work is done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vocalsep.errors import AudioError, ConfigError, unknown

if TYPE_CHECKING:
    from torch import Tensor

_SOUND = {".wav", ".wave", ".rf64", ".w64", ".aiff", ".aif", ".aifc", ".au", ".caf", ".flac", ".wv", ".ape", ".tta"}
_LOSSY = {".ogg", ".oga", ".opus", ".mp3", ".mp2", ".m4a", ".m4b", ".aac", ".ac3", ".wma", ".mka"}
_VIDEO = {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".wmv", ".asf", ".avi", ".flv"}
SUFFIXES = frozenset(_SOUND | _LOSSY | _VIDEO)
"""File endings that are looked for in folders. What a file really is, its content tells."""

SUBTYPES = {"pcm16": "PCM_16", "pcm24": "PCM_24", "pcm32": "PCM_32", "float": "FLOAT"}
"""Sample formats that can be asked for, and libsndfile's words for them."""

BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
"""Fixed-point sample formats; all others hold more than full scale."""

_BYTES = {"PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
_DEPTHS = frozenset(_BYTES)  # sample formats that a recording can have without loss


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format that can be written.

    Attributes:
        name: In libsndfile's words, if it writes it.
        subtypes: Sample formats, the usual one first.
        channels: Channel counts that it holds.
        rates: Rates that it holds, Hz; None for all.
        resampled: Rate to which any other is changed, Hz; None where songs keep theirs.
        quality: libsndfile's compression level, 0 (best) to 1; None where there is none.
        by_ffmpeg: Whether FFmpeg writes it.
        tagged: Whether it has tags.
    """

    name: str
    subtypes: tuple[str, ...]
    channels: frozenset[int] | range
    rates: frozenset[int] | range | None = None
    resampled: int | None = None
    quality: float | None = None
    by_ffmpeg: bool = False
    tagged: bool = True

    def subtype(self, wanted: str) -> str:
        """The sample format to write: `wanted` if there is such a one, else what keeps most of it.

        Args:
            wanted: In libsndfile's words. A lossy one has no depth: all that its decoder gives is kept.
        """
        wanted = wanted if wanted in _DEPTHS else "FLOAT"
        if wanted in self.subtypes:
            return wanted
        return "PCM_24" if "PCM_24" in self.subtypes else self.subtypes[0]


_MP3 = frozenset({8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
_AAC = _MP3 | {7_350, 64_000, 88_200, 96_000}
_OPUS = frozenset({1, 2, 3, 4, 6, 8})  # FFmpeg mixes up 5 and 7
_WAV = Format(
    name="WAV", subtypes=("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8"), channels=range(1, 1_025)
)
_RAW = replace(_WAV, name="RAW", tagged=False)  # the samples alone
_AIFF = Format(name="AIFF", subtypes=("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"), channels=range(1, 1_025))
_OGG = Format(name="OGG", subtypes=("VORBIS",), channels=range(1, 256), rates=range(1, 200_001), quality=0.2)

FORMATS = {
    "wav": _WAV,
    "flac": Format(name="FLAC", subtypes=("PCM_16", "PCM_24", "PCM_S8"), channels=range(1, 9)),
    "aiff": _AIFF,
    "aif": _AIFF,
    "ogg": _OGG,
    "oga": _OGG,
    "opus": Format(name="OPUS", subtypes=("OPUS",), channels=_OPUS, resampled=48_000, by_ffmpeg=True),
    "mp3": Format(name="MP3", subtypes=("MPEG_LAYER_III",), channels=range(1, 3), rates=_MP3, quality=0.0),
    "raw": _RAW,
    "pcm": _RAW,
    "m4a": Format(name="M4A", subtypes=("AAC",), channels=range(1, 9), rates=_AAC, by_ffmpeg=True),
}
"""Formats that can be written, by ending. Sizes of lossy files for stereo at 44.1 or 48 kHz: 200 to 300 kbit/s."""


def subtype_named(name: str) -> str:
    """Libsndfile's word for a key of `SUBTYPES`.

    Raises:
        ConfigError: If it is none.
    """
    if name not in SUBTYPES:
        raise ConfigError(unknown("sample format", name, SUBTYPES))
    return SUBTYPES[name]


def check_output(
    path: Path,
    *,
    rate: int | None = None,
    channels: int | None = None,
    subtype: str | None = None,
) -> Format:
    """Makes sure, before any work is done, that a recording can be written to `path`.

    Args:
        path: The file to be; its ending chooses the format.
        rate: Sampling rate, Hz.
        channels: Channel count.
        subtype: A key of `SUBTYPES`, if one is asked for; None takes what the format has.

    Returns:
        The format.

    Raises:
        AudioError: If its ending is unknown, or it is a folder, or the format does not hold such a recording.
        ConfigError: If there is no sample format of that name.
    """
    if path.is_dir():
        raise AudioError(f"{path}: is a folder; expected a file to write")
    ending = path.suffix.lower().removeprefix(".")
    known = FORMATS.get(ending)
    if known is None:
        names = "expected .wav, .flac, .aiff, .ogg, .opus, .mp3, .m4a or .raw"
        raise AudioError(f"{path}: unknown output format {path.suffix!r}; {names}")
    if subtype is not None and subtype_named(subtype) not in known.subtypes:
        held = [name for name, word in SUBTYPES.items() if word in known.subtypes]
        choice = f"expected {' or '.join(held)}" if held else "it has none to choose"
        raise AudioError(f"{path}: {ending} does not hold samples as {subtype}; {choice}; .wav holds all")
    if channels is not None and channels not in known.channels:
        counts = _listed(known.channels)
        raise AudioError(f"{path}: {ending} holds {counts} channels, the song has {channels}; choose .wav")
    if rate is not None and known.rates is not None and rate not in known.rates:
        rates = _listed(known.rates)
        raise AudioError(f"{path}: {ending} holds {rates} Hz, the song has {rate}; choose .wav, or .opus (48000 Hz)")
    return known


def _listed(numbers: frozenset[int] | range) -> str:
    return f"up to {max(numbers)}" if isinstance(numbers, range) else ", ".join(map(str, sorted(numbers)))


def data_bytes(samples: int, channels: int, subtype: str) -> int:
    """Size of uncompressed samples, bytes."""
    return samples * channels * _BYTES[subtype]


_WAV_FROM_VORBIS = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
"""By channel count: which channel of Vorbis comes first in wav, and so on. Other counts have one order."""


def channels_to_wav(samples: Tensor, subtype: str) -> Tensor:
    """Gives ``(channel, time)`` samples as libsndfile reads them the order of wav.

    Args:
        samples: The samples.
        subtype: What they were stored as, in libsndfile's words.
    """
    order = _WAV_FROM_VORBIS.get(samples.shape[0]) if subtype == "VORBIS" else None
    return samples[list(order)] if order else samples


def channels_from_wav(samples: Tensor, subtype: str) -> Tensor:
    """The inverse of `channels_to_wav`."""
    order = _WAV_FROM_VORBIS.get(samples.shape[0]) if subtype == "VORBIS" else None
    return samples[[order.index(channel) for channel in range(len(order))]] if order else samples
