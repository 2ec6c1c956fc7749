"""Follow an input until the user stops, whatever happens to the devices."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vocalsep.extraction import Extractor
from vocalsep.live.devices import DeviceError, Devices, Link, Streams
from vocalsep.live.session import Session

_WATCH_SECONDS = 0.1  # between looks at the devices
_STALL_SECONDS = 1.0  # without a sample, an input is reported
_REOPEN_SECONDS = 5.0  # without a sample, an input is opened again
_MEASURE_SECONDS = 3.0  # until the delay is told, because devices need a moment to settle
_RETRY_SECONDS = 1.0  # between attempts to open devices


@dataclass(kw_only=True)
class Summary:
    """What happened.

    Attributes:
        seconds: Seconds heard.
        underruns: How often the net was late, so that silence was played.
        missing_seconds: Seconds of that silence.
        delay_seconds: Time from the input to the output at the end, devices included; None if nothing was played.
    """

    seconds: float = 0.0
    underruns: int = 0
    missing_seconds: float = 0.0
    delay_seconds: float | None = None


def follow(
    extractor: Extractor,
    devices: Devices,
    *,
    source: str | None = None,
    sink: str | None = None,
    keep: str = "vocals",
    tell: Callable[[str], None],
    should_stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Summary:
    """Play the vocals or the accompaniment of what an input hears.

    Devices that vanish are waited for, and opened again when they come back.

    Args:
        extractor: With a latency and without workers.
        devices: The devices.
        source: The input; see `Devices.link`.
        sink: The output.
        keep: "vocals" or "accompaniment".
        tell: Called with each message for the user.
        should_stop: Returns whether the user wants to stop.
        clock: Returns seconds.
        sleep: Waits for some seconds.

    Raises:
        DeviceError: If the devices cannot be used at the start.
        VocalsepError: If the net fails.
    """
    link = devices.link(source, sink)
    extractor.warm_up(link.rate, link.heard_channels)
    watch, opened, is_lost = _Watch(tell, clock), False, False
    while not should_stop():
        try:
            if opened:
                devices.refresh()
                link = devices.link(source, sink)
            with _run(extractor, devices, link, keep, clock) as (session, streams, failure):
                opened, is_lost = True, False
                watch.start(session, streams, link, keep)
                try:
                    while not should_stop() and watch.is_fine():
                        if failure:
                            raise failure[0]
                        sleep(_WATCH_SECONDS)
                finally:
                    watch.add_up()
        except DeviceError as error:
            if not opened:
                raise
            if not is_lost:
                tell(f"{error}; waiting for it")
            is_lost = True
            sleep(_RETRY_SECONDS)
    return watch.summary


@contextlib.contextmanager
def _run(
    extractor: Extractor, devices: Devices, link: Link, keep: str, clock: Callable[[], float]
) -> Iterator[tuple[Session, Streams, list[BaseException]]]:
    """Open the devices and run the net in a thread. Yields what it raised, too."""
    assert extractor.latency is not None
    session = Session(
        lambda: extractor.start(link.rate, link.heard_channels, low_delay=True),
        rate=link.rate,
        played_channels=link.played_channels,
        keep=keep,
        latency_seconds=extractor.latency,
        clock=clock,
    )
    stopped, failure = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            while not stopped.is_set():
                session.work()
        except BaseException as error:
            failure.append(error)

    worker = threading.Thread(target=work, name="net")
    with devices.open(link, session.hear, session.play) as streams:
        worker.start()
        try:
            yield session, streams, failure
        finally:
            stopped.set()
            worker.join()


class _Watch:
    """Looks after sessions and tells the user what happens, underruns at most once per second.

    Args:
        tell: Called with each message.
        clock: Returns seconds.

    Attributes:
        summary: What happened in the sessions that are added up.
    """

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._tell, self._clock, self.summary = tell, clock, Summary()
        self._link: Link | None = None
        self._silent_since: float | None = None  # when a stalled input last gave samples
        self._told_at = -math.inf

    def start(self, session: Session, streams: Streams, link: Link, keep: str) -> None:
        """Take over a session that has started."""
        self._session, self._streams, self._told, self._is_measured = session, streams, 0, False
        self._started_at = self._clock()
        if link != self._link:
            self._tell(f"playing the {keep} of {link.source} on {link.sink}, {link.rate} Hz; Ctrl-C ends")
        elif self._silent_since is None:
            self._tell(f"{link.source} and {link.sink} are back")
        self._link = link

    def is_fine(self) -> bool:
        """Look after the session. Return whether it should go on with the devices that are open.

        Raises:
            DeviceError: If a device is gone.
        """
        session, link, now = self._session, self._link, self._clock()
        assert link
        if not self._streams.is_active:
            raise DeviceError(f"{link.source} or {link.sink} is gone")
        waited = now - session.last_heard
        if waited > _STALL_SECONDS and self._silent_since is None:
            self._silent_since = session.last_heard
            self._tell(f"no sound from {link.source} for {_STALL_SECONDS:g} s; waiting for it")
        if waited < _STALL_SECONDS and session.heard and self._silent_since is not None:
            self._tell(f"{link.source} is back after {session.last_heard - self._silent_since:.1f} s")
            self._silent_since = None
        if session.underruns > self._told and now - self._told_at >= 1:
            new, total = session.underruns - self._told, self.summary.underruns + session.underruns
            self._tell(f"underrun{'s' * (new > 1)} ({total} so far): the net was late; a longer latency helps")
            self._told, self._told_at = session.underruns, now
        is_settled = now - self._started_at > _MEASURE_SECONDS and waited < _WATCH_SECONDS
        if is_settled and session.delay_seconds and not self._is_measured:
            self._is_measured, devices = True, self._streams.latency_seconds
            self._tell(f"{session.delay_seconds + devices:.2f} s behind, {devices:.2f} s of that in the devices")
        return waited < _REOPEN_SECONDS

    def add_up(self) -> None:
        """Add the session to the summary."""
        session, link, summary = self._session, self._link, self.summary
        assert link
        summary.seconds += session.heard / link.rate
        summary.underruns += session.underruns
        summary.missing_seconds += session.missing / link.rate
        if session.delay_seconds is not None:
            summary.delay_seconds = session.delay_seconds + self._streams.latency_seconds
