"""Decide which requests the server answers: those of people who have its link, from its own pages.

Any web page in the user's browser can send requests to a local server, and any user of the machine can reach its port.
Four checks keep them out:

- ``Host`` must name the server. Pages of a host whose name is made to point to this machine (DNS rebinding) send their
  own name.
- ``Origin``, if a browser sends it, must be the server too.
- A cookie must show that the browser once had the token. It is ``SameSite=Strict``, so other pages cannot use it.
- Requests that change something need a header that pages of other hosts may not send without being allowed to.
"""

from __future__ import annotations

import ipaddress
import secrets
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-vocalsep"
"""The header that requests need which change something. Its value does not matter."""

PARAMETER = "token"
"""The part of the first address that holds the token."""

_SAFE_METHODS = ("GET", "HEAD")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_UNKNOWN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>vocalsep</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<h1>This browser is not signed in</h1>
<p>Open the whole address that <code>vocalsep serve</code> printed, including the token at its end.</p>
<p>If you have just done that, <a href="/">continue</a>.</p></html>"""


class Guard:
    """Checks each request before the app sees it, and adds headers to each response.

    Args:
        app: The app.
        host: The address that the server listens on.
        port: Its port.

    Attributes:
        port: The port of the server.
        token: What the first address must contain.
    """

    def __init__(self, app: ASGIApp, *, host: str, port: int) -> None:
        self._app, self.port = app, port
        self._names = {"localhost", "127.0.0.1", "::1", host.lower()}
        self._any_address = is_unspecified(host)
        self._secret = secrets.token_urlsafe(32)
        self._cookie = f"vocalsep-{port}"  # all ports of a host share their cookies
        self.token = secrets.token_urlsafe(32)
        self._tickets: set[str] = set()

    def make_ticket(self) -> str:
        """Return a token that works once. Other users of the machine can read the command line of a browser."""
        ticket = secrets.token_urlsafe(32)
        self._tickets.add(ticket)
        return ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the server then refuses the connection

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await (self._refuse(scope) or self._app)(scope, receive, send_safely)

    def _refuse(self, scope: Scope) -> Response | None:
        """Return the response to a request that the app must not see, or None."""
        headers, path = Headers(scope=scope), scope["path"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return _explain(421, "vocalsep serve does not answer to this name; use the address that it printed")
        for origin in headers.getlist("origin"):
            scheme, _, rest = origin.partition("://")
            if scheme != "http" or not self._is_own(rest):
                return _explain(403, "another web page sent this request")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and path != "/":
            return _explain(403, "another web page sent this request")
        given = parse_qs(scope["query_string"].decode("latin-1")).get(PARAMETER)
        if path == "/" and scope["method"] == "GET" and given:
            return self._sign_in(given)
        if not self._is_signed_in(headers):
            if path == "/":
                return HTMLResponse(_UNKNOWN, 401)
            return _explain(401, "this browser is not signed in; open the address that vocalsep serve printed")
        if scope["method"] not in _SAFE_METHODS and HEADER not in headers:
            return _explain(403, f"a request that changes something needs the header {HEADER}")
        return None

    def _is_own(self, authority: str) -> bool:
        """Return whether ``name:port`` is this server."""
        try:
            parts = urlsplit(f"//{authority}")
            name, port = (parts.hostname or "").lower(), parts.port or 80
        except ValueError:
            return False
        if parts.netloc != authority or "@" in authority:
            return False
        return port == self.port and (name in self._names or (self._any_address and _is_address(name)))

    def _sign_in(self, given: list[str]) -> Response:
        """Trade a token for the cookie, and remove it from the address."""
        tickets = [ticket for ticket in self._tickets if _equal(given[0], ticket)]
        if not tickets and not _equal(given[0], self.token):
            return HTMLResponse(_UNKNOWN, 401)
        self._tickets.difference_update(tickets)
        response = RedirectResponse("/", 303)
        response.set_cookie(self._cookie, self._secret, httponly=True, samesite="strict")
        return response

    def _is_signed_in(self, headers: Headers) -> bool:
        """Return whether a cookie holds the secret.

        It needs no quotes, and the standard library's parser takes seconds for 60 kB of them.
        """
        cookies = (each.strip().partition("=") for value in headers.getlist("cookie") for each in value.split(";"))
        return any(name == self._cookie and _equal(value, self._secret) for name, _, value in cookies)


def is_local(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_unspecified(host: str) -> bool:
    """Return whether an address stands for all addresses of this machine."""
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _equal(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode(), secret.encode())


def _explain(status: int, error: str) -> Response:
    return JSONResponse({"error": error}, status)
