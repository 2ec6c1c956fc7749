"""What each output format can hold: sample formats, rates, channels and their order.

`check_output` reports what a format cannot hold, before any work is done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocalsep.audio import bitrates
from vocalsep.errors import AudioError, ConfigError, describe_unknown
from vocalsep.remote import Remote

if TYPE_CHECKING:
    import numpy.typing as npt

    from vocalsep.shapes import AnyArray

_SOUND = {".wav", ".wave", ".rf64", ".w64", ".aiff", ".aif", ".aifc", ".au", ".caf", ".flac", ".wv", ".ape", ".tta"}
_LOSSY = {".ogg", ".oga", ".opus", ".mp3", ".mp2", ".m4a", ".m4b", ".aac", ".ac3", ".wma", ".mka"}
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".wmv", ".asf", ".avi", ".flv"})
"""File extensions of songs that come with pictures."""
SUFFIXES = frozenset(_SOUND | _LOSSY | VIDEO_SUFFIXES)
"""File extensions of songs, for searching folders. The decoder goes by content, not by extension."""

SUBTYPES = {"pcm16": "PCM_16", "pcm24": "PCM_24", "pcm32": "PCM_32", "float": "FLOAT"}
"""Sample formats that a user can choose, and libsndfile's names for them."""

TOLERANCE_SECONDS = 0.5
"""How much shorter than stated a complete recording may be."""

BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
"""Bit depths of the fixed-point sample formats. All other formats can hold samples beyond full scale."""

_BYTES = {"PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
_LOSSLESS = frozenset(_BYTES)


@dataclass(frozen=True, kw_only=True)
class Format:
    """An output format.

    Attributes:
        name: libsndfile's name, or our own if FFmpeg writes the format.
        subtypes: Sample formats in libsndfile's names, the default first.
        channels: Supported channel counts.
        rates: Supported sample rates, Hz; None for any.
        resampled: Rate to which every song is resampled, Hz; None if the format keeps the song's rate.
        quality: libsndfile's compression level, 0 (best) to 1; None if the format has none.
        by_ffmpeg: Whether FFmpeg writes it instead of libsndfile.
        tagged: Whether it can hold tags.
    """

    name: str
    subtypes: tuple[str, ...]
    channels: frozenset[int] | range
    rates: frozenset[int] | range | None = None
    resampled: int | None = None
    quality: float | None = None
    by_ffmpeg: bool = False
    tagged: bool = True

    @property
    def lossy(self) -> bool:
        """Whether the format loses something, and so has bit rates rather than sample formats."""
        return not _LOSSLESS.intersection(self.subtypes)

    def choose_subtype(self, wanted: str) -> str:
        """Return `wanted` if the format supports it, else the sample format that preserves the most.

        Args:
            wanted: A sample format in libsndfile's names. Lossy sources have no bit depth, so they count as float.
        """
        wanted = wanted if is_lossless(wanted) else "FLOAT"
        if wanted in self.subtypes:
            return wanted
        return "PCM_24" if "PCM_24" in self.subtypes else self.subtypes[0]


_MP3 = frozenset({8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
_AAC = _MP3 | {7_350, 64_000, 88_200, 96_000}
_OPUS = frozenset({1, 2, 3, 4, 6, 8})  # FFmpeg mixes up the channels of files with 5 or 7
_WAV = Format(
    name="WAV", subtypes=("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8"), channels=range(1, 1_025)
)
_RAW = replace(_WAV, name="RAW", tagged=False)
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
"""Output formats by file extension. The lossy ones take 200 to 300 kbit/s for stereo at 44.1 or 48 kHz."""


def is_lossless(subtype: str) -> bool:
    """Return whether a sample format, in libsndfile's names, has a bit depth. Lossy codecs have none."""
    return subtype in _LOSSLESS


def find_subtype(name: str) -> str:
    """Return libsndfile's name for a key of `SUBTYPES`.

    Raises:
        ConfigError: If the key is unknown.
    """
    if name not in SUBTYPES:
        raise ConfigError(describe_unknown("sample format", name, SUBTYPES))
    return SUBTYPES[name]


def check_output(
    path: Path | Remote,
    *,
    rate: int | None = None,
    channels: int | None = None,
    subtype: str | None = None,
    bitrate: int | None = None,
) -> Format:
    """Check, before any work is done, that a recording can be written to `path`.

    Args:
        path: The output file; its extension chooses the format.
        rate: Sample rate, Hz.
        channels: Channel count.
        subtype: The sample format that the user chose, a key of `SUBTYPES`; None for the format's own choice.
        bitrate: The bit rate that the user chose, bits per second; None for the format's own choice.

    Returns:
        The format.

    Raises:
        AudioError: If the extension is unknown, the path is a folder, or the format does not support such a recording.
        ConfigError: If `subtype` is unknown.
    """
    if path.is_dir():
        raise AudioError(f"{path}: is a folder; expected a file to write")
    extension = path.suffix.lower().removeprefix(".")
    known = FORMATS.get(extension)
    if known is None:
        if not path.suffix:
            raise AudioError(f"{path}: has no file extension; write {path}/ for a folder, {path}.wav for a file")
        names = "expected .wav, .flac, .aiff, .ogg, .opus, .mp3, .m4a or .raw"
        raise AudioError(f"{path}: unknown output format {path.suffix!r}; {names}")
    if bitrate is not None:
        if not known.lossy:
            raise AudioError(f"{path}: {extension} has no bit rate; only mp3, m4a, opus and ogg have one")
        try:
            bitrates.check(known.name, bitrate, rate, channels)
        except AudioError as error:
            raise AudioError(f"{path}: {error}") from error
    if subtype is not None and find_subtype(subtype) not in known.subtypes:
        supported = [name for name, word in SUBTYPES.items() if word in known.subtypes]
        choice = f"choose {' or '.join(supported)}" if supported else "leave the sample format out"
        raise AudioError(f"{path}: {extension} does not support {subtype} samples; {choice}, or write .wav")
    if channels is not None and channels not in known.channels:
        counts = _list_numbers(known.channels)
        raise AudioError(f"{path}: {extension} supports {counts} channels, but the song has {channels}; choose .wav")
    if rate is not None and known.rates is not None and rate not in known.rates:
        rates = _list_numbers(known.rates)
        raise AudioError(
            f"{path}: {extension} supports {rates} Hz, but the song has {rate}; choose .wav, or .opus (48000 Hz)"
        )
    return known


def _list_numbers(numbers: frozenset[int] | range) -> str:
    return f"up to {max(numbers)}" if isinstance(numbers, range) else ", ".join(map(str, sorted(numbers)))


def count_bytes(samples: int, channels: int, subtype: str) -> int:
    """Return the size of uncompressed samples, bytes."""
    return samples * channels * _BYTES[subtype]


_WAV_FROM_VORBIS = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
"""Where Vorbis puts each of wav's channels, by channel count. With other counts, both use the same order."""


def reorder_to_wav(samples: AnyArray, subtype: str) -> AnyArray:
    """Put the channels into wav order.

    Args:
        samples: ``(channel, time)`` as libsndfile decodes them.
        subtype: Sample format of the file, in libsndfile's names.
    """
    order = _WAV_FROM_VORBIS.get(samples.shape[0]) if subtype == "VORBIS" else None
    return samples[list(order)] if order else samples


def reorder_from_wav(samples: AnyArray, subtype: str) -> AnyArray:
    """Undo `reorder_to_wav`."""
    order = _WAV_FROM_VORBIS.get(samples.shape[0]) if subtype == "VORBIS" else None
    return samples[[order.index(channel) for channel in range(len(order))]] if order else samples


def interleave(samples: AnyArray) -> npt.NDArray[Any]:
    """Return ``(channel, time)`` samples as ``(time, channel)``, in C order."""
    import numpy as np  # the command line reads this module before it needs any sound

    return np.stack(tuple(samples), axis=1)  # several times as fast as a copy of the transpose
