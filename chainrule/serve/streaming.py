"""Answers as streams of server-sent events, as OpenAI's clients read them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse

T = TypeVar("T")


async def started(items: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Return the items as soon as the first one has come: what cannot begin raises its error here, before an answer."""
    first = await anext(items, None)

    async def from_the_first() -> AsyncGenerator[T]:
        async with aclosing(items):
            if first is not None:
                yield first
            async for item in items:
                yield item

    return from_the_first()


def streamed(chunks: AsyncGenerator[dict[str, Any]]) -> StreamingResponse:
    """Return an answer of chunks. It ends without ``[DONE]`` where an error comes while they are sent."""

    async def lines() -> AsyncGenerator[str]:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield f"data: {json.dumps(chunk, allow_nan=False)}\n\n"
            yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"cache-control": "no-cache"})
