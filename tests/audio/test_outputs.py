"""What becomes of samples on their way into files: clipping, gains, long files, full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import vocalsep
from vocalsep import audio
from vocalsep.audio import writer as writing
from vocalsep.errors import AudioError, ConfigError

FULL = (2**15 - 1) / 2**15
LOSSY = [".ogg", ".opus", ".mp3", ".m4a"]


def tone(peak: float, samples: int = 9_000) -> Tensor:
    wave = torch.sin(2 * torch.pi * 0.01 * torch.arange(samples, dtype=torch.float64))
    return (peak * torch.stack([wave, wave / 2])).float()


def put(paths: list[Path], parts: list[Tensor], *, subtype: str = "PCM_16", clip: str = "clamp") -> audio.Outputs:
    with audio.Outputs(paths, rate=44_100, channels=2, subtype=subtype, clip=clip) as outputs:
        for blocks in zip(*(torch.split(part, 4_000, dim=-1) for part in parts), strict=True):
            outputs.write(blocks)
    return outputs


# clipping


def test_clamp_puts_what_is_too_loud_to_full_scale_counts_it_and_leaves_the_rest(tmp_path: Path) -> None:
    parts = [tone(1.25), tone(0.5)]
    outputs = put([tmp_path / "v.wav", tmp_path / "a.flac"], parts)
    steps = torch.round(parts[0].double() * 2**15)
    assert outputs.clipped_samples == int(((steps > 2**15 - 1) | (steps < -(2**15))).sum()) > 100
    assert outputs.gain_db == 0
    back, _ = audio.read(tmp_path / "v.wav")
    torch.testing.assert_close(back, parts[0].clamp(-1, FULL), rtol=0, atol=2**-16)
    torch.testing.assert_close(audio.read(tmp_path / "a.flac")[0], parts[1], rtol=0, atol=2**-16)


def test_error_gives_up_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"v\.wav: PCM_16 cannot hold a peak of 1\.250 times full scale"):
        put([tmp_path / "v.wav", tmp_path / "a.wav"], [tone(1.25), tone(0.5)], clip="error")
    assert not list(tmp_path.iterdir())
    assert put([tmp_path / "v.wav"], [tone(FULL)], clip="error").clipped_samples == 0


def test_scale_gives_all_parts_the_one_gain_that_fits(tmp_path: Path) -> None:
    parts = [tone(1.25), tone(0.5), tone(2.0)]
    outputs = put([tmp_path / "v.wav", tmp_path / "a.flac", tmp_path / "f.wav"], parts, clip="scale")
    gain = FULL / 2
    assert outputs.gain_db == pytest.approx(20 * np.log10(gain))
    assert outputs.clipped_samples == 0
    for name, part in zip(("v.wav", "a.flac", "f.wav"), parts, strict=True):
        torch.testing.assert_close(audio.read(tmp_path / name)[0], gain * part, rtol=0, atol=2**-16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.flac", "f.wav", "v.wav"]


def test_scale_changes_nothing_where_all_fits(tmp_path: Path) -> None:
    for clip in ("clamp", "scale"):
        outputs = put(
            [tmp_path / f"{clip}.wav"], [tone(1.0).clamp(-1, FULL)], clip=clip
        )  # -1 is a sample that 16 bits have
        assert (outputs.gain_db, outputs.clipped_samples) == (0, 0)
    assert (tmp_path / "clamp.wav").read_bytes() == (tmp_path / "scale.wav").read_bytes()


@pytest.mark.parametrize("clip", ["clamp", "scale", "error"])
def test_float_and_lossy_files_hold_more_than_full_scale(tmp_path: Path, clip: str) -> None:
    paths = [tmp_path / f"x{ending}" for ending in (".wav", *LOSSY)]
    outputs = put(paths, [tone(1.5)] * len(paths), subtype="FLOAT", clip=clip)
    assert (outputs.gain_db, outputs.clipped_samples) == (0, 0)
    for path in paths:
        assert float(audio.read(path)[0].max()) == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("ending", [".wav", ".flac", ".aiff", *LOSSY])
@pytest.mark.parametrize("value", [100.0, 1e6, 1e30, float("inf"), float("nan")])
def test_no_sample_breaks_an_encoder(tmp_path: Path, ending: str, value: float) -> None:
    samples = value * torch.sign(tone(1.0))  # from 10,000 on, LAME ends the process
    outputs = put([tmp_path / f"x{ending}"], [samples])
    back, _ = audio.read(tmp_path / f"x{ending}")
    assert back.isfinite().all()
    assert outputs.clipped_samples > 0 or not samples.isfinite().all()


def test_an_unknown_way_of_clipping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'clamp'"):
        put([tmp_path / "x.wav"], [tone(1.0)], clip="clmp")


# channels


@pytest.mark.parametrize("ending", [".ogg", ".opus", ".m4a", ".flac", ".wav"])
@pytest.mark.parametrize("channels", [3, 4, 5, 6, 7, 8])
def test_channels_are_where_other_programs_look_for_them(tmp_path: Path, ending: str, channels: int) -> None:
    at = torch.arange(9_000, dtype=torch.float64)  # each channel has a frequency of its own, that of the bass is low
    samples = torch.stack(
        [0.3 * torch.sin(at * 0.006 * (1 + (channel - 3) % 8)) for channel in range(channels)]
    ).float()
    path = tmp_path / f"x{ending}"
    if channels not in audio.check_output(path).channels:
        assert (ending, channels) in [(".opus", 5), (".opus", 7)]
        return
    with audio.Writer(path, rate=48_000, channels=channels, subtype="PCM_16") as writer:
        writer.write(samples)
    ours, _ = audio.read(path)
    theirs = torch.from_numpy(_decoded(path))
    for whole in (ours, theirs):
        back, samples = whole[:, :8_500], samples[:, :8_500]  # FFmpeg leaves out the end of some Vorbis files
        alike = (back @ samples.T) / (back.norm(dim=-1)[:, None] * samples.norm(dim=-1))
        assert (alike.diagonal() > 0.9).all()
        assert (alike - torch.diag(alike.diagonal())).abs().max() < 0.2


def _decoded(path: Path) -> np.ndarray:
    """What FFmpeg gives by itself, channels in its own order, which is wav's."""
    import av

    with av.open(str(path)) as container:
        packed = av.AudioResampler("flt")
        frames = [out for frame in container.decode(audio=0) for out in packed.resample(frame)]
        return np.concatenate([f.to_ndarray().reshape(-1, f.layout.nb_channels).T for f in frames], axis=1)


# long files


def test_a_long_wav_is_rf64_with_the_same_samples_and_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_LONG_BYTES", 10_000)
    for subtype in ("PCM_16", "FLOAT"):
        path = tmp_path / f"{subtype}.wav"
        for samples, kind in ((9_000, b"RF64"), (1_000, b"RIFF")):
            with audio.Writer(path, rate=44_100, channels=2, subtype=subtype, samples=samples) as writer:
                writer.write(tone(0.5))
            assert path.read_bytes()[:4] == kind
            torch.testing.assert_close(audio.read(path)[0], tone(0.5), rtol=0, atol=2**-16)
        with audio.Writer(path, rate=44_100, channels=2, subtype=subtype, samples=9_000) as writer:
            writer.write(tone(0.5))
        content = path.read_bytes()
        place = content.find(b"PEAK")
        assert place < 0 or content[place + 12 : place + 16] == bytes(4)  # no clock


def test_what_32_bits_cannot_count_is_refused_instead_of_written_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AudioError, match="aiff ends at 4 GB"):
        audio.Writer(tmp_path / "x.aiff", rate=44_100, channels=2, subtype="PCM_16", samples=2**31)
    monkeypatch.setattr(writing, "_MOST_BYTES", 20_000)
    for name in ("x.wav", "x.aiff"):
        with pytest.raises(AudioError, match="which ends at 4 GB"):
            put([tmp_path / name], [tone(0.5)])
    assert not list(tmp_path.iterdir())
    put([tmp_path / "x.flac"], [tone(0.5)])


# full disks


@pytest.mark.skipif(sys.platform != "linux", reason="the size of files can be limited so on Linux only")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
import torch
from vocalsep import audio
from vocalsep.errors import AudioError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for path in sys.argv[1:]:
    for clip in ("clamp", "scale"):
        try:
            with audio.Outputs([Path(path)], rate=44_100, channels=2, subtype="PCM_16", clip=clip) as outputs:
                for _ in range(3):
                    outputs.write([0.5 * torch.rand(2, 44_100)])
        except AudioError as error:
            print(error)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(vocalsep.__file__).parents[1])}
    paths = [tmp_path / f"x{ending}" for ending in (".wav", ".flac", ".aiff", *LOSSY)]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    told = [line.partition(": cannot be written (")[0] for line in done.stdout.splitlines()]
    assert told == [str(path) for path in paths for _ in range(2)]
    assert not list(tmp_path.iterdir())


# the same bytes


@pytest.mark.parametrize("ending", [".wav", ".flac", ".aiff", ".opus", ".mp3", ".m4a"])
def test_the_same_samples_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    paths = [tmp_path / f"{name}{ending}" for name in ("a", "b")]
    put(paths, [tone(0.5)] * 2)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_last_samples_of_lossy_files_are_the_songs(tmp_path: Path) -> None:
    for ending in LOSSY:
        for samples in (4_700, 4_800, 5_000):  # frames of 960 and 1,024 end before, at, and behind them
            put([tmp_path / f"x{ending}"], [tone(0.5, samples)])
            back, rate = audio.read(tmp_path / f"x{ending}")
            expected = audio.resample(tone(0.5, samples), 44_100, rate)
            assert float((back - expected)[:, -400:].abs().max()) < 0.15, (ending, samples)


@pytest.mark.parametrize("ending", [".wav", ".m4a", ".opus"])
def test_soundfiles_own_errors_become_ours(tmp_path: Path, ending: str) -> None:
    with pytest.raises(AudioError, match="cannot be written"):
        audio.Writer(tmp_path / "no" / f"x{ending}", rate=48_000, channels=1, subtype="PCM_16")
    assert soundfile.available_formats()
