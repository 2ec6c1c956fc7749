from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic_songs
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from vocalsep import audio
from vocalsep.errors import AudioError

NAMES = [
    "plain.wav",
    "with space.wav",
    "ümläut é.wav",
    "中文 歌.wav",
    "🎤 a\u0301.wav",
    "-dash.wav",
    "100% [x] {0}.wav",
]


def tone(rate: int, seconds: float, channels: int = 2, hz: float = 440.0) -> Tensor:
    """Return ``(channel, time)``: a sine that starts at phase 0, each channel quieter than the one before."""
    seconds_at = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    sine = 0.3 * torch.sin(2 * torch.pi * hz * seconds_at)
    return torch.stack([sine / (1 + channel) for channel in range(channels)]).float()


def noise(channels: int, samples: int, seed: int = 0) -> Tensor:
    return 0.2 * torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed))


def compute_peak_db(error: Tensor) -> float:
    """Return the largest absolute value, dB relative to full scale."""
    return 20 * float(np.log10(max(1e-15, float(error.abs().max()))))


def catch_refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught, audio.Reader(path) as reader:
        list(reader)
    return str(caught.value)


# Reader: errors


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
    soundfile.write(paths["cut off"], noise(2, 20_000).numpy().T, 44_100)
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


# Reader: samples


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_the_reader_knows_rate_channels_length_and_sample_format(tmp_path: Path, channels: int, rate: int) -> None:
    path = synthetic_songs.write(tmp_path / "x.wav", noise(channels, 777).numpy().T, rate, "PCM_24")
    with audio.Reader(path) as reader:
        facts = (reader.rate, reader.channels, reader.samples, reader.subtype, reader.path)
        blocks = list(reader)
    assert facts == (rate, channels, 777, "PCM_24", path)
    assert torch.cat(blocks, dim=-1).shape == (channels, 777)


@pytest.mark.parametrize("samples", [1, 31_999, 32_000, 32_001, 75_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_blocks_add_up_to_the_recording(tmp_path: Path, samples: int, channels: int) -> None:
    path = synthetic_songs.write(tmp_path / "x.wav", noise(channels, samples).numpy().T, 8_000)
    with audio.Reader(path) as reader:
        blocks = list(reader)
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(torch.cat(blocks, dim=-1).numpy(), whole.T)
    assert all(1 <= block.shape[-1] <= audio.BLOCK_SECONDS * 8_000 for block in blocks)
    assert all(block.dtype == torch.float32 for block in blocks)


FORMATS = [
    ("opus", "OGG", "OPUS", 48_000),
    ("mp3", "MP3", "MPEG_LAYER_III", 44_100),
    ("ogg", "OGG", "VORBIS", 44_100),
    ("flac", "FLAC", "PCM_16", 44_100),
    ("aiff", "AIFF", "PCM_24", 44_100),
]


def encode(folder: Path, extension: str, kind: str, subtype: str, rate: int) -> Path:
    path = folder / f"x.{extension}"
    soundfile.write(path, tone(rate, 5.0).numpy().T, rate, format=kind, subtype=subtype)
    return path


@pytest.mark.parametrize(("extension", "kind", "subtype", "rate"), FORMATS)
def test_other_formats_are_read_at_full_length(
    tmp_path: Path, extension: str, kind: str, subtype: str, rate: int
) -> None:
    samples, read_rate = audio.read(encode(tmp_path, extension, kind, subtype, rate))
    truth = tone(rate, 5.0)
    assert (read_rate, samples.shape) == (rate, truth.shape)
    middle = slice(rate, 2 * rate)
    assert float((samples - truth)[:, middle].square().mean() / truth[:, middle].square().mean()) < 1e-2


@pytest.mark.parametrize(("extension", "kind", "subtype", "rate"), FORMATS)
def test_blocks_of_other_formats_join_without_a_seam(
    tmp_path: Path, extension: str, kind: str, subtype: str, rate: int
) -> None:
    path = encode(tmp_path, extension, kind, subtype, rate)
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    samples, _ = audio.read(path)
    assert compute_peak_db(samples - torch.from_numpy(whole.T)) < -90


def test_the_content_decides_the_format_not_the_extension(tmp_path: Path) -> None:
    path = synthetic_songs.write(tmp_path / "x.wav", noise(2, 500).numpy().T, 22_050).rename(tmp_path / "x.mp3")
    samples, rate = audio.read(path)
    assert (rate, samples.shape) == (22_050, (2, 500))


@pytest.mark.parametrize("name", NAMES)
def test_any_unicode_name_is_read_and_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name.removesuffix(".wav") / name
    path.parent.mkdir()
    with audio.Writer(path, rate=8_000, channels=1, subtype="FLOAT") as writer:
        writer.write(noise(1, 100))
    assert torch.equal(audio.read(path)[0], noise(1, 100))
    assert [entry.name for entry in path.parent.iterdir()] == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows arbitrary bytes in file names")
def test_a_name_that_is_not_unicode_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    synthetic_songs.write(tmp_path / "x.wav", noise(1, 100).numpy().T, 8_000, "FLOAT").rename(path)
    try:
        samples, _ = audio.read(path)
    except AudioError:
        return
    assert torch.equal(samples, noise(1, 100))


# Writer


def write(path: Path, samples: Tensor, subtype: str, rate: int = 44_100) -> Path:
    with audio.Writer(path, rate=rate, channels=samples.shape[0], subtype=subtype) as writer:
        writer.write(samples)
    return path


@pytest.mark.parametrize("extension", ["wav", "flac", "aiff", "ogg"])
def test_the_file_appears_only_when_it_is_complete(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"x.{extension}"
    with audio.Writer(path, rate=8_000, channels=2, subtype="PCM_16") as writer:
        writer.write(noise(2, 5_000))
        assert not path.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert soundfile.info(str(path)).frames == 5_000


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_no_file(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with audio.Writer(tmp_path / "x.wav", rate=8_000, channels=2, subtype="PCM_16") as writer:
            writer.write(noise(2, 5_000))
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_an_existing_file_unchanged(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", noise(2, 100), "PCM_16")
    before = path.read_bytes()

    def fail() -> None:
        with audio.Writer(path, rate=8_000, channels=2, subtype="PCM_16") as writer:
            writer.write(noise(2, 5_000))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_the_same_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(AudioError, match=r"x\.wav"):
        write(tmp_path / "x.wav", noise(2, 100), "PCM_16")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.wav"]


def test_a_missing_folder_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(AudioError) as caught:
        audio.Writer(tmp_path / "no" / "x.wav", rate=8_000, channels=1, subtype="PCM_16")
    assert str(tmp_path / "no" / "x.wav") in str(caught.value)


def test_too_many_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"x\.flac"):
        audio.Writer(tmp_path / "x.flac", rate=8_000, channels=9, subtype="PCM_16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extension", ["", ".mp4", ".wavv", ".txt"])
def test_an_unknown_extension_is_refused_before_any_work(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"song{extension}"
    with pytest.raises(AudioError) as caught:
        audio.check_output(path)
    assert str(path) in str(caught.value)
    with pytest.raises(AudioError, match="unknown output format"):
        audio.Writer(path, rate=44_100, channels=2, subtype="PCM_16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extension", [".wav", ".WAV", ".flac", ".aiff", ".aif", ".ogg"])
def test_known_extensions_are_written(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"song{extension}"
    audio.check_output(path)
    write(path, noise(2, 4_000), "PCM_16")
    assert audio.read(path)[0].shape == (2, 4_000)


def test_opus_is_opus_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.opus"
    try:
        audio.check_output(path)
    except AudioError:
        return
    write(path, noise(2, 4_800), "PCM_16", rate=48_000)
    assert soundfile.info(str(path)).subtype == "OPUS"


@pytest.mark.parametrize(
    ("extension", "wanted", "got"),
    [
        ("wav", "PCM_16", "PCM_16"),
        ("wav", "PCM_24", "PCM_24"),
        ("wav", "FLOAT", "FLOAT"),
        ("wav", "VORBIS", "FLOAT"),
        ("wav", "MPEG_LAYER_III", "FLOAT"),
        ("wav", "no such thing", "FLOAT"),
        ("aiff", "OPUS", "FLOAT"),
        ("flac", "PCM_16", "PCM_16"),
        ("flac", "FLOAT", "PCM_24"),
        ("flac", "VORBIS", "PCM_24"),
        ("ogg", "PCM_16", "VORBIS"),
    ],
)
def test_the_sample_format_is_kept_if_possible(tmp_path: Path, extension: str, wanted: str, got: str) -> None:
    path = write(tmp_path / f"x.{extension}", noise(2, 2_000), wanted)
    assert soundfile.info(str(path)).subtype == got


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to write to repeatedly; hypothesis rejects fixtures of function scope."""
    return tmp_path_factory.mktemp("written")


@pytest.mark.parametrize("extension", ["wav", "flac", "aiff"])
@pytest.mark.parametrize("bits", [16, 24])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_fixed_point_samples_come_back_bit_for_bit(
    folder: Path, extension: str, bits: int, data: st.DataObject
) -> None:
    full = 2 ** (bits - 1)
    shape = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40)))
    values = data.draw(hnp.arrays(np.int32, shape, elements=st.integers(-full, full - 1)))
    samples = torch.from_numpy((values / full).astype(np.float32))
    path = write(folder / f"x{bits}.{extension}", samples, f"PCM_{bits}")
    assert torch.equal(audio.read(path)[0], samples)
    raw, _ = soundfile.read(path, dtype="int32", always_2d=True)
    np.testing.assert_array_equal(raw.T >> (32 - bits), values)


@settings(deadline=None, max_examples=25)
@given(
    values=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_float_samples_come_back_bit_for_bit_also_above_full_scale(folder: Path, values: np.ndarray) -> None:
    path = write(folder / "float.wav", torch.from_numpy(values), "FLOAT")
    back = audio.read(path)[0].numpy()
    np.testing.assert_array_equal(back.view(np.int32), values.view(np.int32))


@pytest.mark.parametrize("extension", ["wav", "flac", "aiff"])
@pytest.mark.parametrize("bits", [16, 24])
def test_samples_are_rounded_to_the_nearest_step(tmp_path: Path, extension: str, bits: int) -> None:
    step = 2.0 ** (1 - bits)
    samples = torch.tensor([[-1.6, -1.4, -0.4, -1e-4, 0.0, 1e-4, 0.4, 0.6, 1.4]], dtype=torch.float64) * step
    back, _ = audio.read(write(tmp_path / f"x.{extension}", samples.float(), f"PCM_{bits}"))
    assert float((back.double() - samples).abs().max()) <= 0.5 * step


@pytest.mark.parametrize("extension", ["wav", "flac"])
def test_fixed_point_saturates_instead_of_wrapping(tmp_path: Path, extension: str) -> None:
    path = write(tmp_path / f"x.{extension}", torch.tensor([[1.0, 1.5, 40.0, -1.0, -1.5, -40.0]]), "PCM_16")
    raw, _ = soundfile.read(path, dtype="int16")
    assert raw.tolist() == [32_767] * 3 + [-32_768] * 3


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o000, 0o666)])
@pytest.mark.skipif(os.name != "posix", reason="only POSIX has such permissions")
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        path = write(tmp_path / "x.wav", noise(1, 10), "PCM_16")
        assert os.umask(umask) == umask  # the writer left it alone
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


def test_blocks_may_be_views_and_stay_unchanged(tmp_path: Path) -> None:
    samples = noise(2, 3_000).T.contiguous().T  # stored as (time, channel)
    kept = samples.clone()
    with audio.Writer(tmp_path / "x.wav", rate=8_000, channels=2, subtype="FLOAT") as writer:
        for start in range(0, 3_000, 700):
            writer.write(samples[:, start : start + 700])
        writer.write(samples[:, :0])
    assert torch.equal(audio.read(tmp_path / "x.wav")[0], kept)
    assert torch.equal(samples, kept)


@pytest.mark.parametrize("extension", ["wav", "aiff"])
def test_float_files_contain_no_time_stamp(tmp_path: Path, extension: str) -> None:
    content = write(tmp_path / f"x.{extension}", noise(2, 100), "FLOAT").read_bytes()
    place = content.find(b"PEAK")  # the third word of this chunk is a time stamp
    stamp = content[place + 12 : place + 16] if place >= 0 else bytes(4)
    assert stamp == bytes(4), "the same samples give other bytes a second later"


# Resampler

RATES = [(44_100, 16_000), (16_000, 44_100), (48_000, 44_100), (8_000, 48_000), (44_100, 22_050)]


def split_at(samples: Tensor, cuts: list[int]) -> Iterator[Tensor]:
    places = [0, *sorted(cuts), samples.shape[-1]]
    for start, stop in itertools.pairwise(places):
        yield samples[:, start:stop]


@settings(deadline=None, max_examples=30)
@given(
    rates=st.sampled_from([*RATES, (44_100, 44_100)]),
    samples=st.integers(1, 20_000),
    channels=st.integers(1, 3),
    data=st.data(),
)
def test_the_resampler_gives_the_same_samples_for_any_blocks(
    rates: tuple[int, int], samples: int, channels: int, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, samples), max_size=8))
    mixture = noise(channels, samples)
    stream = audio.Resampler(*rates, channels)
    parts = [stream.push(piece) for piece in split_at(mixture, cuts)]
    parts.append(stream.push(mixture[:, :0], last=True))
    streamed, whole = torch.cat(parts, dim=-1), audio.resample(mixture, *rates)
    assert streamed.shape == whole.shape
    assert streamed.dtype == torch.float32
    if whole.numel():
        assert compute_peak_db(streamed - whole) < -100
    assert abs(whole.shape[-1] - samples * rates[1] / rates[0]) <= 1


@pytest.mark.parametrize(("rate", "to_rate"), RATES)
@pytest.mark.parametrize("hz", [100.0, 3_000.0])
def test_a_sine_stays_in_phase(rate: int, to_rate: int, hz: float) -> None:
    got, expected = audio.resample(tone(rate, 1.0, hz=hz), rate, to_rate), tone(to_rate, 1.0, hz=hz)
    assert got.shape == expected.shape
    inside = slice(to_rate // 10, -to_rate // 10)
    assert compute_peak_db((got - expected)[:, inside]) < -90


@pytest.mark.parametrize("to_rate", [16_000, 44_100])
def test_frequencies_above_half_the_new_rate_are_removed(to_rate: int) -> None:
    got = audio.resample(tone(48_000, 1.0, hz=23_000.0), 48_000, to_rate)
    assert compute_peak_db(got[:, to_rate // 10 : -to_rate // 10]) < -90


def test_the_same_rate_changes_nothing() -> None:
    mixture = noise(2, 1_000)
    assert torch.equal(audio.resample(mixture, 44_100, 44_100), mixture)
    stream = audio.Resampler(8_000, 8_000, 2)
    parts = [stream.push(mixture[:, :300]), stream.push(mixture[:, 300:], last=True)]
    assert torch.equal(torch.cat(parts, dim=-1), mixture)


def test_channels_do_not_mix_and_the_input_stays_unchanged() -> None:
    mixture = noise(3, 5_000)
    kept = mixture.clone()
    together = audio.resample(mixture, 44_100, 16_000)
    apart = torch.cat([audio.resample(mixture[i : i + 1], 44_100, 16_000) for i in range(3)])
    assert torch.equal(mixture, kept)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rate", "to_rate"), RATES)
@pytest.mark.parametrize("samples", [1, 2])
def test_the_shortest_recordings_keep_a_sample(rate: int, to_rate: int, samples: int) -> None:
    assert audio.resample(noise(2, samples), rate, to_rate).shape[-1] >= 1


def test_silence_stays_silence() -> None:
    assert audio.resample(torch.zeros(2, 4_410), 44_100, 16_000).count_nonzero() == 0
