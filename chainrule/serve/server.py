"""The process that serves: its socket, its log, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

from chainrule.core import MachineError, UserError
from chainrule.inference.scheduler import QUEUE
from chainrule.serve import limits, reference
from chainrule.serve.app import application
from chainrule.serve.errors import LOG
from chainrule.serve.protocol import HEAD, IDLE_SECONDS, Protocol
from chainrule.serve.security import Access
from chainrule.serve.service import Service, open_service

MOST_SECONDS = 3600.0
"""Time that an answer may take at most."""
GRACE = 30.0
"""Seconds in which a server that is told to stop finishes what runs."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address; it takes no connection before the server runs.

    Args:
        host: a name or an address of this machine.
        port: 0: any that is free.

    Raises:
        UserError: no such address, or its port is in use.
        MachineError: the port needs other rights.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)  # asyncio sends at once (TCP_NODELAY) only where TCP is named
    except OSError as error:
        raise UserError(
            f"--host {host}: {error.strerror or error}; give a name or an address of this machine"
        ) from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
        found.bind(address)
    except PermissionError:
        raise MachineError(f"--port {port}: no permission; give one above 1023") from None
    except OSError as error:
        found.close()
        told = "in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
        other = "--host" if error.errno == errno.EADDRNOTAVAIL else "--port"
        raise UserError(f"--host {host} --port {port}: {told}; give another {other}") from None
    return found


def is_local(bound: socket.socket) -> bool:
    """Return whether only this machine reaches a socket."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


class Server(uvicorn.Server):
    """A server that, told to stop, first finishes what runs and refuses what comes; told again, ends at once.

    Args:
        app: the application.
        grace: seconds for what runs.
    """

    def __init__(self, app: FastAPI, grace: float = GRACE):
        config = uvicorn.Config(
            app, http=Protocol, ws="none", lifespan="off", log_config=None, log_level=logging.ERROR, access_log=False,
            server_header=False, proxy_headers=False, headers=[("x-content-type-options", "nosniff")],
            timeout_keep_alive=IDLE_SECONDS, h11_max_incomplete_event_size=HEAD, timeout_graceful_shutdown=1,
        )  # fmt: skip
        super().__init__(config)
        self.health, self.grace = app.state.health, grace

    def stop(self) -> None:
        """Begin to stop. A second signal has its usual effect, and ends the process."""
        self.should_exit = True
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM and SIGINT, where this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, lambda *_: self.stop())
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for what runs, then close."""
        self.health.stopping = True
        if running := len(self.server_state.tasks):
            told = f"stopping: {running} {'request' if running == 1 else 'requests'} still running; Ctrl+C again ends "
            print(f"{told}{'it' if running == 1 else 'them'}", file=sys.stderr, flush=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.grace):
                while self.server_state.tasks:
                    await asyncio.sleep(0.02)
        await super().shutdown(sockets)


@dataclass(frozen=True)
class Settings:
    """The settings of a server.

    Args:
        host: the name or address to listen at.
        port: 0: any that is free.
        key: what every request must show; None: nothing.
        allow_host: more names that clients ask for it by.
        timeout: seconds that an answer may take.
        queue: requests that wait or run at once, for each run.
        log: "requests" or "errors".
        speculate: "auto", "on" or "off".

    Raises:
        UserError: a value that cannot be used.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = None
    allow_host: tuple[str, ...] = ()
    timeout: float = limits.SECONDS
    queue: int = QUEUE
    log: str = "requests"
    speculate: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port {self.port}: 0 to 65535")
        if not 0 < self.timeout <= MOST_SECONDS:
            raise UserError(f"--timeout {self.timeout:g}: more than 0, and at most {MOST_SECONDS:g} s")
        if self.queue < 1:
            raise UserError(f"--queue {self.queue}: at least 1")
        if self.key is not None and not re.fullmatch("[!-~]+", self.key):
            raise UserError(
                "--api-key: give at least one character, of letters A to z, digits and signs such as - and _; no spaces"
            )


def serve(paths: Iterable[str], settings: Settings, machine: dict[str, Any]) -> list[str]:
    """Serve runs until a signal comes.

    Args:
        paths: folders of runs or boards.
        settings: of the server.
        machine: device, precision and threads.

    Returns:
        The names of the runs.

    Raises:
        UserError: an address that cannot be used, one for other machines without a key, or what cannot be served.
    """
    bound = listen(settings.host, settings.port)
    with contextlib.closing(bound):
        if settings.key is None and not is_local(bound):
            told = "other machines can reach it: give --api-key KEY, or set CHAINRULE_API_KEY"
            raise UserError(f"--host {settings.host}: {told}")
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        LOG.setLevel(logging.INFO if settings.log == "requests" else logging.ERROR)
        service = open_service(paths, queue=settings.queue, speculate=settings.speculate, **machine)
        access = Access(frozenset({settings.host.lower(), *map(str.lower, settings.allow_host)}), settings.key)
        server = Server(application(service, access, settings.timeout))
        gc.collect()
        gc.freeze()  # a full collection would go through everything loaded so far, and stop all answers for 0.15 s
        for line in _greeting(bound, settings, service):
            print(line, file=sys.stderr, flush=True)
        asyncio.run(server.serve([bound]))
        service.close()
        return list(service.runs)


def _greeting(bound: socket.socket, settings: Settings, service: Service) -> Iterator[str]:
    """Lines that say what is served, where, how to ask and how to stop."""
    address, port = bound.getsockname()[:2]
    everywhere = ipaddress.ip_address(address.partition("%")[0]).is_unspecified
    if everywhere:
        address = "::1" if ":" in address else "127.0.0.1"
    url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
    also = " and at every other address of this machine" if everywhere else ""
    yield f"serving {', '.join(service.runs) or 'no run yet'} at {url}{also} (Ctrl+C stops)"
    yield f"page: {url}/" + (" (any name; the key is the password)" if settings.key else "")
    for name, folder in service.boards.items():
        if not service.runs:
            yield f"{folder}: no run of {name} is finished: its page shows how they come along"
    key = " -H 'Authorization: Bearer KEY'" if settings.key else ""
    example = reference.request(url, next(iter(service.runs.values())).run) if service.runs else f"curl {url}/v1/models"
    yield f"routes: {url}/docs; for example: {example}{key}"
