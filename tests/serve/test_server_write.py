"""The tab Write: each token has the probability of ``chainrule score``, the next one that which it is drawn with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import chainrule

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from chainrule.data.symbols import Form, SymbolTokenizer
from chainrule.explanation import export
from chainrule.serve import boards, page, writing
from chainrule.serve.app import application
from chainrule.serve.completions import Completion
from chainrule.serve.samples import sample
from chainrule.serve.service import Service, open_service
from tests.explain.page_scripts import call
from tests.serve.native_runs import train

TEXT = {"text": "the fox sat b", "visits": "home search product"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("runs")
    runs = train(folder, "text", "visits", "masks")
    chainrule.train(chainrule.text("nä né nà nü\n" * 300), "ngram", str(folder / "bytes"), budget="1steps", threads=1)
    opened = open_service([*runs, str(folder / "bytes")], threads=1, precision="fp32", speculate="off")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(application(service))


def ask(client: TestClient, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def predicted(service: Service, name: str, text: str) -> dict[int, float]:
    """The probability of every token after a text, from one pass of the model."""
    run = service.find(name).run
    ids = run.processor.tokenizer.encode(text.encode()).ids.tolist()
    with torch.no_grad():
        logits_V = run.model(torch.tensor([[run.model.start_id, *ids]]))[0].logits()[0, -1].double()
    return dict(enumerate(logits_V.softmax(-1).tolist()))


def drawn_by_hand(p: dict[int, float], temperature: float, top_k: int, top_p: float, min_p: float) -> dict[int, float]:
    """Probabilities after the sampler: one token after the other in the order of their probabilities."""
    order = sorted(p, key=lambda k: -p[k])
    if temperature == 0:
        return {order[0]: 1.0}
    weights = {k: p[k] ** (1 / temperature) for k in order}
    least = p[order[top_k - 1]] * (1 - 1e-9) if top_k else 0.0  # equals of the last one stay
    kept = [k for k in order if p[k] >= least]
    total, reached, nucleus = sum(weights[k] for k in kept), 0.0, []
    for k in kept:
        if reached < top_p:
            nucleus.append(k)
        reached += weights[k] / total
    kept = [k for k in nucleus if weights[k] >= min_p * weights[nucleus[0]]]
    return {k: weights[k] / sum(weights[j] for j in kept) for k in kept}


# --- the next token ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text", "visits"])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    [(1, 0, 1, 0), (0.5, 0, 1, 0), (1.7, 5, 1, 0), (0.8, 0, 0.6, 0), (1, 4, 0.9, 0.3), (0, 0, 1, 0)],
)
def test_the_next_token_is_told_before_and_after_the_sampler(
    client: TestClient, service: Service, name: str, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    found = ask(client, "/page/next", model=name, prompt=TEXT[name], **how)
    p = predicted(service, name, TEXT[name])
    unknown = service.find(name).run.processor.tokenizer.unknown
    drawn = drawn_by_hand({k: of for k, of in p.items() if k != unknown}, **how)
    listed = found["candidates"]
    assert [one["p"] for one in listed] == pytest.approx(sorted(p.values(), reverse=True)[: writing.LISTED], rel=1e-4)
    assert [one["p"] for one in listed] == pytest.approx([p[one["id"]] for one in listed], rel=1e-4)
    assert [one["drawn"] for one in listed] == pytest.approx([drawn.get(one["id"], 0) for one in listed], rel=1e-4)
    assert found["can_come"] == len(drawn) and found["others"]["n"] == len(p) - len(listed)
    for key in ("p", "drawn"):
        assert sum(one[key] for one in listed) + found["others"][key] == pytest.approx(1)


def test_what_is_drawn_is_what_completions_draw(client: TestClient) -> None:
    how = {"model": "text", "prompt": TEXT["text"], "temperature": 1.3, "top_k": 3}
    found = ask(client, "/page/next", **how)
    can = {one["adds"]: one["drawn"] for one in found["candidates"] if one["drawn"]}
    texts = [one["text"] for one in ask(client, "/v1/completions", **how, n=128, max_tokens=1, seed=7)["choices"]]
    assert set(texts) == set(can) and len(can) == 3
    for text, p in can.items():
        assert texts.count(text) / 128 == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 128))


def test_a_token_that_is_no_text_cannot_be_appended(client: TestClient) -> None:
    found = ask(client, "/page/next", model="visits", prompt="home")["candidates"]
    named = {one["name"]: one["adds"] for one in found}
    assert named["<|end|>"] is None and named["<|unknown|>"] is None and named[" search"] == " search"
    found = ask(client, "/page/next", model="bytes", prompt="nä n")["candidates"]
    assert found[0]["name"] == "bytes:\\xc3" and found[0]["adds"] is None
    assert all(one["adds"] == (one["name"] if one["id"] < 128 else None) for one in found), "whole characters"


def test_a_question_about_the_next_token_is_about_one_prompt(client: TestClient) -> None:
    for body, field in [({"prompt": ["a", "b"]}, "prompt"), ({"prompt": "a", "top_p": 7}, "top_p"),
                        ({"prompt": "a", "model": "masks"}, "model")]:  # fmt: skip
        answer = client.post("/page/next", json=body)
        assert 400 <= answer.status_code < 500 and answer.json()["error"]["param"] == field


# --- the text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text", "visits"])
def test_every_token_has_the_probability_of_score(client: TestClient, service: Service, name: str) -> None:
    found = ask(client, "/page/written", model=name, prompt=TEXT[name])
    content = TEXT[name].split() if name == "visits" else TEXT[name]
    (scored,) = ask(client, "/v1/score", model=name, input=[content], tokens=True)["lines"]
    told = found["surprise"]["tokens"]
    assert [one["nats"] for one in told] == pytest.approx([-of for of in scored["token_nats"][: len(told)]], rel=1e-4)
    assert "".join(token["text"] for token in found["tokens"]) == TEXT[name]
    p = predicted(service, name, TEXT[name].rsplit(" ", 1)[0] if name == "visits" else TEXT[name][:-1])
    last = found["tokens"][-1]["id"]
    assert told[-1]["rank"] == 1 + sum(of > p[last] for of in p.values())


@pytest.mark.parametrize("name", ["text", "visits"])
def test_a_swap_puts_that_very_token_there(client: TestClient, service: Service, name: str) -> None:
    found = ask(client, "/page/written", model=name, prompt=TEXT[name])
    tokenizer = service.find(name).run.processor.tokenizer
    ids, swapped = [token["id"] for token in found["tokens"]], 0
    for at, one in enumerate(found["surprise"]["tokens"]):
        before = "".join(token["text"] for token in found["tokens"][:at])
        for other in one["best"]:
            if other["adds"] is not None:
                swapped += 1
                assert tokenizer.encode((before + other["adds"]).encode()).ids.tolist() == [*ids[:at], other["id"]]
    assert swapped > 2 * len(ids)


def test_nothing_is_swapped_within_a_character(client: TestClient) -> None:
    found = ask(client, "/page/written", model="bytes", prompt="nä né")
    assert [token["text"] for token in found["tokens"]] == ["n", "", "ä", " ", "n", "", "é"]
    adds = [{other["adds"] for other in one["best"]} for one in found["surprise"]["tokens"]]
    assert adds[2] == adds[6] == {None} and "n" in adds[0] and " " in adds[3]


def test_a_text_that_is_empty_long_or_unknown(client: TestClient) -> None:
    found = ask(client, "/page/written", model="text", prompt="")
    assert found["tokens"] == [] and found["surprise"] == {"begin": 0, "tokens": []}
    found = ask(client, "/page/written", model="text", prompt="the fox " * 100)
    assert len(found["tokens"]) == 800 and found["surprise"]["begin"] == 800 - writing.STRETCH
    assert len(found["surprise"]["tokens"]) == writing.STRETCH
    answer = client.post("/page/written", json={"model": "text", "prompt": "a" * 4097})
    assert answer.status_code == 422 and "4,097 tokens, at most 4,096" in answer.json()["error"]["message"]
    assert ask(client, "/page/written", model="visits", prompt="home zebra")["unknown"] == 1


def test_only_runs_that_read_again_what_they_wrote_are_offered(service: Service) -> None:
    assert {name: writing.writes(one.run) for name, one in service.runs.items()} == {
        "text": True, "visits": True, "masks": False, "bytes": True,
    }  # fmt: skip
    for form, names, told in [
        (Form("words"), ["home", "new york"], False), (Form("words"), ["home", "york"], True),
        (Form("steps", ("a", "b")), ["a=1", "b=2"], False), (Form("chars"), ["a", " "], True),
    ]:  # fmt: skip
        assert writing.is_text(SymbolTokenizer(form, names, True)) == told


def test_symbols_begin_with_a_record_of_their_board(service: Service, tmp_path: Path) -> None:
    run = service.find("visits").run
    assert run.path is not None
    assert sample(run, boards.examples(service, run)) == "cart checkout home product search", "of no board"
    (tmp_path / "runs").mkdir()
    shutil.copytree(run.path, tmp_path / "runs" / "visits")
    board = {"format": 1, "rows": [], "task": "generate", "data": {"examples": ["home search product cart"]}}
    (tmp_path / "board.json").write_text(json.dumps(board))
    opened = open_service([str(tmp_path)], threads=1)
    try:
        run = opened.find("visits").run
        assert sample(run, boards.examples(opened, run)) == "home search product cart"
    finally:
        opened.close()


# --- the scripts ------------------------------------------------------------------------------------------------------


def test_a_stream_is_read_in_whatever_pieces_it_comes(client: TestClient) -> None:
    body = {"model": "text", "prompt": "the f", "max_tokens": 9, "seed": 3, "logprobs": 0}
    whole = ask(client, "/v1/completions", **body)["choices"][0]
    sent = client.post("/v1/completions", json={**body, "stream": True}).text
    program = """
    const { events } = await load("ask"), told = events();
    console.log(JSON.stringify(given.flatMap(piece => told(piece))));
    """
    for size in (1, 7, 10_000):
        found = call(program, [sent[k : k + size] for k in range(0, len(sent), size)])
        assert "".join(one["choices"][0]["text"] for one in found) == whole["text"]
        assert [name for one in found for name in one["choices"][0]["logprobs"]["tokens"]] == whole["logprobs"][
            "tokens"
        ]


def test_the_settings_of_the_address_are_those_of_a_request() -> None:
    program = """
    const { settings } = await load("write"), { parse, write } = await load("link");
    console.log(JSON.stringify(given.map(state => [settings(state), settings(parse(write(state)))])));
    """
    states = [{"temperature": "0.7", "top_k": "3", "seed": "5"}, {"top_p": "0.9", "min_p": "0.01", "seed": ""}, {}]
    found = call(program, states)
    expected = [{"temperature": 0.7, "top_k": 3, "seed": 5}, {"top_p": 0.9, "min_p": 0.01}, {}]
    assert found == [[one, one] for one in expected]
    assert all(Completion.model_validate(one) for one in expected)


def test_branches_are_kept_and_gone_through() -> None:
    program = """
    const { Branches } = await load("branches");
    const one = new Branches("to be"), seen = [];
    const note = () => seen.push([one.text, one.past.length, one.future.length]);
    one.go(one.grow("to be or", { kind: "continued", run: "a" })); note();
    one.go(one.grow("to be or not", { kind: "continued", run: "a" })); note();
    const mine = one.written(one.at);
    one.go(one.grow("to be is", { kind: "swapped" })); note();
    one.undo(); note();
    one.undo(); note();
    one.redo(); note();
    one.go(one.grow("to be or else", { kind: "swapped" })); note();
    for (const text of ["to be or else,", "to be or else, I"]) { one.type(text); note(); }
    one.type("so"); note();
    const same = one.grow("to be is", {}, 0) === one.grow("to be is", {}, 1);
    const none = one.written(one.at), many = one.nodes.length;
    console.log(JSON.stringify({ seen, mine, none, many, same, shown: one.shown() }));
    """
    found = call(program, None)
    assert found["seen"] == [
        ["to be or", 1, 0], ["to be or not", 2, 0], ["to be is", 3, 0], ["to be or not", 2, 1], ["to be or", 1, 2],
        ["to be or not", 2, 1], ["to be or else", 3, 0], ["to be or else,", 4, 0], ["to be or else, I", 4, 0],
        ["so", 5, 0],
    ]  # fmt: skip
    assert found["mine"] == len("to be"), "what one run wrote in two steps"
    assert found["none"] is None and found["same"] and found["many"] == 7
    assert [(one["added"], one["depth"]) for one in found["shown"]] == [
        ("to be", 0), (" or", 1), (" not", 2), (" else, I", 2), (" is", 1), ("so", 0),
    ]  # fmt: skip


def test_the_tab_shows_the_numbers_of_the_server(client: TestClient) -> None:
    how = {"model": "text", "prompt": TEXT["text"]}
    trace, following = ask(client, "/page/written", **how), ask(client, "/page/next", **how, top_k=2)
    program = """
    const { speak } = await load("words"), { Draft } = await load("draft");
    speak(given.words);
    const done = [], note = name => (_, text) => done.push([name, text]);
    const draft = new Draft(null, { captions: {}, acts: { append: note("append"), swap: note("swap") } });
    Object.assign(draft, { trace: given.trace, next: given.next, at: 5, run: { name: "text" } });
    const inner = (tree, name) => (tree.children ?? []).flatMap(child => all(child, name));
    const all = (tree, name) => [...(tree.name === name ? [tree] : []), ...inner(tree, name)];
    const panels = [draft.nextPanel(), draft.chosenPanel()], buttons = panels.map(one => all(one, "button"));
    for (const list of buttons) list.find(one => !one.attributes.disabled).attributes.on.click();
    const bars = all(panels[0], "li").map(one => all(one, "span").filter(node => node.attributes.class === "share"));
    console.log(JSON.stringify({
      done, data: panels.map(one => all(one, "data").map(node => +node.attributes.value)),
      bars: bars.map(list => list.length), off: buttons[1].filter(one => one.attributes.disabled).length,
    }));
    """
    words = export.texts("en")["words"] | {key: of["en"] for key, of in page.messages().items()}
    found = call(program, {"trace": trace, "next": following, "words": words})
    both = [*following["candidates"], following["others"]]
    assert found["data"][0] == [one[key] for one in both for key in ("p", "drawn")]
    assert found["bars"][:3] == [2, 2, 1], "nothing is drawn beyond the second"
    one = trace["surprise"]["tokens"][5]
    facts, listed = found["data"][1][:4], found["data"][1][4:]
    assert facts == pytest.approx([np.exp(-one["nats"]), one["rank"], one["nats"], one["entropy"]])
    assert listed == [other["p"] for other in one["best"]]
    usable = [other for other in one["best"] if other["adds"] is not None and other["id"] != trace["tokens"][5]["id"]]
    assert found["off"] == len(one["best"]) - len(usable) >= 1
    assert found["done"] == [["append", following["candidates"][0]["adds"]], ["swap", "the f" + usable[0]["adds"]]]
