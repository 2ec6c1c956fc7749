"""Writing recordings: whole files or none, sample formats, and permissions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_nets import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vocalsep import audio
from vocalsep.audio.formats import BITS
from vocalsep.audio.writer import count_out_of_range, fit_to_subtype
from vocalsep.errors import AudioError
from vocalsep.shapes import Waveform


def write(path: Path, samples: Waveform, subtype: str, rate: int = 44_100) -> Path:
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
    with pytest.raises(AudioError, match=r"unknown output format|has no file extension; write .*song/ for a folder"):
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
    samples = (values / full).astype(np.float32)
    path = write(folder / f"x{bits}.{extension}", samples, f"PCM_{bits}")
    np.testing.assert_array_equal(audio.read(path)[0], samples)
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
    path = write(folder / "float.wav", values, "FLOAT")
    back = audio.read(path)[0]
    np.testing.assert_array_equal(back.view(np.int32), values.view(np.int32))


@pytest.mark.parametrize("extension", ["wav", "flac", "aiff"])
@pytest.mark.parametrize("bits", [16, 24])
def test_samples_are_rounded_to_the_nearest_step(tmp_path: Path, extension: str, bits: int) -> None:
    step = 2.0 ** (1 - bits)
    samples = np.array([[-1.6, -1.4, -0.4, -1e-4, 0.0, 1e-4, 0.4, 0.6, 1.4]]) * step
    back, _ = audio.read(write(tmp_path / f"x.{extension}", samples.astype(np.float32), f"PCM_{bits}"))
    assert np.abs(back - samples).max() <= 0.5 * step


@pytest.mark.parametrize(("subtype", "bits"), BITS.items())
@given(data=st.data())
def test_samples_are_rounded_clamped_and_counted_as_in_float64(subtype: str, bits: int, data: st.DataObject) -> None:
    full = 2.0 ** (bits - 1)
    near = st.floats(-1.5, 1.5).map(lambda steps: steps / full)
    edges = st.sampled_from([-1.0, 1.0]).flatmap(lambda edge: near.map(lambda distance: edge + distance))
    values = data.draw(st.lists(st.one_of(near, edges, st.floats(width=32)), min_size=1, max_size=9))
    with np.errstate(over="ignore"):
        samples = np.array([values], np.float32)
    expected = np.round(np.nan_to_num(samples.astype(np.float64), posinf=9, neginf=-9) * full)
    assert count_out_of_range(samples, subtype) == int(((expected > full - 1) | (expected < -full)).sum())
    fitted = fit_to_subtype(samples, subtype)
    steps = fitted if fitted.dtype == np.int16 else fitted >> (32 - bits)
    np.testing.assert_array_equal(steps, np.clip(expected, -full, full - 1))


@pytest.mark.parametrize("extension", ["wav", "flac"])
def test_fixed_point_saturates_instead_of_wrapping(tmp_path: Path, extension: str) -> None:
    path = write(tmp_path / f"x.{extension}", np.float32([[1.0, 1.5, 40.0, -1.0, -1.5, -40.0]]), "PCM_16")
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
    samples = noise(2, 3_000).T.copy().T  # stored as (time, channel)
    kept = samples.copy()
    with audio.Writer(tmp_path / "x.wav", rate=8_000, channels=2, subtype="FLOAT") as writer:
        for start in range(0, 3_000, 700):
            writer.write(samples[:, start : start + 700])
        writer.write(samples[:, :0])
    np.testing.assert_array_equal(audio.read(tmp_path / "x.wav")[0], kept)
    np.testing.assert_array_equal(samples, kept)


@pytest.mark.parametrize("extension", ["wav", "aiff"])
def test_float_files_contain_no_time_stamp(tmp_path: Path, extension: str) -> None:
    content = write(tmp_path / f"x.{extension}", noise(2, 100), "FLOAT").read_bytes()
    place = content.find(b"PEAK")  # the third word of this chunk is a time stamp
    stamp = content[place + 12 : place + 16] if place >= 0 else bytes(4)
    assert stamp == bytes(4), "the same samples give other bytes a second later"
