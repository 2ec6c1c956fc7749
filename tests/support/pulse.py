"""A PulseAudio server without hardware: sounds that programs play are heard by programs that listen.

There are two silent outputs, "song" and "room". What is played to "both" goes to both. Programs can hear each of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocalsep.shapes import Array

RATE = 44_100
_SCRIPT = """
load-module module-native-protocol-unix socket={folder}/native auth-anonymous=1
load-module module-null-sink sink_name=song rate=44100 channels=2
load-module module-null-sink sink_name=room rate=44100 channels=2
load-module module-combine-sink sink_name=both slaves=song,room adjust_time=0 channels=2
"""
_ALSA = """
pcm.song {{ type pulse server "unix:{folder}/native" device "song.monitor" hint {{ show on description "song" }} }}
pcm.room {{ type pulse server "unix:{folder}/native" device "room" hint {{ show on description "room" }} }}
"""


def is_installed() -> bool:
    """Return whether all programs are there."""
    return all(map(shutil.which, ("pulseaudio", "pactl", "paplay", "parec")))


@dataclass(frozen=True)
class Pulse:
    """A running server.

    Attributes:
        environment: Variables for programs that use it.
    """

    environment: dict[str, str]

    def control(self, *words: str) -> None:
        """Call ``pactl``."""
        subprocess.run(["pactl", *words], env=self.environment, check=True, timeout=20)

    def play(self, sink: str, sound: Array) -> subprocess.Popen[bytes]:
        """Start to play int16 samples, ``(time, channel)``."""
        command = ["paplay", "-d", sink, "--raw", "--format=s16le", f"--rate={RATE}", "--channels=2", "/dev/stdin"]
        player = subprocess.Popen(command, env=self.environment, stdin=subprocess.PIPE)
        assert player.stdin
        player.stdin.write(sound.astype("<i2").tobytes())
        player.stdin.close()
        return player

    @contextlib.contextmanager
    def record(self, sink: str, path: Path) -> Iterator[None]:
        """Record what is played to a sink while the context lasts; see `read`."""
        command = ["parec", "-d", f"{sink}.monitor", "--format=s16le", f"--rate={RATE}", "--channels=2"]
        with path.open("wb") as file:
            recorder = subprocess.Popen([*command, "--latency-msec=20"], env=self.environment, stdout=file)
            try:
                yield
            finally:
                recorder.terminate()
                recorder.wait(10)


def read(path: Path) -> Array:
    """Read a recording, ``(time, channel)``, float64, full scale 1."""
    content = np.fromfile(path, "<i2")
    return content[: len(content) // 2 * 2].reshape(-1, 2) / 2**15


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Pulse]:
    """Run a server whose files lie in a folder."""
    (folder / "run.pa").write_text(_SCRIPT.format(folder=folder))
    (folder / ".asoundrc").write_text(_ALSA.format(folder=folder))
    own = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "PULSE_SERVER": f"unix:{folder}/native"}
    environment = os.environ | own
    command = ["pulseaudio", "-n", "-F", str(folder / "run.pa"), "--daemonize=no", "--use-pid-file=no"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*command, "--exit-idle-time=-1"], env=environment, stderr=log)
    try:
        for _ in range(200):
            if (folder / "native").exists():
                break
            time.sleep(0.05)
        yield Pulse(environment)
    finally:
        server.terminate()
        server.wait(10)
