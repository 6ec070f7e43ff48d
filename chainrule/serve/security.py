"""The names under which the server may be asked for, and the key."""

from __future__ import annotations

import base64
import binascii
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
        """Return whether an Authorization header shows the key; compared in constant time.

        Args:
            authorization: ``Bearer KEY``; browsers send ``Basic`` with the key as the password.
        """
        if self.key is None:
            return True
        scheme, _, shown = authorization.partition(" ")
        key = shown.strip().encode() if scheme.lower() == "bearer" else _password(scheme, shown)
        return key is not None and hmac.compare_digest(key, self.key.encode())


ANYBODY = Access()


def _password(scheme: str, shown: str) -> bytes | None:
    """The password of basic authentication (RFC 7617); None: it is something else."""
    try:
        _, colon, password = base64.b64decode(shown.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return password if colon and scheme.lower() == "basic" else None


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
                browser = "text/html" in headers.get("accept", "")
                asked = {
                    "www-authenticate": 'Basic realm="chainrule: the key is the password"' if browser else "Bearer"
                }
                raise Failure(401, told, param="authorization", code="invalid_api_key", headers=asked)
        await self.app(scope, receive, send)
