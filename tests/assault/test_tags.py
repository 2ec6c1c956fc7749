"""Tags that unpack to gigabytes, or take forever to read, are left out, and a warning names them."""

from __future__ import annotations

import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mutagen.id3 import BitPaddedInt

from vocalsep import audio
from vocalsep.audio import tags
from vocalsep.audio.tags import limits

LIMIT = 2**20  # here


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BYTES", LIMIT)
    monkeypatch.setattr(limits, "_SLACK", LIMIT)
    monkeypatch.setattr(tags, "_MEGABYTES", LIMIT >> 20)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, found = tmp_path_factory.mktemp("sounds"), {}
    for extension in ("mp3", "wav", "aiff"):
        path = folder / f"song.{extension}"
        soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
        found[extension] = path.read_bytes()
    return found


def make_frame(name: str, content: bytes, version: int = 4, *, packed: bool = False) -> bytes:
    flags = 0
    if packed:
        size = BitPaddedInt.to_str(len(content)) if version == 4 else struct.pack(">L", len(content))
        content, flags = size + zlib.compress(content, 9), 0x09 if version == 4 else 0x80
    length = BitPaddedInt.to_str(len(content)) if version == 4 else struct.pack(">L", len(content))
    return name.encode() + length + struct.pack(">H", flags) + content


def make_tag(*frames: bytes, version: int = 4) -> bytes:
    content = b"".join(frames)
    return b"ID3" + bytes([version, 0, 0]) + BitPaddedInt.to_str(len(content)) + content


def put(path: Path, tag: bytes, sound: bytes) -> Path:
    """Write a sound with an ID3 tag, where its format has it."""
    if path.suffix == ".mp3":
        path.write_bytes(tag + sound)
        return path
    order, name = ("<L", b"id3 ") if path.suffix == ".wav" else (">L", b"ID3 ")
    chunk = name + struct.pack(order, len(tag)) + tag + b"\0" * (len(tag) % 2)
    content = sound + chunk
    path.write_bytes(content[:4] + struct.pack(order, len(content) - 8) + content[8:])
    return path


TITLE = make_frame("TIT2", b"\3Title")


@pytest.mark.parametrize("extension", ["mp3", "wav", "aiff"])
@pytest.mark.parametrize("version", [3, 4])
def test_a_packed_cover_within_the_limit_is_kept_and_a_larger_one_left_out(
    extension: str, version: int, sounds: dict[str, bytes], tmp_path: Path
) -> None:
    for size, kept in ((LIMIT // 4, True), (40 * LIMIT, False)):
        cover = make_frame("APIC", b"\0image/png\0\3\0" + bytes(size), version, packed=True)
        tag = make_tag(make_frame("TIT2", b"\3Title", version), cover, version=version)
        path = put(tmp_path / f"song.{extension}", tag, sounds[extension])
        found, warning = tags.read_tags(path)
        assert found.fields["title"] == ("Title",)
        assert (found.cover is not None) == kept
        assert ("its tag APIC is left out, because it unpacks to more than 1 MB" in warning) != kept


def test_many_packed_frames_count_together(sounds: dict[str, bytes], tmp_path: Path) -> None:
    frames = [make_frame("TXXX", b"\3%d\0" % number + b"x" * (LIMIT // 3), packed=True) for number in range(9)]
    path = put(tmp_path / "song.mp3", make_tag(TITLE, *frames), sounds["mp3"])
    found, warning = tags.read_tags(path)
    assert "TXXX is left out" in warning
    assert sum(len(value) for values in found.fields.values() for value in values) < LIMIT


def test_memory_stays_small(sounds: dict[str, bytes], tmp_path: Path) -> None:
    cover = make_frame("APIC", b"\0image/png\0\3\0" + bytes(2**27), packed=True)
    path = put(tmp_path / "song.mp3", make_tag(TITLE, cover), sounds["mp3"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "APIC" in tags.read_tags(path)[1]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_tags_that_are_too_large_as_they_are_are_left_out(sounds: dict[str, bytes], tmp_path: Path) -> None:
    path = put(tmp_path / "song.mp3", make_tag(TITLE, make_frame("APIC", bytes(5 * LIMIT))), sounds["mp3"])
    found, warning = tags.read_tags(path)
    assert (found.fields, found.cover) == ({}, None)
    assert warning == f"{path}: its tags are left out, because they take more than 1 MB"
    path = tmp_path / "song.flac"
    cover = audio.tags.Picture("image/png", bytes(3 * LIMIT))
    with audio.Writer(path, rate=8_000, channels=1, subtype="PCM_16", tags=tags.Tags({}, cover)) as writer:
        writer.write(np.zeros((1, 8_000), np.float32))
    assert "left out" in tags.read_tags(path)[1]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_tags_that_take_forever_to_read_are_left_out(
    version: int, sounds: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    frame = b"TT2\0\0\1x" if version == 2 else make_frame("TIT2", b"x", version)
    path = put(tmp_path / "song.mp3", make_tag(frame * 500_000, version=version), sounds["mp3"])
    assert "left out" in tags.read_tags(path)[1]


def test_a_text_of_a_million_values_is_left_out(sounds: dict[str, bytes], tmp_path: Path) -> None:
    for text in (b"\3" + bytes(LIMIT // 2), b"\1" + bytes(LIMIT // 2)):
        for packed in (False, True):
            path = put(tmp_path / "song.mp3", make_tag(TITLE, make_frame("TPE1", text, packed=packed)), sounds["mp3"])
            found, warning = tags.read_tags(path)
            assert "TPE1 is left out" in warning
            assert found.fields["title"] == ("Title",)


def test_long_lyrics_are_kept(sounds: dict[str, bytes], tmp_path: Path) -> None:
    lyrics = "la la la\n" * 10_000
    for content in (b"\3eng\0" + lyrics.encode(), b"\1eng\xff\xfe\0\0" + lyrics.encode("utf-16")):
        path = put(tmp_path / "song.mp3", make_tag(make_frame("USLT", content)), sounds["mp3"])
        found, warning = tags.read_tags(path)
        assert (found.fields["lyrics"], warning) == ((lyrics,), "")
