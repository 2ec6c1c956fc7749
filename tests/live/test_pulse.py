"""``vocalsep live`` between the sound devices of a PulseAudio server, for a minute, beside a busy process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pulse
import pytest

from vocalsep.shapes import Array

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not pulse.is_installed(), reason="needs PulseAudio")]

SECONDS, EVERY = 60, 1.5


def make_clicks() -> Array:
    """Return short bursts of noise, ``(time, channel)``, int16."""
    sound, random = np.zeros((SECONDS * pulse.RATE, 2)), np.random.default_rng(0)
    for start in range(pulse.RATE // 2, len(sound) - pulse.RATE, round(EVERY * pulse.RATE)):
        sound[start : start + 400] = 20_000 * (random.uniform(-1, 1, 400) * np.exp(-np.arange(400) / 80))[:, None]
    return sound


def find_clicks(sound: Array) -> list[float]:
    """Return when clicks begin, in seconds."""
    loud, found = np.flatnonzero(np.abs(sound).max(axis=-1) > 0.05), []
    for index in loud.tolist():
        if not found or index - found[-1] > pulse.RATE // 20:
            found.append(index)
    return [index / pulse.RATE for index in found]


def test_a_minute_beside_a_busy_process_has_the_delay_that_is_told(tmp_path: Path) -> None:
    said, recording = tmp_path / "said", tmp_path / "recording"
    command = [sys.executable, "-m", "vocalsep", "live", "--in", "song", "--out", "room", "--keep", "accompaniment"]
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with pulse.serve(tmp_path) as server, said.open("w") as stderr:
            live = subprocess.Popen(command, env=server.environment, stderr=stderr)
            try:
                while "Ctrl-C ends" not in said.read_text():
                    assert live.poll() is None, said.read_text()
                    time.sleep(0.1)
                time.sleep(1)
                with server.record("room", recording):
                    server.play("both", make_clicks()).wait(2 * SECONDS)  # to live's input, and past it
                    time.sleep(1)
                live.send_signal(signal.SIGINT)
                assert live.wait(2) == 0
            finally:
                live.kill()
                live.wait()
    finally:
        busy.kill()
        busy.wait()
    told = re.search(r"([\d.]+) s behind, [\d.]+ s of that in the devices", said.read_text())
    assert told, said.read_text()
    clicks = find_clicks(pulse.read(recording))
    delays = [after - before for before, after in zip(clicks[::2], clicks[1::2], strict=False)]
    print(said.read_text(), f"by clicks: {np.mean(delays):.3f} s on average, {max(delays):.3f} s at most")
    assert len(delays) == pytest.approx(SECONDS / EVERY, abs=2)
    assert np.median(delays) == pytest.approx(float(told[1]), abs=0.03)
    assert max(delays) < 0.5
    assert "no underruns" in said.read_text()
