"""Measure what a server survives: bad requests, hostile numbers, slow clients, overload, clients that leave, signals.

    python benchmarks/serve_faults.py [--only requests,numbers,slow,overload,leave,access,stop,deployed] [--seconds 60]

Each part yields lines of a table. A control does the same to the routes alone under plain uvicorn, without what every
request passes in ``chainrule serve``, and must fail.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from bad_requests import answers, bad_requests, exchange
from evidence_main import CHAINRULE, ROOT, Line, chainrule, line
from serve_container import container

KEY = "a-key-of-the-evidence"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "the", "max_tokens": 8, "temperature": 0, "seed": 1, "n": 1, "top_p": 1.0},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "the"}], "max_tokens": 8, "temperature": 0},
    "/tokenize": {"prompt": "the"}, "/detokenize": {"tokens": [1, 2]}, "/v1/predict": {"input": ["the"], "top_k": 3},
    "/v1/score": {"input": ["the"]},
}  # fmt: skip
"""Good requests, for the routes that there are."""
NUMBERS = ["-1", "0", "1e9", "2147483648", "9223372036854775808", "NaN", "Infinity", "1e400", '"1"', "[]", "true"]
LEAK = re.compile(r"0x[0-9a-f]{4}|/root|/home|/usr|/work|site-packages|Traceback|\.py\b|\d+\.\d+\.\d+")
PLAIN = (
    "import sys, uvicorn; from fastapi import FastAPI; from chainrule.serve import openai; "
    "from chainrule.serve.service import open_service; app = FastAPI(debug=True); "
    "app.state.service = open_service([sys.argv[1]], threads=1); app.include_router(openai.router); "
    "app.add_api_route('/health', lambda: {}); uvicorn.run(app, port=int(sys.argv[2]), log_level='critical')"
)
"""The control: the routes alone."""


@dataclass
class Served:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]

    def good(self) -> list[Any]:
        """The answers to the good requests that the server knows, without what names a request."""
        with httpx2.Client(base_url=self.url, timeout=60) as client:
            found = [client.post(path, json=body) for path, body in targets(self)]
        assert all(answer.status_code == 200 for answer in found), [answer.text for answer in found]
        return [{k: v for k, v in answer.json().items() if k not in ("id", "created")} for answer in found]


@contextmanager
def serving(run: Path, *words: str, control: bool = False) -> Iterator[Served]:
    """Start a server on a free port, and end it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    begun = [*CHAINRULE, "serve", str(run), "--port", str(port), "--threads", "1", "--log", "errors", *words]
    command = [sys.executable, "-c", PLAIN, str(run), str(port)] if control else begun
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    try:
        for _ in range(600):
            with suppress(httpx2.TransportError):
                if httpx2.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    break
            time.sleep(0.1)
        yield Served(process, port)
    finally:
        process.kill()
        process.wait()


def targets(served: Served, headers: dict[str, str] | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Routes that the server has, with good bodies."""
    paths = httpx2.get(f"{served.url}/openapi.json", headers=headers).json()["paths"]
    return [(path, body) for path, body in BODIES.items() if path in paths]


def share(times: list[float], at: float) -> float:
    """The quantile of some times, in milliseconds."""
    return 1000 * statistics.quantiles(times, n=1000, method="inclusive")[round(1000 * at) - 1]


# --- bad requests -----------------------------------------------------------------------------------------------------


def sent(served: Served, count: int, timeout: float = 15.0) -> tuple[Counter[str], list[str]]:
    """Send bad requests; return how many had each class of status, and what in their answers should not be there."""
    found, leaks = Counter[str](), []
    good = [(path, json.dumps(body).encode()) for path, body in targets(served)]
    for case in bad_requests(count, seed=1, targets=good):
        received = exchange(served.port, case.data, timeout=timeout)
        statuses = answers(received)[case.good :]
        found.update(f"{status // 100}xx" for status in statuses)
        found["cut" if case.may_be_cut else "no answer"] += not statuses
        leaks += LEAK.findall(received.decode(errors="replace").partition("\r\n\r\n")[2])
    return found, leaks


def requests(run: Path, _seconds: float) -> Iterator[Line]:
    """S1, S8: a thousand bad requests."""
    command = "benchmarks/bad_requests.py, seed 1"
    with serving(run) as served:
        served.good()
        sent(served, 200)  # what is allocated once
        before, size = served.good(), served.memory()
        found, leaks = sent(served, 1000)
        same, grown = served.good() == before, served.memory() / size - 1
        alive = served.process.poll() is None
    yield line(
        "1,000 bad requests: none but 4xx", "4xx: 1,000", str(dict(+found)), set(+found) <= {"4xx", "cut"}, command
    )
    yield line("the same process, and the same answers after them", "yes", str(alive and same), alive and same, command)
    yield line("memory grown by", "< 5 %", f"{grown:+.1%}", grown < 0.05, command)
    yield line("paths, addresses, versions in their answers", "0", len(leaks), not leaks, command)
    with serving(run, control=True) as served:
        found, leaks = sent(served, 200, timeout=2.0)
    told = f"{dict(+found)}, {len(leaks)} leaks"
    yield line("control: 200 to the routes alone", "must fail", told, not set(+found) <= {"4xx", "cut"}, command)


def fields(schema: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Numeric fields of a body, with their bounds."""
    properties = schema["components"]["schemas"][name]["properties"]
    kinds = {field: [about, *about.get("anyOf", [])] for field, about in properties.items()}
    numeric = {f: [kind for kind in found if kind.get("type") in ("integer", "number")] for f, found in kinds.items()}
    return {field: found[0] for field, found in numeric.items() if found}


def allowed(value: str, bounds: dict[str, Any]) -> bool:
    """Return whether a field takes a value of ``NUMBERS``."""
    if not re.fullmatch(r"-?\d+", value):
        return False
    return bounds.get("minimum", 0) <= int(value) <= bounds.get("maximum", bounds.get("exclusiveMaximum", 0))


def numbers(run: Path, _seconds: float) -> Iterator[Line]:
    """S2: every number at values that are out of range or of another type."""
    slow, refused, failed = 0.0, 0, []
    with serving(run) as served, httpx2.Client(base_url=served.url, timeout=60) as client:
        schema = client.get("/openapi.json").json()
        for path, body in targets(served):
            reference = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            found = fields(schema, reference.rpartition("/")[2])
            for field, value in [(f, v) for f, bounds in found.items() for v in NUMBERS if not allowed(v, bounds)]:
                rest = json.dumps({k: v for k, v in body.items() if k != field})[:-1]
                content, began = f'{rest}, "{field}": {value}}}'.encode(), time.perf_counter()
                status = client.post(path, content=content, headers={"content-type": "application/json"}).status_code
                slow, refused = max(slow, time.perf_counter() - began), refused + 1
                if not 400 <= status < 500:
                    failed.append(f"{path} {field}={value}: {status}")
    command = "every numeric field of /openapi.json x " + ", ".join(NUMBERS)
    told = f"{refused}; not: {failed}" if failed else refused
    yield line("numbers out of range or of another type", "refused by 4xx", told, not failed, command)
    yield line("the slowest refusal", "< 50 ms", f"{1000 * slow:.1f} ms", slow < 0.05, command)


# --- slow clients and overload ----------------------------------------------------------------------------------------


def timed(url: str, seconds: float) -> list[float]:
    """Seconds that /v1/models takes, asked again and again."""
    times, end = [], time.monotonic() + seconds
    with httpx2.Client(base_url=url, timeout=30) as client:
        while time.monotonic() < end:
            began = time.perf_counter()
            client.post("/v1/completions", json=BODIES["/v1/completions"]).raise_for_status()
            times.append(time.perf_counter() - began)
    return times


def crawl(port: int, count: int, seconds: float) -> list[float]:
    """Open slow connections, a byte every two seconds, and return when each was closed; infinity: it was not."""
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    begun = [head, head + b"content-length: 100000\r\n\r\n"]
    opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    began, closed = time.monotonic(), [float("inf")] * count
    for k, connection in enumerate(opened):
        connection.sendall(begun[k % 2])
        connection.setblocking(False)
    while time.monotonic() < began + seconds and float("inf") in closed:
        for k, connection in enumerate(opened):
            if closed[k] == float("inf"):
                try:
                    connection.sendall(b"x")
                    if connection.recv(65536):
                        closed[k] = time.monotonic() - began
                except BlockingIOError:
                    continue
                except OSError:
                    closed[k] = time.monotonic() - began
        time.sleep(2)
    for connection in opened:
        connection.close()
    return closed


def slow(run: Path, _seconds: float) -> Iterator[Line]:
    """S3: three hundred slow connections while good requests go on."""
    command = "300 sockets, a byte every 2 s, half of them in the head and half in the body"
    with serving(run) as served:
        timed(served.url, 2)
        calm, busy = timed(served.url, 9), []
        beside = threading.Thread(target=lambda: busy.extend(timed(served.url, 9)))
        beside.start()
        closed = crawl(served.port, 300, 14)
        beside.join()
    yield line(
        "300 slow connections: the last is closed after", "≤ 12 s", f"{max(closed):.1f} s", max(closed) <= 12, command
    )
    for name, at in (("median", 0.5), ("p99", 0.99)):
        before, meanwhile = share(calm, at), share(busy, at)
        told = f"{meanwhile:.1f} ms, {before:.1f} ms without them"
        yield line(f"good requests meanwhile, {name}", "≤ 2x", told, meanwhile <= 2 * before, command)
    with serving(run, control=True) as served:
        closed = crawl(served.port, 300, 14)
    left = sum(value > 12 for value in closed)
    yield line("control: still open after 12 s with the routes alone", "must fail", left, left > 0, command)


def overload(run: Path, seconds: float) -> Iterator[Line]:
    """S4: four times what the server can do."""
    body, places = {**BODIES["/v1/completions"], "max_tokens": 400}, 8
    with serving(run, "--queue", str(places)) as served:
        alone = _alone(served, body, 20)
        rate = 4 * asyncio.run(_capacity(served.url, body, places, 5.0))
        command = f"400 tokens each, {rate:.0f} requests/s, --queue {places}, {seconds:g} s"
        found = asyncio.run(_flood(served.url, body, rate, seconds))
        time.sleep(5)
        after = _alone(served, body, 20)
    statuses = Counter(status for status, _, _ in found)
    taken = [t for status, t, _ in found if status == 200]
    refused = [t for status, t, _ in found if status == 429]
    told = all(again for status, _, again in found if status == 429)
    limit = (places + 1) * share(alone, 0.99)
    yield line("overload 4x: statuses", "200 and 429", str(dict(statuses)), set(statuses) == {200, 429}, command)
    yield line(
        "accepted, p99", f"≤ {limit:.0f} ms", f"{share(taken, 0.99):.0f} ms", share(taken, 0.99) <= limit, command
    )
    quick = f"{share(refused, 0.99):.1f} ms, median {share(refused, 0.5):.1f} ms"
    yield line("refused, p99", "< 50 ms", quick, share(refused, 0.99) < 50, command)
    yield line("refused with Retry-After", "all", str(told), told, command)
    before, back = share(alone, 0.5), share(after, 0.5)
    told_back = f"{back:.0f} ms, {before:.0f} ms before"
    yield line("median 5 s after the load", "within 10 %", told_back, back <= 1.1 * before, command)


def _alone(served: Served, body: dict[str, Any], count: int) -> list[float]:
    times = []
    with httpx2.Client(base_url=served.url, timeout=60) as client:
        for _ in range(count):
            began = time.perf_counter()
            client.post("/v1/completions", json=body).raise_for_status()
            times.append(time.perf_counter() - began)
    return times


async def _capacity(url: str, body: dict[str, Any], clients: int, seconds: float) -> float:
    """Requests per second that are answered where so many clients ask again at once."""
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:

        async def ask() -> int:
            count = 0
            while time.perf_counter() < end:
                (await client.post("/v1/completions", json=body)).raise_for_status()
                count += 1
            return count

        end = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(ask() for _ in range(clients)))) / seconds


async def _flood(url: str, body: dict[str, Any], rate: float, seconds: float) -> list[tuple[int, float, bool]]:
    """Requests at a rate, whether earlier ones were answered or not: status, time, and whether Retry-After came."""
    async with httpx2.AsyncClient(base_url=url, timeout=60, limits=httpx2.Limits(max_connections=200)) as client:

        async def ask() -> tuple[int, float, bool]:
            began = time.perf_counter()
            answer = await client.post("/v1/completions", json=body)
            return answer.status_code, time.perf_counter() - began, "retry-after" in answer.headers

        asked, began = [], time.perf_counter()
        while (now := time.perf_counter() - began) < seconds:
            asked.append(asyncio.create_task(ask()))
            await asyncio.sleep(max(0.0, len(asked) / rate - now))
        return await asyncio.gather(*asked)


# --- clients that leave, access, signals ------------------------------------------------------------------------------


def engine(served: Served) -> dict[str, float]:
    """What /metrics says of the engine."""
    text = httpx2.get(f"{served.url}/metrics").text
    return {name: float(value) for name, value in re.findall(r"^chainrule_engine_(\w+)\{.*\} (\S+)$", text, re.M)}


def leave(run: Path, _seconds: float) -> Iterator[Line]:
    """S5: clients that leave, half of them in the middle of a stream, half while they wait for an answer."""
    command = "200 requests for 4,000 tokens, whose clients leave after 20 ms"
    with serving(run, "--queue", "300") as served, httpx2.Client(base_url=served.url) as client:
        for k in range(200):
            body = {**BODIES["/v1/completions"], "max_tokens": 4000, "stream": k % 2 == 0}
            with (
                suppress(httpx2.TimeoutException),
                client.stream("POST", "/v1/completions", json=body, timeout=0.02) as got,
            ):
                next(got.iter_bytes())
        time.sleep(1)
        now = engine(served)
        time.sleep(0.5)
        later = engine(served)
    names = [name for name in ("jobs", "requests", "queued", "rows") if name in now]
    told = ", ".join(f"{name} {now[name]:g}" for name in names)
    yield line("200 clients that left: places a second later", "0", told, not any(now[name] for name in names), command)
    more = later.get("tokens", 0) - now.get("tokens", 0)
    yield line("tokens generated for nobody after that", "0", more, more == 0, command)


def access(run: Path, _seconds: float) -> Iterator[Line]:
    """S6: every route without the key, and an address that others reach."""
    with serving(run, "--api-key", KEY) as served:
        keyed = {"authorization": f"Bearer {KEY}"}
        paths = httpx2.get(f"{served.url}/openapi.json", headers=keyed).json()["paths"]
        routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
        routes += [("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/"), ("GET", "/nothing")]
        shown: list[dict[str, str]] = [{}, {"authorization": "Bearer"}, {"authorization": f"Bearer {KEY}x"}]
        open_ = {
            path for headers in shown for method, path in routes
            if httpx2.request(method, served.url + path, headers=headers).status_code != 401
        }  # fmt: skip
        foreign = httpx2.get(f"{served.url}/v1/models", headers={**keyed, "host": "evil.example"}).status_code
    command = f"{len(routes)} routes without a key, with an empty one and a wrong one"
    yield line("routes open without the key", "/health alone", ", ".join(sorted(open_)), open_ == {"/health"}, command)
    yield line("a foreign name in the Host header", "403", foreign, foreign == 403, "curl -H 'Host: evil.example'")
    words = [*CHAINRULE, "serve", str(run), "--host", "0.0.0.0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    told = f"status {done.returncode}: {done.stderr.strip()}"
    yield line("another address without a key", "refused", told, done.returncode == 2, "chainrule serve --host 0.0.0.0")


def stop(run: Path, _seconds: float) -> Iterator[Line]:
    """SIGTERM: what runs is finished, what comes is refused."""
    with serving(run) as served:
        body, whole = {**BODIES["/v1/completions"], "max_tokens": 4000, "stream": True}, []
        begun = threading.Semaphore(0)

        def read() -> None:
            with httpx2.stream("POST", f"{served.url}/v1/completions", json=body, timeout=60) as answer:
                for k, part in enumerate(answer.iter_text()):
                    whole.append(part)
                    if k == 0:
                        begun.release()

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for _ in readers:
            begun.acquire(timeout=30)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        refused = httpx2.get(f"{served.url}/v1/models").status_code
        for reader in readers:
            reader.join()
        status = served.process.wait(40)
    ended = "".join(whole).count("data: [DONE]")
    command = "kill -TERM while 4 streams run"
    yield line("streams that ended as they should", "4", ended, ended == 4, command)
    yield line("a request that comes meanwhile", "503", refused, refused == 503, command)
    yield line("exit status", "0", status, status == 0, command)


def deployed(run: Path, _seconds: float) -> Iterator[Line]:
    """The commands of the Dockerfile, without Docker."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        Path(work).chmod(0o755)  # for the image's user
        yield from container(run, Path(work))


PARTS: dict[str, Callable[[Path, float], Iterator[Line]]] = {
    "requests": requests, "numbers": numbers, "slow": slow, "overload": overload, "leave": leave, "access": access,
    "stop": stop, "deployed": deployed,
}  # fmt: skip


def faults(_data: Path, work: Path, seconds: float = 60.0, only: tuple[str, ...] = tuple(PARTS)) -> Iterator[Line]:
    """Yield the lines of all parts, against a run of a GRU that is trained first."""
    run = work / "faults-gru"
    if not run.exists():
        text = ROOT / "examples" / "data" / "macbeth.txt"
        chainrule("train", str(text), "--model", "gru", "--budget", "5s", "--out", str(run), "--threads", "1")
    for name in only:
        yield from PARTS[name](run, seconds)


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the overload")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for found in faults(Path(), Path(work), given.seconds, tuple(given.only.split(","))):
            print(
                "ok  " if found["ok"] else "FAIL", f"{found['claim']}: {found['value']} ({found['target']})", flush=True
            )


if __name__ == "__main__":
    main()
