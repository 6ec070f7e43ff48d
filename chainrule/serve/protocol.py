"""HTTP/1.1 over sockets, with deadlines: neither slow senders, slow readers nor idle connections hold the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from chainrule.serve.errors import LOG, Failure

CONNECTIONS = 512
"""Connections at once; one more is answered 503 and closed."""
HEAD = 64 << 10
"""Bytes of a request's head."""
READ_SECONDS = 10.0
"""Time in which a request, head and body, must have come from its first byte on, or from the connection's start."""
WRITE_SECONDS = 30.0
"""Time in which a client must have taken what was written to it."""
IDLE_SECONDS = 5
"""Time that a connection is kept between two requests."""
HEAD_OF_REFUSAL = "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n"


class Deadline:
    """A timer that is started once until it is stopped.

    Args:
        seconds: from its start.
        passed: called then.
    """

    def __init__(self, seconds: float, passed: Callable[[], None]):
        self.seconds, self.passed = seconds, passed
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.seconds, self.passed)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Protocol(H11Protocol):
    """A connection whose client must send and read in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.reading = Deadline(READ_SECONDS, self._unsent)
        self.writing = Deadline(WRITE_SECONDS, transport.abort)
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # writing is paused as soon as the client does not read
        if len(self.connections) > CONNECTIONS:
            self._refuse(Failure(503, "too many connections: try again later", code="busy"))
        else:
            self.reading.start()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reading.stop()
        self.writing.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()  # the next request may have begun

    def pause_writing(self) -> None:
        super().pause_writing()
        self.writing.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.writing.stop()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(Failure(400, "the request is not HTTP/1.1", code="invalid_http"))

    def _watch(self) -> None:
        """Let the deadline run while a request has begun and is not complete."""
        begun = bool(self.conn.trailing_data[0]) or self.timeout_keep_alive_task is None
        if self.conn.their_state is h11.SEND_BODY or (self.conn.their_state is h11.IDLE and begun):
            self.reading.start()
        else:
            self.reading.stop()

    def _unsent(self) -> None:
        self._refuse(Failure(408, f"the request did not come within {READ_SECONDS:g} s", code="timeout"))

    def _refuse(self, failure: Failure) -> None:
        """Answer instead of the application, as far as no answer has begun, and close the connection."""
        LOG.info("- - %d", failure.status)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # what it still sends is dropped
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(failure.content).encode()
            phrase = STATUS_PHRASES[failure.status].decode()
            self.transport.write(HEAD_OF_REFUSAL.format(failure.status, phrase, len(body)).encode() + body)
        self.transport.close()
