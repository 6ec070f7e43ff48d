"""A request and its answer: the body is read whole and checked first; the answer ends with its client, or in time."""

from __future__ import annotations

import asyncio
from email.message import Message as Header
from urllib.parse import unquote_plus

import anyio
import jiter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chainrule.serve import limits
from chainrule.serve.errors import Failure
from chainrule.serve.wording import named, shown

KIND = 256
"""Characters of a content type that are read."""


class RequestLifecycle:
    """Middleware: passes on what is JSON, and cancels the answer where the client leaves or time runs out.

    Args:
        app: what answers.
        seconds: time that an answer may take.
    """

    def __init__(self, app: ASGIApp, seconds: float):
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["method"] == "POST" and scope["query_string"]:
            _refuse_query(scope["query_string"].decode("latin-1"))
        if (body := await _read(headers, receive)) is None:
            return
        if body:
            _check(headers, body)
        await self._answer(scope, body, receive, send)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        gone = asyncio.Event()
        unread = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def read() -> Message:
            if (message := next(unread, None)) is None:
                await gone.wait()
            return message or {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            answering.cancel()

        async def write(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                watching.cancel()  # what follows an answer that is complete is no departure
            await send(message)

        with anyio.CancelScope(deadline=anyio.current_time() + self.seconds) as answering:
            watching = asyncio.create_task(watch())
            try:
                await self.app(scope, read, write)
            finally:
                watching.cancel()
        if answering.cancelled_caught and not gone.is_set():
            raise TimeoutError
        scope["state"]["gone"] = answering.cancelled_caught


async def _read(headers: Headers, receive: Receive) -> bytes | None:
    """The whole body, or None where the client left before its end.

    Raises:
        Failure: it is too large; what is announced to be so is not read.
    """
    announced = headers.get("content-length", "0")
    size = int(announced) if announced.isdecimal() else 0
    body, more = bytearray(), True
    while more and size <= limits.BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        size, more = max(size, len(body)), message.get("more_body", False)
    if size > limits.BODY:
        raise Failure(413, f"the body has more than {limits.BODY} bytes: send less at once", code="too_large")
    return bytes(body)


def _refuse_query(query: str) -> None:
    """Raise Failure for parameters in the address of a request with a body, which would be ignored."""
    name = unquote_plus(query.partition("&")[0].partition("=")[0])
    told = f"{shown(name)} in the address: this route takes its fields in the body, as JSON"
    raise Failure(422, told, param=named([name]), code="extra_forbidden")


def _check(headers: Headers, body: bytes) -> None:
    """Raise Failure where a body is not JSON of one meaning."""
    kind, given = Header(), headers.get("content-type", "")
    kind["content-type"] = given[:KIND]  # many semicolons behind a quotation mark take ``email`` quadratic time
    given = kind.get_content_type() if given else "nothing"
    if given != "application/json" or kind.get_content_charset("utf-8").lower() not in ("utf-8", "utf8"):
        told = "bodies are application/json in UTF-8 (curl --json '…', or -H 'content-type: application/json')"
        raise Failure(415, told, param="content-type", code="unsupported_media_type")
    try:
        jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise Failure(400, f"the body is not JSON: {error}", code="invalid_json") from None
