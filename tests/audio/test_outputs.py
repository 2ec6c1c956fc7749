"""Writing files: clipping, gain, channel order, long files, full disks, and the same bytes each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fake_nets
import numpy as np
import pytest
import soundfile

import vocalsep
from vocalsep import audio
from vocalsep.audio import writer as writer_module
from vocalsep.errors import AudioError, ConfigError
from vocalsep.shapes import Waveform

FULL = (2**15 - 1) / 2**15
LOSSY = [".ogg", ".opus", ".mp3", ".m4a"]


def tone(peak: float, samples: int = 9_000) -> Waveform:
    wave = np.sin(2 * np.pi * 0.01 * np.arange(samples))
    return (peak * np.stack([wave, wave / 2])).astype(np.float32)


def write(paths: list[Path], parts: list[Waveform], *, subtype: str = "PCM_16", clip: str = "clamp") -> audio.Outputs:
    with audio.Outputs(paths, rate=44_100, channels=2, subtype=subtype, clip=clip) as outputs:
        for blocks in zip(*(fake_nets.split_in_blocks(part, [4_000]) for part in parts), strict=True):
            outputs.write(blocks)
    return outputs


# clipping


def test_clamp_limits_and_counts_loud_samples_and_leaves_the_others(tmp_path: Path) -> None:
    parts = [tone(1.25), tone(0.5)]
    outputs = write([tmp_path / "v.wav", tmp_path / "a.flac"], parts)
    steps = np.round(parts[0].astype(np.float64) * 2**15)
    assert outputs.clipped_samples == int(((steps > 2**15 - 1) | (steps < -(2**15))).sum()) > 100
    assert outputs.gain_db == 0
    back, _ = audio.read(tmp_path / "v.wav")
    np.testing.assert_allclose(back, np.clip(parts[0], -1, FULL), rtol=0, atol=2**-16)
    np.testing.assert_allclose(audio.read(tmp_path / "a.flac")[0], parts[1], rtol=0, atol=2**-16)


def test_error_raises_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"v\.wav: PCM_16 cannot hold a peak of 1\.250 times full scale"):
        write([tmp_path / "v.wav", tmp_path / "a.wav"], [tone(1.25), tone(0.5)], clip="error")
    assert not list(tmp_path.iterdir())
    assert write([tmp_path / "v.wav"], [tone(FULL)], clip="error").clipped_samples == 0


def test_scale_gives_all_parts_one_gain_that_fits(tmp_path: Path) -> None:
    parts = [tone(1.25), tone(0.5), tone(2.0)]
    outputs = write([tmp_path / "v.wav", tmp_path / "a.flac", tmp_path / "f.wav"], parts, clip="scale")
    gain = FULL / 2
    assert outputs.gain_db == pytest.approx(20 * np.log10(gain))
    assert outputs.clipped_samples == 0
    for name, part in zip(("v.wav", "a.flac", "f.wav"), parts, strict=True):
        np.testing.assert_allclose(audio.read(tmp_path / name)[0], gain * part, rtol=0, atol=2**-16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.flac", "f.wav", "v.wav"]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32"])
def test_scale_never_rounds_the_peak_up_to_full_scale(tmp_path: Path, subtype: str) -> None:
    for step in range(30):
        peak = 1.1 + 0.01 * step
        outputs = write([tmp_path / "v.wav"], [tone(peak)], subtype=subtype, clip="scale")
        assert outputs.clipped_samples == 0, peak


def test_scale_changes_nothing_if_everything_fits(tmp_path: Path) -> None:
    for clip in ("clamp", "scale"):
        outputs = write([tmp_path / f"{clip}.wav"], [np.clip(tone(1.0), -1, FULL)], clip=clip)  # 16 bits can hold -1
        assert (outputs.gain_db, outputs.clipped_samples) == (0, 0)
    assert (tmp_path / "clamp.wav").read_bytes() == (tmp_path / "scale.wav").read_bytes()


@pytest.mark.parametrize("clip", ["clamp", "scale", "error"])
def test_float_and_lossy_files_hold_more_than_full_scale(tmp_path: Path, clip: str) -> None:
    paths = [tmp_path / f"x{extension}" for extension in (".wav", *LOSSY)]
    outputs = write(paths, [tone(1.5)] * len(paths), subtype="FLOAT", clip=clip)
    assert (outputs.gain_db, outputs.clipped_samples) == (0, 0)
    for path in paths:
        assert float(audio.read(path)[0].max()) == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".aiff", *LOSSY])
@pytest.mark.parametrize("value", [100.0, 1e6, 1e30, float("inf"), float("nan")])
def test_no_sample_breaks_an_encoder(tmp_path: Path, extension: str, value: float) -> None:
    with np.errstate(invalid="ignore"):  # infinity times 0 is NaN
        samples = np.float32(value) * np.sign(tone(1.0))  # LAME aborts the process from 10,000 on
    outputs = write([tmp_path / f"x{extension}"], [samples])
    back, _ = audio.read(tmp_path / f"x{extension}")
    assert np.isfinite(back).all()
    assert outputs.clipped_samples > 0 or not np.isfinite(samples).all()


def test_an_unknown_clip_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'clamp'"):
        write([tmp_path / "x.wav"], [tone(1.0)], clip="clmp")


# channels


@pytest.mark.parametrize("extension", [".ogg", ".opus", ".m4a", ".flac", ".wav"])
@pytest.mark.parametrize("channels", [3, 4, 5, 6, 7, 8])
def test_channels_are_in_the_order_that_other_programs_expect(tmp_path: Path, extension: str, channels: int) -> None:
    at = np.arange(9_000)  # each channel has its own frequency, and the LFE channel a low one
    waves = [0.3 * np.sin(at * 0.006 * (1 + (channel - 3) % 8)) for channel in range(channels)]
    samples = np.stack(waves).astype(np.float32)
    path = tmp_path / f"x{extension}"
    if channels not in audio.check_output(path).channels:
        assert (extension, channels) in [(".opus", 5), (".opus", 7)]
        return
    with audio.Writer(path, rate=48_000, channels=channels, subtype="PCM_16") as writer:
        writer.write(samples)
    ours, _ = audio.read(path)
    ffmpegs = decode_with_ffmpeg(path)
    for whole in (ours, ffmpegs):
        back, samples = whole[:, :8_500], samples[:, :8_500]  # FFmpeg drops the end of some Vorbis files
        alike = (back @ samples.T) / (np.linalg.norm(back, axis=-1)[:, None] * np.linalg.norm(samples, axis=-1))
        assert (alike.diagonal() > 0.9).all()
        assert np.abs(alike - np.diag(alike.diagonal())).max() < 0.2


def decode_with_ffmpeg(path: Path) -> np.ndarray:
    """Decode with FFmpeg alone, whose channels are in wav's order."""
    import av

    with av.open(str(path)) as container:
        packed = av.AudioResampler("flt")
        frames = [out for frame in container.decode(audio=0) for out in packed.resample(frame)]
        return np.concatenate([f.to_ndarray().reshape(-1, f.layout.nb_channels).T for f in frames], axis=1)


# long files


def test_a_long_wav_is_rf64_with_the_same_samples_and_no_time_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_LONG_BYTES", 10_000)
    for subtype in ("PCM_16", "FLOAT"):
        path = tmp_path / f"{subtype}.wav"
        for samples, kind in ((9_000, b"RF64"), (1_000, b"RIFF")):
            with audio.Writer(path, rate=44_100, channels=2, subtype=subtype, samples=samples) as writer:
                writer.write(tone(0.5))
            assert path.read_bytes()[:4] == kind
            np.testing.assert_allclose(audio.read(path)[0], tone(0.5), rtol=0, atol=2**-16)
        with audio.Writer(path, rate=44_100, channels=2, subtype=subtype, samples=9_000) as writer:
            writer.write(tone(0.5))
        content = path.read_bytes()
        place = content.find(b"PEAK")
        assert place < 0 or content[place + 12 : place + 16] == bytes(4)  # the time stamp


def test_a_file_too_long_for_32_bit_sizes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioError, match="aiff is limited to 4 GB"):
        audio.Writer(tmp_path / "x.aiff", rate=44_100, channels=2, subtype="PCM_16", samples=2**31)
    monkeypatch.setattr(writer_module, "_MAX_BYTES", 20_000)
    for name in ("x.wav", "x.aiff"):
        with pytest.raises(AudioError, match="this format is limited to 4 GB"):
            write([tmp_path / name], [tone(0.5)])
    assert not list(tmp_path.iterdir())
    write([tmp_path / "x.flac"], [tone(0.5)])


# full disks


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the size of files like this")
def test_a_full_disk_is_a_one_line_error_and_leaves_no_file(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from vocalsep import audio
from vocalsep.errors import AudioError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for path in sys.argv[1:]:
    for clip in ("clamp", "scale"):
        try:
            with audio.Outputs([Path(path)], rate=44_100, channels=2, subtype="PCM_16", clip=clip) as outputs:
                for _ in range(3):
                    outputs.write([0.5 * np.random.default_rng(0).random((2, 44_100), np.float32)])
        except AudioError as error:
            print(error)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(vocalsep.__file__).parents[1])}
    paths = [tmp_path / f"x{extension}" for extension in (".wav", ".flac", ".aiff", *LOSSY)]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    failed = [line.partition(": cannot be written (")[0] for line in done.stdout.splitlines()]
    assert failed == [str(path) for path in paths for _ in range(2)]
    assert not list(tmp_path.iterdir())


# the same bytes


@pytest.mark.parametrize("extension", [".wav", ".flac", ".aiff", ".opus", ".mp3", ".m4a"])
def test_the_same_samples_give_the_same_bytes(tmp_path: Path, extension: str) -> None:
    paths = [tmp_path / f"{name}{extension}" for name in ("a", "b")]
    write(paths, [tone(0.5)] * 2)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_lossy_files_keep_the_last_samples_of_the_song(tmp_path: Path) -> None:
    for extension in LOSSY:
        for samples in (4_700, 4_800, 5_000):  # before, at and after the end of a frame of 960 or 1,024
            write([tmp_path / f"x{extension}"], [tone(0.5, samples)])
            back, rate = audio.read(tmp_path / f"x{extension}")
            expected = audio.resample(tone(0.5, samples), 44_100, rate)
            assert np.abs(back - expected)[:, -400:].max() < 0.15, (extension, samples)


@pytest.mark.parametrize("extension", [".wav", ".m4a", ".opus"])
def test_errors_of_the_libraries_become_audio_errors(tmp_path: Path, extension: str) -> None:
    with pytest.raises(AudioError, match="cannot be written"):
        audio.Writer(tmp_path / "no" / f"x{extension}", rate=48_000, channels=1, subtype="PCM_16")
    assert soundfile.available_formats()
