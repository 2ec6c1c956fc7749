"""FFmpeg decodes from the first sample to the last, the right track, and refuses everything else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import ffmpeg_recordings
import numpy as np
import pytest
import soundfile

import vocalsep
from vocalsep import audio
from vocalsep.errors import AudioError

MATROSKA = ffmpeg_recordings.KINDS["mkv, 24-bit PCM"]


def write_recording(path: Path, kind: str, *, rate: int = 44_100, samples: int = 20_011, channels: int = 2) -> Path:
    return ffmpeg_recordings.write(
        path, ffmpeg_recordings.pulse(rate, samples, channels), rate, ffmpeg_recordings.KINDS[kind]
    )


def catch_refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught, audio.Reader(path) as reader:
        list(reader)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# beginning and end


@pytest.mark.parametrize(
    ("timescale", "samples"),
    [("1000", 20_011), ("1000", 1_024), ("90000", 20_011), *(("44100", n) for n in (1, 1_023, 1_024, 1_025, 20_011))],
)
def test_mp4_ends_to_the_sample_however_coarse_its_clock(tmp_path: Path, timescale: str, samples: int) -> None:
    original = ffmpeg_recordings.pulse(44_100, samples, 1)
    options = {"movie_timescale": timescale}
    path = ffmpeg_recordings.write(
        tmp_path / "x.m4a", original, 44_100, ffmpeg_recordings.KINDS["m4a, AAC"], options=options
    )
    assert audio.read(path)[0].shape == original.shape


def test_mp4_whose_packets_are_all_full_ends_where_its_edit_list_does(tmp_path: Path) -> None:
    original = ffmpeg_recordings.pulse(44_100, 20_011, 1)
    options = {"movie_timescale": "44100"}
    path = ffmpeg_recordings.write(
        tmp_path / "x.m4a", original, 44_100, ffmpeg_recordings.KINDS["m4a, AAC"], options=options
    )
    content = path.read_bytes()  # FFmpeg states a shorter duration for the last packet; Apple does not
    last = (20_011 + 1_024) % 1_024
    assert content.count(last.to_bytes(4, "big")) == 1
    path.write_bytes(content.replace(last.to_bytes(4, "big"), (1_024).to_bytes(4, "big")))
    assert audio.read(path)[0].shape == original.shape


@pytest.mark.parametrize("kind", ["m4a, ALAC", "mkv, FLAC", "wv", "webm, Opus"])
def test_blocks_have_the_standard_size_and_add_up_to_the_recording(tmp_path: Path, kind: str) -> None:
    path = write_recording(tmp_path / "x", kind, rate=8_000, samples=100_003)
    with audio.Reader(path) as reader:
        blocks = list(reader)
        rate = reader.rate
    most = round(audio.BLOCK_SECONDS * rate)
    assert {block.shape[-1] for block in blocks[:-1]} == {most}
    assert 0 < blocks[-1].shape[-1] <= most
    assert sum(block.shape[-1] for block in blocks) == 100_003 * rate // 8_000
    assert all(block.dtype == np.float32 and block.flags.c_contiguous for block in blocks)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from vocalsep import audio
with audio.Reader(Path(sys.argv[1])) as reader:
    for number, block in enumerate(reader):
        if number == 3:
            early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early)
"""
    path = write_recording(tmp_path / "x.m4a", "m4a, ALAC", rate=8_000, samples=8_000 * 600)  # 38 MB as float
    environment = os.environ | {"PYTHONPATH": str(Path(vocalsep.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8_000  # KiB


# which track


def test_a_video_gives_its_audio_track(tmp_path: Path) -> None:
    original = ffmpeg_recordings.pulse(48_000, 48_000, 2)
    path = ffmpeg_recordings.write(tmp_path / "x.mkv", original, 48_000, MATROSKA, video=True)
    samples, rate = audio.read(path)
    assert rate == 48_000
    np.testing.assert_array_equal(samples, original)


def test_of_several_tracks_the_first_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        streams = [container.add_stream("pcm_s16le", rate=8_000, layout="mono") for _ in range(2)]
        for value, stream in zip((1_000, 2_000), streams, strict=True):
            frame = av.AudioFrame.from_ndarray(np.full((1, 400), value, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 8_000, 0
            container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    samples, _ = audio.read(path)
    assert set(samples.ravel().tolist()) == {1_000 / 32_768}


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, width=16, height=16, pix_fmt="yuv420p")
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    assert "has no audio track" in catch_refusal(path)


# refusals


@pytest.mark.parametrize(
    "kind", ["m4a, AAC", "m4a, ALAC", "mov, PCM", "mkv, AAC", "mkv, FLAC", "webm, Opus", "wv", "tta"]
)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6])
def test_a_recording_that_breaks_off_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = write_recording(tmp_path / "x", kind, rate=48_000, samples=96_000)
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    message = catch_refusal(path)
    assert any(reason in message for reason in ("cannot be read to the end", "not an audio file", "is empty"))


def test_a_recording_that_breaks_off_says_where(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "x.mkv", "mkv, 24-bit PCM", rate=48_000, samples=96_000)
    path.write_bytes(path.read_bytes()[:-288_000])
    assert "it breaks off after 0.9 of 2.0 seconds" in catch_refusal(path)


def test_a_recording_that_changes_its_rate_is_refused(tmp_path: Path) -> None:
    parts = [write_recording(tmp_path / f"{rate}.aac", "aac", rate=rate) for rate in (44_100, 48_000)]
    whole = tmp_path / "x.aac"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert "changes from 2 x 44100 Hz to 2 x 48000 Hz" in catch_refusal(whole)


def test_playlists_are_not_audio(tmp_path: Path) -> None:
    song = write_recording(tmp_path / "song.m4a", "m4a, AAC")
    texts = {
        "x.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{song}\n#EXT-X-ENDLIST\n",
        "x.ffconcat": f"ffconcat version 1.0\nfile {song.name}\n",
        "x.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 96\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert "not an audio file" in catch_refusal(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.wav")
    assert "is a pipe or a device" in catch_refusal(tmp_path / "x.wav")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "x.m4a", "m4a, AAC")
    path.chmod(0)
    assert "Permission denied" in catch_refusal(path)


@pytest.mark.parametrize("extension", [".wav", ".mp3", ".txt", ""])
def test_the_content_decides_the_format_not_the_extension(tmp_path: Path, extension: str) -> None:
    path = write_recording(tmp_path / f"song{extension}", "m4a, ALAC")
    samples, _ = audio.read(path)
    np.testing.assert_array_equal(samples, ffmpeg_recordings.pulse(44_100, 20_011, 2))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows arbitrary bytes in file names")
def test_a_name_that_is_not_unicode_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.m4a")
    write_recording(tmp_path / "x.m4a", "m4a, ALAC").rename(path)
    assert audio.read(path)[0].shape == (2, 20_011)


# opus


def test_opus_is_always_decoded_with_its_full_band(tmp_path: Path) -> None:
    original = ffmpeg_recordings.pulse(16_000, 16_000, 1)
    path = ffmpeg_recordings.write(
        tmp_path / "x.opus", original, 16_000, ffmpeg_recordings.KINDS["opus of up to 24 kHz"]
    )
    assert soundfile.info(path).samplerate == 16_000
    with audio.Reader(path) as reader:
        assert (reader.rate, reader.by_ffmpeg, reader.subtype) == (48_000, True, "OPUS")


# laziness


def test_ffmpeg_and_mutagen_are_loaded_only_when_needed_and_torch_never(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(100), 8_000)
    code = """
import sys
from pathlib import Path
from vocalsep import audio
folder = Path(sys.argv[1])
samples, rate = audio.read(folder / "x.wav")
with audio.Writer(folder / "y.flac", rate=rate, channels=1, subtype="PCM_16") as writer:
    writer.write(samples)
assert not {"av", "mutagen", "torch"} & set(sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(vocalsep.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
