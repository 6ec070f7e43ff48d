"""OpenAI's routes: models, completions."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from chainrule.core.noise import derive_seeds
from chainrule.inference.requests import Event
from chainrule.inference.requests import Request as Generation
from chainrule.inference.sampling import Filters
from chainrule.serve.service import Served, Service
from chainrule.tasks.generate.inference import record_rules
from chainrule.tasks.inference import text_of

router = APIRouter(prefix="/v1")


class Completion(BaseModel):
    """The body of a request to /v1/completions."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    prompt: str = ""
    max_tokens: int = Field(16, ge=1, le=4096)
    n: int = Field(1, ge=1, le=16)
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_p: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)
    seed: int = Field(42, ge=0, le=2**63 - 1)
    stream: bool = False


@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    """List the runs."""
    service: Service = request.app.state.service
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "chainrule"} for name in service.runs]
    return {"object": "list", "data": data}


@router.post("/completions")
async def completions(body: Completion, request: Request) -> Any:
    """Continue a prompt."""
    service: Service = request.app.state.service
    served = service.find(body.model)
    head = {
        "id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()),
        "model": served.name,
    }  # fmt: skip
    events = _generate(served, body)
    if body.stream:
        return StreamingResponse(_streamed(served, events, head), media_type="text/event-stream")
    texts: dict[int, list[int]] = {k: [] for k in range(body.n)}
    async for k, event in events:
        texts[k].append(event.token)
    choices = [{"index": k, "text": text_of(served.run, ids), "finish_reason": "length"} for k, ids in texts.items()]
    return JSONResponse({**head, "choices": choices})


async def _generate(served: Served, body: Completion) -> AsyncIterator[tuple[int, Event]]:
    run, loop = served.run, asyncio.get_running_loop()
    found: asyncio.Queue[list[Event]] = asyncio.Queue()
    ids = run.processor.tokenizer.encode(body.prompt.encode()).ids.tolist()
    filters = Filters(body.temperature, top_p=body.top_p)
    requests = [
        Generation(ids, filters, seed, max_tokens=body.max_tokens, **record_rules(run))
        for seed in derive_seeds(body.seed, body.n)
    ]
    assert served.scheduler is not None
    job = served.scheduler.submit(requests, lambda events: loop.call_soon_threadsafe(found.put_nowait, events))
    try:
        while events := await found.get():
            index = {id(handle): k for k, handle in enumerate(job.handles)}
            for event in events:
                yield index[id(event.handle)], event
        if job.error is not None:
            raise job.error
    finally:
        served.scheduler.cancel(job)


async def _streamed(
    served: Served, events: AsyncIterator[tuple[int, Event]], head: dict[str, Any]
) -> AsyncIterator[str]:
    async for k, event in events:
        choice = {"index": k, "text": text_of(served.run, [event.token]), "finish_reason": None}
        yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"
