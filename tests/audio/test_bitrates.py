"""Bit rates of lossy files: what the files really have, and what is refused."""

from __future__ import annotations

from pathlib import Path

import fake_nets
import numpy as np
import pytest

from vocalsep import audio
from vocalsep.audio import bitrates
from vocalsep.errors import AudioError, ConfigError

SECONDS = 6


def write(path: Path, bitrate: int, rate: int, channels: int) -> float:
    """Write noise and tones, and return the bit rate of the file."""
    samples = (0.1 * fake_nets.noise(channels, SECONDS * rate)).astype(np.float32)
    samples += 0.3 * fake_nets.tone(440, rate, SECONDS, channels)
    with audio.Writer(path, rate=rate, channels=channels, subtype="PCM_16", bitrate=bitrate) as writer:
        for block in fake_nets.split_in_blocks(samples, [rate]):
            writer.write(block)
    return 8 * path.stat().st_size / SECONDS


@pytest.mark.parametrize(
    ("name", "rate", "channels", "bitrate", "tolerance"),
    [
        ("x.mp3", 44_100, 2, 320_000, 0.05),
        ("x.mp3", 44_100, 2, 128_000, 0.05),
        ("x.mp3", 48_000, 1, 40_000, 0.05),
        ("x.mp3", 22_050, 2, 160_000, 0.05),
        ("x.mp3", 8_000, 1, 64_000, 0.05),
        ("x.m4a", 44_100, 2, 192_000, 0.1),
        ("x.opus", 44_100, 2, 96_000, 0.2),
        ("x.ogg", 44_100, 2, 192_000, 0.25),
        ("x.ogg", 44_100, 1, 96_000, 0.25),
    ],
)
def test_files_have_about_the_bit_rate_asked_for(
    tmp_path: Path, name: str, rate: int, channels: int, bitrate: int, tolerance: float
) -> None:
    assert write(tmp_path / name, bitrate, rate, channels) == pytest.approx(bitrate, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "bitrate", "expected"),
    [
        ("x.mp3", 44_100, 2, 300_000, "mp3 has no bit rate of 300k at 44100 Hz; the nearest is 320k"),
        ("x.mp3", 22_050, 2, 320_000, "mp3 has no bit rate of 320k at 22050 Hz; the nearest is 160k"),
        ("x.mp3", None, None, 1_000_000, "the nearest is 320k"),
        ("x.m4a", 8_000, 1, 320_000, "m4a with 1 channels at 8000 Hz takes 8k to 48k, not 320k"),
        ("x.opus", 48_000, 1, 320_000, "takes 6k to 256k, not 320k"),
        ("x.ogg", 44_100, 2, 40_000, "ogg with 2 channels at 44100 Hz takes 64k to 499k, not 40k"),
        ("x.wav", 44_100, 2, 320_000, "wav has no bit rate; only mp3, m4a, opus and ogg have one"),
    ],
)
def test_what_a_format_does_not_have_is_refused(
    tmp_path: Path, name: str, rate: int | None, channels: int | None, bitrate: int, expected: str
) -> None:
    with pytest.raises(AudioError) as caught:
        audio.check_output(tmp_path / name, rate=rate, channels=channels, bitrate=bitrate)
    assert expected in str(caught.value)


def test_every_bit_rate_that_is_offered_works(tmp_path: Path) -> None:
    for rate in (8_000, 16_000, 44_100):
        for bitrate in (16_000, 24_000, 40_000, 64_000, 144_000, 320_000):
            try:
                bitrates.check("MP3", bitrate, rate, 1)
            except AudioError:
                continue
            assert 0 <= bitrates.find_compression("MP3", bitrate, rate, 1) < 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("320k", 320_000),
        ("320", 320_000),
        ("320K", 320_000),
        ("96000", 96_000),
        ("128 kbps", 128_000),
        ("12.5k", 12_500),
    ],
)
def test_bit_rates_are_read_as_people_write_them(text: str, expected: int) -> None:
    assert bitrates.parse(text) == expected


@pytest.mark.parametrize("text", ["", "high", "-1", "0", "320m", "1k", "k", "1e3"])
def test_what_is_no_bit_rate_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a number of kbit/s"):
        bitrates.parse(text)
