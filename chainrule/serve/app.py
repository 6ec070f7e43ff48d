"""The application: which route is answered by what, and what every request passes on its way there."""

from __future__ import annotations

from typing import get_type_hints

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from chainrule.serve import limits, native, openai, page, reference, saving, schema
from chainrule.serve.errors import ErrorBoundary, failure_of
from chainrule.serve.health import PATH, Health, ShutdownGuard
from chainrule.serve.lifecycle import RequestLifecycle
from chainrule.serve.metrics import Metrics, RequestLog
from chainrule.serve.security import ANYBODY, Access, AccessGuard
from chainrule.serve.service import Service


def application(service: Service, access: Access = ANYBODY, seconds: float = limits.SECONDS) -> FastAPI:
    """Return the application that answers for the runs of a service.

    Args:
        service: the runs.
        access: who may ask.
        seconds: time that an answer may take.
    """
    metrics, health = Metrics(service), Health()
    app = FastAPI(
        title="chainrule",
        docs_url=None,  # its page loads scripts from a network
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=schema.operation_id,
        middleware=[  # the outermost first
            Middleware(RequestLog, metrics),
            Middleware(ErrorBoundary),
            Middleware(AccessGuard, access),
            Middleware(ShutdownGuard, health),
            Middleware(RequestLifecycle, seconds),
        ],
        exception_handlers={HTTPException: _answer, RequestValidationError: _answer},
    )
    app.state.service, app.state.health = service, health
    app.include_router(openai.router)
    app.include_router(native.routes())
    schema.describe(app, keyed=access.key is not None)
    app.include_router(page.routes(service))
    app.include_router(saving.router)
    app.add_api_route("/docs", _docs, methods=["GET"], include_in_schema=False)
    told = {
        "response_model": None,
        "summary": "health",
        "description": "Say whether the server lives and takes requests.",
    }
    app.add_api_route(PATH, health.response, methods=["GET"], **told)
    app.add_api_route(PATH, health.response, methods=["HEAD"], include_in_schema=False)
    app.add_api_route(
        "/metrics",
        lambda: _figures(metrics),
        methods=["GET"],
        response_class=Response,
        summary="Return figures for Prometheus.",
    )
    return app


async def _answer(request: Request, error: Exception) -> Response:
    endpoint = request.scope.get("endpoint")
    model = get_type_hints(endpoint).get("body") if isinstance(error, RequestValidationError) else None
    return failure_of(error, request.state.id, model).translated(request.headers).response()


def _docs(request: Request) -> Response:
    return reference.page(request.app, str(request.base_url))


def _figures(metrics: Metrics) -> Response:
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
