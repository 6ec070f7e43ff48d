"""The whole process: how it begins, and how it ends at a signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

pytest.importorskip("fastapi")

import httpx2

from tests.serve.shell import small_run

LONG = {"prompt": "the cat", "max_tokens": 4000, "stream": True}
"""A stream that goes on for a few seconds."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_run(tmp_path_factory.mktemp("served"))


@contextmanager
def process(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its URL."""
    command = [
        sys.executable,
        "-m",
        "chainrule",
        "serve",
        *words,
        "--port",
        "0",
        "--threads",
        "1",
        "--precision",
        "fp32",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stderr is not None
            told = started.stderr.readline()
            found = re.search(r"http://[^ ]+", told)
            assert found, told + started.stderr.read()
            yield started, found[0]
        finally:
            started.kill()


class Reader(threading.Thread):
    """A client that reads a stream to its end."""

    def __init__(self, url: str):
        super().__init__()
        self.url, self.text, self.begun = url, "", threading.Event()

    def run(self) -> None:
        with (
            suppress(httpx2.RemoteProtocolError),
            httpx2.stream("POST", f"{self.url}/v1/completions", json=LONG, timeout=60) as answer,
        ):
            for part in answer.iter_text():
                self.text += part
                self.begun.set()


def test_a_signal_lets_what_runs_finish_and_refuses_what_comes(run: str) -> None:
    with process(run) as (server, url):
        reader = Reader(url)
        reader.start()
        assert reader.begun.wait(30)
        server.send_signal(signal.SIGTERM)
        seen = []
        with suppress(httpx2.ConnectError, httpx2.RemoteProtocolError):  # the server has ended
            while True:
                seen.append(httpx2.get(f"{url}/v1/models", timeout=5).status_code)
        assert seen.count(503) > 2 and seen == sorted(seen), seen
        reader.join(10)
        assert '"error"' not in reader.text and reader.text.endswith("data: [DONE]\n\n")
        assert server.wait(10) == 0


def test_a_second_signal_ends_the_process_at_once(run: str) -> None:
    with process(run) as (server, url):
        reader = Reader(url)
        reader.start()
        assert reader.begun.wait(30)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert server.poll() is None, "the stream had ended"
        server.send_signal(signal.SIGTERM)
        assert server.wait(2) == -signal.SIGTERM
        reader.join(10)


def test_a_server_tells_where_it_is_and_ends_with_status_0_and_one_object(run: str) -> None:
    with process(run, "--json", "--log", "errors", "--api-key", "some-key") as (server, url):
        assert httpx2.get(f"{url}/v1/models").status_code == 401
        assert httpx2.get(f"{url}/v1/models", headers={"authorization": "Bearer some-key"}).status_code == 200
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0
        out, err = server.stdout.read(), server.stderr.read()  # type: ignore[union-attr]
        assert out == '{"served": ["cats"]}\n'
        command = f"""curl {url}/v1/completions --json '{{"max_tokens": 40}}' -H 'Authorization: Bearer KEY'"""
        page = f"page: {url}/ (any name; the key is the password)\n"
        assert err == f"{page}routes: {url}/docs; for example: {command}\n"


def test_an_interrupted_server_says_what_still_runs_and_prints_nothing_else(run: str) -> None:
    with process(run, "--log", "errors") as (server, url):
        reader = Reader(url)
        reader.start()
        assert reader.begun.wait(30)
        server.send_signal(signal.SIGINT)
        reader.join(30)
        assert server.wait(10) == 0
        out, err = server.stdout.read(), server.stderr.read()  # type: ignore[union-attr]
        assert out == ""
        assert err.splitlines()[-1] == "stopping: 1 request still running; Ctrl+C again ends it"


def test_the_key_may_come_from_the_environment(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_API_KEY", "another-key")
    with process(run, "--host", "0.0.0.0") as (_, url):
        port = url.rpartition(":")[2]
        assert url == f"http://127.0.0.1:{port}", "an address that works"
        assert httpx2.get(f"http://127.0.0.1:{port}/v1/models").status_code == 401
        headers = {"authorization": "Bearer another-key"}
        assert httpx2.get(f"http://127.0.0.1:{port}/v1/models", headers=headers).status_code == 200
        assert httpx2.get(f"http://127.0.0.1:{port}/v1/models", headers={**headers, "host": "x.org"}).status_code == 403


def test_a_server_without_a_run_is_one_line_with_status_2() -> None:
    done = subprocess.run([sys.executable, "-m", "chainrule", "serve"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "chainrule: the following arguments are required: RUN (see: chainrule serve --help)\n"


def test_what_cannot_be_served_is_one_line_with_status_2(run: str) -> None:
    command = [sys.executable, "-m", "chainrule", "serve", run, "--host", "0.0.0.0", "--port", "0"]
    environment = {**os.environ, "CHAINRULE_API_KEY": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2 and done.stdout == ""
    told = "--host 0.0.0.0: other machines can reach it: give --api-key KEY, or set CHAINRULE_API_KEY"
    assert done.stderr == f"chainrule: {told}\n"
