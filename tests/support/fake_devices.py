"""Sound devices that a test plugs in, unplugs and silences. Time passes only when somebody sleeps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from vocalsep.live import DeviceError, Link
from vocalsep.shapes import Array

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
