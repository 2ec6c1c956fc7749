"""``vocalsep live`` with devices that are fake, or missing."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import command_line
import fake_nets
import pytest
from command_line import read_misuse
from fake_devices import LINK, FakeDevices

from vocalsep import live, weights
from vocalsep.live import DeviceError, Link, loop
from vocalsep.shapes import Array

run = functools.partial(command_line.run, "live")


class Interrupted(FakeDevices):
    """Devices at which a user presses Ctrl-C after five seconds."""

    def link(self, source: str | None, sink: str | None) -> Link:
        if "nothing" in (source, sink):
            raise DeviceError("no input device matching 'nothing'")
        return LINK

    @contextlib.contextmanager
    def open(self, link: Link, hear: Callable[[Array], None], play: Callable[[Array], None]) -> Iterator[Any]:
        with super().open(link, hear, play) as streams:
            yield Watched(streams)

    def list_devices(self) -> list[dict[str, Any]]:
        names = {"name": "Mic\x1b[2J", "index": 3, "is_default": True}
        return [names | {"max_input_channels": 2, "max_output_channels": 0, "default_samplerate": 44_100.0}]


class Watched:
    """Streams on which time passes whenever somebody looks at them."""

    latency_seconds = 0.02

    def __init__(self, devices: FakeDevices) -> None:
        self.devices = devices

    @property
    def is_active(self) -> bool:
        self.devices.sleep(0.1)
        if self.devices.now == 5.0:
            os.kill(os.getpid(), signal.SIGINT)
        return True


@pytest.fixture
def _devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SoundDevices", Interrupted)
    monkeypatch.setattr(loop, "_WATCH_SECONDS", 0.001)
    monkeypatch.setattr(weights, "load", lambda *_, **_options: fake_nets.constant(0.5, fake_nets.SMALL))


@pytest.mark.usefixtures("_devices")
@pytest.mark.parametrize("latency", ["0.2", "auto"])
def test_ctrl_c_ends_it_with_status_0_and_a_summary(latency: str) -> None:
    result = run("--latency", latency)
    assert (result.exit_code, result.stdout) == (0, "")
    lines = result.stderr.splitlines()
    if latency == "auto":
        assert re.fullmatch(r"vocalsep: this machine can keep up with a latency of [\d.]+ s", lines.pop(0))
    assert lines[0] == "vocalsep: playing the vocals of Mic on Speakers, 8000 Hz; Ctrl-C ends"
    assert lines[-1].startswith("vocalsep: 5.0 s, 0.")
    assert lines[-1].endswith(" s behind, no underruns")


@pytest.mark.usefixtures("_devices")
def test_devices_are_listed_and_their_names_are_escaped() -> None:
    result = run("--list")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "44100" in result.stdout
    assert "Mic\\x1b[2J (default)" in result.stdout


@pytest.mark.usefixtures("_devices")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--in", "nothing"], "no input device matching 'nothing'"),
        (["--latency", "5"], "latency 5: expected 0.1 to 3 seconds, or auto"),
        (["--latency", "soon"], "latency soon: expected 0.1 to 3 seconds, or auto"),
        (["-m", "no-such-model"], "unknown model"),
    ],
)
def test_misuse_is_told_before_anything_starts(arguments: list[str], expected: str) -> None:
    assert expected in read_misuse(run(*arguments))


def test_models_of_other_programs_are_misuse(tmp_path: Path) -> None:
    foreign = tmp_path / "net.onnx"
    foreign.write_bytes(b"")
    assert "a latency needs vocalsep's own models" in read_misuse(run("-m", foreign))
    assert "a latency needs vocalsep's own models" in read_misuse(run("-m", f"unet+{foreign}"))
    path = tmp_path / "self.toml"
    path.write_text(f'models = ["unet", "{path}"]')
    assert "is a mean of itself" in read_misuse(run("-m", path))


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ModuleNotFoundError("sounddevice"), "pip install 'vocalsep[live]'"), (OSError("no"), "install libportaudio2")],
)
def test_what_is_not_installed_is_named(error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise error

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    result = run("--list")
    assert result.exit_code == 1
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1
