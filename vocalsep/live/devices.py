"""Sound devices, through PortAudio."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from vocalsep.errors import VocalsepError
from vocalsep.shapes import Array

_COMMON_RATES = (48_000, 44_100)
_LATENCY_SECONDS = 0.03  # that each device is asked to keep to
_SMOOTHING = 0.05
_BLOCK_SECONDS = 0.01  # of samples that devices give and take at a time
_MOST_CHANNELS = 2


class DeviceError(VocalsepError):
    """A device does not exist, or cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """An input and an output that work together.

    Attributes:
        source: Name of the input.
        sink: Name of the output.
        rate: Sample rate of both, Hz.
        heard_channels: Number of channels of the input.
        played_channels: Number of channels of the output.
        ids: What the device layer calls them.
    """

    source: str
    sink: str
    rate: int
    heard_channels: int
    played_channels: int
    ids: tuple[Any, Any] = (None, None)


class Streams(Protocol):
    """An open link."""

    @property
    def is_active(self) -> bool:
        """Whether both devices still work."""

    @property
    def latency_seconds(self) -> float:
        """Seconds that sound spends in both devices."""


class Devices(Protocol):
    """A layer of devices."""

    def link(self, source: str | None, sink: str | None) -> Link:
        """Find an input and an output, by number or part of the name; None is the default.

        Raises:
            DeviceError: If there is none, or they share no sample rate.
        """

    def open(
        self, link: Link, hear: Callable[[Array], None], play: Callable[[Array], None]
    ) -> contextlib.AbstractContextManager[Streams]:
        """Start both devices, which call `hear` and `play` with ``(time, channel)`` arrays until the context ends.

        Raises:
            DeviceError: If one cannot be used.
        """

    def refresh(self) -> None:
        """Look for devices that were plugged in or out. No link may be open."""


class SoundDevices:
    """The devices of this machine.

    Raises:
        DeviceError: If sounddevice or PortAudio is not installed.
    """

    def __init__(self) -> None:
        try:
            import sounddevice
        except ModuleNotFoundError as error:
            raise DeviceError("live needs the package sounddevice; run: pip install 'vocalsep[live]'") from error
        except OSError as error:
            hint = "on Debian and Ubuntu, run: apt-get install libportaudio2"
            raise DeviceError(f"live needs the library PortAudio, which is not installed; {hint}") from error
        self._library = sounddevice

    def list_devices(self) -> list[dict[str, Any]]:
        """Return all devices in PortAudio's words, with "is_default" for the default input or output."""
        defaults = set(self._library.default.device)
        return [dict(each) | {"is_default": each["index"] in defaults} for each in self._library.query_devices()]

    def link(self, source: str | None, sink: str | None) -> Link:
        """See `Devices.link`."""
        heard, played = self._find(source, "input"), self._find(sink, "output")
        channels = min(heard["max_input_channels"], _MOST_CHANNELS), min(played["max_output_channels"], _MOST_CHANNELS)
        rates = dict.fromkeys([*(round(each["default_samplerate"]) for each in (heard, played)), *_COMMON_RATES])
        reason: Exception | None = None
        for rate in rates:
            try:
                self._library.check_input_settings(heard["index"], channels[0], "float32", samplerate=rate)
                self._library.check_output_settings(played["index"], channels[1], "float32", samplerate=rate)
            except (self._library.PortAudioError, ValueError) as error:
                reason = reason or error
                continue
            return Link(
                source=heard["name"],
                sink=played["name"],
                rate=rate,
                heard_channels=channels[0],
                played_channels=channels[1],
                ids=(heard["index"], played["index"]),
            )
        raise DeviceError(f"{heard['name']} and {played['name']} share no sample rate ({_describe(reason)})")

    def _find(self, name: str | None, kind: str) -> dict[str, Any]:
        wanted = int(name) if name is not None and name.isdigit() else name
        try:
            return dict(self._library.query_devices(wanted, kind))
        except (self._library.PortAudioError, ValueError) as error:
            what = f"there is no default {kind}" if name is None else _describe(error)
            raise DeviceError(f"{what}; see 'vocalsep live --list'") from error

    @contextlib.contextmanager
    def open(self, link: Link, hear: Callable[[Array], None], play: Callable[[Array], None]) -> Iterator[Streams]:
        """See `Devices.open`."""
        library = self._library
        shared = {
            "samplerate": link.rate,
            "blocksize": max(1, round(_BLOCK_SECONDS * link.rate)),
            "latency": _LATENCY_SECONDS,
            "dtype": "float32",
        }
        opened = _OpenStreams()

        def on_input(block: Array, _frames: int, times: Any, _flags: Any) -> None:
            opened.note(0, times.currentTime - times.inputBufferAdcTime)
            hear(block)

        def on_output(out: Array, _frames: int, times: Any, _flags: Any) -> None:
            opened.note(1, times.outputBufferDacTime - times.currentTime)
            play(out)

        with contextlib.ExitStack() as stack:
            try:
                source = library.InputStream(
                    device=link.ids[0], channels=link.heard_channels, callback=on_input, **shared
                )
                opened.streams.append(stack.enter_context(source))
                sink = library.OutputStream(
                    device=link.ids[1], channels=link.played_channels, callback=on_output, **shared
                )
                opened.streams.append(stack.enter_context(sink))
            except library.PortAudioError as error:
                raise DeviceError(f"{link.source} and {link.sink} cannot be used ({_describe(error)})") from error
            yield opened

    def refresh(self) -> None:
        """See `Devices.refresh`."""
        self._library._terminate()
        self._library._initialize()


class _OpenStreams:
    """An open link of PortAudio."""

    def __init__(self) -> None:
        self.streams: list[Any] = []
        self._delays = [0.0, 0.0]  # of input and output, as their clocks say, smoothed

    def note(self, side: int, seconds: float) -> None:
        """Take the delay of a block of the input (0) or the output (1)."""
        self._delays[side] += _SMOOTHING * (seconds - self._delays[side])

    @property
    def is_active(self) -> bool:
        """See `Streams.is_active`."""
        return all(stream.active for stream in self.streams)

    @property
    def latency_seconds(self) -> float:
        """See `Streams.latency_seconds`."""
        return sum(max(0.0, delay) for delay in self._delays)


def _describe(error: object) -> str:
    return " ".join(str(error).split())
