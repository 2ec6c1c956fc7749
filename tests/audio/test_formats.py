"""Formats x rates x channels: each cell is a file that is written and read again; docs/usage.md says what comes out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ffmpeg_recordings
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from scipy.signal import correlate
from torch import Tensor

from vocalsep import audio
from vocalsep.errors import AudioError, ConfigError

USAGE = Path(__file__).parents[2] / "docs" / "usage.md"
SAMPLES = 6_003
ODD_RATES = (37_800, 50_003)
CHANNELS = range(1, 10)
ENDINGS = (".wav", ".flac", ".aiff", ".ogg", ".opus", ".mp3", ".m4a", ".raw")

SNDFILE = {
    f"{kind.lower()}, {subtype}": (kind, subtype)
    for kind in ("WAV", "WAVEX", "AIFF", "FLAC", "W64", "RF64", "CAF", "AU")
    for subtype in ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
    if soundfile.check_format(kind, subtype) and (kind, subtype[-1]) != ("AIFF", "8")  # written wrong by libsndfile
}
LOSSY = {"ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III")}

ROWS = {  # of the table of what is read: all of a row behave alike
    "wav, aiff, flac, w64, rf64, caf, au": tuple(SNDFILE),
    "ogg (Vorbis), mp3": tuple(kind for kind in LOSSY if kind != "opus"),
    "ogg (Opus), webm (Opus)": ("opus", "opus of up to 24 kHz", "webm, Opus"),
    "m4a, mp4 (AAC)": ("m4a, AAC", "mp4, AAC"),
    "m4a (ALAC), mov and mkv (PCM, FLAC), wv, tta": (
        "m4a, ALAC",
        "m4a, ALAC of 24 bits",
        "mov, PCM",
        "mkv, FLAC",
        "mkv, PCM of 8 bits",
        "mkv, PCM of 24 bits",
        "mkv, float",
        "mkv, double",
        "wv",
        "wv, float",
        "tta",
    ),
    "mkv (AAC)": ("mkv, AAC",),
    "aac, flv (AAC)": ("aac", "flv, AAC"),
    "ac3": ("ac3",),
    "avi (MP3)": ("avi, MP3",),
    "wma": ("wma",),
}


def table(heading: str) -> dict[str, tuple[str, ...]]:
    """Rows of the table of docs/usage.md whose first column is called so, by their first cells."""
    lines = iter(USAGE.read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith(f"| {heading} |"))
    next(lines)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in itertools.takewhile(str.strip, lines)]
    return {row[0]: tuple(row[1:]) for row in rows}


# what is written


class Cell(NamedTuple):
    """What became of one recording."""

    rate: int
    channels: int
    refused: bool
    as_rate: int = 0


def cell(path: Path, rate: int, channels: int) -> Cell:
    """Writes a recording and reads it again, or is told beforehand that this format does not hold it."""
    samples = torch.from_numpy(ffmpeg_recordings.pulse(rate, SAMPLES, channels))
    try:
        audio.check_output(path, rate=rate, channels=channels)
    except AudioError:
        with pytest.raises(AudioError, match=r"choose \.wav") as caught:
            audio.Writer(path, rate=rate, channels=channels, subtype="PCM_16")
        assert str(path) in str(caught.value)
        assert not list(path.parent.iterdir())
        return Cell(rate, channels, refused=True)
    with audio.Writer(path, rate=rate, channels=channels, subtype="PCM_16") as writer:
        for block in torch.split(samples, 1_000, dim=-1):
            writer.write(block)
    raw = audio.SampleLayout(rate=rate, channels=channels, subtype="PCM_16") if path.suffix == ".raw" else None
    with audio.open_song(path, raw) as reader:
        as_rate = reader.rate
        back = torch.cat(list(reader), dim=-1)
        assert reader.samples == back.shape[-1]
    path.unlink()
    expected = audio.resample(samples, rate, as_rate)
    assert back.shape == expected.shape, (path.name, rate, channels)
    if writer.subtype == "PCM_16":
        assert torch.equal(back, expected)
    else:
        assert likeness(back, expected) > 0.97
    return Cell(rate, channels, refused=False, as_rate=as_rate)


def likeness(samples: Tensor, reference: Tensor) -> float:
    """The smallest correlation of a channel with the one that it should be."""
    norms = samples.norm(dim=-1) * reference.norm(dim=-1)
    return float(((samples * reference).sum(dim=-1) / norms).min())


def rates_of(cells: list[Cell]) -> str:
    held = {cell.rate for cell in cells if not cell.refused}
    if held == {*ffmpeg_recordings.USUAL, *ODD_RATES}:
        becomes = {cell.as_rate for cell in cells if cell.as_rate != cell.rate and not cell.refused}
        return f"any; they become {becomes.pop()}" if becomes else "any"
    assert held == {rate for rate in ffmpeg_recordings.USUAL if rate <= max(held)}
    return f"the usual up to {max(held)}"


def depths_of(path: Path) -> str:
    """Sample formats that can be asked for and are found in the file."""
    held = []
    for name, word in audio.SUBTYPES.items():
        try:
            kind = audio.check_output(path, subtype=name)
        except AudioError:
            continue
        assert kind.choose_subtype(word) == word
        with audio.Writer(path, rate=44_100, channels=1, subtype=word) as writer:
            writer.write(torch.zeros(1, 99))
        if path.suffix == ".raw":
            assert path.stat().st_size == 99 * audio.SampleLayout(rate=44_100, channels=1, subtype=word).stride
        else:
            assert soundfile.info(path).subtype == word
        path.unlink()
        held.append(name)
    return ", ".join(held) or "lossy"


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_comes_back_as_the_table_says(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    rates = [cell(path, rate, 2) for rate in (*ffmpeg_recordings.USUAL, *ODD_RATES)]
    channels = [cell(path, 48_000, count) for count in CHANNELS]
    held = [cell.channels for cell in channels if not cell.refused]
    whole = held == list(range(1, len(held) + 1))
    counts = "any" if len(held) == 9 else f"up to {len(held)}" if whole else ", ".join(map(str, held))
    found = (depths_of(path), rates_of(rates), counts)
    assert found == table("ending")[f"`{ending}`"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("channels", [1, 6])
def test_rate_and_channels_are_held_together(tmp_path: Path, ending: str, channels: int) -> None:
    for rate in (8_000, 44_100, 192_000):
        cell(tmp_path / f"x{ending}", rate, channels)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "expected"),
    [
        ("x.ogg", 200_001, 2, "up to 200000 Hz"),  # libsndfile crashes there
        ("x.mp3", 96_000, 2, "44100, 48000 Hz"),
        ("x.m4a", 192_000, 2, "88200, 96000 Hz"),
        ("x.mp3", 44_100, 6, "up to 2 channels"),
        ("x.flac", 44_100, 9, "up to 8 channels"),
        ("x.opus", 44_100, 7, "1, 2, 3, 4, 6, 8 channels"),
    ],
)
def test_refusals_say_what_the_format_holds(tmp_path: Path, name: str, rate: int, channels: int, expected: str) -> None:
    with pytest.raises(AudioError, match=expected):
        audio.check_output(tmp_path / name, rate=rate, channels=channels)


@pytest.mark.parametrize("name", ["x.flac", "x.ogg", "x.m4a"])
def test_a_sample_format_that_a_format_does_not_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError, match="does not support pcm32 samples") as caught:
        audio.check_output(tmp_path / name, subtype="pcm32")
    assert "or write .wav" in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean 'pcm16'"):
        audio.check_output(tmp_path / name, subtype="pcm61")


def test_the_table_lists_all_that_is_written() -> None:
    assert set(table("ending")) == {f"`{ending}`" for ending in ENDINGS}
    assert set(audio.FORMATS) == {ending.removeprefix(".") for ending in ENDINGS} | {"aif", "oga", "pcm"}


# what is read


class Found(NamedTuple):
    """What a decoder made of a recording: lag and excess in samples."""

    by_ffmpeg: bool
    lag: int
    excess: int
    same: bool
    subtype: str


def found(path: Path, original: npt.NDArray[np.float32], rate: int) -> Found:
    with audio.Reader(path) as reader:
        assert reader.channels == len(original)
        assert reader.rate == (48_000 if path.suffix == ".opus" else rate)
        back = torch.cat(list(reader), dim=-1).numpy()
        if not reader.estimated:
            assert abs(reader.samples - back.shape[1]) <= 1_024 + 0.02 * reader.rate
    expected = audio.resample(torch.from_numpy(original), rate, reader.rate).numpy()
    lag = int(np.argmax(correlate(back[0], expected[0], method="fft"))) - (expected.shape[1] - 1)
    lag = 0 if abs(lag) < reader.rate / rate else lag  # as exact as the original was
    excess = back.shape[1] - expected.shape[1]
    overlap = min(back.shape[1] - max(lag, 0), expected.shape[1] - max(-lag, 0))
    cut = [torch.from_numpy(x[:, max(at, 0) :][:, :overlap]) for x, at in ((back, lag), (expected, -lag))]
    assert likeness(*cut) > 0.95
    same = excess == lag == 0 and np.array_equal(back, expected)
    return Found(reader.by_ffmpeg, lag, excess, same, reader.subtype)


def cells_of(kind: str, folder: Path) -> Iterator[Found]:
    if kind in ffmpeg_recordings.KINDS:
        made = ffmpeg_recordings.KINDS[kind]
        path = folder / ("x.opus" if "Opus" in kind or "opus" in kind else "x")
        for rate, channels in {
            *((rate, 2) for rate in made.rates),
            (made.rates[-1], 1),
            (made.rates[0], made.channels),
        }:
            original = ffmpeg_recordings.pulse(rate, SAMPLES, channels)
            yield found(ffmpeg_recordings.write(path, original, rate, made), original, rate)
        return
    container, subtype = {**SNDFILE, **LOSSY}[kind]
    rates = {"opus": (48_000,), "mp3": (8_000, 44_100, 48_000)}.get(kind, (8_000, 44_100, 192_000))
    for rate, channels in itertools.product(rates, (1, 2) if kind == "mp3" else (1, 2, 8)):
        original = ffmpeg_recordings.pulse(rate, SAMPLES, channels)
        vorbis = [0, 2, 1, 6, 7, 4, 5, 3]  # left, centre, right, both sides, both at the back, bass
        stored = original[vorbis] if kind in ("ogg", "opus") and channels == 8 else original
        soundfile.write(folder / "x", stored.T, rate, format=container, subtype=subtype)
        yield found(folder / "x", original, rate)


def described(cells: list[Found]) -> tuple[str, ...]:
    lags, excesses = [cell.lag for cell in cells], [cell.excess for cell in cells]
    decoder = "FFmpeg" if all(cell.by_ffmpeg for cell in cells) else "libsndfile"
    first = (
        f"{max(lags)} late" if min(lags) > 0 else f"up to {-(min(lags) // 100) * 100} early" if any(lags) else "exact"
    )
    length = "exact" if not any(excesses) else "padded" if min(excesses) > 0 else "short"
    return decoder, first, length, "the same" if all(cell.same for cell in cells) else "lossy"


@pytest.mark.parametrize(("row", "kind"), [(row, kind) for row, kinds in ROWS.items() for kind in kinds])
def test_what_is_read_is_as_the_table_says(tmp_path: Path, row: str, kind: str) -> None:
    cells = list(cells_of(kind, tmp_path))
    assert described(cells) == table("format")[row]


def test_the_table_of_what_is_read_and_the_tests_have_the_same_rows() -> None:
    assert list(table("format")) == list(ROWS)
    read = {kind for kinds in ROWS.values() for kind in kinds}
    assert read >= set(ffmpeg_recordings.KINDS) - {"mkv, PCM of 32 bits"}  # see below


@pytest.mark.parametrize(
    ("kind", "step", "subtype"),
    [
        ("m4a, ALAC", 2**-15, "PCM_16"),
        ("m4a, ALAC of 24 bits", 2**-23, "PCM_24"),
        ("mkv, PCM of 24 bits", 2**-23, "PCM_24"),
        ("mkv, PCM of 32 bits", 2**-31, "PCM_32"),
        ("mkv, PCM of 8 bits", 2**-7, "PCM_U8"),
        ("mkv, FLAC", 2**-15, "PCM_16"),
        ("mkv, float", 2**-31, "FLOAT"),
        ("mkv, double", 2**-31, "DOUBLE"),
        ("m4a, AAC", 0.1, "FLOAT"),
    ],
)
def test_the_sample_format_of_lossless_recordings_is_known(
    tmp_path: Path, kind: str, step: float, subtype: str
) -> None:
    original = np.full((1, 500), step, dtype=np.float32)
    with audio.Reader(
        ffmpeg_recordings.write(tmp_path / "x", original, 44_100, ffmpeg_recordings.KINDS[kind])
    ) as reader:
        assert reader.subtype == subtype
        if subtype != "FLOAT" or "float" in kind:
            assert torch.equal(torch.cat(list(reader), dim=-1), torch.from_numpy(original))
