"""What every request meets whatever its route: errors of one form, keys, names, limits, the log and figures."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")

import httpx2
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.testclient import TestClient

from chainrule.core import UserError
from chainrule.serve import errors, limits
from chainrule.serve.app import application
from chainrule.serve.security import LOCAL, Access
from chainrule.serve.server import Server, Settings, is_local, listen, serve
from chainrule.serve.service import Service, check_task, open_service
from tests.serve.shell import ERRORS, GOOD, small_run, with_failures

KEY = "a-key-of-some-length"
LEAK = re.compile(r"0x[0-9a-f]{4}|/home|/usr|Traceback|\.py|\d+\.\d+\.\d+")
"""What no answer may hold: addresses, paths, tracebacks, versions."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_run(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def service(run: str) -> Iterator[Service]:
    service = open_service([run], threads=1, precision="fp32", speculate="off")
    yield service
    service.close()


@pytest.fixture
def app(service: Service) -> FastAPI:
    return with_failures(application(service))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    """The error of an answer, whose form is checked."""
    body = answer.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert isinstance(body["error"]["message"], str)
    assert isinstance(body["error"]["type"], str)
    return body["error"]


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ERRORS)
def test_whatever_a_route_raises_is_an_answer_of_one_form(client: TestClient, name: str) -> None:
    answer = client.get(f"/fail/{name}")
    assert answer.status_code == ERRORS[name][1]
    assert not LEAK.search(answer.text)
    error = error_of(answer)
    assert (answer.headers.get("retry-after") is not None) == (name in ("busy", "closing", "memory"))
    assert (error["param"] == "n") == (name == "refused")


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_within_a_stream_is_its_last_event(client: TestClient, name: str) -> None:
    answer = client.get(f"/stream/{name}")
    events = [event.removeprefix("data: ") for event in answer.text.strip().split("\n\n")]
    assert answer.status_code == 200 and len(events) == 2
    assert "message" in json.loads(events[1])["error"]
    assert not LEAK.search(events[1])


def test_a_bug_is_answered_with_the_id_under_which_the_log_has_the_traceback(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.get("/fail/bug")
    name = answer.headers["x-request-id"]
    assert error_of(answer)["message"].endswith(name)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert name in record.getMessage() and record.exc_info is not None


@pytest.mark.parametrize(
    ("given", "status", "field", "told"),
    [
        ({"max_tokens": 10**9}, 422, "max_tokens", "max_tokens 1000000000: should be at most 4096"),
        ({"n": "1"}, 422, "n", 'n "1": should be a whole number'),
        ({"best_off": 2}, 422, "best_off", "best_off 2: no field of this request; did you mean 'best_of'?"),
        ({"best_off": 2, "n": 0}, 422, "best_off", "did you mean 'best_of'?; n 0: should be at least 1"),
        ({f"x{k}": 1 for k in range(9)}, 422, "x0", "(and 5 more)"),
        ({"model": "mice"}, 404, "model", 'model "mice": not served here; there is cats'),
        ({"stop": ""}, 422, "stop", 'stop "": should have at least 1 character'),
        ({"stop": 5}, 422, "stop", "stop 5: should be a string or a list"),
        ({"stop": ["a", 5]}, 422, "stop[1]", "stop[1] 5: should be a string"),
        ({"stream": 1}, 422, "stream", "stream 1: should be true or false"),
        ({"prompt": ["a"] * 200}, 422, "prompt", "200 texts or lists of token ids, at most 128"),
        ({"user": "me"}, 422, "user", 'user "me": not supported; leave it out, or send "", which changes nothing'),
        ({"presence_penalty": 1}, 422, "presence_penalty", "or send 0, which changes nothing"),
        ({"best_of": 3}, 422, "best_of", "best_of 3: not supported unless it is n, here 1"),
    ],
)
def test_a_mistake_names_its_field_and_what_is_accepted(
    client: TestClient, given: dict[str, Any], status: int, field: str, told: str
) -> None:
    answer = client.post("/v1/completions", json={**GOOD, **given})
    assert answer.status_code == status
    assert error_of(answer)["param"] == field
    assert told in error_of(answer)["message"]


MISTAKES = 20_000
"""Mistakes in one body."""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {**GOOD, **{f"field{k}": 1 for k in range(MISTAKES)}}),
        ("/v1/chat/completions", {"messages": [{}] * MISTAKES}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{}] * MISTAKES}]}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "x", **dict.fromkeys(map(str, range(99)))}]},
        ),
        ("/detokenize", {"tokens": ["a"] * MISTAKES}),
        ("/v1/predict", {"input": [[None] * MISTAKES]}),
        ("/v1/predict", {"input": "x", **{f"field{k}": 1 for k in range(MISTAKES)}}),
    ],
    ids=["fields", "messages", "parts", "fields of a message", "ids", "events", "fields of a command"],
)
def test_mistakes_are_not_gathered_by_the_thousand(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    """Each one that is kept takes more than a kilobyte."""
    most: list[int] = []
    monkeypatch.setattr(errors, "_invalid", lambda found, *_: most.append(len(found)) or errors.Failure(422, "wrong"))
    assert client.post(path, json=body).status_code == 422
    assert most[0] <= 4


@pytest.mark.parametrize(
    ("path", "body", "field", "told"),
    [
        ("/v1/chat/completions", {"messages": []}, "messages", "messages []: should have at least 1 item"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages[0].content",
         "messages[0].content 5: should be a string or a list"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x", "naem": "y"}]}, "messages[0].naem",
         "no field of this request; allowed: content, role"),
        ("/v1/chat/completions", {"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role",
         'should be "system", "developer", "user" or "assistant"'),
        ("/v1/predict", "home", None, 'the body "home": should be an object'),
        ("/v1/predict", {"inputs": [["home"]]}, "inputs",
         "inputs [[\"home\"]]: no field of this request; did you mean 'input'?; input: must be given"),
        ("/v1/predict", {"input": [["a"], ["a"] * 70_000]}, "input[1]", "input[1]: 70,000 events, at most 65,536"),
        ("/v1/predict", {"input": ["a"] * 2000}, "input", "input: 2,000 texts or lists of events, at most 1,024"),
        ("/v1/translate", {"input": "a", "must": [1]}, "must[0]", "must[0] 1: should be a string"),
        ("/v1/tag", {"input": ["a", 5]}, "input", "should be a text, or a list of 1 to 1,024 texts or lists of tokens"),
        ("/detokenize", {"tokens": [1.5]}, "tokens[0]", "tokens[0] 1.5: should be a whole number"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_the_words_of_json_at_the_place_where_they_are(
    client: TestClient, path: str, body: Any, field: str | None, told: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422 and error_of(answer)["param"] == field
    assert told in error_of(answer)["message"]


def test_parameters_of_the_address_are_refused_by_name_where_they_would_be_ignored(client: TestClient) -> None:
    answer = client.post("/v1/completions?top_k=2", json=GOOD)
    assert answer.status_code == 422 and error_of(answer)["param"] == "top_k"


def test_a_method_that_is_not_answered_names_the_one_that_is(client: TestClient) -> None:
    assert error_of(client.get("/v1/completions"))["message"].endswith("use POST")
    assert client.head("/health").status_code == 200


def test_the_document_of_the_routes_tells_the_errors_that_there_are_and_the_key(service: Service) -> None:
    for access, security in ((Access(key=KEY), [{"bearer": []}]), (Access(), [{"bearer": []}, {}])):
        document = TestClient(application(service, access), headers={"authorization": f"Bearer {KEY}"}).get(
            "/openapi.json"
        )
        found = document.json()
        assert "ValidationError" not in document.text and "lambda" not in document.text and "``" not in document.text
        assert (
            '"maximum":9223372036854775807}' in document.text.replace(" ", "") or "9223372036854775807" in document.text
        )
        operation = found["paths"]["/v1/predict"]["post"]
        assert set(map(str, (400, 401, 404, 413, 422, 429, 504))) <= operation["responses"].keys()
        assert operation["responses"]["422"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/Error"
        }
        assert (
            operation["security"] == security and found["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
        )
        assert found["paths"]["/health"]["get"]["security"] == []
        names = [about["operationId"] for methods in found["paths"].values() for about in methods.values()]
        assert len({*names}) == len(names) and "post_v1_predict" in names
    page = TestClient(application(service)).get("/docs").text
    assert "9,223,372,036,854,775,807" in page and "``" not in page and "None" not in page


def test_the_first_page_lists_the_runs(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200 and "cats" in page.text and 'href="/docs#/v1/predict"' in page.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/health", 405)])
def test_unknown_paths_and_methods_are_answered_in_the_same_form(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status and error_of(answer)["type"] == "invalid_request_error"


# --- bodies -----------------------------------------------------------------------------------------------------------

NOT_JSON = {
    "depth": b"[" * 10_000, "depth of objects": b'{"a":' * 10_000, "a key twice": b'{"prompt": "a", "prompt": "b"}',
    "NaN": b'{"temperature": NaN}', "Infinity": b'{"temperature": -Infinity}',
    "half a character": b'{"prompt": "\xc3"}',
    "half a pair": b'{"prompt": "\\ud83d"}', "half a pair as bytes": b'{"prompt": "\xed\xa0\xbd"}',
    "cut off": b'{"prompt": "a"', "more behind": b"{} {}", "digits": b'{"seed": ' + b"9" * 5_000 + b"}",
    "utf-16": '{"prompt": "a"}'.encode("utf-16"), "a form": b"prompt=a", "NUL": b"\0",
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_json_of_one_meaning_is_refused(client: TestClient, name: str) -> None:
    answer = client.post("/v1/completions", content=NOT_JSON[name], headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid_json"


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
def test_a_body_of_another_type_is_refused_so_that_pages_of_others_cannot_send_one(
    client: TestClient, kind: str | None
) -> None:
    body = json.dumps(GOOD).encode()
    answer = client.post("/v1/completions", content=body, headers={"content-type": kind} if kind else {})
    assert answer.status_code == 415 and error_of(answer)["param"] == "content-type"


def test_a_long_content_type_is_read_in_little_time(client: TestClient) -> None:
    kind = 'application/json; a="' + ";" * 60_000
    began = time.monotonic()
    for _ in range(3):
        client.post("/v1/completions", content=b"{", headers={"content-type": kind})
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused(
    client: TestClient, announced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY", 1000)
    body = json.dumps({**GOOD, "prompt": "a" * 1000}).encode()
    content = body if announced else iter([body[:700], body[700:]])
    answer = client.post("/v1/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413 and error_of(answer)["code"] == "too_large"


# --- limits -----------------------------------------------------------------------------------------------------------


def numbers(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All numbers of a JSON schema that are settings, with their places; items of lists are content."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield where, schema
        for key, value in schema.items():
            yield from numbers(value, f"{where}/{key}") if key != "items" else ()
    elif isinstance(schema, list):
        for k, value in enumerate(schema):
            yield from numbers(value, f"{where}/{k}")


def without_bounds(app: FastAPI) -> list[str]:
    document = app.openapi()
    asked = json.dumps([route.get("post", {}).get("requestBody") for route in document["paths"].values()])
    names = [name for name in document["components"]["schemas"] if f'/{name}"' in asked]
    found = [pair for name in names for pair in numbers(document["components"]["schemas"][name], name)]
    assert found
    low, high = {"minimum", "exclusiveMinimum", "const", "enum"}, {"maximum", "exclusiveMaximum", "const", "enum"}
    return [where for where, schema in found if not (low & schema.keys() and high & schema.keys())]


def test_every_number_of_every_route_has_a_least_and_a_greatest_value(app: FastAPI) -> None:
    assert without_bounds(app) == []


class Careless(BaseModel):
    size: int


def test_a_number_without_bounds_is_found(app: FastAPI) -> None:
    async def careless(body: Careless) -> None: ...

    app.add_api_route("/careless", careless, methods=["POST"])
    assert without_bounds(app) == ["Careless/properties/size"]


@pytest.mark.parametrize("value", ["-1", "1e9", "2147483648", "9223372036854775808", "1e400", '"1"', "[]", "true"])
@pytest.mark.parametrize("field", ["n", "max_tokens"])
def test_numbers_out_of_range_or_of_another_type_are_refused(client: TestClient, field: str, value: str) -> None:
    body = f'{{"prompt": "a", "{field}": {value}}}'.encode()
    answer = client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and error_of(answer)["param"] == field


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    prefix + middle + name
    for prefix in ("", "/", "./", "../", "../../", "%2e%2e%2f", "..%5c", "..\\", "C:\\", "\\\\host\\", "file:///", "~/")
    for middle in ("", "cats/", "cats/../", "\u2025/")
    for name in ("etc/passwd", "config.yaml", "cats\0", "\u2215cats", "CATS")
]  # fmt: skip
"""Names that would be paths, if names were paths."""
OPENED: list[str] | None = None


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if OPENED is not None and event in ("open", "os.listdir", "os.scandir", "socket.connect"):
        OPENED.append(str(arguments))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is opened from now on; an audit hook stays for the life of a process."""
    if not getattr(sys, "chainrule_hook", False):
        sys.addaudithook(_note_opened)
        monkeypatch.setattr(sys, "chainrule_hook", True, raising=False)
    found: list[str] = []
    monkeypatch.setitem(globals(), "OPENED", found)
    return found


def test_names_of_models_are_names_and_open_nothing(client: TestClient, opened: list[str], run: str) -> None:
    assert len(NAMES) >= 200
    client.post("/v1/completions", json=GOOD)
    client.get("/v1/models/cats")  # a first request opens what it imports, and its route's source
    opened.clear()
    for name in [*NAMES, run, f"{run}/../{Path(run).name}"]:
        answer = client.post("/v1/completions", json={**GOOD, "model": name})
        assert answer.status_code == 404 and error_of(answer)["param"] == "model"
        assert client.get(f"/v1/models/{quote(name, safe='')}").status_code in (404, 405)
        assert client.get(f"/{quote(name.lstrip('/'))}").status_code == 404
    assert opened == []
    with open(f"{run}/config.yaml") as _:
        assert len(opened) == 1


# --- who may ask ------------------------------------------------------------------------------------------------------


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path of an application."""
    document = app.openapi()["paths"]
    listed = [(method.upper(), path) for path, methods in document.items() for method in methods]
    return [
        *listed,
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("GET", "/"),
        ("GET", "/nothing"),
        ("OPTIONS", "/v1/completions"),
    ]


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer ", f"Bearer {KEY}x", f"Basic {KEY}", f"Bearer {KEY[:-1]}"]
)
def test_every_route_but_health_needs_the_key(service: Service, shown: str | None) -> None:
    app = application(service, Access(key=KEY))
    client = TestClient(app, headers={} if shown is None else {"authorization": shown})
    found = {(method, path): client.request(method, path).status_code for method, path in routes(app)}
    assert len(found) > 5
    assert {where for where, status in found.items() if status != 401} == {("GET", "/health")}
    wrong = shown not in (None, "", "Bearer", "Bearer ")
    told = "this is not the key of this server" if wrong else "a key is needed"
    assert client.get("/v1/models").json()["error"]["message"].startswith(told)


def test_the_key_opens_every_route(service: Service) -> None:
    app = application(service, Access(key=KEY))
    client = TestClient(app, headers={"authorization": f"bearer {KEY}"})
    assert 401 not in [client.request(method, path).status_code for method, path in routes(app)]
    assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize("shown", ["Bearer ", "Bearer anything", "nonsense"])
def test_without_a_key_any_authorization_is_accepted(client: TestClient, shown: str) -> None:
    assert client.get("/v1/models", headers={"authorization": shown}).status_code == 200


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8000", True), ("localhost", True), ("LOCALHOST:1", True), ("[::1]:8000", True),
        ("models.example", True), ("10.1.2.3:8000", True), ("evil.example", False), ("localhost.evil.example", False),
        ("models.example@evil.example", False), ("127.0.0.1.evil.example", False), ("", False), ("[::1", False),
        ("10.1.2.4", False),
    ],
)  # fmt: skip
def test_only_names_of_this_server_are_answered(service: Service, host: str, known: bool) -> None:
    """10.1.2.3 is the address that the connection came to."""
    client = TestClient(application(service, Access(frozenset({"models.example"}))), base_url="http://10.1.2.3")
    assert client.get("/v1/models", headers={"host": host}).status_code == (200 if known else 403)
    assert client.get("/health", headers={"host": host}).status_code == 200


def test_pages_of_others_are_told_nothing(client: TestClient) -> None:
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    for answer in (client.options("/v1/completions", headers=asked), client.get("/v1/models", headers=asked)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_an_address_that_others_reach_needs_a_key(run: str) -> None:
    with pytest.raises(UserError, match="give --api-key KEY, or set CHAINRULE_API_KEY"):
        serve([run], Settings(host="0.0.0.0", port=0), {})
    for host in LOCAL - {"::1"}:
        with listen(host, 0) as bound:
            assert is_local(bound)


def test_a_port_in_use_is_one_line(run: str) -> None:
    with listen("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: in use; give another --port"):
            serve([run], Settings(port=port), {})


def test_what_is_loaded_is_kept_out_of_garbage_collection(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full collection goes through every object of the libraries, and holds all answers up meanwhile."""
    frozen = []

    async def served(self: Server, sockets: list[socket.socket]) -> None:
        frozen.append(gc.get_freeze_count())

    monkeypatch.setattr(Server, "serve", served)
    monkeypatch.setattr(errors.LOG, "level", errors.LOG.level)
    try:
        serve([run], Settings(port=0), {})
    finally:
        gc.unfreeze()
    assert frozen[0] > 10_000, "objects of the libraries and of the run"


def test_an_address_of_another_machine_is_told_as_such() -> None:
    with pytest.raises(UserError, match="give another --host"):
        listen("203.0.113.9", 0)


def test_a_run_that_no_route_asks_is_told() -> None:
    with pytest.raises(
        UserError, match=r"my-codes: nothing asks a run of codes over HTTP; runs of classify, .* are served"
    ):
        check_task("codes", "my-codes")
    for task in ("classify", "classify-images", "draw", "fill", "generate", "series", "tag", "translate"):
        check_task(task, "")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"port": 65536}, "--port 65536: 0 to 65535"), ({"timeout": 0.0}, "--timeout 0"),
        ({"timeout": float("nan")}, "--timeout nan"), ({"queue": 0}, "--queue 0: at least 1"),
        ({"key": ""}, "--api-key"), ({"key": "a b"}, "--api-key"), ({"key": "ключ"}, "--api-key"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        Settings(**given)


# --- log, figures, health ---------------------------------------------------------------------------------------------


def test_the_log_has_a_line_for_each_request_and_nothing_of_its_content(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "chainrule.serve"):
        answer = client.post("/v1/completions", json={**GOOD, "prompt": "secret-prompt"})
        client.get("/v1/models?secret-query")
        client.get("/%0asecret%20line")
    lines = [record.getMessage() for record in caplog.records if record.name == "chainrule.serve"]
    assert re.fullmatch(rf"POST /v1/completions 200 [\d.]+ ms {answer.headers['x-request-id']}", lines[0])
    assert "secret-" not in caplog.text
    assert lines[2].startswith("GET /%0asecret%20line 404 ")


@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_leaves_is_in_the_log_as_499(
    service: Service, caplog: pytest.LogCaptureFixture, begun: bool
) -> None:
    async def leave() -> None:
        sent, left = [], asyncio.Event()
        content = json.dumps({**GOOD, "max_tokens": 4000, "stream": begun}).encode()
        given = iter([{"type": "http.request", "body": content, "more_body": False}])

        async def receive() -> dict[str, Any]:
            if (message := next(given, None)) is None:
                await left.wait()
            return message or {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if len(sent) == 2:
                left.set()

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http", "method": "POST", "path": "/v1/completions", "raw_path": b"/v1/completions",
            "query_string": b"", "headers": headers, "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        if not begun:
            asyncio.get_running_loop().call_later(0.05, left.set)
        with suppress(asyncio.CancelledError):
            await application(service)(scope, receive, send)  # type: ignore[arg-type]

    with caplog.at_level(logging.INFO, "chainrule.serve"):
        asyncio.run(leave())
    assert " 499 " in caplog.text


def test_figures_count_requests_by_route_and_tell_what_engines_do(client: TestClient) -> None:
    for path in ("/v1/models", "/v1/models", "/one", "/two"):
        client.get(path)
    client.post("/v1/completions", json=GOOD)
    figures = client.get("/metrics").text
    assert 'chainrule_requests_total{route="/v1/models",status="200"} 2.0' in figures
    assert 'chainrule_requests_total{route="none",status="404"} 2.0' in figures
    assert 'chainrule_request_seconds_count{route="/v1/completions"} 1.0' in figures
    assert re.search(r'chainrule_engine_queued\{model="cats"\} \d', figures)


def test_a_server_that_is_stopping_says_so_and_takes_nothing(app: FastAPI, client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok", "ready": True}
    app.state.health.stopping = True
    assert client.get("/health").status_code == 503
    assert client.get("/health").json() == {"status": "stopping", "ready": False}
    refused = client.post("/v1/completions", json=GOOD)
    assert refused.status_code == 503 and error_of(refused)["code"] == "stopping"
    assert refused.headers["retry-after"] and refused.headers["connection"] == "close"


# --- time -------------------------------------------------------------------------------------------------------------


def test_an_answer_that_takes_too_long_is_cancelled(service: Service) -> None:
    app = with_failures(application(service, seconds=0.1))
    answer = TestClient(app).post("/wait")
    assert answer.status_code == 504 and error_of(answer)["code"] == "timeout"
    assert len(app.state.ended) == 1
