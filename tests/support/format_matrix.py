"""Try which formats, rates and channel counts work. Each cell of the tables is one extraction from file to file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import fake_nets
import ffmpeg_recordings
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from vocalsep import audio
from vocalsep.errors import AudioError
from vocalsep.extraction import Extractor, extract

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
RATES = ffmpeg_recordings.USUAL_RATES
CHANNELS = (1, 2, 6)
SAMPLES = 9_003
CORNERS = ((8_000, 1), (44_100, 2), (192_000, 6))

Array = npt.NDArray[np.float32]


class Row(NamedTuple):
    """A format: the kinds of files that must behave alike (the first is tried in all cells), and its limits."""

    kinds: tuple[str, ...]
    limits: str = ""


def _combine(container: str, *subtypes: str) -> tuple[str, ...]:
    return tuple(f"{container} {subtype}" for subtype in subtypes)


_DEPTHS = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
_TO_48_STEREO = "up to 48 kHz and two channels"
_TO_96 = "AAC goes up to 96 kHz"
_OPUS = "Opus is always 48 kHz"

READ = {
    "wav, 8 to 32 bit, float, double": Row(
        (*_combine("WAV", *_DEPTHS, "PCM_U8"), *_combine("WAVEX", *_DEPTHS, "PCM_U8"))
    ),
    "aiff, 16 to 32 bit, float, double": Row(_combine("AIFF", *_DEPTHS)),
    "flac, 8 to 24 bit": Row(_combine("FLAC", "PCM_16", "PCM_24", "PCM_S8")),
    "w64, rf64, 8 to 32 bit, float, double": Row(
        (*_combine("W64", *_DEPTHS, "PCM_U8"), *_combine("RF64", *_DEPTHS, "PCM_U8"))
    ),
    "caf, au, 8 to 32 bit, float, double": Row(
        (*_combine("CAF", *_DEPTHS, "PCM_S8"), *_combine("AU", *_DEPTHS, "PCM_S8"))
    ),
    "ogg (Vorbis)": Row(_combine("OGG", "VORBIS")),
    "ogg (Opus)": Row(_combine("OGG", "OPUS"), _OPUS),
    "mp3": Row(_combine("MP3", "MPEG_LAYER_III"), _TO_48_STEREO),
    "m4a, mp4 (AAC)": Row(("m4a, AAC", "mp4, AAC"), _TO_96),
    "m4a (ALAC)": Row(("m4a, ALAC", "m4a, 24-bit ALAC")),
    "mov (PCM), mkv (PCM of 8 to 32 bit, float, double)": Row(
        (
            "mov, PCM",
            "mkv, 8-bit PCM",
            "mkv, 24-bit PCM",
            "mkv, 32-bit PCM",
            "mkv, float",
            "mkv, double",
        )
    ),
    "mkv (FLAC)": Row(("mkv, FLAC",)),
    "mkv (AAC)": Row(("mkv, AAC",), _TO_96),
    "webm (Opus)": Row(("webm, Opus",), _OPUS),
    "wv, 16 bit, float": Row(("wv", "wv, float")),
    "tta": Row(("tta",)),
    "aac": Row(("aac",), _TO_96),
    "flv (AAC)": Row(("flv, AAC",), f"{_TO_96}; FFmpeg cannot decode the 5.1 that it writes"),
    "ac3": Row(("ac3",), "32, 44.1 and 48 kHz only"),
    "wma": Row(("wma",), _TO_48_STEREO),
    "avi (MP3)": Row(("avi, MP3",), _TO_48_STEREO),
}
"""Rows of the table of formats that are read."""

WRITTEN = {
    "wav, 8 to 32 bit, float, double": Row(tuple(f"wav {depth}" for depth in (*_DEPTHS, "PCM_U8"))),
    "aiff, 16 to 32 bit, float, double": Row(tuple(f"aiff {depth}" for depth in _DEPTHS)),
    "flac, 16, 24 bit": Row(("flac PCM_16", "flac PCM_24")),
    "raw, 8 to 32 bit, float, double": Row(tuple(f"raw {depth}" for depth in (*_DEPTHS, "PCM_U8"))),
    "ogg (Vorbis)": Row(("ogg VORBIS",)),
    "opus": Row(("opus OPUS",), "other rates are resampled to 48 kHz"),
    "mp3": Row(("mp3 MPEG_LAYER_III",), _TO_48_STEREO),
    "m4a (AAC)": Row(("m4a AAC",), _TO_96),
}
"""Rows of the table of formats that are written."""

Attempt = Callable[[Path, str, int, int], bool]


def try_reading(folder: Path, kind: str, rate: int, channels: int) -> bool:
    """Return whether the format supports such songs; if so, check that the vocals are half of the song."""
    song = write_song(folder / "song", kind, rate, ffmpeg_recordings.pulse(rate, SAMPLES, channels))
    if song is None:
        return False
    mixture, its_rate = audio.read(song)
    assert (its_rate, mixture.shape[0]) == (rate, channels), (kind, rate, channels)
    assert mixture.shape[-1] >= 0.5 * SAMPLES  # wma loses the end
    vocals = folder / "v.wav"
    report = extract(song, vocals, extractor=_make_halving_extractor(), subtype="float")
    assert all("its tags cannot be read" in text for text in report.warnings), report.warnings  # mutagen: 176.4 kHz wv
    back, back_rate = audio.read(vocals)
    assert (back_rate, back.shape) == (rate, mixture.shape)
    np.testing.assert_allclose(back, mixture / 2, rtol=0, atol=1e-6)
    assert np.abs(mixture).max() > 0.3
    return True


def try_writing(folder: Path, kind: str, rate: int, channels: int) -> bool:
    """Return whether the format supports such songs. If so, check both parts; if not, check the error message."""
    extension, subtype = kind.split()
    original = ffmpeg_recordings.pulse(rate, SAMPLES, channels)
    song = folder / "song.wav"
    soundfile.write(song, original.T, rate, subtype=subtype if subtype in _DEPTHS or subtype == "PCM_U8" else "PCM_16")
    paths = [folder / f"{part}.{extension}" for part in ("v", "a")]
    try:
        audio.check_output(paths[0], rate=rate, channels=channels)
    except AudioError:
        with pytest.raises(AudioError, match=r"choose \.wav"):
            extract(song, paths[0], accompaniment=paths[1], extractor=_make_halving_extractor())
        assert not any(path.exists() for path in paths)
        return False
    extract(song, paths[0], accompaniment=paths[1], extractor=_make_halving_extractor())
    for path in paths:
        raw = audio.SampleLayout(rate=rate, channels=channels, subtype=subtype) if extension == "raw" else None
        with audio.open_song(path, raw) as reader:
            back = np.concatenate(list(reader), axis=-1)
            assert reader.rate == (48_000 if extension == "opus" else rate)
            assert subtype in (reader.subtype, "AAC", "OPUS")
        expected = audio.resample(original, rate, reader.rate) / 2
        assert back.shape == expected.shape
        if subtype in (*_DEPTHS, "PCM_U8"):
            step = {"PCM_U8": 2**-7, "PCM_16": 2**-15}.get(subtype, 1e-6)
            np.testing.assert_allclose(back, expected, rtol=0, atol=step)
        else:
            norms = np.linalg.norm(back, axis=-1) * np.linalg.norm(expected, axis=-1)
            assert ((back * expected).sum(axis=-1) / norms).min() > 0.97
        path.unlink()
    return True


def try_row(folder: Path, kinds: tuple[str, ...], attempt: Attempt) -> list[str]:
    """Return a row of the table: the channel counts that work for each rate. All kinds must behave alike."""
    counts = {rate: [count for count in CHANNELS if attempt(folder, kinds[0], rate, count)] for rate in RATES}
    for kind, (rate, count) in itertools.product(kinds[1:], CORNERS):
        assert attempt(folder, kind, rate, count) == (count in counts[rate]), (kind, rate, count)
    return [" ".join(map(str, works)) or "-" for works in counts.values()]


def render_table(heading: str, rows: Iterable[tuple[str, list[str], str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    head = [heading, *(f"{rate / 1_000:g}" for rate in RATES), "limits"]
    table = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return table + [f"| {' | '.join([name, *cells, limits])} |" for name, cells, limits in rows]


def read_table(heading: str) -> dict[str, tuple[str, ...]]:
    """Return the rows of a table in docs/formats.md, by their first cells. `heading` is that of the first column."""
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith(f"| {heading} |"))
    next(lines)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in itertools.takewhile(str.strip, lines)]
    return {row[0]: tuple(row[1:]) for row in rows}


def _make_halving_extractor() -> Extractor:
    return Extractor(fake_nets.constant(0.5, fake_nets.SMALL), device="cpu")


def write_song(path: Path, kind: str, rate: int, samples: Array) -> Path | None:
    """Write ``(channel, time)`` samples in a format; return None if the format does not support them."""
    channels = len(samples)
    if kind in ffmpeg_recordings.KINDS:
        made = ffmpeg_recordings.KINDS[kind]
        own = (48_000,) if "Opus" in kind else made.rates
        return ffmpeg_recordings.write(path, samples, rate, made) if rate in own and channels <= made.channels else None
    container, subtype = kind.split()
    if not soundfile.check_format(container, subtype):
        raise ValueError(kind)
    if (subtype == "OPUS" and rate != 48_000) or (container == "MP3" and (rate > 48_000 or channels > 2)):
        return None
    soundfile.write(path, samples.T, rate, format=container, subtype=subtype)
    return path
