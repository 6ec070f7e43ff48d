"""Errors as clients see them: one object in the form of OpenAI's API, whatever the route.

An answer names the field and what is accepted, never a path, an address of memory, a version or a traceback. A bug is
answered with the id of the request, under which the log has the traceback.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chainrule.core import UserError
from chainrule.core.errors import is_out_of_memory
from chainrule.inference.scheduler import Busy, Closing

LOG = logging.getLogger("chainrule.serve")
AGAIN = {"retry-after": "1"}
"""The header that tells a client to ask again after so many seconds."""
SHOWN = 80
"""Characters of a client's value that an error repeats."""
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_PLACE = re.compile(r"(?<![\w/.])/[^\s/:'\",]+(?:/[^\s:'\",]*)+")
"""An absolute path in a message that was written for the person who started the server."""


class Failure(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        message: one line: what was given, what is accepted, what to send instead.
        param: the field of the request that it is about.
        code: a word that programs can compare.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    @property
    def content(self) -> dict[str, Any]:
        """The object that tells of it."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(self.content, self.status, headers=self.headers)


class Refused(UserError):
    """A field of a request that cannot be used.

    Args:
        field: its name.
        message: what was given and what is accepted.
    """

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field


class UnknownModel(Failure):
    """A request for a run that is not served.

    Args:
        name: what was asked for.
        names: the runs that there are.
    """

    def __init__(self, name: str, names: list[str]):
        told = f"model {shown(name)}: not served here; there is {', '.join(names)}"
        super().__init__(404, told, param="model", code="model_not_found")


def shown(value: Any) -> str:
    """Return a client's value as it is repeated in an error: in one line, shortened.

    >>> shown("a" * 100)
    '"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…'
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def failure_of(error: Exception, request: str) -> Failure:
    """Return the answer to whatever was raised; what is nobody's mistake but ours goes to the log.

    Args:
        error: what was raised.
        request: the id of the request.
    """
    if isinstance(error, Failure):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(list(error.errors()))
    if isinstance(error, HTTPException):
        told = "no such path: /openapi.json lists those that there are" if error.status_code == 404 else error.detail
        return Failure(error.status_code, str(told), headers=error.headers)
    if isinstance(error, Closing):
        return Failure(503, str(error), code="stopping", headers=AGAIN)
    if isinstance(error, Busy):
        return Failure(429, str(error), code="busy", headers=AGAIN)
    if isinstance(error, Refused):
        return Failure(422, str(error), param=error.field, code="invalid_value")
    if isinstance(error, UserError):
        return Failure(400, _PLACE.sub("…", str(error)), code="invalid_request")
    if isinstance(error, TimeoutError):
        return Failure(504, "the answer took too long: ask for fewer tokens", code="timeout")
    if is_out_of_memory(error):
        LOG.error("request %s: out of memory", request)
        return Failure(503, "out of memory: ask for less, or later", code="out_of_memory", headers=AGAIN)
    LOG.error("request %s failed", request, exc_info=error)
    return Failure(500, f"internal error; the server's log tells of it under {request}", code="internal_error")


def _invalid(errors: list[Any]) -> Failure:
    """A body that does not fit the route's: its first mistake, and how many more there are."""
    first, more = errors[0], len(errors) - 1
    field = ".".join(str(part) for part in first["loc"][1:]) or None
    told = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        told = "no field of this request"
    elif first["type"] == "missing":
        told = "must be given"
    value = "" if first["type"] == "missing" else f" {shown(first.get('input'))}"
    message = f"{field or 'the body'}{value}: {told}" + (f" (and {more} more)" if more else "")
    return Failure(422, message, param=field, code=first["type"])


class Boundary:
    """Middleware: turns whatever is raised within into an answer, or into the last event of a stream that has begun."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun: list[Message] = []

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.append(message)
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            failure = failure_of(error, scope["state"]["id"])
            if not begun:
                await failure.response()(scope, receive, send)
            elif _is_stream(begun[0]):
                body = f"data: {json.dumps(failure.content)}\n\n".encode()
                await send({"type": "http.response.body", "body": body})
            else:
                raise


def _is_stream(start: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in start["headers"])
