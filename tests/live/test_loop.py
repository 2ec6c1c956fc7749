"""What `follow` does when devices fail. The devices are fake, and time passes only when the loop sleeps."""

from __future__ import annotations

import re

import fake_nets
import pytest
import torch
from fake_devices import RATE, FakeDevices

from vocalsep.errors import VocalsepError
from vocalsep.extraction import Extractor
from vocalsep.live import DeviceError, Link, Summary, follow
from vocalsep.shapes import Features, Mask


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
START = "playing the vocals of Mic on Speakers, 8000 Hz; Ctrl-C ends"


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
    assert messages[0] == START
    # The thread that tells it may be late on a busy machine, and the delay may have been told before the silence.
    silent = messages.index("no sound from Mic for 1 s; waiting for it")
    back = re.fullmatch(r"Mic is back after ([\d.]+) s", messages[silent + 1])
    assert back
    assert float(back[1]) == pytest.approx(3, abs=0.5)
    assert any(
        re.fullmatch(r"0\.\d+ s behind, 0\.02 s of that in the devices", message) for message in messages[silent:]
    )
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
