from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fake_nets
import numpy as np
import pytest
import soundfile
import synthetic_songs

from vocalsep import audio
from vocalsep.errors import AudioError, ConfigError
from vocalsep.extraction import Extractor, extract


def write_song(
    path: Path, *, rate: int = 8_000, channels: int = 2, subtype: str = "PCM_16", samples: int = 5_003
) -> Path:
    return synthetic_songs.write(path, np.clip(fake_nets.noise(channels, samples), -0.99, 0.99).T, rate, subtype)


@pytest.mark.parametrize(
    ("ending", "subtype", "output", "written"),
    [
        ("wav", "PCM_16", "v.wav", "PCM_16"),
        ("wav", "PCM_24", "v.wav", "PCM_24"),
        ("wav", "FLOAT", "v.wav", "FLOAT"),
        ("flac", "PCM_16", "v.wav", "PCM_16"),
        ("flac", "PCM_24", "v.flac", "PCM_24"),
        ("wav", "FLOAT", "v.flac", "PCM_24"),
        ("ogg", "VORBIS", "v.wav", "PCM_16"),
        ("ogg", "VORBIS", "v.flac", "PCM_16"),
        ("ogg", "VORBIS", "v.raw", None),
    ],
)
@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 44_100)])
def test_files_have_the_songs_rate_channels_length_and_sample_format(
    tmp_path: Path, ending: str, subtype: str, output: str, written: str | None, channels: int, rate: int
) -> None:
    song = write_song(tmp_path / f"song.{ending}", rate=rate, channels=channels, subtype=subtype)
    paths = [tmp_path / output, tmp_path / f"a{output}"]
    extract(song, paths[0], accompaniment=paths[1], extractor=Extractor(fake_nets.constant(0.5)))
    mixture, _ = audio.read(song)
    for path in paths:
        if written is None:  # samples without a header must not depend on the song's level
            assert path.stat().st_size == mixture.nbytes
            continue
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (rate, channels, written)
        samples, _ = audio.read(path)
        assert samples.shape == mixture.shape
        np.testing.assert_allclose(samples, mixture / 2, rtol=0, atol=2**-14)
    assert sorted(tmp_path.glob("*.*")) == sorted([song, *paths])


@pytest.mark.parametrize(
    ("ending", "subtype", "bits"),
    [("wav", "PCM_16", 16), ("flac", "PCM_16", 16), ("wav", "PCM_24", 24), ("flac", "PCM_24", 24)],
)
def test_in_files_too_a_mask_of_one_half_gives_half_the_song(
    tmp_path: Path, ending: str, subtype: str, bits: int
) -> None:
    even = fake_nets.quantise(fake_nets.noise(2, 5_003), bits - 1)
    song = synthetic_songs.write(tmp_path / f"song.{ending}", even.T, 8_000, subtype)
    vocals = tmp_path / f"vocals.{ending}"
    extract(song, vocals, extractor=Extractor(fake_nets.constant(0.5, fake_nets.SMALL)))
    steps = (2 * audio.read(vocals)[0] - audio.read(song)[0]) * 2 ** (bits - 1)
    assert float(np.abs(steps).max()) <= (0 if bits == 16 else 6)  # float32 just holds 24 bits
    assert abs(float(steps.mean())) < 0.05


def test_the_parts_of_a_lossy_song_add_up_to_it_within_a_step_and_are_float_if_the_peak_does_not_fit(
    tmp_path: Path,
) -> None:
    for loud, subtype, step in ((0.9, "PCM_16", 2**-15), (3.0, "FLOAT", 2**-22)):
        song, paths = tmp_path / f"{loud}.ogg", [tmp_path / f"{loud}.{stem}.wav" for stem in ("v", "a")]
        with audio.Writer(song, rate=8_000, channels=2, subtype="FLOAT") as made:
            made.write((loud * fake_nets.noise(2, 9_000)).astype(np.float32).clip(-loud, loud) * 0.7)
        report = extract(song, paths[0], accompaniment=paths[1], extractor=Extractor(fake_nets.constant(0.9)))
        assert [soundfile.info(path).subtype for path in paths] == [subtype] * 2
        vocals, accompaniment, mixture = (audio.read(path)[0] for path in (*paths, song))
        np.testing.assert_allclose(vocals + accompaniment, mixture, rtol=0, atol=step)
        assert report.clipped_samples == 0
    assert [path.suffix for path in tmp_path.iterdir()].count(".wav") == 4


def test_the_accompaniment_can_be_written_alone(tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav")
    both, alone = [tmp_path / "v.wav", tmp_path / "a.wav"], tmp_path / "alone.wav"
    extractor = Extractor(fake_nets.constant(0.25))
    extract(song, both[0], accompaniment=both[1], extractor=extractor)
    report = extract(song, None, accompaniment=alone, extractor=extractor)
    assert alone.read_bytes() == both[1].read_bytes()
    assert (report.vocals, report.accompaniment) == (None, str(alone))
    assert report.vocals_db == pytest.approx(-12, abs=0.5)
    with pytest.raises(ConfigError, match="nothing to write"):
        extract(song, None, extractor=extractor)


def test_in_files_too_vocals_and_accompaniment_add_up(tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav", subtype="FLOAT")
    paths = [tmp_path / "v.wav", tmp_path / "a.wav"]
    extract(song, paths[0], accompaniment=paths[1], extractor=Extractor(fake_nets.constant(0.3, fake_nets.SMALL)))
    mixture, vocals, accompaniment = (audio.read(path)[0] for path in (song, *paths))
    np.testing.assert_allclose(vocals + accompaniment, mixture, rtol=0, atol=2**-24)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports it")
@pytest.mark.slow
def test_peak_memory_is_that_of_the_process_itself_not_of_its_parent() -> None:
    ours = np.ones(700 * 2**20, dtype=np.uint8)
    code = "from vocalsep.extraction import measure_peak_memory_mb; print(measure_peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 10 < float(done.stdout) < ours.nbytes / 2**20


def test_the_report_says_what_was_done(tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav", samples=80_000)
    seconds: list[float] = []
    extractor = Extractor(fake_nets.constant(0.9))
    report = extract(
        str(song), tmp_path / "v.wav", accompaniment=tmp_path / "a.wav", extractor=extractor, progress=seconds.append
    )
    assert (report.input, report.vocals) == (str(song), str(tmp_path / "v.wav"))
    assert report.accompaniment == str(tmp_path / "a.wav")
    assert report.model == "fake"
    assert report.audio_seconds == 10
    assert sum(seconds) == pytest.approx(10)
    assert len(seconds) == 3
    assert report.taken_seconds > 0
    assert report.times_real_time == pytest.approx(10 / report.taken_seconds, rel=0.1)
    assert (report.voice, report.voice_share) == (((0, 10),), 1)
    assert report.vocals_db == pytest.approx(-0.92, abs=0.01)
    assert report.peak_memory_mb is None or report.peak_memory_mb > 10
    assert extract(song, tmp_path / "w.wav", extractor=extractor).accompaniment is None


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, AudioError])
def test_an_error_midway_leaves_no_file(tmp_path: Path, error: type[BaseException]) -> None:
    song = write_song(tmp_path / "song.wav", samples=80_000)
    old = tmp_path / "v.wav"
    old.write_bytes(b"older vocals")
    before = sorted(tmp_path.iterdir())
    extractor = Extractor(fake_nets.make_model(fake_nets.FailingNet(error("at the second batch"))))
    with pytest.raises(error, match="second batch"):
        extract(song, old, accompaniment=tmp_path / "a.wav", extractor=extractor)
    assert sorted(tmp_path.iterdir()) == before
    assert old.read_bytes() == b"older vocals"


def test_a_truncated_song_leaves_no_file(tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.flac", samples=80_000)
    song.write_bytes(song.read_bytes()[:-40_000])
    with pytest.raises(AudioError, match="cannot be read to the end"):
        extract(song, tmp_path / "v.wav", extractor=Extractor(fake_nets.constant(0.9)))
    assert [path.name for path in tmp_path.iterdir()] == ["song.flac"]


def test_if_one_output_cannot_be_written_neither_is(tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav")
    with pytest.raises(AudioError, match="unknown output format"):
        extract(
            song, tmp_path / "v.wav", accompaniment=tmp_path / "a.xyz", extractor=Extractor(fake_nets.constant(0.9))
        )
    with pytest.raises(AudioError, match="cannot be written"):
        extract(
            song,
            tmp_path / "v.wav",
            accompaniment=tmp_path / "no" / "a.wav",
            extractor=Extractor(fake_nets.constant(0.9)),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]
