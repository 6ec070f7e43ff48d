"""A record of what the server did: a line of the log for each request, without its content; figures for Prometheus."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chainrule.serve.errors import LOG
from chainrule.serve.service import Service

GONE = 499
"""The status, in log and figures, of a request whose client left before the end of its answer (nginx's number)."""


class Metrics:
    """The figures of one server.

    Args:
        service: the runs, whose schedulers tell what they do.
    """

    def __init__(self, service: Service):
        self.service, self.registry = service, CollectorRegistry()
        self.requests = Counter(
            "chainrule_requests", "Requests that were answered", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "chainrule_request_seconds", "Time from the head of a request to the end of its answer", ["route"],
            registry=self.registry,
        )  # fmt: skip
        self.registry.register(self)  # type: ignore[arg-type]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return what the schedulers tell at this moment."""
        found: dict[str, GaugeMetricFamily] = {}
        for one in self.service.runs.values():
            for name, value in one.scheduler.stats().items() if one.scheduler is not None else ():
                named = f"chainrule_engine_{name}"
                family = found.setdefault(name, GaugeMetricFamily(named, f"Of the engine: {name}", labels=["model"]))
                family.add_metric([one.name], value)
        yield from found.values()

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)


class RequestLog:
    """Middleware: gives each request an id, logs it without its content, and counts it.

    Args:
        app: what answers.
        metrics: where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, status, began = uuid.uuid4().hex, GONE, time.perf_counter()
        scope.setdefault("state", {})["id"] = name

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", name.encode())]}
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - began
            status = GONE if scope["state"].get("gone") else status
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.count(route, status, seconds)
            path = scope.get("raw_path", b"").decode("ascii", "replace")[:200]
            LOG.info("%s %s %d %.1f ms %s", scope["method"], path, status, 1000 * seconds, name)
