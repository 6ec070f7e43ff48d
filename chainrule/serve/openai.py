"""OpenAI's routes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from chainrule.serve import chat, completions, embeddings, images, tokenizing
from chainrule.serve.served import Served
from chainrule.serve.service import Service

router = APIRouter()
for routes in (completions, chat, embeddings, images, tokenizing):
    router.include_router(routes.router)


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """List the runs."""
    service: Service = request.app.state.service
    return {"object": "list", "data": [_told(served) for served in service.runs.values()]}


@router.get("/v1/models/{name}")
async def model(name: str, request: Request) -> dict[str, Any]:
    """Tell about a run."""
    service: Service = request.app.state.service
    return _told(service.find(name))


def _told(served: Served) -> dict[str, Any]:
    run, manifest = served.run, served.run.path and served.run.path / "MANIFEST.json"
    created = int(manifest.stat().st_mtime) if manifest and manifest.is_file() else 0
    about = {"task": run.task, "model_type": run.name}
    return {"id": served.name, "object": "model", "created": created, "owned_by": "chainrule", **about}
