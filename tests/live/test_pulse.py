"""``vocalsep live`` between the sound devices of a PulseAudio server, for a minute, beside a busy process."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pulse
import pytest
import quiet

from vocalsep.shapes import Array

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.skipif(not pulse.is_installed(), reason="needs PulseAudio"),
]

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


@contextlib.contextmanager
def run_live(server: pulse.Pulse, said: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``vocalsep live`` from the song to the room; what it says goes to a file."""
    command = [sys.executable, "-m", "vocalsep", "live", "--in", "song", "--out", "room", *options]
    with said.open("w") as stderr:
        live = subprocess.Popen(command, env=server.environment, stderr=stderr)
    try:
        wait_for(said, "Ctrl-C ends")
        yield live
    finally:
        live.kill()
        live.wait()


def wait_for(said: Path, text: str) -> None:
    """Wait until a text is said, for half a minute at most."""
    for _ in range(300):
        if text in said.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(said.read_text())


def stop(live: subprocess.Popen[bytes]) -> None:
    live.send_signal(signal.SIGINT)
    assert live.wait(2) == 0


def test_a_minute_beside_a_busy_process_has_the_delay_that_is_told(tmp_path: Path) -> None:
    said, recording = tmp_path / "said", tmp_path / "recording"
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        quiet.skip_unless_quiet()  # beside that
        with pulse.serve(tmp_path) as server, run_live(server, said, "--keep", "accompaniment") as live:
            time.sleep(1)
            with server.record("room", recording):
                server.play("both", make_clicks()).wait(2 * SECONDS)  # to live's input, and past it
                time.sleep(1)
            stop(live)
    finally:
        busy.kill()
        busy.wait()
    told = re.search(r"([\d.]+) s behind, [\d.]+ s of that in the devices", said.read_text())
    assert told, said.read_text()
    clicks = find_clicks(pulse.read(recording))
    delays = [after - before for before, after in zip(clicks[::2], clicks[1::2], strict=False)]
    print(said.read_text(), f"by clicks: {np.mean(delays):.3f} s on average, {max(delays):.3f} s at most")
    end = re.search(r"no underruns|underruns? \(([\d.]+) s of silence\)", said.read_text().splitlines()[-1])
    assert end, said.read_text()
    assert float(end[1] or 0) < SECONDS / 100  # the machine is not ours alone
    assert len(delays) == pytest.approx(SECONDS / EVERY, abs=3)
    assert np.median(delays) == pytest.approx(float(told[1]), abs=0.05)
    assert max(delays) < 0.5


def test_devices_that_vanish_are_used_again(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with contextlib.ExitStack() as first:
        server = first.enter_context(pulse.serve(tmp_path))
        with run_live(server, said, "--latency", "1") as live:
            wait_for(said, "in the devices")
            first.close()
            wait_for(said, "song or room is gone; waiting for it")
            with pulse.serve(tmp_path):
                wait_for(said, "song and room are back")
                stop(live)
    assert said.read_text().splitlines()[-1].startswith("vocalsep: ")
    assert "Expression" not in said.read_text()  # what PortAudio prints
