"""Reading recordings: errors, samples, formats and odd names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import fake_nets
import numpy as np
import pytest
import soundfile
import synthetic_songs

from vocalsep import audio
from vocalsep.errors import AudioError
from vocalsep.shapes import Waveform

NAMES = [
    "plain.wav",
    "with space.wav",
    "ümläut é.wav",
    "中文 歌.wav",
    "🎤 a\u0301.wav",
    "-dash.wav",
    "100% [x] {0}.wav",
]


def tone(rate: int, seconds: float) -> Waveform:
    """Return a stereo sine, ``(channel, time)``; the right channel is quieter."""
    return fake_nets.tone(440, rate, seconds, channels=2) / np.float32([[1], [2]])


def catch_refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught, audio.Reader(path) as reader:
        list(reader)
    return str(caught.value)


@pytest.fixture
def unreadable(tmp_path: Path) -> dict[str, Path]:
    kinds = ("missing", "folder", "text", "no bytes", "no samples")
    paths = {kind: tmp_path / f"{kind}.wav" for kind in kinds}
    paths["folder"].mkdir()
    paths["text"].write_text("These are words, not sound.\n" * 50, encoding="utf-8")
    paths["no bytes"].touch()
    soundfile.write(paths["no samples"], np.zeros((0, 2)), 44_100)
    paths["headerless"] = tmp_path / "headerless.raw"
    paths["headerless"].write_bytes(bytes(range(256)) * 8)
    paths["cut off"] = tmp_path / "cut off.flac"
    soundfile.write(paths["cut off"], fake_nets.noise(2, 20_000).T, 44_100)
    paths["cut off"].write_bytes(paths["cut off"].read_bytes()[:30_000])
    paths["name too long"] = tmp_path / f"{'x' * 300}.wav"
    return paths


@pytest.mark.parametrize(
    "kind",
    ["missing", "folder", "text", "no bytes", "no samples", "headerless", "cut off", "name too long"],
)
def test_an_unreadable_file_is_a_one_line_error_with_its_name(kind: str, unreadable: dict[str, Path]) -> None:
    message = catch_refusal(unreadable[kind])
    assert str(unreadable[kind]) in message
    assert "\n" not in message


def test_the_error_says_why(unreadable: dict[str, Path]) -> None:
    assert "no such file" in catch_refusal(unreadable["missing"])
    assert "folder" in catch_refusal(unreadable["folder"])
    assert "empty" in catch_refusal(unreadable["no samples"])
    assert "not an audio file" in catch_refusal(unreadable["text"])


def test_read_raises_the_same_errors(unreadable: dict[str, Path]) -> None:
    with pytest.raises(AudioError, match="no such file"):
        audio.read(unreadable["missing"])
    with pytest.raises(AudioError, match="empty"):
        audio.read(unreadable["no samples"])


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_the_reader_knows_rate_channels_length_and_sample_format(tmp_path: Path, channels: int, rate: int) -> None:
    path = synthetic_songs.write(tmp_path / "x.wav", fake_nets.noise(channels, 777).T, rate, "PCM_24")
    with audio.Reader(path) as reader:
        facts = (reader.rate, reader.channels, reader.samples, reader.subtype, reader.path)
        blocks = list(reader)
    assert facts == (rate, channels, 777, "PCM_24", path)
    assert np.concatenate(blocks, axis=-1).shape == (channels, 777)


@pytest.mark.parametrize("samples", [1, 31_999, 32_000, 32_001, 75_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_blocks_add_up_to_the_recording(tmp_path: Path, samples: int, channels: int) -> None:
    path = synthetic_songs.write(tmp_path / "x.wav", fake_nets.noise(channels, samples).T, 8_000)
    with audio.Reader(path) as reader:
        blocks = list(reader)
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(np.concatenate(blocks, axis=-1), whole.T)
    assert all(1 <= block.shape[-1] <= audio.BLOCK_SECONDS * 8_000 for block in blocks)
    assert all(block.dtype == np.float32 and block.flags.c_contiguous for block in blocks)


FORMATS = [
    ("opus", "OGG", "OPUS", 48_000),
    ("mp3", "MP3", "MPEG_LAYER_III", 44_100),
    ("ogg", "OGG", "VORBIS", 44_100),
    ("flac", "FLAC", "PCM_16", 44_100),
    ("aiff", "AIFF", "PCM_24", 44_100),
]


def encode(folder: Path, extension: str, kind: str, subtype: str, rate: int) -> Path:
    path = folder / f"x.{extension}"
    soundfile.write(path, tone(rate, 5.0).T, rate, format=kind, subtype=subtype)
    return path


@pytest.mark.parametrize(("extension", "kind", "subtype", "rate"), FORMATS)
def test_other_formats_are_read_at_full_length(
    tmp_path: Path, extension: str, kind: str, subtype: str, rate: int
) -> None:
    samples, read_rate = audio.read(encode(tmp_path, extension, kind, subtype, rate))
    truth = tone(rate, 5.0)
    assert (read_rate, samples.shape) == (rate, truth.shape)
    middle = slice(rate, 2 * rate)
    assert np.square((samples - truth)[:, middle]).mean() / np.square(truth[:, middle]).mean() < 1e-2


@pytest.mark.parametrize(("extension", "kind", "subtype", "rate"), FORMATS)
def test_blocks_of_other_formats_join_without_a_seam(
    tmp_path: Path, extension: str, kind: str, subtype: str, rate: int
) -> None:
    path = encode(tmp_path, extension, kind, subtype, rate)
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    samples, _ = audio.read(path)
    assert np.abs(samples - whole.T).max() < 10 ** (-90 / 20)


def test_the_content_decides_the_format_not_the_extension(tmp_path: Path) -> None:
    path = synthetic_songs.write(tmp_path / "x.wav", fake_nets.noise(2, 500).T, 22_050).rename(tmp_path / "x.mp3")
    samples, rate = audio.read(path)
    assert (rate, samples.shape) == (22_050, (2, 500))


@pytest.mark.parametrize("name", NAMES)
def test_any_unicode_name_is_read_and_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name.removesuffix(".wav") / name
    path.parent.mkdir()
    with audio.Writer(path, rate=8_000, channels=1, subtype="FLOAT") as writer:
        writer.write(fake_nets.noise(1, 100))
    np.testing.assert_array_equal(audio.read(path)[0], fake_nets.noise(1, 100))
    assert [entry.name for entry in path.parent.iterdir()] == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows arbitrary bytes in file names")
def test_a_name_that_is_not_unicode_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    synthetic_songs.write(tmp_path / "x.wav", fake_nets.noise(1, 100).T, 8_000, "FLOAT").rename(path)
    try:
        samples, _ = audio.read(path)
    except AudioError:
        return
    np.testing.assert_array_equal(samples, fake_nets.noise(1, 100))
