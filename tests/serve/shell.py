"""A server around a small run, in this process: with all that requests pass on their way, and routes that fail."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

import chainrule
from chainrule.core import UserError
from chainrule.inference.scheduler import Busy, Closing
from chainrule.serve.errors import Refused
from chainrule.serve.server import Server, listen

GOOD = {"prompt": "the cat", "max_tokens": 5, "temperature": 0, "seed": 3}
"""A request that has one answer."""
ERRORS: dict[str, tuple[Exception, int]] = {
    "user": (UserError("/home/me/run: no such folder; give --top-k 3"), 400),
    "refused": (Refused("n", "n 9000: at most 128"), 422),
    "busy": (Busy("too many requests at once: try again later"), 429),
    "closing": (Closing("the server is closing: try again later"), 503),
    "memory": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), 503),
    "late": (TimeoutError(), 504),
    "bug": (ZeroDivisionError("at 0x7f3a2b in /usr/lib/python3.11/secret.py, version 2.13.0"), 500),
}
"""What routes may raise, and the status of the answer."""


def small_run(folder: Path) -> str:
    """Train a small model for two steps and return its folder."""
    (folder / "text.txt").write_text(
        "".join(f"{k % 7} the cat sat on a {'mat' if k % 3 else 'hat'}\n" for k in range(90))
    )
    out = str(folder / "cats")
    chainrule.train(str(folder / "text.txt"), "gru", out, budget="2steps", set={"size": "tiny"}, threads=1)
    return out


def with_failures(app: FastAPI) -> FastAPI:
    """Add a route for each error, at its beginning and within a stream, and one that never answers."""

    def failing(error: Exception) -> Any:
        async def fail() -> None:
            raise error

        async def begin() -> StreamingResponse:
            async def events() -> AsyncIterator[str]:
                yield "data: {}\n\n"
                raise error

            return StreamingResponse(events(), media_type="text/event-stream")

        return fail, begin

    for name, (error, _) in ERRORS.items():
        fail, begin = failing(error)
        app.add_api_route(f"/fail/{name}", fail)
        app.add_api_route(f"/stream/{name}", begin)
    app.state.ended = []

    @app.post("/wait")
    async def wait() -> dict[str, str]:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            app.state.ended.append(time.monotonic())
            raise
        return {}

    return app


@contextmanager
def served(app: FastAPI) -> Iterator[int]:
    """Serve an application over a socket from a thread, and yield its port."""
    with listen("127.0.0.1", 0) as bound:
        server = Server(app, grace=1.0)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])))
        thread.start()
        try:
            deadline = time.monotonic() + 10
            while not server.started and time.monotonic() < deadline:
                time.sleep(0.01)
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
