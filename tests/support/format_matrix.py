"""Rates x channels x formats, by trying: each cell is a song that is extracted from file to file with a small net."""

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
import torch

from vocalsep import audio
from vocalsep.errors import AudioError
from vocalsep.extraction import Extractor, extract

RATES = ffmpeg_recordings.USUAL
CHANNELS = (1, 2, 6)
SAMPLES = 9_003
CORNERS = ((8_000, 1), (44_100, 2), (192_000, 6))

Array = npt.NDArray[np.float32]


class Row(NamedTuple):
    """A format: ways to write a song in it (the first is tried in all cells), and why some cells are empty."""

    kinds: tuple[str, ...]
    why: str = ""


def _sndfile(kind: str, *subtypes: str) -> tuple[str, ...]:
    return tuple(f"{kind} {subtype}" for subtype in subtypes)


_DEPTHS = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
_TWO = "it has two channels at most"
_TO_48 = "its rates end at 48 kHz"
_TO_96 = "AAC ends at 96 kHz"
_OPUS = "Opus has 48 kHz and nothing else"

IN = {
    "wav, 8 to 32 bit, float, double": Row(
        (*_sndfile("WAV", *_DEPTHS, "PCM_U8"), *_sndfile("WAVEX", *_DEPTHS, "PCM_U8"))
    ),
    "aiff, 16 to 32 bit, float, double": Row(_sndfile("AIFF", *_DEPTHS)),
    "flac, 8 to 24 bit": Row(_sndfile("FLAC", "PCM_16", "PCM_24", "PCM_S8")),
    "w64, rf64, 8 to 32 bit, float, double": Row(
        (*_sndfile("W64", *_DEPTHS, "PCM_U8"), *_sndfile("RF64", *_DEPTHS, "PCM_U8"))
    ),
    "caf, au, 8 to 32 bit, float, double": Row(
        (*_sndfile("CAF", *_DEPTHS, "PCM_S8"), *_sndfile("AU", *_DEPTHS, "PCM_S8"))
    ),
    "ogg (Vorbis)": Row(_sndfile("OGG", "VORBIS")),
    "ogg (Opus)": Row(_sndfile("OGG", "OPUS"), _OPUS),
    "mp3": Row(_sndfile("MP3", "MPEG_LAYER_III"), f"{_TO_48}, and {_TWO}"),
    "m4a, mp4 (AAC)": Row(("m4a, AAC", "mp4, AAC"), _TO_96),
    "m4a (ALAC)": Row(("m4a, ALAC", "m4a, ALAC of 24 bits")),
    "mov (PCM), mkv (PCM of 8 to 32 bit, float, double)": Row(
        (
            "mov, PCM",
            "mkv, PCM of 8 bits",
            "mkv, PCM of 24 bits",
            "mkv, PCM of 32 bits",
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
    "flv (AAC)": Row(("flv, AAC",), f"{_TO_96}; FFmpeg does not decode the 5.1 that it writes here"),
    "ac3": Row(("ac3",), "it has 32, 44.1 and 48 kHz"),
    "wma": Row(("wma",), f"{_TO_48}, and {_TWO}"),
    "avi (MP3)": Row(("avi, MP3",), f"{_TO_48}, and {_TWO}"),
}
"""What is read."""

OUT = {
    "wav, 8 to 32 bit, float, double": Row(tuple(f"wav {depth}" for depth in (*_DEPTHS, "PCM_U8"))),
    "aiff, 16 to 32 bit, float, double": Row(tuple(f"aiff {depth}" for depth in _DEPTHS)),
    "flac, 16, 24 bit": Row(("flac PCM_16", "flac PCM_24")),
    "raw, 8 to 32 bit, float, double": Row(tuple(f"raw {depth}" for depth in (*_DEPTHS, "PCM_U8"))),
    "ogg (Vorbis)": Row(("ogg VORBIS",)),
    "opus": Row(("opus OPUS",), "what has another rate is resampled to 48 kHz"),
    "mp3": Row(("mp3 MPEG_LAYER_III",), f"{_TO_48}, and {_TWO}"),
    "m4a (AAC)": Row(("m4a AAC",), _TO_96),
}
"""What is written."""

Try = Callable[[Path, str, int, int], bool]


def read(folder: Path, kind: str, rate: int, channels: int) -> bool:
    """Whether the format has such songs; if so, its vocals are half of it, sample by sample."""
    song = written(folder / "song", kind, rate, ffmpeg_recordings.pulse(rate, SAMPLES, channels))
    if song is None:
        return False
    mixture, its_rate = audio.read(song)
    assert (its_rate, mixture.shape[0]) == (rate, channels), (kind, rate, channels)
    assert mixture.shape[-1] >= 0.5 * SAMPLES  # wma forgets the end
    vocals = folder / "v.wav"
    report = extract(song, vocals, extractor=_half(), subtype="float")
    assert all("its tags cannot be read" in said for said in report.warnings), report.warnings  # mutagen, wv, 176.4 kHz
    back, back_rate = audio.read(vocals)
    assert (back_rate, back.shape) == (rate, mixture.shape)
    torch.testing.assert_close(back, mixture / 2, rtol=0, atol=1e-6)
    assert float(mixture.abs().max()) > 0.3
    return True


def write(folder: Path, kind: str, rate: int, channels: int) -> bool:
    """Whether the format holds such songs, or refuses them; if it does, both parts come back as they should."""
    ending, subtype = kind.split()
    original = ffmpeg_recordings.pulse(rate, SAMPLES, channels)
    song = folder / "song.wav"
    soundfile.write(song, original.T, rate, subtype=subtype if subtype in _DEPTHS or subtype == "PCM_U8" else "PCM_16")
    paths = [folder / f"{part}.{ending}" for part in ("v", "a")]
    try:
        audio.check_output(paths[0], rate=rate, channels=channels)
    except AudioError:
        with pytest.raises(AudioError, match=r"choose \.wav"):
            extract(song, paths[0], accompaniment=paths[1], extractor=_half())
        assert not any(path.exists() for path in paths)
        return False
    extract(song, paths[0], accompaniment=paths[1], extractor=_half())
    for path in paths:
        raw = audio.SampleLayout(rate=rate, channels=channels, subtype=subtype) if ending == "raw" else None
        with audio.open_song(path, raw) as reader:
            back = torch.cat(list(reader), dim=-1)
            assert reader.rate == (48_000 if ending == "opus" else rate)
            assert subtype in (reader.subtype, "AAC", "OPUS")
        expected = audio.resample(torch.from_numpy(original), rate, reader.rate) / 2
        assert back.shape == expected.shape
        if subtype in (*_DEPTHS, "PCM_U8"):
            step = {"PCM_U8": 2**-7, "PCM_16": 2**-15}.get(subtype, 1e-6)
            torch.testing.assert_close(back, expected, rtol=0, atol=step)
        else:
            assert float(torch.cosine_similarity(back, expected, dim=-1).min()) > 0.97
        path.unlink()
    return True


def row(folder: Path, kinds: tuple[str, ...], attempt: Try) -> list[str]:
    """A row of the table: channel counts that work, by rate. All kinds behave alike, or an assertion fails."""
    counts = {rate: [count for count in CHANNELS if attempt(folder, kinds[0], rate, count)] for rate in RATES}
    for kind, (rate, count) in itertools.product(kinds[1:], CORNERS):
        assert attempt(folder, kind, rate, count) == (count in counts[rate]), (kind, rate, count)
    return [" ".join(map(str, held)) or "-" for held in counts.values()]


def lines(heading: str, rows: Iterable[tuple[str, list[str], str]]) -> list[str]:
    """The table, Markdown."""
    head = [heading, *(f"{rate / 1_000:g}" for rate in RATES), "why not"]
    table = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return table + [f"| {' | '.join([name, *cells, why])} |" for name, cells, why in rows]


def _half() -> Extractor:
    return Extractor(fake_nets.constant(0.5, fake_nets.SMALL), device="cpu")


def written(path: Path, kind: str, rate: int, samples: Array) -> Path | None:
    """The ``(channel, time)`` samples in a file of that format, or None if the format has none such."""
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
