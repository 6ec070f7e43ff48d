"""Routes of our own: they answer what the commands answer, and take nothing from a client that is no text or number."""

from __future__ import annotations

import asyncio
import base64
import gc
import html
import json
import re
import shlex
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import chainrule
import chainrule.commands  # registers them

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from chainrule.core import Autoregressive, UserError, model_type
from chainrule.core.compute import Compute
from chainrule.core.progress import tracked
from chainrule.inference.requests import Request
from chainrule.inference.sampling import Filters
from chainrule.inference.scheduler import Busy, Scheduler, SharedEngine
from chainrule.options import options_of
from chainrule.serve import limits, native, reference
from chainrule.serve import service as serve_service
from chainrule.serve.app import application
from chainrule.serve.errors import Refused
from chainrule.serve.service import Service, open_service
from chainrule.serve.workers import WorkerPool
from tests.serve.native_runs import SPECS, train

ASKED = {
    "predict": {"input": [["home", "search"], ["home", "spaceship"]], "top_k": 2},
    "score": {"input": [["home", "search"], ["home", "spaceship"]], "tokens": True},
    "translate": {"input": ["a e", "b f"], "beams": 2, "n_best": 2},
    "classify": {"input": ["to be", "nicht"]},
    "tag": {"input": [["the", "dog"], "a cat ran"]},
    "fill": {"text": ["the f[MASK]x", "[MASK]he dog"], "top_k": 2},
    "explain": {"text": "home search product", "at": 1, "top_k": 3},
    "forecast": {"prompt": ["1 2 3 2"], "max_tokens": 3, "n": 2, "seed": 7},
}
"""A body for each route."""
RUNS = {
    "predict": "visits", "score": "visits", "translate": "pairs", "classify": "labels", "tag": "tags", "fill": "masks",
    "explain": "visits", "forecast": "waves",
}  # fmt: skip
"""The run that answers each."""
NUMBERS = [
    (name, o.name)
    for name, route in native.ROUTES.items()
    for o in options_of(route.command)
    if o.name in native.body_of(name).model_fields and o.kind in (int, float) and o.name != route.reads
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return train(tmp_path_factory.mktemp("runs"), *SPECS)


@pytest.fixture(scope="module")
def service(folders: list[str]) -> Iterator[Service]:
    opened = open_service(folders, threads=1, speculate="off")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(application(service))


def ask(client: TestClient, name: str, body: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/{name}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(service: Service, name: str, body: dict[str, Any]) -> Refused:
    with pytest.raises(Refused) as found:
        asyncio.run(native.respond(service, name, dict(body)))
    return found.value


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", native.ROUTES)
def test_a_route_answers_what_the_command_answers(name: str, client: TestClient, folders: list[str]) -> None:
    run = chainrule.load(folders[list(SPECS).index(RUNS[name])], threads=1)
    expected = getattr(run, native.ROUTES[name].function)(**ASKED[name])
    found = ask(client, name, ASKED[name])
    assert found.pop("model") == RUNS[name]
    assert found.keys() == expected.keys()
    for key in found.keys() - {"tokens_per_second"}:
        assert json.dumps(found[key]) == json.dumps(expected[key]), key


def test_a_run_is_chosen_by_its_name_else_the_first_that_answers(client: TestClient) -> None:
    body = {"input": [["home"]]}
    by_default, by_name = ask(client, "predict", body), ask(client, "predict", {**body, "model": "visits-gru"})
    assert (by_default["model"], by_name["model"]) == ("visits", "visits-gru")
    assert by_default["predictions"] != by_name["predictions"]
    assert ask(client, "predict", {"input": "the f", "model": "text"})["predictions"]


def test_unknown_events_and_tokens_are_counted_in_the_answer(client: TestClient) -> None:
    assert ask(client, "predict", ASKED["predict"])["unknown"] == [0, 1]
    assert [line.get("unknown", 0) for line in ask(client, "score", ASKED["score"])["lines"]] == [0, 1]
    assert ask(client, "score", {"input": "the Zebra", "model": "text"})["lines"][0]["unknown"] == 1
    assert ask(client, "fill", {"text": "the Z[MASK]"})["texts"][0]["unknown"] == 1


def test_a_list_of_events_scores_as_the_record_in_a_file(client: TestClient) -> None:
    listed = ask(client, "score", {"input": [["home", "search"]]})
    assert listed == ask(client, "score", {"input": '["home", "search"]'})
    assert listed["symbols"] == 3  # the end of the record counts


def test_numbers_of_a_series_are_those_of_its_text(client: TestClient) -> None:
    as_text, as_numbers = (ask(client, "forecast", {"prompt": [x], "seed": 1}) for x in ("1.5 2 3", [1.5, 2, 3]))
    assert as_text["quantiles"] == as_numbers["quantiles"]
    assert ask(client, "forecast", {"max_tokens": 2})["quantiles"]  # the series that the run was trained on


def test_images_are_read_from_base64_and_their_names_are_no_paths(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 99, (40, 8, 8, 3), np.uint8)
    pixels[::2, :, :4] = 255
    np.savez(tmp_path / "data.npz", images=pixels, labels=np.arange(40) % 2)
    chainrule.train(str(tmp_path / "data.npz"), "knn", str(tmp_path / "run"), threads=1)
    file = tmp_path / "left.png"
    Image.fromarray(pixels[0]).save(file)
    encoded = base64.b64encode(file.read_bytes()).decode()
    service = open_service([str(tmp_path / "run")], threads=1)
    try:
        client = TestClient(application(service))
        found = ask(client, "classify", {"input": [encoded, f"data:image/png;base64,{encoded}"]})
        expected = chainrule.load(tmp_path / "run", threads=1).classify([str(file)])
        assert found["p"] == expected["p"] * 2 and found["inputs"] == ["image 1", "image 2"]
        assert "image 1: not base64" in str(refused(service, "classify", {"input": [str(file)]}))
        damaged = base64.b64encode(file.read_bytes()[:60]).decode()
        assert str(refused(service, "classify", {"input": [damaged]})).startswith("image 1: a damaged PNG")
        many = refused(service, "classify", {"input": [encoded] * (limits.IMAGES + 1)})
        assert f"at most {limits.IMAGES}" in str(many)
    finally:
        service.close()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", native.ROUTES)
@pytest.mark.parametrize("field", ["run", "device", "threads", "precision", "plugin", "encoding", "out", "input_file"])
def test_nothing_that_names_files_or_loads_code_is_a_field(name: str, field: str, client: TestClient) -> None:
    answer = client.post(f"/v1/{name}", json={**ASKED[name], field: "x"})
    assert answer.status_code == 422 and field in answer.text


def test_the_fields_of_a_route_are_texts_and_numbers_that_were_looked_at() -> None:
    """A new option of a command is a field of its route from then on: it must name no file."""
    search = {"beams", "n_best", "must", "forbid", "length_penalty", "coverage_penalty", "min_length", "max_length"}
    assert {name: set(native.body_of(name).model_fields) - {"model"} for name in native.ROUTES} == {
        "predict": {"input", "top_k"}, "score": {"input", "tokens", "unit"}, "classify": {"input"},
        "tag": {"input", "posteriors"},
        "explain": {"text", "target", "view", "at", "top_k", "layer", "head", "key", "source", "begin", "end", "seed"},
        "fill": {"text", "top_k"}, "forecast": {"prompt", "max_tokens", "n", "seed"},
        "translate": {"input", *search, "no_repeat_ngram", "diverse", "mbr"},
    }  # fmt: skip


def test_a_text_that_is_the_path_of_a_file_is_a_text(client: TestClient, folders: list[str]) -> None:
    path = f"{folders[0]}/config.json"
    assert Path(path).is_file()
    assert ask(client, "score", {"input": path, "model": "text"})["bytes"] == len(path) + 1
    assert ask(client, "classify", {"input": path})["inputs"] == [path]
    assert ask(client, "tag", {"input": [[path]]})["tokens"] == [[path]]
    assert len(ask(client, "translate", {"input": path})["translations"]) == 1


@pytest.mark.parametrize("wrong", ["below", "above", "huge", "1", [], True, {}, "NaN"], ids=repr)
@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_a_number_out_of_its_limits_is_refused(name: str, field: str, wrong: Any, client: TestClient) -> None:
    low, high = limits.NUMBERS[field]
    value = {"below": low - 1, "above": high + 1, "huge": 2**80}.get(wrong, wrong) if isinstance(wrong, str) else wrong
    answer = client.post(f"/v1/{name}", json={**ASKED[name], field: value})
    assert answer.status_code == 422 and field in answer.text, answer.text


def test_every_number_that_a_client_gives_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name for name, _ in NUMBERS} == {"predict", "translate", "fill", "explain", "forecast"}
    monkeypatch.delitem(limits.NUMBERS, "beams")
    with pytest.raises(KeyError, match="beams"):
        native.body_of("translate")


def test_a_route_that_no_run_answers_says_what_the_runs_answer(service: Service) -> None:
    some = Service([service.find("tags"), service.find("waves")])
    found = refused(some, "predict", {"input": "x"})
    assert found.field == "model"
    assert str(found).startswith("/v1/predict: no run here answers it; tags (tag) answers /v1/tag; waves (series) ")
    assert "/v1/predict: tags does not answer it" in str(refused(service, "predict", {"input": "x", "model": "tags"}))


@pytest.mark.parametrize(
    ("name", "body", "field", "says"),
    [
        ("predict", {"input": [["home"]], "model": "text"}, "input", "reads text (char): give strings"),
        ("score", {"input": [["home"]], "model": "text"}, "input", "reads text (char): give strings"),
        ("fill", {"text": "no mask"}, "text", "no [MASK]"),
        ("translate", {"input": "a e", "must": [""]}, "must", "must '': holds no token"),
        ("translate", {"input": "a e", "beams": 2, "diverse": 5}, "diverse", "diverse"),
        ("forecast", {"prompt": ["1 two"]}, "prompt", "prompt 1 two: could not convert"),
        (
            "tag",
            {"input": ["the", "dog"]},
            "input",
            'input ["the", "dog"]: one sentence is [["the", "dog"]], 2 sentences are [["the"], ["dog"]]',
        ),
        (
            "predict",
            {"input": ["home", "search"]},
            "input",
            'one sequence is [["home", "search"]], 2 sequences are [["home"], ["search"]]',
        ),
        ("score", {"input": ["home", "spaceship"]}, "input", "one sequence is"),
        ("predict", {"input": [[["home"]]]}, "input", 'input: ["home"]: a list is no event of this run'),
        ("score", {"input": [[], []]}, "input", "nothing to score"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(
    name: str, body: dict[str, Any], field: str, says: str, service: Service
) -> None:
    found = refused(service, name, body)
    assert says in str(found) and "--" not in str(found)
    assert found.field == field


@pytest.mark.parametrize("name", native.ROUTES)
def test_null_is_the_default_of_a_field(name: str, client: TestClient) -> None:
    null = dict.fromkeys(native.body_of(name).model_fields.keys() - ASKED[name].keys() - {"seed"})
    found, expected = ask(client, name, {**ASKED[name], **null}), ask(client, name, ASKED[name])
    assert {**found, "tokens_per_second": 0} == {**expected, "tokens_per_second": 0}
    answer = client.post(f"/v1/{name}", json={**ASKED[name], "unheard": None})
    assert answer.status_code == 422 and answer.json()["error"]["param"] == "unheard"


def test_every_route_takes_the_first_run_that_can_answer(service: Service) -> None:
    names = ["waves", "masks", "tags", "visits", "text"]
    some = TestClient(application(Service([service.find(name) for name in names])))
    for path, body, name in [
        ("/v1/completions", {"prompt": "home", "max_tokens": 1}, "visits"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "home"}], "max_tokens": 1}, "visits"),
        ("/v1/embeddings", {"input": "the dog"}, "masks"),
        ("/v1/predict", {"input": "home search"}, "visits"),
    ]:
        assert some.post(path, json=body).json()["model"] == name
    tokens = some.post("/tokenize", json={"prompt": "home"}).json()["tokens"]
    assert tokens == some.post("/tokenize", json={"prompt": "home", "model": "visits"}).json()["tokens"]
    assert some.get("/tokenizer_info").json() == some.get("/tokenizer_info?model=visits").json()
    for path, body in {
        "/v1/images/generations": {"prompt": "a"},
        "/v1/embeddings": {"input": "a", "model": "visits"},
        "/v1/completions": {"model": "waves"},
        "/tokenize": {"prompt": "a", "model": "waves"},
    }.items():
        refused = some.post(path, json=body)
        assert refused.status_code == 422 and refused.json()["error"]["param"] == "model"
        told = refused.json()["error"]["message"]
        assert "masks (fill) answers /v1/embeddings, /v1/fill" in told and "train" not in told and "--" not in told


def test_a_board_is_found_by_its_name_and_as_best(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], serve_service.load
    monkeypatch.setattr(serve_service, "load", lambda folder, **how: (loaded.append(folder), load(folder, **how))[1])
    (tmp_path / "events" / "runs").mkdir(parents=True)
    (tmp_path / "events" / "board.json").write_text("{}")
    for name, folder in zip(("visits", "visits-gru"), folders):
        (tmp_path / "events" / "runs" / name).symlink_to(folder)
    (tmp_path / "events" / "best").symlink_to(folders[1])
    paths = [str(tmp_path / "events"), str(tmp_path / "events" / "best"), folders[0], f"{folders[0]}/"]
    service = open_service(paths, threads=1)
    try:
        client = TestClient(application(service))
        assert list(service.runs) == ["visits-gru", "visits"] and len(loaded) == 2, "each folder once"
        for name in ("events", "best"):
            assert ask(client, "predict", {"input": "home", "model": name})["model"] == "visits-gru"
        told = client.post("/v1/predict", json={"input": "home", "model": "x"}).json()["error"]["message"]
        assert told.endswith("there are visits-gru, visits; events is visits-gru; best is visits-gru")
    finally:
        service.close()


def test_what_is_no_run_says_what_to_type(folders: list[str], tmp_path: Path) -> None:
    (tmp_path / "play.txt").write_text("to be")
    with pytest.raises(UserError, match=r"play.txt: a file; .*--out runs/play makes one$"):
        open_service([str(tmp_path / "play.txt")])
    with pytest.raises(UserError, match=r"chainrule serve \S+/\*$"):
        open_service([str(Path(folders[0]).parent)])
    (tmp_path / "visits").mkdir()
    for file in Path(folders[0]).iterdir():
        (tmp_path / "visits" / file.name).symlink_to(file)
    with pytest.raises(UserError, match="is called visits too; rename one of the folders"):
        open_service([folders[0], str(tmp_path / "visits")], threads=1)


def test_the_page_of_routes_speaks_of_fields_and_not_of_the_command_line(client: TestClient) -> None:
    page = client.get("/docs").text
    assert not re.search(r"--(?!json)[a-z]|may be repeated|left out:|``|\bNone\b|of symbols", page)
    assert "paths of each series" in page and "null: the end" in page


@pytest.mark.parametrize("name", SPECS)
def test_the_command_of_the_start_lines_is_answered(name: str, service: Service, client: TestClient) -> None:
    run = service.find(name).run
    words = shlex.split(reference.request("", run))
    body = {**json.loads(words[3]), "model": name}
    assert words[:3:2] == ["curl", "--json"] and client.post(words[1], json=body).status_code == 200


def test_the_work_of_a_request_is_bounded_before_it_begins(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "answer", lambda *_: pytest.fail("it began"))
    long = "x" * (limits.WORK // 2)
    for name, body in {
        "predict": {"input": [long, long]}, "classify": {"input": [long, long]}, "fill": {"text": long + "[MASK]"},
        "translate": {"input": ["x"] * limits.ROWS}, "forecast": {"prompt": ["1 2"] * 2, "max_tokens": 600},
    }.items():  # fmt: skip
        assert "at most" in str(refused(service, name, body)), name


def test_what_is_listed_and_the_series_of_a_run_count_as_work(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "answer", lambda *_: pytest.fail("it began"))
    waves = service.find("waves").run
    monkeypatch.setitem(waves.data, "tail", waves.data["tail"] * 700)
    for name, body in {
        "predict": {"input": ["x" * 64] * 1000, "top_k": 1000}, "fill": {"text": ["[MASK]" * 2] * 1000, "top_k": 1000},
        "forecast": {"max_tokens": 2},
    }.items():  # fmt: skip
        assert "at most" in str(refused(service, name, body)), name


# --- many at once -----------------------------------------------------------------------------------------------------


def alike(one: Any, other: Any) -> bool:
    """Equal but for the rounding of numbers: rows that are read together are summed in another order."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == pytest.approx(other, rel=1e-5) if isinstance(one, float) else one == other


def test_answers_at_once_equal_answers_alone(client: TestClient) -> None:
    """Runs of several tasks, two of them one run, used from sixteen threads."""
    names = ["predict", "translate", "forecast", "tag", "classify", "fill", "score", "predict"]
    alone = {name: ask(client, name, ASKED[name]) for name in names}
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda k=k: found.update({k: ask(client, names[k % 8], ASKED[names[k % 8]])}))
        for k in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, answer in found.items():
        assert alike({**answer, "tokens_per_second": 0}, {**alone[names[k % 8]], "tokens_per_second": 0})
    assert len(found) == 16


async def blocked(workers: WorkerPool, many: int) -> tuple[threading.Event, list[asyncio.Task[None]]]:
    """Computations that wait until the event is set."""
    gate = threading.Event()
    tasks = [asyncio.create_task(workers.compute(lambda: gate.wait(10) and None)) for _ in range(many)]
    await asyncio.sleep(0)
    return gate, tasks


def test_a_pool_refuses_more_than_its_queue_and_takes_new_work_afterwards() -> None:
    async def scenario() -> None:
        workers = WorkerPool(None, queue=6)
        gate, tasks = await blocked(workers, 6)
        with pytest.raises(Busy):
            await workers.compute(lambda: None)
        gate.set()
        await asyncio.gather(*tasks)
        assert await workers.compute(lambda: 5) == 5
        workers.close()
        with pytest.raises(Busy, match="closing"):
            await workers.compute(lambda: None)

    asyncio.run(scenario())


def test_the_queue_of_a_server_bounds_computations_too(folders: list[str]) -> None:
    async def scenario(workers: WorkerPool) -> None:
        gate, tasks = await blocked(workers, 2)
        with pytest.raises(Busy):
            await workers.compute(lambda: None)
        gate.set()
        await asyncio.gather(*tasks)

    service = open_service(folders[:1], queue=2, threads=1)
    asyncio.run(scenario(next(iter(service.runs.values())).workers))
    service.close()


def test_a_computation_that_waited_too_long_never_begins() -> None:
    async def scenario() -> None:
        workers, begun = WorkerPool(None, queue=8), []
        gate, tasks = await blocked(workers, 4)
        late = [asyncio.wait_for(workers.compute(lambda: begun.append(1)), 0.05) for _ in range(3)]
        left = asyncio.create_task(workers.compute(lambda: begun.append(2)))
        await asyncio.sleep(0)
        left.cancel()  # its client has gone
        assert all(isinstance(x, TimeoutError) for x in await asyncio.gather(*late, return_exceptions=True))
        gate.set()
        await asyncio.gather(*tasks)
        assert await workers.compute(lambda: 5) == 5
        assert not begun
        workers.close()

    asyncio.run(scenario())


def test_a_computation_that_nobody_waits_for_ends_before_its_next_piece() -> None:
    """On a model that is borrowed, on one that takes no steps, and while it waits for tokens."""
    found = model_type("markov")
    model = found.build(found.configure("tiny", vocab_size=3))
    assert isinstance(model, Autoregressive)
    scheduler = Scheduler(model, Compute("cpu", False, 1))
    began, pieces = threading.Event(), []

    def work() -> None:
        for _ in tracked(range(1000)):
            began.set()
            time.sleep(0.01)
            pieces.append(1)

    def generate() -> None:
        began.set()
        SharedEngine(scheduler).run([Request([1], Filters(), max_tokens=10**6)])

    async def scenario(workers: WorkerPool, call: Any) -> None:
        began.clear()
        task = asyncio.create_task(workers.compute(call))
        await asyncio.to_thread(began.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.wait_for(workers.compute(lambda: 5), 5) == 5
        workers.close()

    for workers, call in ((WorkerPool(scheduler), work), (WorkerPool(None), work), (WorkerPool(scheduler), generate)):
        asyncio.run(scenario(workers, call))
    assert len(pieces) < 100
    assert scheduler.close(5) and scheduler.engine.tokens < 10**6


def test_what_never_begins_is_not_held_until_its_turn() -> None:
    class Large:
        def __call__(self) -> None: ...

    async def scenario() -> None:
        workers, large = WorkerPool(None, queue=8), Large()
        gate, tasks = await blocked(workers, 4)
        waits, held = asyncio.create_task(workers.compute(large)), weakref.ref(large)
        await asyncio.sleep(0)
        del large
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        del waits
        await asyncio.sleep(0)
        gc.collect()
        assert held() is None
        gate.set()
        await asyncio.gather(*tasks)
        workers.close()

    asyncio.run(scenario())


def test_one_computation_at_a_time_uses_a_model_that_takes_no_steps() -> None:
    inside, most = [], []

    def work() -> None:
        inside.append(1)
        time.sleep(0.005)
        most.append(len(inside))
        inside.pop()

    async def scenario() -> None:
        workers = WorkerPool(None)
        await asyncio.gather(*(workers.compute(work) for _ in range(8)))
        workers.close()

    asyncio.run(scenario())
    assert max(most) == 1


def test_an_error_of_a_computation_reaches_its_caller_and_the_next_one_works(service: Service) -> None:
    workers = service.find("visits").workers

    async def scenario() -> None:
        with pytest.raises(UserError, match="first"):
            await workers.compute(lambda: (_ for _ in ()).throw(UserError("first")))
        assert await workers.compute(lambda: 5) == 5

    asyncio.run(scenario())


# --- documentation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", native.ROUTES)
def test_the_schema_shows_a_body_that_is_accepted_and_what_is_answered(name: str, client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    shown = schema["paths"][f"/v1/{name}"]["post"]
    body, answer = (
        schema["components"]["schemas"][found["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]]
        for found in (shown["requestBody"], shown["responses"]["200"])
    )
    native.body_of(name).model_validate(body["examples"][0])
    assert all("description" in field for field in body["properties"].values())
    assert set(ask(client, name, ASKED[name])) <= set(answer["properties"])


def test_the_page_of_routes_holds_every_route_and_needs_no_network(client: TestClient) -> None:
    answer = client.get("/docs", headers={"host": "localhost:8123"})
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    text = html.unescape(answer.text)
    paths = client.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        assert f" {path}</h2>" in text
        assert "post" not in methods or f"curl http://localhost:8123{path} --json '" in text
    for name, route in native.ROUTES.items():
        (shown,) = re.findall(rf"curl http://localhost:8123/v1/{name} --json '(.*)'", text)
        assert json.loads(shown) == route.example
        assert route.told in text
    assert "<script" not in text and "src=" not in text.replace("style-src=", "") and "integer, 1 to 1,000" in text


def test_a_log_probability_of_minus_infinity_is_null() -> None:
    assert json.loads(native._json({"nats": [-float("inf"), 0.5], "text": "é"})) == {"nats": [None, 0.5], "text": "é"}
