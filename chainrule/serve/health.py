"""The state of the server: told at /health, and to requests that come too late."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from chainrule.serve.errors import AGAIN, Failure

PATH = "/health"


@dataclass
class Health:
    """The state of the server: it takes requests until it is told to stop."""

    stopping: bool = False

    def response(self) -> JSONResponse:
        """Return the answer to /health: 503 once the server takes no more requests."""
        told = {"status": "stopping" if self.stopping else "ok", "ready": not self.stopping}
        return JSONResponse(told, 503 if self.stopping else 200)


class ShutdownGuard:
    """Middleware: refuses requests that come once the server is stopping, so that a proxy asks another one.

    Args:
        app: what answers.
        health: the state of the server.
    """

    def __init__(self, app: ASGIApp, health: Health):
        self.app, self.health = app, health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.health.stopping and scope["path"] != PATH:
            headers = {**AGAIN, "connection": "close"}
            raise Failure(503, "the server is stopping: ask again later", code="stopping", headers=headers)
        await self.app(scope, receive, send)
