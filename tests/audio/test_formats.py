"""The tables in docs/formats.md match what comes back when files of each format are written and read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import fake_nets
import ffmpeg_recordings
import format_matrix
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from scipy.signal import correlate

from vocalsep import audio
from vocalsep.errors import AudioError, ConfigError
from vocalsep.shapes import Waveform

SAMPLES = 6_003
ODD_RATES = (37_800, 50_003)
CHANNELS = range(1, 10)
EXTENSIONS = (".wav", ".flac", ".aiff", ".ogg", ".opus", ".mp3", ".m4a", ".raw")

SNDFILE = {
    f"{kind.lower()}, {subtype}": (kind, subtype)
    for kind in ("WAV", "WAVEX", "AIFF", "FLAC", "W64", "RF64", "CAF", "AU")
    for subtype in ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
    if soundfile.check_format(kind, subtype) and (kind, subtype[-1]) != ("AIFF", "8")  # libsndfile writes it wrong
}
LOSSY = {"ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III")}

ROWS = {  # of the table of formats that are read: all kinds in a row behave alike
    "wav, aiff, flac, w64, rf64, caf, au": tuple(SNDFILE),
    "ogg (Vorbis), mp3": tuple(kind for kind in LOSSY if kind != "opus"),
    "ogg (Opus), webm (Opus)": ("opus", "opus of up to 24 kHz", "webm, Opus"),
    "m4a, mp4 (AAC)": ("m4a, AAC", "mp4, AAC"),
    "m4a (ALAC), mov and mkv (PCM, FLAC), wv, tta": (
        "m4a, ALAC",
        "m4a, 24-bit ALAC",
        "mov, PCM",
        "mkv, FLAC",
        "mkv, 8-bit PCM",
        "mkv, 24-bit PCM",
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


# writing


class Result(NamedTuple):
    """The outcome of writing one recording."""

    rate: int
    channels: int
    refused: bool
    rate_in_file: int = 0


def write_and_read(path: Path, rate: int, channels: int) -> Result:
    """Write a recording and read it back, or check that the format refuses it beforehand."""
    samples = ffmpeg_recordings.pulse(rate, SAMPLES, channels)
    try:
        audio.check_output(path, rate=rate, channels=channels)
    except AudioError:
        with pytest.raises(AudioError, match=r"choose \.wav") as caught:
            audio.Writer(path, rate=rate, channels=channels, subtype="PCM_16")
        assert str(path) in str(caught.value)
        assert not list(path.parent.iterdir())
        return Result(rate, channels, refused=True)
    with audio.Writer(path, rate=rate, channels=channels, subtype="PCM_16") as writer:
        for block in fake_nets.split_in_blocks(samples, [1_000]):
            writer.write(block)
    raw = audio.SampleLayout(rate=rate, channels=channels, subtype="PCM_16") if path.suffix == ".raw" else None
    with audio.open_song(path, raw) as reader:
        rate_in_file = reader.rate
        back = np.concatenate(list(reader), axis=-1)
        assert reader.samples == back.shape[-1]
    path.unlink()
    expected = audio.resample(samples, rate, rate_in_file)
    assert back.shape == expected.shape, (path.name, rate, channels)
    if writer.subtype == "PCM_16":
        np.testing.assert_array_equal(back, expected)
    else:
        assert compute_correlation(back, expected) > 0.97
    return Result(rate, channels, refused=False, rate_in_file=rate_in_file)


def compute_correlation(samples: Waveform, reference: Waveform) -> float:
    """Return the correlation of the channel that differs most from its reference."""
    norms = np.linalg.norm(samples, axis=-1) * np.linalg.norm(reference, axis=-1)
    return float(((samples * reference).sum(axis=-1) / norms).min())


def describe_rates(results: list[Result]) -> str:
    supported = {result.rate for result in results if not result.refused}
    if supported == {*ffmpeg_recordings.USUAL_RATES, *ODD_RATES}:
        others = {result.rate_in_file for result in results if result.rate_in_file != result.rate}
        return f"any, resampled to {others.pop()}" if others else "any"
    assert supported == {rate for rate in ffmpeg_recordings.USUAL_RATES if rate <= max(supported)}
    return f"usual rates up to {max(supported)}"


def describe_channels(results: list[Result]) -> str:
    supported = [result.channels for result in results if not result.refused]
    if len(supported) == len(CHANNELS):
        return "any"
    gapless = supported == list(range(1, len(supported) + 1))
    return f"up to {len(supported)}" if gapless else ", ".join(map(str, supported))


def describe_subtypes(path: Path) -> str:
    """Return the sample formats that a user can choose, after checking that the file has the chosen one."""
    supported = []
    for name, word in audio.SUBTYPES.items():
        try:
            kind = audio.check_output(path, subtype=name)
        except AudioError:
            continue
        assert kind.choose_subtype(word) == word
        with audio.Writer(path, rate=44_100, channels=1, subtype=word) as writer:
            writer.write(np.zeros((1, 99), np.float32))
        if path.suffix == ".raw":
            assert path.stat().st_size == 99 * audio.SampleLayout(rate=44_100, channels=1, subtype=word).stride
        else:
            assert soundfile.info(path).subtype == word
        path.unlink()
        supported.append(name)
    return ", ".join(supported) or "lossy"


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_each_format_supports_what_the_page_says(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"x{extension}"
    rates = [write_and_read(path, rate, 2) for rate in (*ffmpeg_recordings.USUAL_RATES, *ODD_RATES)]
    channels = [write_and_read(path, 48_000, count) for count in CHANNELS]
    found = (describe_subtypes(path), describe_rates(rates), describe_channels(channels))
    assert found == format_matrix.read_table("extension")[f"`{extension}`"]


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("channels", [1, 6])
def test_rates_and_channels_combine(tmp_path: Path, extension: str, channels: int) -> None:
    for rate in (8_000, 44_100, 192_000):
        write_and_read(tmp_path / f"x{extension}", rate, channels)


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
def test_a_refusal_says_what_is_supported(tmp_path: Path, name: str, rate: int, channels: int, expected: str) -> None:
    with pytest.raises(AudioError, match=expected):
        audio.check_output(tmp_path / name, rate=rate, channels=channels)


@pytest.mark.parametrize("name", ["x.flac", "x.ogg", "x.m4a"])
def test_an_unsupported_sample_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError, match="does not support pcm32 samples") as caught:
        audio.check_output(tmp_path / name, subtype="pcm32")
    assert "or write .wav" in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean 'pcm16'"):
        audio.check_output(tmp_path / name, subtype="pcm61")


def test_the_page_lists_every_output_format() -> None:
    assert set(format_matrix.read_table("extension")) == {f"`{extension}`" for extension in EXTENSIONS}
    assert set(audio.FORMATS) == {extension.removeprefix(".") for extension in EXTENSIONS} | {"aif", "oga", "pcm"}


# reading


class Decoded(NamedTuple):
    """How a decoded recording differs from the original: lag and excess length in samples."""

    by_ffmpeg: bool
    lag: int
    excess: int
    identical: bool
    subtype: str


def compare(path: Path, original: npt.NDArray[np.float32], rate: int) -> Decoded:
    with audio.Reader(path) as reader:
        assert reader.channels == len(original)
        assert reader.rate == (48_000 if path.suffix == ".opus" else rate)
        back = np.concatenate(list(reader), axis=-1)
        if not reader.estimated:
            assert abs(reader.samples - back.shape[1]) <= 1_024 + 0.02 * reader.rate
    expected = audio.resample(original, rate, reader.rate)
    lag = int(np.argmax(correlate(back[0], expected[0], method="fft"))) - (expected.shape[1] - 1)
    lag = 0 if abs(lag) < reader.rate / rate else lag  # less than one sample of the original
    excess = back.shape[1] - expected.shape[1]
    overlap = min(back.shape[1] - max(lag, 0), expected.shape[1] - max(-lag, 0))
    cut = [x[:, max(at, 0) :][:, :overlap] for x, at in ((back, lag), (expected, -lag))]
    assert compute_correlation(*cut) > 0.95
    identical = excess == lag == 0 and np.array_equal(back, expected)
    return Decoded(reader.by_ffmpeg, lag, excess, identical, reader.subtype)


def decode_all(kind: str, folder: Path) -> Iterator[Decoded]:
    if kind in ffmpeg_recordings.KINDS:
        made = ffmpeg_recordings.KINDS[kind]
        path = folder / ("x.opus" if "Opus" in kind or "opus" in kind else "x")
        for rate, channels in {
            *((rate, 2) for rate in made.rates),
            (made.rates[-1], 1),
            (made.rates[0], made.channels),
        }:
            original = ffmpeg_recordings.pulse(rate, SAMPLES, channels)
            yield compare(ffmpeg_recordings.write(path, original, rate, made), original, rate)
        return
    container, subtype = {**SNDFILE, **LOSSY}[kind]
    rates = {"opus": (48_000,), "mp3": (8_000, 44_100, 48_000)}.get(kind, (8_000, 44_100, 192_000))
    for rate, channels in itertools.product(rates, (1, 2) if kind == "mp3" else (1, 2, 8)):
        original = ffmpeg_recordings.pulse(rate, SAMPLES, channels)
        vorbis = [0, 2, 1, 6, 7, 4, 5, 3]  # left, centre, right, both sides, both backs, LFE
        ordered = original[vorbis] if kind in ("ogg", "opus") and channels == 8 else original
        soundfile.write(folder / "x", ordered.T, rate, format=container, subtype=subtype)
        yield compare(folder / "x", original, rate)


def describe(results: list[Decoded]) -> tuple[str, ...]:
    lags, excesses = [result.lag for result in results], [result.excess for result in results]
    decoder = "FFmpeg" if all(result.by_ffmpeg for result in results) else "libsndfile"
    first = (
        f"{max(lags)} late" if min(lags) > 0 else f"up to {-(min(lags) // 100) * 100} early" if any(lags) else "exact"
    )
    length = "exact" if not any(excesses) else "padded" if min(excesses) > 0 else "short"
    return decoder, first, length, "identical" if all(result.identical for result in results) else "lossy"


def is_quick(kind: str) -> bool:
    """Return whether the default run reads this kind: all but most sample formats of libsndfile's containers."""
    return kind not in SNDFILE or kind.startswith("wav,") or kind.endswith("PCM_16")


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        pytest.param(row, kind, marks=() if is_quick(kind) else pytest.mark.slow)
        for row, kinds in ROWS.items()
        for kind in kinds
    ],
)
def test_each_format_is_read_as_exactly_as_the_page_says(tmp_path: Path, row: str, kind: str) -> None:
    results = list(decode_all(kind, tmp_path))
    assert describe(results) == format_matrix.read_table("format")[row]


def test_the_page_and_the_tests_read_the_same_formats() -> None:
    assert list(format_matrix.read_table("format")) == list(ROWS)
    read = {kind for kinds in ROWS.values() for kind in kinds}
    assert read >= set(ffmpeg_recordings.KINDS) - {"mkv, 32-bit PCM"}  # tested below


@pytest.mark.parametrize(
    ("kind", "step", "subtype"),
    [
        ("m4a, ALAC", 2**-15, "PCM_16"),
        ("m4a, 24-bit ALAC", 2**-23, "PCM_24"),
        ("mkv, 24-bit PCM", 2**-23, "PCM_24"),
        ("mkv, 32-bit PCM", 2**-31, "PCM_32"),
        ("mkv, 8-bit PCM", 2**-7, "PCM_U8"),
        ("mkv, FLAC", 2**-15, "PCM_16"),
        ("mkv, float", 2**-31, "FLOAT"),
        ("mkv, double", 2**-31, "DOUBLE"),
        ("m4a, AAC", 0.1, "AAC"),
    ],
)
def test_the_reader_knows_the_sample_format_of_lossless_recordings(
    tmp_path: Path, kind: str, step: float, subtype: str
) -> None:
    original = np.full((1, 500), step, dtype=np.float32)
    with audio.Reader(
        ffmpeg_recordings.write(tmp_path / "x", original, 44_100, ffmpeg_recordings.KINDS[kind])
    ) as reader:
        assert reader.subtype == subtype
        if subtype != "AAC":
            np.testing.assert_array_equal(np.concatenate(list(reader), axis=-1), original)
