"""Pipes at the speed of sound: these tests take as long as the music."""

from __future__ import annotations

import sys

import fake_nets
import numpy as np
import pytest
import quiet
import real_time
import synthetic_songs

from vocalsep.shapes import Array

RATE = 44_100
LATENCY = 0.3
SLACK_SECONDS = 0.2  # for the pipes and the machine's other work


def make_song(seconds: float) -> Array:
    voice = synthetic_songs.make_voice(1, seconds, RATE)
    backing = sum(synthetic_songs.make_backing(1, seconds, RATE).values())
    return np.stack([0.3 * (voice + backing)] * 2, axis=-1)


@pytest.mark.slow
@pytest.mark.alone
def test_no_sample_comes_more_than_half_a_second_after_it_went_in() -> None:
    quiet.skip_unless_quiet()
    pcm = (fake_nets.quantise(make_song(31), 16) * 2**15).astype("<i2").tobytes()
    command = [sys.executable, "-m", "vocalsep", "extract", "-", "-o", "-", "--raw", "44100,2,s16le"]
    went_in, came = real_time.feed([*command, "--latency", f"{LATENCY:g}"], pcm, rate=RATE, stride=4, lead=RATE)
    delays = came - went_in
    print(f"delay: {delays.mean():.3f} s on average, {delays.max():.3f} s at most")
    assert len(delays) > 2_900
    assert delays.max() < LATENCY + SLACK_SECONDS
    assert delays.mean() > 0.1  # a step has to fill first
