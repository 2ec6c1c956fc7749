"""Reading and writing through pipes: endless streams, odd headers, raw samples and the delay."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import fake_nets
import ffmpeg_recordings
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep import audio, library, weights
from vocalsep.audio import SampleLayout, decoding, wav
from vocalsep.audio.pipes import PipeWriter
from vocalsep.errors import AudioError, ConfigError
from vocalsep.extraction import Extractor, StreamingSeparator, extract
from vocalsep.means import Mean
from vocalsep.shapes import Waveform

GUIDE = Path(__file__).parents[2] / "docs" / "extract.md"
SUBTYPES = tuple(wav.BYTES)
RATE = 8_000


class Pipe(io.RawIOBase):
    """Bytes that arrive in small pieces and cannot be sought in."""

    def __init__(self, content: bytes, piece: int = 999) -> None:
        self._content, self._piece = io.BytesIO(content), piece

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._content.read(self._piece if size < 0 else min(size, self._piece))

    def seek(self, *_: int) -> int:
        raise OSError("a pipe")

    tell = seek  # type: ignore[assignment]


def make_wav(samples: Waveform, subtype: str = "PCM_16", kind: str = "WAV", rate: int = RATE) -> bytes:
    """Return a wav file as libsndfile writes it."""
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, format=kind, subtype=subtype)
    return file.getvalue()


def change_sizes(content: bytes, data: int, whole: int | None = None) -> bytes:
    """Return a wav file with other sizes in its header."""
    at = content.index(b"data") + 4
    changed = content[:at] + struct.pack("<I", data) + content[at + 4 :]
    return changed[:4] + struct.pack("<I", data if whole is None else whole) + changed[8:]


def read_through_pipe(
    content: bytes, raw: SampleLayout | None = None, piece: int = 999
) -> tuple[Waveform, audio.Reader | audio.Stream]:
    """Read a file through a pipe."""
    with audio.open_song(Pipe(content, piece), raw) as reader:  # type: ignore[arg-type]
        return np.concatenate([np.zeros((reader.channels, 0), np.float32), *reader], axis=-1), reader


# reading


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_wav_from_a_pipe_has_the_same_samples_as_the_file(
    tmp_path: Path, kind: str, subtype: str, channels: int
) -> None:
    content = make_wav(1.2 * fake_nets.noise(channels, 9_001), subtype, kind)
    (tmp_path / "x.wav").write_bytes(content)
    expected, _ = audio.read(tmp_path / "x.wav")
    samples, reader = read_through_pipe(content)
    assert isinstance(reader, audio.Stream)
    assert (reader.rate, reader.channels, reader.samples, reader.subtype) == (RATE, channels, 9_001, subtype)
    np.testing.assert_array_equal(samples, expected)
    assert reader.warning == ""


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF - 36, 0x80000000, 0xFFFFFFFF], ids=hex)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_placeholder_sizes_mean_that_the_length_is_unknown(size: int, subtype: str) -> None:
    content = make_wav(fake_nets.noise(2, 9_001), subtype)
    samples, reader = read_through_pipe(change_sizes(content, size))
    assert reader.samples == 0
    np.testing.assert_array_equal(samples, read_through_pipe(content)[0])


def test_rf64_states_its_length_in_another_chunk_or_leaves_it_unknown() -> None:
    content = make_wav(fake_nets.noise(2, 3_000), "PCM_16", "RF64")
    assert read_through_pipe(content)[1].samples == 3_000
    at = content.index(b"ds64") + 16
    for unknown in (0, 2**64 - 1):
        samples, reader = read_through_pipe(content[:at] + struct.pack("<Q", unknown) + content[at + 8 :])
        assert (reader.samples, samples.shape[-1]) == (0, 3_000)


@settings(deadline=None, max_examples=40)
@given(
    before=st.lists(st.tuples(st.sampled_from([b"LIST", b"JUNK", b"bext", b"fact", b"xyz "]), st.binary(max_size=99))),
    middle=st.lists(st.tuples(st.sampled_from([b"LIST", b"PEAK", b"id3 "]), st.binary(max_size=99)), max_size=3),
    piece=st.integers(1, 300),
)
def test_other_chunks_are_skipped_also_those_of_odd_length(
    before: list[tuple[bytes, bytes]], middle: list[tuple[bytes, bytes]], piece: int
) -> None:
    content = make_wav(fake_nets.noise(1, 300))
    at = content.index(b"data")

    def chunks(parts: list[tuple[bytes, bytes]]) -> bytes:
        return b"".join(name + struct.pack("<I", len(x)) + x + b"\0" * (len(x) % 2) for name, x in parts)

    samples, reader = read_through_pipe(
        content[:12] + chunks(before) + content[12:at] + chunks(middle) + content[at:], piece=piece
    )
    assert isinstance(reader, audio.Stream)
    np.testing.assert_array_equal(samples, read_through_pipe(content)[0])


def test_chunks_after_the_samples_are_ignored() -> None:
    content = make_wav(fake_nets.noise(2, 700))
    samples, _ = read_through_pipe(content + b"LIST" + struct.pack("<I", 20) + b"INFOISFT" + bytes(12))
    np.testing.assert_array_equal(samples, read_through_pipe(content)[0])


def test_a_stream_that_breaks_off_gives_a_warning_and_its_samples() -> None:
    content = make_wav(fake_nets.noise(2, 16_000))
    samples, reader = read_through_pipe(content[: 44 + 4 * 6_000 + 3])
    np.testing.assert_array_equal(samples, read_through_pipe(content)[0][:, :6_000])
    assert reader.warning == "standard input: breaks off after 0.8 of 2.0 seconds"


@pytest.mark.parametrize("extension", ["flac", "ogg", "mp3", "aiff", "caf", "ulaw", "m4a"])
def test_other_formats_are_read_from_a_temporary_file(tmp_path: Path, extension: str) -> None:
    path, noise = tmp_path / f"x.{extension}", fake_nets.noise(2, 9_000)
    if extension == "m4a":
        ffmpeg_recordings.write(path, noise, RATE, ffmpeg_recordings.KINDS["m4a, AAC"])
    elif extension == "ulaw":
        soundfile.write(path, noise.T, RATE, format="WAV", subtype="ULAW")
    else:
        soundfile.write(path, noise.T, RATE)
    samples, reader = read_through_pipe(path.read_bytes())
    assert isinstance(reader, audio.Reader)
    np.testing.assert_array_equal(samples, audio.read(path)[0])
    assert not reader.path.exists()  # the temporary file is gone


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "standard input: is empty"),
        (b"words\n" * 99, "standard input: not an audio file, or damaged"),
        (b"RIFF\0\0\0\0WAVE", "standard input: "),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "standard input: "),
        (
            change_sizes(make_wav(np.zeros((1, 9))), 18)[:24] + bytes(4) + make_wav(np.zeros((1, 9)))[28:],
            "states 1 channels and a sample rate of 0 Hz",
        ),
    ],
)
def test_a_stream_without_sound_is_a_one_line_error(content: bytes, expected: str) -> None:
    with pytest.raises(AudioError, match=expected) as caught:
        read_through_pipe(content)
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_damaged_header_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(make_wav(fake_nets.noise(2, 50), data.draw(st.sampled_from(["PCM_16", "FLOAT"])), "WAVEX"))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 100))] = data.draw(st.integers(0, 255))
    try:
        samples, reader = read_through_pipe(bytes(content))
    except AudioError:
        return
    assert samples.shape[0] == reader.channels
    assert reader.rate in audio.RATES


def test_a_header_with_huge_values_takes_no_memory() -> None:
    content = bytearray(change_sizes(make_wav(fake_nets.noise(2, 64)), 0xFFFFFFFF))
    content[22:36] = struct.pack("<HIIHH", 1_024, 4_000_000, 0, 2_048, 16)
    sizes = []

    class Counting(Pipe):
        def read(self, size: int = -1) -> bytes:
            sizes.append(size)
            return super().read(size)

    with audio.open_song(Counting(bytes(content))) as reader:  # type: ignore[arg-type]
        assert (reader.channels, reader.rate) == (1_024, 4_000_000)
        assert list(reader) == []
    assert max(sizes) <= 2**24


# samples without a header


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("u8", "PCM_U8"),
        ("s16le", "PCM_16"),
        ("s24le", "PCM_24"),
        ("s32le", "PCM_32"),
        ("f32le", "FLOAT"),
        ("F64LE", "DOUBLE"),
    ],
)
def test_raw_samples_are_read_and_written(tmp_path: Path, name: str, subtype: str) -> None:
    layout = audio.parse_sample_layout(f"8000, 2,{name}")
    content = make_wav(fake_nets.noise(2, 5_001), subtype)
    data = content[content.index(b"data") + 8 :]
    samples, reader = read_through_pipe(data, layout)
    np.testing.assert_array_equal(samples, read_through_pipe(content)[0])
    assert (reader.rate, reader.channels, reader.subtype, reader.samples) == (8_000, 2, subtype, 0)
    out = io.BytesIO()
    PipeWriter(out, rate=8_000, channels=2, subtype=subtype, raw=True).write(samples)
    with audio.Writer(tmp_path / "x.raw", rate=8_000, channels=2, subtype=subtype) as writer:
        writer.write(samples)
    assert out.getvalue() == (tmp_path / "x.raw").read_bytes() == data
    with audio.open_song(tmp_path / "x.raw", layout) as reader:
        assert reader.samples == 5_001
        np.testing.assert_array_equal(np.concatenate(list(reader), axis=-1), samples)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("44100,2", "expected rate,channels,format, such as 44100,2,s16le"),
        ("44100,two,s16le", "expected rate,channels,format"),
        ("44100,2,s16be", "did you mean 's16le'"),
        ("0,2,s16le", "expected 1000 to 4000000 Hz and 1 to 1024 channels"),
        ("44100,0,s16le", "1 to 1024 channels"),
    ],
)
def test_an_invalid_sample_layout_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        audio.parse_sample_layout(text)


# writing


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("samples", [0, 5_000])
def test_other_programs_can_read_the_written_wav(tmp_path: Path, subtype: str, samples: int) -> None:
    song = read_through_pipe(make_wav(fake_nets.noise(2, 5_000), subtype))[0]
    path = tmp_path / "x.wav"
    with path.open("wb") as sink:
        writer = PipeWriter(sink, rate=RATE, channels=2, subtype=subtype, samples=samples)
        for block in fake_nets.split_in_blocks(song, [1_234]):
            writer.write(block)
    np.testing.assert_array_equal(read_through_pipe(path.read_bytes())[0], song)
    if samples:  # libsndfile rejects an unknown length
        np.testing.assert_array_equal(audio.read(path)[0], song)
        assert soundfile.info(path).frames == 5_000
    with contextlib.closing(decoding.FFmpegDecoder(path, "")) as source:
        np.testing.assert_array_equal(np.concatenate(list(source.read_blocks(1_000)), axis=-1), song)


def test_samples_beyond_full_scale_are_clamped_or_refused_but_never_scaled() -> None:
    loud = np.full((1, 10), 1.5, np.float32)
    writer = PipeWriter(io.BytesIO(), rate=RATE, channels=1, subtype="PCM_16")
    writer.write(loud)
    assert writer.clipped_samples == 10
    with pytest.raises(AudioError, match=r"standard output: PCM_16 cannot hold a peak of 1\.5"):
        PipeWriter(io.BytesIO(), rate=RATE, channels=1, subtype="PCM_16", clip="error").write(loud)
    with pytest.raises(ConfigError, match="needs the whole song"):
        PipeWriter(io.BytesIO(), rate=RATE, channels=1, subtype="PCM_16", clip="scale")


# extracting


def test_pipes_give_the_same_vocals_as_files(tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(make_wav(fake_nets.noise(2, 30_001), "PCM_24"))
    extractor = Extractor(fake_nets.random_unet())
    extract(song, tmp_path / "v.wav", extractor=extractor)
    for content in (song.read_bytes(), change_sizes(song.read_bytes(), 0xFFFFFFFF)):
        sink = io.BytesIO()
        report = extract(Pipe(content), sink, extractor=extractor)  # type: ignore[arg-type]
        np.testing.assert_allclose(
            read_through_pipe(sink.getvalue())[0], audio.read(tmp_path / "v.wav")[0], rtol=0, atol=2**-22
        )
        assert (report.input, report.vocals, report.accompaniment) == ("-", "-", None)
        assert report.audio_seconds == pytest.approx(30_001 / RATE, abs=1e-3)
    assert read_through_pipe(sink.getvalue())[1].samples == 0


def test_an_unknown_sample_format_is_refused_before_the_pipe_is_read() -> None:
    song, sink = io.BytesIO(make_wav(fake_nets.noise(1, 800), "PCM_16")), io.BytesIO()
    with pytest.raises(ConfigError, match="unknown sample format 'pcm8'"):
        extract(song, sink, extractor=Extractor(fake_nets.random_unet()), subtype="pcm8")
    assert (song.tell(), sink.getvalue()) == (0, b"")


def test_a_song_from_a_pipe_can_have_two_output_files(tmp_path: Path) -> None:
    content = make_wav(fake_nets.quantise(fake_nets.noise(2, 20_000), 16), "FLOAT")
    paths = [tmp_path / "v.flac", tmp_path / "a.wav"]
    source = Pipe(content)
    extract(source, paths[0], accompaniment=paths[1], extractor=Extractor(fake_nets.constant(0.25)), clip="scale")  # type: ignore[arg-type]
    vocals, accompaniment = (audio.read(path)[0] for path in paths)
    np.testing.assert_allclose(vocals, read_through_pipe(content)[0] / 4, rtol=0, atol=1e-6)
    np.testing.assert_allclose(vocals + accompaniment, read_through_pipe(content)[0], rtol=0, atol=1e-6)


def test_a_closed_pipe_raises_broken_pipe_error_and_leaves_no_file(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as sink, pytest.raises(BrokenPipeError):
        extract(
            Pipe(make_wav(fake_nets.noise(2, 60_000))),  # type: ignore[arg-type]
            sink,  # type: ignore[arg-type]
            accompaniment=tmp_path / "a.wav",
            extractor=Extractor(fake_nets.constant(0.5)),
        )
    assert not list(tmp_path.iterdir())


# delay


def read_stated_delays() -> dict[str, float]:
    """Return the delay in seconds that docs/extract.md states for each model."""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| model | delay"))
    rows = [line.strip("|").split("|") for line in itertools.takewhile(str.strip, lines[start + 2 :])]
    return {name.strip(" `"): float(delay.split()[0]) for names, delay in rows for name in names.split(",")}


def measure_delay(song: StreamingSeparator, rate: int, block: Waveform, seconds: float) -> float:
    pushed = got = most = 0
    while pushed < seconds * rate:
        got += song.push(block).vocals.shape[-1]
        pushed += block.shape[-1]
        most = max(most, pushed - got)
    return most / rate


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == weights.DEFAULT_MODEL else pytest.mark.slow)
        for name in sorted(library.find_models(library.find_models_folder()))
    ],
)
@pytest.mark.parametrize("gate", [False, True])
def test_the_delay_is_as_the_guide_says(name: str, gate: bool) -> None:
    loaded, models, found = weights.load(name), [], 0.0
    for real in loaded.models if isinstance(loaded, Mean) else [loaded]:
        net = fake_nets.ConstantNet(0.5)
        net.overlap = real.run.overlap  # nothing else of a net affects the delay
        models.append(fake_nets.make_model(net, real.front_end))
    for rate in (8_000, 44_100, 48_000):
        song = Extractor(models, gate=gate).start(rate, 1, low_delay=True)
        block = fake_nets.noise(1, round(audio.PIPE_BLOCK_SECONDS * rate))
        found = max(found, measure_delay(song, rate, block, 20))
    stated = read_stated_delays()[name]
    assert found <= stated + (1.0 if gate else 0)
    assert gate or found > stated - 0.2


def test_an_endless_stream_gives_vocals_while_it_arrives() -> None:
    read, write = os.pipe()
    started, stop = threading.Event(), threading.Event()
    block = fake_nets.noise(2, RATE)

    def endless() -> Iterator[bytes]:
        yield change_sizes(make_wav(block), 0xFFFFFFFF)
        while not stop.is_set():
            yield make_wav(block)[44:]

    class Sink(io.BytesIO):
        count = 0

        def write(self, content: object) -> int:
            Sink.count += len(content)  # type: ignore[arg-type]
            if Sink.count > 60 * RATE * 4:
                stop.set()
            started.set()
            return len(content)  # type: ignore[arg-type]

    def feed() -> None:
        with os.fdopen(write, "wb") as pipe:
            for content in endless():
                pipe.write(content)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    with os.fdopen(read, "rb") as source:
        report = extract(source, Sink(), extractor=Extractor(fake_nets.constant(0.5, fake_nets.SMALL)))
    feeder.join()
    assert started.is_set()
    assert report.audio_seconds >= 60  # a minute came out before the stream ended
    assert np.isclose(Sink.count, 44 + 4 * report.audio_seconds * RATE, atol=4 * RATE / 1_000)
