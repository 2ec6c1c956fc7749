from __future__ import annotations

import random
from pathlib import Path

import fake_nets
import pytest

from vocalsep import audio
from vocalsep.audio.formats import FORMATS
from vocalsep.audio.tags import Picture, Tags

COVER = Picture("image/jpeg", b"\xff\xd8\xff" + random.Random(0).randbytes(300_000))


def write(path: Path, encoder: str) -> Path:
    fields = {"title": ("T",), "comment": ("c" * 500,), "lyrics": ("la " * 900,), "encoder": (encoder,)}
    with audio.Writer(path, rate=16_000, channels=2, subtype="PCM_16", tags=Tags(fields, COVER)) as writer:
        for _ in range(8):
            writer.write(0.1 * fake_nets.noise(2, 16_000))
    return path


@pytest.mark.parametrize("ending", sorted(FORMATS.keys() - {"raw", "pcm"}))
def test_outputs_are_recognised_by_their_tags(tmp_path: Path, ending: str) -> None:
    assert audio.is_signed(write(tmp_path / f"own.{ending}", audio.sign("unet")))
    assert not audio.is_signed(write(tmp_path / f"other.{ending}", "LAME of vocalsep's friends"))


def test_files_that_are_no_recordings_are_not_signed(tmp_path: Path) -> None:
    for name, content in {
        "a": b"",
        "b": b"RIFF",
        "c": b"RIFF" + bytes(9_999),
        "d": bytes(4) + b"ftyp" + bytes(99),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert not audio.is_signed(tmp_path / name)
    assert not audio.is_signed(tmp_path / "missing")
    assert not audio.is_signed(tmp_path)
