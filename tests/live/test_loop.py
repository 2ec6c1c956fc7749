"""What `follow` does when devices fail. The devices are fake, and time passes only when the loop sleeps."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import fake_nets
import numpy as np
import pytest
import torch

from vocalsep.errors import VocalsepError
from vocalsep.extraction import Extractor
from vocalsep.live import DeviceError, Link, Summary, follow
from vocalsep.shapes import Array, Features, Mask

RATE = 8_000
LINK = Link(source="Mic", sink="Speakers", rate=RATE, heard_channels=1, played_channels=2)


@dataclass
class FakeDevices:
    """Devices that the script changes: at each moment in seconds, it is called once.

    Attributes:
        script: What to call when.
        link_now: The devices that are plugged in; None if they are not.
    """

    script: dict[float, Callable[[FakeDevices], None]] = field(default_factory=dict)
    link_now: Link | None = LINK
    now: float = 0.0
    is_active: bool = True
    is_silent: bool = False
    latency_seconds: float = 0.02
    opened: int = 0
    refreshed: int = 0
    hear: Callable[[Array], None] | None = None

    def link(self, source: str | None, sink: str | None) -> Link:
        assert (source, sink) == ("mic", None)
        if self.link_now is None:
            raise DeviceError("no input device matching 'mic'")
        return self.link_now

    @contextlib.contextmanager
    def open(self, _: Link, hear: Callable[[Array], None], play: Callable[[Array], None]) -> Iterator[FakeDevices]:
        assert self.hear is None, "still open"
        self.hear, self.play, self.is_active = hear, play, True
        self.opened += 1
        try:
            yield self
        finally:
            self.hear = None

    def refresh(self) -> None:
        assert self.hear is None, "still open"
        self.refreshed += 1

    def sleep(self, seconds: float) -> None:
        """Let time pass in blocks of 10 ms."""
        for _ in range(round(seconds * 100)):
            self.now = round(self.now + 0.01, 2)
            if self.now in self.script:
                self.script[self.now](self)
            if self.hear and self.is_active:
                assert self.link_now
                size = self.link_now.rate // 100
                if not self.is_silent:
                    self.hear(np.full((size, self.link_now.heard_channels), 0.1, np.float32))
                self.play(np.empty((size, self.link_now.played_channels), np.float32))
                self.wait_for_the_net()

    def wait_for_the_net(self) -> None:
        """Wait until the thread of the net has seen all that was heard, unless it failed."""
        session = self.hear.__self__  # type: ignore[union-attr]
        for _ in range(500):
            if session.heard == session._separated:
                return
            time.sleep(0.0005)


def run(devices: FakeDevices, seconds: float, extractor: Extractor | None = None) -> tuple[list[str], Summary]:
    messages: list[str] = []
    extractor = extractor or Extractor(fake_nets.constant(0.5, fake_nets.SMALL), workers=0, latency=0.3)
    summary = follow(
        extractor,
        devices,
        source="mic",
        tell=messages.append,
        should_stop=lambda: devices.now >= seconds,
        clock=lambda: devices.now,
        sleep=devices.sleep,
    )
    return messages, summary


def unplug(devices: FakeDevices) -> None:
    devices.is_active, devices.link_now = False, None


def plug_in(devices: FakeDevices, rate: int = RATE) -> None:
    devices.link_now = Link(source="Mic", sink="Speakers", rate=rate, heard_channels=1, played_channels=2)


DELAY = r"0\.3[23] s behind, 0\.02 s of that in the devices"
START = "vocals of Mic go to Speakers, 8000 Hz; Ctrl-C ends"


def test_it_follows_until_it_should_stop_and_adds_up() -> None:
    devices = FakeDevices()
    messages, summary = run(devices, 4.0)
    assert messages[0] == START
    assert re.fullmatch(DELAY, messages[1])
    assert len(messages) == 2
    assert summary.seconds == pytest.approx(4.0)
    assert summary.delay_seconds == pytest.approx(0.32, abs=0.011)
    assert (summary.underruns, summary.missing_seconds) == (0, 0)
    assert devices.hear is None


def test_a_device_that_vanishes_is_waited_for() -> None:
    devices = FakeDevices({1.0: unplug, 5.0: plug_in})
    messages, summary = run(devices, 7.0)
    assert messages == [START, "Mic or Speakers is gone; waiting for it", "Mic and Speakers are back"]
    assert (devices.opened, devices.refreshed) == (2, 4)
    assert summary.seconds == pytest.approx(3.0, abs=0.2)


def test_another_rate_after_that_is_told_and_used() -> None:
    devices = FakeDevices({1.0: unplug, 2.5: lambda devices: plug_in(devices, 16_000)})
    messages, summary = run(devices, 5.0)
    assert messages == [START, "Mic or Speakers is gone; waiting for it", START.replace("8000", "16000")]
    assert summary.seconds == pytest.approx(3.0, abs=0.2)


def test_an_input_that_stalls_and_comes_back_is_told() -> None:
    def silence(devices: FakeDevices) -> None:
        devices.is_silent = not devices.is_silent

    devices = FakeDevices({1.0: silence, 4.0: silence})
    messages, _ = run(devices, 6.0)
    assert messages[:2] == [START, "no sound from Mic for 1 s; waiting for it"]
    assert messages[2] == "Mic is back after 3.0 s"
    assert re.fullmatch(DELAY, messages[3])
    assert devices.opened == 1


def test_an_input_that_stalls_for_long_is_opened_again() -> None:
    def silence(devices: FakeDevices) -> None:
        devices.is_silent = not devices.is_silent

    devices = FakeDevices({1.0: silence, 13.0: silence})
    messages, _ = run(devices, 16.0)
    assert messages[:2] == [START, "no sound from Mic for 1 s; waiting for it"]
    assert messages[2].startswith("Mic is back after 12.")
    assert devices.opened == 3


def test_devices_that_are_missing_at_the_start_are_an_error() -> None:
    with pytest.raises(DeviceError, match="no input device"):
        run(FakeDevices(link_now=None), 1.0)


def test_a_net_that_fails_ends_it() -> None:
    class Failing(fake_nets.ConstantNet):
        def forward(self, features: Features) -> Mask:
            if float(features.max()) != float(features.min()):
                raise torch.OutOfMemoryError("no memory")
            return super().forward(features)

    extractor = Extractor(fake_nets.make_model(Failing(1.0), fake_nets.SMALL), workers=0, latency=0.3)
    devices = FakeDevices()
    with pytest.raises((VocalsepError, torch.OutOfMemoryError), match="no memory"):
        run(devices, 1e3, extractor)
    assert devices.hear is None
