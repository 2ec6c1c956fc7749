"""Live: vocals or accompaniment of what a microphone or line input hears, a fraction of a second later."""

from __future__ import annotations

from vocalsep.live.devices import DeviceError, Devices, Link, SoundDevices
from vocalsep.live.loop import Summary, follow
from vocalsep.live.session import Session

__all__ = ["DeviceError", "Devices", "Link", "Session", "SoundDevices", "Summary", "follow"]
