"""Damages files and values at random, as a bad disk or a hostile sender would."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import ffmpeg_recordings
import soundfile

from vocalsep import audio
from vocalsep.audio import tags

SNDFILE = {
    "wav": "PCM_16",
    "flac": "PCM_16",
    "aiff": "PCM_24",
    "ogg": "VORBIS",
    "mp3": "MPEG_LAYER_III",
    "caf": "ALAC_16",
}
TAGS = tags.Tags({"title": ("T",), "artist": ("A",)}, tags.Picture("image/png", bytes(99)))
HOSTILE = (
    *(None, True, 0, -1, 1, 3, 2**31, 10**7, 10**9, 2**63, 10**400, -0.0, 0.5, 1e308, float("inf"), float("nan")),
    *("", "x", "../..", "\x1b]0;t\x07", "\udce9", "é\u202e", "9" * 5_000, [], [1], [[]], {}, {"kind": "x"}, {"": {}}),
)
"""Values that a program may not expect."""


def make_recordings() -> dict[str, bytes]:
    """Return a small sound file of each format, with and without tags."""
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x"
        for extension, subtype in SNDFILE.items():
            samples = ffmpeg_recordings.pulse(8_000, 1_500, 2)
            soundfile.write(path, samples.T, 8_000, format=extension.upper(), subtype=subtype)
            found[extension] = path.read_bytes()
        for extension in (".wav", ".flac", ".aiff", ".ogg", ".opus", ".mp3", ".m4a"):
            tagged = Path(name) / f"tagged{extension}"
            with audio.Writer(tagged, rate=8_000, channels=2, subtype="PCM_16", tags=TAGS) as writer:
                writer.write(ffmpeg_recordings.pulse(8_000, 1_500, 2))
            found[f"tagged {extension}"] = tagged.read_bytes()
        for kind, made in ffmpeg_recordings.KINDS.items():
            rate = made.rates[0]
            found[kind] = ffmpeg_recordings.write(
                path, ffmpeg_recordings.pulse(rate, 1_500, 2), rate, made
            ).read_bytes()
    return found


def damage(rng: random.Random, original: bytes) -> bytes:
    """Change, remove, repeat or cut off some bytes, mostly near the start or the end."""
    content = bytearray(original)
    for _ in range(rng.randint(1, 6)):
        if not content:
            break
        at = rng.randrange(min(len(content), 200) if rng.random() < 0.5 else len(content))
        if rng.random() < 0.5:
            at = len(content) - 1 - at
        how = rng.choice(["byte", "bit", "word", "cut", "out", "double", "noise"])
        if how == "byte":
            content[at] = rng.randrange(256)
        elif how == "bit":
            content[at] ^= 1 << rng.randrange(8)
        elif how == "word":
            content[at : at + 4] = rng.choice([bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"])
        elif how == "cut":
            del content[at:]
        elif how == "out":
            del content[at : at + rng.randint(1, 64)]
        elif how == "double":
            content[at:at] = content[at : at + rng.randint(1, 64)]
        else:
            content[at : at + 16] = rng.randbytes(16)
    return bytes(content)


def change_value(rng: random.Random, value: Any) -> Any:
    """Return a nested value with one part of it replaced by a hostile one, removed, doubled or nested deeply."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {name: entry for name, entry in value.items() if name != key}
        return {**value, key: change_value(rng, value[key])}
    if isinstance(value, list | tuple) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        changed = [*value[:at], change_value(rng, value[at]), *value[at + 1 :]]
        return type(value)(changed + changed[at:] if rng.random() < 0.1 else changed)
    if type(value) in (int, float) and rng.random() < 0.5:
        return rng.choice([-value, value * 1_000, value * 10**6, value + 1, value / 3 if abs(value) < 1e300 else 0])
    if rng.random() < 0.05:
        nested: Any = []
        for _ in range(rng.choice([50, 400])):
            nested = [nested]
        return nested
    return rng.choice(HOSTILE)
