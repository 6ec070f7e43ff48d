"""The names under which the server may be asked for, and the key."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from chainrule.serve.errors import Failure

OPEN = frozenset({"/health"})
"""Paths that anybody may ask for."""
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names of this machine for itself."""


@dataclass(frozen=True)
class Access:
    """The names under which requests may ask for the server, and the key that they must show.

    Args:
        hosts: names and addresses beside those of this machine; a page of a foreign name that resolves to this machine
            (DNS rebinding) is refused by its name.
        key: None: no key is needed.
    """

    hosts: frozenset[str] = frozenset()
    key: str | None = None

    def knows(self, host: str | None, server: tuple[str, int | None] | None) -> bool:
        """Return whether a Host header names this server, where ``server`` is the address that the request came to."""
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and name in LOCAL | self.hosts | ({server[0]} if server else set())

    def admits(self, authorization: str) -> bool:
        """Return whether an Authorization header shows the key; compared in constant time."""
        if self.key is None:
            return True
        scheme, _, key = authorization.partition(" ")
        return hmac.compare_digest(key.strip().encode(), self.key.encode()) and scheme.lower() == "bearer"


ANYBODY = Access()


class AccessGuard:
    """Middleware: refuses requests for foreign names, and those without the key. No CORS: pages of others read nothing.

    Args:
        app: what answers.
        access: who may ask.
    """

    def __init__(self, app: ASGIApp, access: Access):
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN:
            headers = Headers(scope=scope)
            if not self.access.knows(headers.get("host"), scope.get("server")):
                told = "this server is not known under the name in the Host header: start it with --allow-host NAME"
                raise Failure(403, told, param="host", code="unknown_host")
            if not self.access.admits(headers.get("authorization", "")):
                given = headers.get("authorization", "").partition(" ")[2].strip()
                told = "this is not the key of this server" if given else "a key is needed"
                told += ": send the header 'Authorization: Bearer KEY'"
                asked = {"www-authenticate": "Bearer"}
                raise Failure(401, told, param="authorization", code="invalid_api_key", headers=asked)
        await self.app(scope, receive, send)
