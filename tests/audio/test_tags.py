from __future__ import annotations

import struct
import zlib
from pathlib import Path

import fake_nets
import ffmpeg_recordings
import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.apev2 import APEBinaryValue, APEv2
from mutagen.id3 import ID3, TIT2

from vocalsep import audio
from vocalsep.audio import tags, writer
from vocalsep.audio.tags import Picture, Tags
from vocalsep.errors import AudioError
from vocalsep.extraction import Extractor, extract
from vocalsep.shapes import Waveform

EXTENSIONS = [".wav", ".flac", ".aiff", ".ogg", ".opus", ".mp3", ".m4a"]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


PNG = b"\x89PNG\r\n\x1a\n" + b"".join(
    (
        chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")),
        chunk(b"IEND", b""),
    )
)
SONG = Tags(
    {
        "title": ("Sängerin 歌",),
        "artist": ("Ada", "Brahe"),
        "album": ("The Album",),
        "albumartist": ("Various",),
        "composer": ("C",),
        "genre": ("Rock",),
        "date": ("1999-12-31",),
        "tracknumber": ("3/12",),
        "discnumber": ("1",),
        "comment": ("written\nin two lines",),
        "lyrics": ("la\nla",),
        "bpm": ("120",),
        "compilation": ("1",),
        "isrc": ("XX1234567890",),
        "musicbrainz_trackid": ("0000-1111",),
        "mood of mine": ("odd",),
    },
    Picture("image/png", PNG),
)


def write(path: Path, song_tags: Tags | None, samples: Waveform | None = None) -> writer.Writer:
    samples = fake_nets.noise(2, 20_001) if samples is None else samples
    with audio.Writer(path, rate=44_100, channels=2, subtype="PCM_16", tags=song_tags) as made:
        made.write(samples)
    return made


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_written_tags_are_read_back(tmp_path: Path, extension: str) -> None:
    made = write(tmp_path / f"x{extension}", SONG)
    assert made.warning == ""
    assert tags.read_tags(tmp_path / f"x{extension}") == (SONG, "")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_tags_change_no_sample_and_give_the_same_bytes_each_time(tmp_path: Path, extension: str) -> None:
    paths = [tmp_path / f"{name}{extension}" for name in ("bare", "tagged", "again")]
    for path, song_tags in zip(paths, (None, SONG, SONG), strict=True):
        write(path, song_tags)
    bare, tagged = (audio.read(path)[0] for path in paths[:2])
    np.testing.assert_array_equal(bare, tagged)
    assert paths[0].stat().st_size < paths[1].stat().st_size
    if extension != ".ogg":  # ogg contains a random number
        assert paths[1].read_bytes() == paths[2].read_bytes()


@pytest.mark.parametrize("source", [*EXTENSIONS, "mkv, FLAC", "webm, Opus", "wma", "wv", "tta", "mov, PCM"])
@pytest.mark.parametrize("target", [".wav", ".ogg", ".mp3", ".m4a"])
def test_tags_of_any_song_go_to_any_output(tmp_path: Path, source: str, target: str) -> None:
    if source in EXTENSIONS:
        song = tmp_path / f"song{source}"
        write(song, SONG)
        expected = dict(SONG.fields)
    else:
        song = tmp_path / "song"
        expected = {"title": ("T",), "artist": ("Ä",), "album": ("L",), "date": ("1999",), "genre": ("Pop",)}
        given = {name: texts[0] for name, texts in expected.items()}
        ffmpeg_recordings.write(
            song, ffmpeg_recordings.pulse(48_000, 9_000, 2), 48_000, ffmpeg_recordings.KINDS[source], tags=given
        )
    outputs = [tmp_path / f"{part}{target}" for part in ("v", "a")]
    report = extract(
        song, outputs[0], accompaniment=outputs[1], extractor=Extractor(fake_nets.constant(0.5, fake_nets.SMALL))
    )
    assert report.warnings == ()
    for path, part in zip(outputs, ("vocals", "accompaniment"), strict=True):
        names = tags.read_tags(path)[0].fields
        assert names == expected | {"title": (f"{expected['title'][0]} ({part})",)}
        assert tags.read_tags(path)[0].cover == (SONG.cover if source in EXTENSIONS else None)


@pytest.mark.parametrize(
    ("extension", "key"),
    [(".flac", "encoder"), (".opus", "encoder"), (".mp3", "TSSE"), (".wav", "TSSE"), (".m4a", "\xa9too")],
)
def test_the_outputs_of_untagged_songs_name_model_and_version(tmp_path: Path, extension: str, key: str) -> None:
    soundfile.write(tmp_path / "song.wav", np.zeros((3_000, 2)), 8_000)
    extract(
        tmp_path / "song.wav", tmp_path / f"v{extension}", extractor=Extractor(fake_nets.constant(0.5, fake_nets.SMALL))
    )
    value = mutagen.File(tmp_path / f"v{extension}").tags[key]
    text = value[0] if isinstance(value, list) else value.text[0]
    assert text.startswith("vocalsep ")
    assert text.endswith(", model fake")
    assert tags.read_tags(tmp_path / f"v{extension}")[0] == Tags({})


def test_tags_that_describe_the_old_file_are_dropped(tmp_path: Path) -> None:
    fields = {"replaygain_track_gain": ("-7 dB",), "encoder": ("Old 1.0",), "encodedby": ("Me",), "title": ("T",)}
    for extension in (".flac", ".mp3"):
        write(tmp_path / f"x{extension}", Tags(fields))
        assert tags.read_tags(tmp_path / f"x{extension}")[0].fields == {"title": ("T",)}


def test_wav_comments_are_read_through_libsndfile(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "x.wav", "w", 8_000, 1, "PCM_16") as file:
        file.title, file.artist = "Tü", "A"
        file.write(np.zeros(100))
    assert tags.read_tags(tmp_path / "x.wav") == (Tags({"title": ("Tü",), "artist": ("A",)}), "")


def test_several_pictures_give_the_front_cover(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    write(path, None)
    found = ID3()
    for kind in (4, 3):  # back, front
        found.add(mutagen.id3.APIC(encoding=3, mime="image/png", type=kind, desc=str(kind), data=PNG + bytes([kind])))
    found.save(path)
    cover = tags.read_tags(path)[0].cover
    assert cover == Picture("image/png", PNG + b"\3")


def test_covers_that_mutagen_cannot_read_come_from_the_decoder(tmp_path: Path) -> None:
    path = ffmpeg_recordings.write(
        tmp_path / "x.wv", ffmpeg_recordings.pulse(8_000, 900, 1), 8_000, ffmpeg_recordings.KINDS["wv"]
    )
    found = APEv2()
    found["Title"] = "T"
    found["Cover Art (Front)"] = APEBinaryValue(b"cover.png\0" + PNG)
    found.save(path)
    assert tags.read_tags(path) == (Tags({"title": ("T",)}, SONG.cover), "")


@pytest.mark.parametrize("extension", [extension for extension in EXTENSIONS if extension != ".mp3"])
def test_tags_are_read_under_a_wrong_extension(tmp_path: Path, extension: str) -> None:
    write(tmp_path / f"song{extension}", SONG)
    found = tags.read_tags(tmp_path / f"song{extension}")
    misnamed = (tmp_path / f"song{extension}").rename(tmp_path / "song.mp3")
    assert found[0].fields["title"] == SONG.fields["title"]
    assert tags.read_tags(misnamed) == found


@pytest.mark.parametrize(("module", "name"), [(mutagen, "File"), (tags, "_read_known")])
def test_unreadable_tags_give_a_warning(
    tmp_path: Path, module: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **_options: object) -> None:
        raise ValueError("broken\ntags")

    write(tmp_path / "song.wav", SONG)
    monkeypatch.setattr(module, name, fail)
    report = extract(
        tmp_path / "song.wav", tmp_path / "v.wav", extractor=Extractor(fake_nets.constant(0.5, fake_nets.SMALL))
    )
    assert report.warnings[0] == f"{tmp_path / 'song.wav'}: its tags cannot be read (broken tags)"
    monkeypatch.undo()
    assert audio.read(tmp_path / "v.wav")[0].shape == (2, 20_001)


def test_tags_that_cannot_be_written_give_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("too odd")

    monkeypatch.setattr(tags, "_fill", fail)
    made = write(tmp_path / "x.flac", SONG)
    assert made.warning == "x.flac: has no tags (too odd)"
    assert audio.read(tmp_path / "x.flac")[0].shape == (2, 20_001)


def test_a_full_disk_while_tags_are_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tags, "_fill", fail)
    with pytest.raises(AudioError, match=r"x\.flac: cannot be written \(No space left"):
        write(tmp_path / "x.flac", SONG)
    assert not list(tmp_path.iterdir())


def test_writing_tags_to_rf64_gives_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_LONG_BYTES", 10)
    with audio.Writer(tmp_path / "x.wav", rate=8_000, channels=1, subtype="PCM_16", samples=99, tags=SONG) as made:
        made.write(np.zeros((1, 99), np.float32))
    assert made.warning.startswith("x.wav: has no tags")
    assert audio.read(tmp_path / "x.wav")[0].shape == (1, 99)


def test_id3_version_2_3_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    write(path, None)
    found = ID3()
    found.add(TIT2(encoding=1, text=["Tïtle"]))
    found.save(path, v2_version=3)
    assert tags.read_tags(path)[0].fields == {"title": ("Tïtle",)}


def test_reading_tags_from_rf64_gives_none_and_no_warning(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(99), 8_000, format="RF64")
    assert tags.read_tags(tmp_path / "x.wav") == (Tags({}), "")
