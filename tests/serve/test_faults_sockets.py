"""Slow, idle, departing and broken clients over real sockets: none of them holds the server or changes an answer."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

pytest.importorskip("fastapi")

import httpx2
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from benchmarks.bad_requests import answers, bad_requests, exchange
from chainrule.serve import protocol
from chainrule.serve.app import application
from chainrule.serve.service import Service, open_service
from tests.serve.shell import GOOD, served, small_run, with_failures

CALM = 0.5
"""Seconds of the deadlines in these tests."""
Connect = Callable[[], socket.socket]


@pytest.fixture(autouse=True)
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READ_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(protocol, name, CALM)


@pytest.fixture
def app() -> FastAPI:
    app = with_failures(application(Service([])))

    async def endless() -> StreamingResponse:
        async def chunks():
            while True:
                app.state.sent = time.monotonic()
                yield b"x" * 65536
                await asyncio.sleep(0)

        return StreamingResponse(chunks())

    app.add_api_route("/endless", endless)
    return app


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = open_service([small_run(tmp_path_factory.mktemp("served"))], threads=1, precision="fp32")
    yield service
    service.close()


@pytest.fixture
def port(app: FastAPI) -> Iterator[int]:
    with served(app) as port:
        yield port


@pytest.fixture
def connect(port: int) -> Iterator[Connect]:
    with ExitStack() as opened:

        def connect() -> socket.socket:
            return opened.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=10)))

        yield connect


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


# --- slow senders -----------------------------------------------------------------------------------------------------

HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
UNFINISHED = {
    "nothing": b"", "half a head": HEAD, "half a line": b"POST /v1/com",
    "no body": HEAD + b"content-length: 100\r\n\r\n",
    "half a body": HEAD + b"content-length: 100\r\n\r\n{",
    "half a chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n9\r\n{",
    "a second request": b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET /heal",
}  # fmt: skip


@pytest.mark.parametrize("name", UNFINISHED)
def test_a_request_that_does_not_come_in_time_is_answered_408_and_closed(connect: Connect, name: str) -> None:
    began, connection = time.monotonic(), connect()
    connection.sendall(UNFINISHED[name])
    received = rest_of(connection)
    assert CALM * 0.9 < time.monotonic() - began < CALM + 1
    assert b"HTTP/1.1 408 Request Timeout" in received and b'"code": "timeout"' in received
    assert received.startswith(b"HTTP/1.1 200") == (name == "a second request")


def test_single_bytes_do_not_prolong_the_deadline(connect: Connect) -> None:
    began, connection = time.monotonic(), connect()
    try:
        while time.monotonic() < began + 10:
            connection.sendall(b"G")
            time.sleep(0.05)
    except OSError:
        pass
    assert time.monotonic() - began < CALM + 1


@pytest.fixture
def slow(app: FastAPI) -> None:
    async def slow() -> dict[str, int]:
        await asyncio.sleep(2 * CALM)
        return {"a": 1}

    app.add_api_route("/slow", slow)


@pytest.mark.usefixtures("slow")
def test_a_good_request_that_takes_longer_than_the_deadline_to_answer_is_answered(port: int) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/slow").json() == {"a": 1}
        time.sleep(2 * CALM)  # idle for less than the connection is kept
        assert client.get("/health").status_code == 200


@pytest.mark.usefixtures("slow")
def test_the_deadline_of_a_second_request_begins_when_the_first_was_answered(connect: Connect) -> None:
    began, connection = time.monotonic(), connect()
    connection.sendall(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\nGET /heal")
    received = rest_of(connection)
    assert answers(received) == [200, 408]
    assert 2.9 * CALM < time.monotonic() - began < 3 * CALM + 1


def test_a_request_on_a_connection_that_was_idle_has_a_deadline_too(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert answers(connection.recv(65536)) == [200]
    time.sleep(1.5 * CALM)
    began = time.monotonic()
    connection.sendall(b"GET /heal")
    assert answers(rest_of(connection)) == [408]
    assert time.monotonic() - began < CALM + 1


def test_three_hundred_slow_clients_are_closed_and_good_ones_answered_meanwhile(port: int, connect: Connect) -> None:
    began, slow = time.monotonic(), [connect() for _ in range(300)]
    for k, connection in enumerate(slow):
        connection.sendall(list(UNFINISHED.values())[1 + k % 5])
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/health").status_code == 200
    for connection in slow:
        assert b" 408 " in rest_of(connection)
    assert time.monotonic() - began < CALM + 5


def test_connections_beyond_the_most_are_told_so(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)
    monkeypatch.setattr(protocol, "READ_SECONDS", 60.0)  # those that are held stay, however slow the machine is
    held = [connect() for _ in range(3)]
    time.sleep(0.1)
    assert b"HTTP/1.1 503 Service Unavailable" in rest_of(connect())
    held[0].close()
    time.sleep(0.1)
    fourth = connect()
    fourth.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    assert b"HTTP/1.1 200" in rest_of(fourth)


# --- slow readers and clients that leave ------------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_cut_off(connect: Connect, app: FastAPI) -> None:
    connection = connect()
    connection.sendall(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")
    time.sleep(CALM + 1)
    last = app.state.sent
    time.sleep(0.2)
    assert app.state.sent == last, "the stream goes on"
    assert len(rest_of(connection)) < 32 << 20  # what the buffers of the system held


def test_the_answer_to_a_client_that_has_left_is_cancelled(connect: Connect, app: FastAPI) -> None:
    connection = connect()
    connection.sendall(b"POST /wait HTTP/1.1\r\nhost: localhost\r\n\r\n")
    time.sleep(0.1)
    assert app.state.ended == []
    connection.close()
    time.sleep(0.2)
    assert len(app.state.ended) == 1


def test_clients_that_leave_free_their_places(service: Service) -> None:
    scheduler = next(iter(service.runs.values())).scheduler
    assert scheduler is not None
    with served(application(service)) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for k in range(20):
            body = {**GOOD, "max_tokens": 4000, "stream": k % 2 == 0}
            with (
                suppress(httpx2.TimeoutException),
                client.stream("POST", "/v1/completions", json=body, timeout=0.1) as got,
            ):
                assert got.status_code == 200
                next(got.iter_bytes())
        deadline = time.monotonic() + 2
        while scheduler.stats()["jobs"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert scheduler.stats()["jobs"] == 0
        tokens = scheduler.stats()["tokens"]
        assert 20 <= tokens < 20 * 4000


# --- broken requests --------------------------------------------------------------------------------------------------


def test_two_hundred_bad_requests_are_refused_and_change_nothing(service: Service) -> None:
    with served(application(service)) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        good = json.dumps(GOOD).encode()

        def answer() -> list[dict]:
            return client.post("/v1/completions", json=GOOD).json()["choices"]

        before = answer()
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seen: dict[str, set[int]] = {}
        for case in bad_requests(200, seed=1, targets=[("/v1/completions", good)]):
            found = answers(exchange(port, case.data, timeout=5))
            assert all(400 <= status < 500 for status in found[case.good :]), (case.name, found)
            assert found or case.may_be_cut, case.name
            seen.setdefault(case.name, set()).update(found)
        assert len(seen) > 25
        assert answer() == before
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1.05 * size
