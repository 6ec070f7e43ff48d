"""The page at /: it loads and asks this server alone, and shows what ``chainrule explain`` tells of a run."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chainrule
from chainrule.cli import main

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from chainrule.explanation import export
from chainrule.explanation.views import views, views_of
from chainrule.serve import limits, native, page
from chainrule.serve.app import application
from chainrule.serve.security import Access
from chainrule.serve.service import Service, open_service
from tests.explain.page_scripts import call
from tests.serve.native_runs import train

TEXT = "the fox sat by the dog\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return train(tmp_path_factory.mktemp("runs"), "text", "visits", "tags")


@pytest.fixture(scope="module")
def service(folders: list[str]) -> Iterator[Service]:
    opened = open_service(folders, threads=1)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(application(service))


def given(client: TestClient, path: str = "/") -> dict[str, Any]:
    """What the page tells its scripts."""
    (found,) = re.findall(r'<script type="application/json" id="given">(.*?)</script>', client.get(path).text)
    return json.loads(found)


# --- explanations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"at": 7, "top_k": 3}, {"begin": 5, "end": 11, "at": 6, "view": ["surprise"]}])
def test_a_trace_is_that_of_the_command(
    client: TestClient, folders: list[str], options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answer = client.post("/v1/explain", json={"model": "text", "text": TEXT, **options})
    assert answer.status_code == 200, answer.text
    words = [str(word) for name, value in options.items() for one in (value if isinstance(value, list) else [value])
             for word in (f"--{name.replace('_', '-')}", one)]  # fmt: skip
    assert main(["explain", folders[0], TEXT, *words, "--threads", "1", "--json"]) == 0
    assert answer.json() == {"model": "text", **json.loads(capsys.readouterr().out)}


def test_a_run_that_explains_nothing_and_a_field_that_cannot_be_used_are_refused(client: TestClient) -> None:
    for body, field, told in [
        ({"text": "the", "model": "tags"}, "model", "/v1/explain: tags does not answer it"),
        ({"text": "the", "at": 3}, "at", "at 3: the input has 3 tokens, which are numbered from 0"),
        ({"text": "the", "view": "surprize"}, "view", "view surprize: did you mean 'surprise'?"),
        ({"text": ""}, "text", "nothing to read"),
        ({"text": ["the"]}, "text", "text"),
        ({}, "text", "must be given"),
    ]:
        answer = client.post("/v1/explain", json={"model": "text", **body})
        assert 400 <= answer.status_code < 500
        error = answer.json()["error"]
        assert told in error["message"] and error["param"] == field and "--" not in error["message"]


def test_the_work_of_an_explanation_is_bounded_before_it_begins(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "answer", lambda *_: pytest.fail("it began"))
    slow = next(view.name for view in views().values() if not view.usual) if len(views()) > 1 else None
    bodies = [{"text": "x" * (limits.WORK + 1)}, {"text": "x" * limits.TOKENS, "top_k": limits.LISTED}]
    bodies += [{"text": "x" * 2000, "view": view} for view in (slow, [slow]) if slow]
    for body in bodies:
        answer = client.post("/v1/explain", json=body)
        assert answer.status_code == 422 and f"at most {limits.WORK:,} in one request" in answer.text


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_loads_its_own_files_and_runs_no_script_of_its_text(client: TestClient) -> None:
    answer = client.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    for name in ("script-src", "style-src", "connect-src"):
        assert policy[name] == "'self'"
    assert answer.headers["referrer-policy"] == "no-referrer", "its address holds the text"
    for tag in re.findall(r"<script[^>]*>", answer.text):
        assert 'src="page/' in tag or 'type="application/json"' in tag
    assert "<style" not in answer.text and not re.search(r'\s(?:style|on\w+)="', answer.text)
    assert "://" not in answer.text.split('<script type="application/json"')[0]


def test_every_file_that_the_page_needs_is_served_and_nothing_else(client: TestClient) -> None:
    needed, seen = {"page.css", "app.css", "app.js"}, set[str]()
    assert set(re.findall(r'(?:src|href)="page/([^"]+)"', client.get("/").text)) == needed
    while needed - seen:
        name = min(needed - seen)
        seen.add(name)
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 200
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        assert answer.headers["content-type"].startswith(kind)
        needed |= set(re.findall(r'from "\./([^"]+)"', answer.text))
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import|\bimport\(", answer.text)
    own = {one.name for one in page.TABS.iterdir() if one.name.endswith((".js", ".css"))}
    assert seen == {"page.css", *own, *(f"{name}.js" for name in export.modules() if name != "export")}
    for name in (
        "export.html",
        "home.html",
        "app.json",
        "../export.py",
        "..%2fexport.py",
        "%2e%2e/messages.json",
        "nothing.js",
    ):
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 404 and answer.json()["error"]["type"] == "invalid_request_error"


def test_a_file_that_did_not_change_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/page/tree.js")
    again = client.get("/page/tree.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/words.js", headers={"if-none-match": first.headers["etag"]}).status_code == 200
    assert "no-cache" in first.headers["cache-control"]


def test_the_page_lists_all_runs_and_says_which_explain(client: TestClient, service: Service) -> None:
    told = {run["name"]: run for run in given(client)["runs"]}
    assert {name: run["explains"] for name, run in told.items()} == {"text": True, "visits": True, "tags": False}
    for name in ("text", "visits"):
        assert {view["name"] for view in told[name]["views"]} == {one.name for one in views_of(service.find(name).run)}
        assert {"at", "top_k", "begin"} <= {*told[name]["takes"]} and told[name]["writes"]
        answer = client.post("/v1/explain", json={"model": name, "text": told[name]["sample"]})
        assert answer.status_code == 200, "the sample can be read"
    html = client.get("/").text
    assert all(f'href="/docs#{path}"' in html for run in told.values() for path in run["routes"])


def test_the_language_is_that_of_the_address_else_of_the_browser(client: TestClient) -> None:
    for path, accepted, lang in [
        ("/", "", "en"), ("/", "ko-KR,ko;q=0.9,en;q=0.8", "ko"), ("/", "en-US,ko;q=0.5", "en"),
        ("/?lang=ko", "en", "ko"),
        ("/?lang=en", "ko", "en"), ("/?lang=%3Cscript%3E", "ko", "en"),
    ]:  # fmt: skip
        text = client.get(path, headers={"accept-language": accepted}).text
        assert f'<html lang="{lang}">' in text and "%3C" not in text
        assert ("밖으로 나가는 것은 없습니다" in text) == (lang == "ko")


def test_no_name_of_a_run_can_act(service: Service) -> None:
    name = "</script><script>alert(1)</script>"
    served = service.find("text")
    hostile = Service([])
    hostile.runs[name] = served
    hostile.others["<img src=x>"] = name
    text = TestClient(application(hostile)).get("/").text
    assert "<script>" not in text and "<img" not in text
    assert given(TestClient(application(hostile)))["runs"][0]["name"] == name


def test_the_page_and_its_files_need_the_key_which_a_browser_asks_for_as_a_password(service: Service) -> None:
    closed = TestClient(application(service, Access(key="secret:λ")))
    for path in ("/", "/page/app.js", "/page/page.css"):
        answer = closed.get(path, headers={"accept": "text/html,*/*"})
        assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic ")
        assert closed.get(path).headers["www-authenticate"] == "Bearer", "programs"
    for name, key, status in [
        ("", "secret:λ", 200),
        ("me", "secret:λ", 200),
        ("me", "secret", 401),
        ("secret:λ", "", 401),
    ]:
        shown = base64.b64encode(f"{name}:{key}".encode()).decode()
        assert closed.get("/", headers={"authorization": f"Basic {shown}"}).status_code == status
    for wrong in ("Basic secret", "Basic", "Basic ====", f"Bearer {base64.b64encode(':secret:λ'.encode()).decode()}"):
        assert closed.get("/", headers={"authorization": wrong}).status_code == 401


def test_the_page_of_a_trace_is_that_of_the_command(client: TestClient, folders: list[str], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    trace = chainrule.load(folders[0], threads=1).explain(TEXT, at=7, out=str(out), lang="ko")["trace"]
    answer = client.post("/page/explain.html", json={"trace": trace, "lang": "ko"})
    assert answer.text == out.read_text(encoding="utf-8")
    assert "attachment" in answer.headers["content-disposition"], "a file, which is not shown"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_what_is_no_trace_becomes_no_page(client: TestClient) -> None:
    trace = client.post("/v1/explain", json={"model": "text", "text": TEXT}).json()["trace"]
    for body, field in [
        ({}, "trace"), ({"trace": "x"}, "trace"), ({"trace": {**trace, "at": "x"}}, "trace.at"),
        ({"trace": {**trace, "surprise": {}}}, "trace.surprise"), ({"trace": trace, "lang": "fr"}, "lang"),
        ({"trace": trace, "more": 1}, "more"),
    ]:  # fmt: skip
        answer = client.post("/page/explain.html", json=body)
        assert answer.status_code == 422 and answer.json()["error"]["param"].startswith(field), answer.text


# --- what the scripts ask ---------------------------------------------------------------------------------------------


def test_the_questions_of_the_page_are_answered(client: TestClient) -> None:
    (run,) = [run for run in given(client)["runs"] if run["name"] == "text"]
    run["views"].append({"name": "gates", "usual": True})
    states = [
        [{"text": TEXT}, None], [{"text": TEXT, "at": 5, "layer": 1, "head": 2}, [0, 23]],
        [{"text": TEXT, "at": 5, "view": ["surprise"]}, [7, 23]],
    ]  # fmt: skip
    program = """
    const { questions } = await load("ask");
    console.log(JSON.stringify(given.states.map(([state, shown]) => questions(given.run, state, shown))));
    """
    first, second, third = call(program, {"run": run, "states": states})
    for body in (*first, *second, *third):
        native.body_of("explain").model_validate(body)
        body["view"] = [name for name in body["view"] if name != "gates"]
        answer = client.post("/v1/explain", json=body)
        assert answer.status_code == 200 and answer.json()["trace"]["at"] == body.get(
            "at", answer.json()["trace"]["at"]
        )
    assert [body.get("layer") for body in second] == [None, 1], "asked for apart, of the view that shows one"
    assert {"layer", "head", "key"}.isdisjoint(second[0]), "attention has all layers"
    assert (second[0]["begin"], second[0]["end"]) == (0, 23) and "begin" not in third[0], "5 is not on the screen"


def test_only_fields_that_the_task_of_a_run_takes_are_asked() -> None:
    program = (
        'const { questions } = await load("ask"); console.log(JSON.stringify(questions(given[0], given[1], [0, 9])));'
    )
    run = {"name": "tags", "views": [{"name": "attention", "usual": True}], "takes": ["text", "view", "at"]}
    (body,) = call(program, [run, {"text": "the dog", "at": 1}])
    assert body == {"model": "tags", "text": "the dog", "at": 1, "view": ["attention"]}


def test_the_chosen_place_of_the_text_is_found_among_other_tokens() -> None:
    program = """
    const { placeIn } = await load("places");
    console.log(JSON.stringify(given.map(([from, at, to]) => placeIn(from, at, to))));
    """
    letters, words = (
        {"tokens": [{"text": text} for text in texts]} for texts in (["t", "o", " ", "b", "", "é"], ["to", " bé"])
    )
    asked = [
        (letters, 0, words),
        (letters, 1, words),
        (letters, 3, words),
        (letters, 5, words),
        (words, 1, letters),
        (words, 0, letters),
    ]
    assert call(program, asked) == [0, 0, 1, 1, 2, 0]


def test_a_layer_is_asked_only_of_a_run_that_has_it() -> None:
    program = 'const { hasLayer } = await load("ask"); console.log(JSON.stringify(given.map(one => hasLayer(...one))));'
    gru, gpt = {"gates": {"layers": 2}}, {"attention": {"layers": [{}, {}, {}]}}
    asked = [(gru, "gates", 1), (gru, "gates", 2), (gpt, "attention_cell", 2), (gpt, "attention_cell", 3)]
    assert call(program, asked) == [True, False, True, False]


def test_only_what_an_answer_would_change_is_asked_again() -> None:
    program = (
        'const { outdated } = await load("ask"); console.log(JSON.stringify(given.map(([t, c]) => outdated(t, c))));'
    )
    many, one = {"at": 3, "surprise": {"begin": 0}}, {"at": 3, "attention": {"first": 0}}
    gates = {"at": 3, "gates": {"begin": 0, "layer": 1}}
    cell = {"at": 3, "attention_cell": {"first": 0}}
    asked = [
        (many, {"at": 4}),
        (one, {"at": 4}),
        (one, {"at": 3}),
        (one, {"layer": 0}),
        (gates, {"layer": 0}),
        (gates, {"at": 4}),
        (gates, {"key": 4}),
        (cell, {"key": 4}),
        (cell, {}),
    ]
    assert call(program, asked) == [False, True, False, False, True, False, False, True, False]
