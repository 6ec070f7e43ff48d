"""Errors as clients see them: one object in the form of OpenAI's API, whatever the route.

An answer names the field and what is accepted, never a path, an address of memory, a version or a traceback. A bug is
answered with the id of the request, under which the log has the traceback. Messages are in English, or in Korean for
clients that prefer it (``accept-language``), as the page does where it is read in Korean.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chainrule.core import UserError
from chainrule.core.errors import is_out_of_memory
from chainrule.inference.scheduler import Busy, Closing
from chainrule.report.messages import Catalogue
from chainrule.serve.wording import mistakes, sentence, shown

LOG = logging.getLogger("chainrule.serve")
AGAIN = {"retry-after": "1"}
"""The header that tells a client to ask again after so many seconds."""
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

    def translated(self, headers: Headers) -> Failure:
        """Return the error in the language that a request asks for; in English where its message has no translation.

        Args:
            headers: of the request.
        """
        korean = language(headers.get("accept-language", "")) == "ko"
        told = _korean().error(self.message) if korean else None
        return Failure(self.status, told or self.message, param=self.param, code=self.code, headers=self.headers)

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(self.content, self.status, headers=self.headers)


@cache
def _korean() -> Catalogue:
    return Catalogue("ko", json.loads((files("chainrule.serve") / "messages.json").read_text(encoding="utf-8")))


def language(preferred: str) -> str:
    """Return the language of answers: Korean where that is preferred, else English.

    Args:
        preferred: the value of ``accept-language``.
    """
    return "ko" if preferred.lower().startswith("ko") else "en"


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
        others: further names of runs, and what they stand for.
    """

    def __init__(self, name: str, names: list[str], others: Mapping[str, str]):
        told = f"model {shown(name)}: not served here; there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
        told += "".join(f"; {other} is {run}" for other, run in others.items())
        super().__init__(404, told, param="model", code="model_not_found")


def failure_of(error: Exception, request: str, model: type[BaseModel] | None = None) -> Failure:
    """Return the answer to whatever was raised; what is nobody's mistake but ours goes to the log.

    Args:
        error: what was raised.
        request: the id of the request.
        model: what its body should be.
    """
    if isinstance(error, Failure):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(list(error.errors()), error.body, model)
    if isinstance(error, HTTPException):
        return _of_http(error)
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


def _of_http(error: HTTPException) -> Failure:
    told = str(error.detail)
    if error.status_code == 404:
        told = "no such path: /openapi.json lists those that there are"
    elif error.status_code == 405:
        told = f"this path is not answered by that method: use {(error.headers or {}).get('Allow', 'another one')}"
    return Failure(error.status_code, told, headers=error.headers)


def _invalid(errors: list[Any], body: Any = None, model: Any = None) -> Failure:
    """A body that does not fit the route's: its mistakes, the first of which is the error's field."""
    within = [{**error, "loc": error["loc"][1:]} for error in errors]
    found = mistakes(within, body, model)
    return Failure(422, sentence(found), param=found[0].field, code=found[0].kind)


class ErrorBoundary:
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
            failure = failure_of(error, scope["state"]["id"]).translated(Headers(scope=scope))
            if not begun:
                await failure.response()(scope, receive, send)
            elif _is_stream(begun[0]):
                body = f"data: {json.dumps(failure.content)}\n\n".encode()
                await send({"type": "http.response.body", "body": body})
            else:
                raise


def _is_stream(start: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in start["headers"])
