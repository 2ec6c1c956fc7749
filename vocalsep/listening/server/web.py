"""Run the server until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

_GRACE_SECONDS = 1  # for responses in progress


def run(app: ASGIApp, listener: socket.socket, close_app: Callable[[], None], close_queue: Callable[[], None]) -> None:
    """Answer requests until SIGINT or SIGTERM, then raise the signal again.

    Args:
        app: The app.
        listener: A socket that listens.
        close_app: Called in the thread of the event loop when a signal arrives.
        close_queue: Called in a thread of its own when a signal arrives.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="error",
        access_log=False,  # addresses hold tokens and names of songs
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    _Server(config, close_app, close_queue).run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, close_app: Callable[[], None], close_queue: Callable[[], None]) -> None:
        super().__init__(config)
        self._close_app, self._close_queue = close_app, close_queue

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            self._loop.call_soon_threadsafe(self._close_app)
            threading.Thread(target=self._close_queue, daemon=True).start()
        super().handle_exit(sig, frame)


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a message says more than that somebody was still connected at the end."""
    return "running task(s)" not in str(record.msg)
