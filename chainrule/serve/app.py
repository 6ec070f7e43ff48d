"""The application: which route is answered by what."""

from __future__ import annotations

from fastapi import FastAPI

from chainrule.serve import openai
from chainrule.serve.service import Service


def application(service: Service) -> FastAPI:
    """Return the application that answers for the runs of a service."""
    app = FastAPI(title="chainrule", docs_url="/docs", redoc_url=None)
    app.state.service = service
    app.include_router(openai.router)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app
