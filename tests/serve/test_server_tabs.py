"""The tabs Translate, Draw, Tag and classify, Forecast: what they ask is answered, and what they show is the answer."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import chainrule

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient
from PIL import Image

from chainrule.core import UserError
from chainrule.data.captioned import fit_captions
from chainrule.data.reading import Lexicon
from chainrule.data.words import WordTokenizer
from chainrule.serve import images, native, page, samples
from chainrule.serve.app import application
from chainrule.serve.service import Served, Service, open_service
from chainrule.tasks.series.inference import read_numbers
from chainrule.tasks.translate.inference import alignment_of
from tests.explain.page_scripts import call
from tests.serve.native_runs import TAGGED, train

SAY = 'const { speak } = await load("words"); speak(given.words);'
NAMES = ("pairs", "tags", "labels", "waves")


def train_images(folder: Path) -> str:
    """Train a run that tells dark images of 8 x 8 pixels from bright ones."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    pixels = (rng.integers(0, 90, (60, 8, 8)) + 160 * labels[:, None, None]).astype(np.uint8)
    np.savez(folder / "shades.npz", images=pixels, labels=labels)
    out = str(folder / "shades")
    chainrule.train(str(folder / "shades.npz"), "logistic", out, task="classify", budget="20steps", threads=1)
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "two.csv").write_text("high,low\n" + "".join(f"{k % 7 + 5},{k % 5}\n" for k in range(120)))
    chainrule.train(
        str(folder / "two.csv"),
        "ar",
        str(folder / "two"),
        task="series",
        columns="high,low",
        budget="3steps",
        threads=1,
    )
    found = [*train(folder, *NAMES), train_images(folder), str(folder / "two")]
    return {Path(one).name: one for one in found}


@pytest.fixture(scope="module")
def service(folders: dict[str, str]) -> Iterator[Service]:
    opened = open_service(folders.values(), threads=1)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(application(service))


@pytest.fixture(scope="module")
def runs(client: TestClient) -> dict[str, Any]:
    """What the page is told of each run."""
    (found,) = re.findall(r'<script type="application/json" id="given">(.*?)</script>', client.get("/").text)
    return {run["name"]: run for run in json.loads(found)["runs"]}


@pytest.fixture(scope="module")
def words() -> dict[str, str]:
    return page.export.texts("en")["words"] | {key: of["en"] for key, of in page.messages().items()}


def posted(client: TestClient, route: str, body: dict[str, Any]) -> Any:
    answer = client.post(f"/v1/{route}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def numbers_in(tree: Any) -> list[float]:
    """The numbers that a tree shows, in order."""
    if not isinstance(tree, dict | list):
        return []
    if isinstance(tree, list):
        return [number for one in tree for number in numbers_in(one)]
    own = [float(tree["attributes"]["value"])] if tree["name"] == "data" else []
    return own + numbers_in(tree["children"])


# --- what is offered --------------------------------------------------------------------------------------------------


def test_a_tab_is_offered_where_a_run_can_do_it(runs: dict[str, Any]) -> None:
    program = """
    const tabs = [];
    for (const name of ["translate", "draw", "labels", "forecast"]) tabs.push((await load(name))[name]);
    const offered = runs => tabs.filter(tab => tab.offered({ runs })).map(tab => tab.name);
    console.log(JSON.stringify([...given.map(run => offered([run])), offered(given), offered([])]));
    """
    painter = {"name": "painter", "routes": ["/v1/images/generations"]}
    told = [*runs.values(), painter, {"name": "text", "routes": ["/v1/completions", "/v1/explain"]}]
    expected = {
        "pairs": ["translate"], "tags": ["labels"], "labels": ["labels"], "shades": ["labels"], "waves": ["forecast"],
        "two": ["forecast"], "painter": ["draw"], "text": [],
    }  # fmt: skip
    *each, together, nothing = call(program, told)
    assert {run["name"]: tabs for run, tabs in zip(told, each)} == expected
    assert (together, nothing) == (["translate", "draw", "labels", "forecast"], [])


def test_the_page_begins_with_a_text_that_the_run_reads(
    client: TestClient, runs: dict[str, Any], service: Service
) -> None:
    assert "unknown" not in posted(client, "translate", {"model": "pairs", "input": runs["pairs"]["sample"]})
    assert posted(client, "tag", {"model": "tags", "input": runs["tags"]["sample"]})["tokens"][0]
    assert "unknown" not in posted(client, "classify", {"model": "labels", "input": runs["labels"]["sample"]})
    assert [runs[name]["sample"] for name in ("waves", "two", "shades")] == [None] * 3
    assert runs["tags"]["labels"] == ["D", "N", "V"] and runs["waves"]["labels"] == []
    (waves,), two = (runs[name]["series"] for name in ("waves", "two"))
    (tail,), tails = (service.find(name).run.data["tail"] for name in ("waves", "two"))
    assert (waves["values"], waves["read"]) == (tail[-samples.VALUES :], len(tail)) and len(tail) > samples.VALUES
    assert [(one["name"], one["values"]) for one in two] == [("high", tails[0]), ("low", tails[1])]
    assert runs["pairs"]["series"] == []


def test_a_sample_of_unknown_words_is_replaced_by_words_of_the_vocabulary() -> None:
    assert samples._known(WordTokenizer(["to", "good", "morning"], lines=True), "Good morning") == "good morning"
    assert samples._known(WordTokenizer(["to", "be"], lines=True), "Good morning") == "to be"
    assert samples._known(None, "Good morning") == "Good morning"


def test_a_tagger_begins_with_tokens_of_its_data(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = chainrule.load(folders["tags"], threads=1)
    rows = [" ".join(row["tokens"]) for row in TAGGED]
    monkeypatch.setattr(samples, "_SEQUENCES", {})
    assert samples.sample(run) in rows
    monkeypatch.setattr(samples, "_SEQUENCES", {})
    run.settings["data"] = "gone.tsv"
    assert samples.sample(run, ["a/D b/c/N", "the/D"]) == "a b/c", "an excerpt: tokens with their tags"
    cut = ("the/D " * 17)[: samples.EXCERPT]
    assert samples.sample(run, [cut]) == " ".join(["the"] * 16), "the end of an excerpt may be half a token"
    assert samples.sample(run) == samples.SAMPLES["tag"]
    run.processor.reader = Lexicon.fit(["maple", "street"] * 2)
    assert samples.sample(run) == "maple street", "of the usual sentence it knows nothing"


def test_tokens_that_a_tagger_does_not_know_are_counted(client: TestClient) -> None:
    sentences = [["the", "Dog", "sat"], ["the", "zebra", "zigzagged"], []]
    assert posted(client, "tag", {"model": "tags", "input": sentences})["unknown"] == [0, 2, 0]
    assert "unknown" not in posted(client, "tag", {"model": "tags", "input": sentences[:1]})
    lexicon = Lexicon.fit(["to", "be", "or", "not", "To", "be"])
    assert [word for word in ("to", "BE", "or", "is") if lexicon.knows(word)] == ["to", "BE"], "those that occur twice"


def test_the_address_keeps_the_options_of_the_tab_that_is_open() -> None:
    program = """
    const { parse, write } = await load("link");
    console.log(JSON.stringify([write(given), parse(write(given))]));
    """
    state = {"tab": "draw", "run": ["a"], "target": "x", "draw.seed": "7", "draw.top_k": "", "translate.source": "y"}
    text, read = call(program, state)
    assert text == "#run=a&tab=draw&target=x&draw.seed=7"
    assert read == {"tab": "draw", "run": ["a"], "target": "x", "draw.seed": "7"}


def test_every_message_that_a_tab_says_is_there() -> None:
    sources = {one.name: one.read_text() for one in page.TABS.iterdir() if one.name.endswith(".js")}
    known = page.messages().keys() | page.export.messages().keys()
    said = {key for text in sources.values() for key in re.findall(r'say\("(\w+)"', text)}
    for tab in ("translate", "draw", "forecast"):
        blocks = re.findall(r"^const (?:OPTIONS|COUNTED|SAMPLER) = \{(.*?)\};$", sources[f"{tab}.js"], re.M | re.S)
        said |= {f"{tab}_{name}" for block in blocks for name in re.findall(r"(\w+): \{", block)}
    assert {"translate_beams", "draw_top_p", "forecast_max_tokens"} <= said
    assert said - known == set()


# --- Translate --------------------------------------------------------------------------------------------------------


def test_translations_are_those_of_the_command(client: TestClient, folders: dict[str, str]) -> None:
    program = """
    const { asked, found } = await load("translate");
    console.log(JSON.stringify(given.answer ? found(given.answer) : asked({ name: "pairs" }, "a e", given.options)));
    """
    run = chainrule.load(folders["pairs"], threads=1)
    for options in ({}, {"beams": 5, "n_best": 2, "length_penalty": 0.5}, {"n_best": 1}):
        body = call(program, {"options": options})
        listed = call(program, {"answer": posted(client, "translate", body)})
        expected = run.translate(["a e"], **{"n_best": 3, **options})
        assert [one["text"] for one in listed][:1] == expected["translations"]
        assert [one["nats"] for one in listed][:1] == pytest.approx(expected["nats"])
        if "n_best" in expected:
            assert [one["text"] for one in listed] == [one["text"] for one in expected["n_best"][0]]
            assert [one["score"] for one in listed] == pytest.approx([one["score"] for one in expected["n_best"][0]])


def test_weights_of_an_alignment_are_the_mean_over_heads_of_what_the_decoder_attends_to(
    client: TestClient, service: Service
) -> None:
    program = """
    const { question, weightsOf, weightsOfWord, wordsOf } = await load("alignment");
    if (!given.traces) console.log(JSON.stringify(given.places.map(at => question("pairs", "a e", "e a", at))));
    else {
      const rows = given.traces.map(one => weightsOf(one.cross_attention, 0, undefined));
      const of = [given.traces[0].tokens, given.traces[0].cross_attention.source].map(wordsOf);
      console.log(JSON.stringify([rows, ...of, of[0].map(word => weightsOfWord(word, rows, of[1]))]));
    }
    """
    expected, targets, _ = alignment_of(service.find("pairs").run, "a e", "e a")
    bodies = call(program, {"places": [*range(len(targets) + 1)]})
    traces = [posted(client, "explain", body)["trace"] for body in bodies]
    rows, target_words, source_words, weights = call(program, {"traces": traces})
    assert np.array(rows)[: len(targets)] == pytest.approx(expected, abs=1e-6)
    whole = np.array(rows)
    for word, row in zip(target_words, weights, strict=True):
        mine = whole[word["begin"] : word["end"]].mean(0)
        by_hand = [mine[one["begin"] : one["end"]].sum() for one in source_words]
        assert row == pytest.approx(by_hand) and sum(row) == pytest.approx(1, abs=1e-5)


def test_one_head_or_the_mean_of_all_heads_of_a_layer() -> None:
    program = """
    const { weightsOf, weightsOfWord } = await load("alignment");
    console.log(JSON.stringify([[0, 5], [0, undefined], [1, 0], [7, 0]].map(([l, k]) => weightsOf(given, l, k))
      .concat([[[.25, .75, 0], undefined], [[.25, .25, .5], [.75, .25, 0]]].map(rows =>
        weightsOfWord({ begin: 0, end: 2 }, rows, [{ begin: 0, end: 2 }, { begin: 2, end: 3 }])))));
    """
    layers = [
        {"layer": 0, "heads": [{"head": 3, "weights": [0.5, 0.5]}, {"head": 5, "weights": [0.25, 0.75]}]},
        {"layer": 1, "heads": [{"head": 0, "weights": [1, 0]}]},
    ]
    assert call(program, {"layers": layers}) == [[0.25, 0.75], [0.375, 0.625], [1, 0], [1, 0], None, [0.75, 0.25]]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["Gut", "en", " Mor", "gen", ""], ["Guten", " Morgen", ""]),
        (["t", "o", " ", "b", "e"], ["to", " be"]),
        (["the ", "fox ", "ran"], ["the ", "fox ", "ran"]),
        (["R", "EH1", "N"], ["R", "EH1", "N"]),
        (["", "é", " a"], ["é", " a"]),
    ],
)
def test_tokens_make_words(tokens: list[str], expected: list[str]) -> None:
    program = 'const { wordsOf } = await load("alignment"); console.log(JSON.stringify(wordsOf(given)));'
    found = call(program, [{"text": text} for text in tokens])
    assert [one["text"] for one in found] == expected
    assert [one["begin"] for one in found] == [0, *(one["end"] for one in found[:-1])]
    assert found[-1]["end"] == len(tokens)


def test_rows_of_a_sentence_are_asked_for_once_and_those_of_a_longer_text_around_a_word() -> None:
    program = """
    const { Alignment } = await load("alignment"), told = [], set = () => {};
    for (const many of given) {
      const places = [], tokens = Array.from({ length: many }, () => ({ text: " w" }));
      const layers = [{ layer: 0, heads: [{ head: 0, weights: [1, 0, 0] }] }];
      const view = { source: tokens.slice(0, 3), layers };
      const ask = async body => { places.push(body.at); return { trace: { tokens, cross_attention: view } }; };
      const made = Object.assign(new Alignment(null, { state: {}, ask, set }), { draw() {}, mark() {}, fill() {} });
      await made.open();
      const first = [...places];
      await Promise.all([made.choose("target", many - 1), made.choose("target", many - 2, true)]);
      await made.choose("source", 1);
      told.push([first, places.slice(first.length)]);
    }
    console.log(JSON.stringify(told));
    """
    (short, more), (long, around) = call(program, [20, 200])
    assert (sorted(short), more) == ([*range(20)], [])
    assert long == [0]
    assert 199 in around and 198 in around and len(around) == len({*around}) <= 32 and min(around) >= 180


def test_look_inside_is_asked_for_the_pair() -> None:
    program = """
    const { questions } = await load("ask");
    console.log(JSON.stringify(given.map(one => questions(...one))));
    """
    views = [{"name": "cross_attention", "usual": True}]
    taking, other = (
        {"name": "pairs", "views": views, "takes": takes} for takes in (["text", "target", "view"], ["text", "view"])
    )
    state = {"text": "a e", "target": "e a"}
    (with_pair,), (without,), (empty,) = call(program, [[taking, state], [other, state], [taking, {"text": "a e"}]])
    assert with_pair == {"model": "pairs", "text": "a e", "target": "e a", "view": ["cross_attention"]}
    assert "target" not in without and "target" not in empty


# --- Draw -------------------------------------------------------------------------------------------------------------


def test_every_image_is_drawn_with_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch, words: dict[str, str]) -> None:
    seeds: list[int] = []

    def draw(run: Any, caption: str, **options: Any) -> dict[str, Any]:
        assert (options["n"], options["top_k"], options["temperature"]) == (1, 3, 0.5)
        seeds.append(options["seed"])
        return {"images": np.full((1, 4, 4, 3), options["seed"], np.uint8)}

    monkeypatch.setattr(images, "draw", draw)
    captions = fit_captions(["a circle", "a square"] * 3, "word", 4)
    processor = SimpleNamespace(reader=SimpleNamespace(size=4), captions=captions)
    run = SimpleNamespace(task="draw", settings={}, processor=processor, model=None, scheduler=None)
    service = Service([Served("painter", run)])  # type: ignore[arg-type]
    client = TestClient(application(service))
    program = f"""
    {SAY}
    const {{ image, questions, source }} = await load("draw"), run = {{ name: "painter" }};
    console.log(JSON.stringify(given.answers ? given.answers.map(one => image(source(one), "a circle", 5))
      : questions(run, "a circle", given.options)));
    """
    bodies = call(program, {"words": words, "options": {"n": 3, "seed": 5, "top_k": 3, "temperature": 0.5}})
    answers = [posted(client, "images/generations", body) for body in bodies]
    assert seeds == [5, 6, 7]
    for seed, figure in zip(seeds, call(program, {"words": words, "answers": answers})):
        img, caption = figure["children"]
        address = img["attributes"]["src"]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
        assert address.startswith("data:image/png;base64,") and pixels.shape == (4, 4, 3) and {*pixels.flat} == {seed}
        assert caption["children"][-1]["attributes"] == {"href": address, "download": "a-circle-5.png"}
    assert not {"unknown", "cut"} & answers[0].keys()
    strange = posted(client, "images/generations", {**bodies[0], "prompt": "a hexagon square"})
    assert (strange["unknown"], strange["cut"]) == (1, 2), "two tokens are read, as the longest caption has"
    told = f"{SAY} const {{ notes }} = await load('draw'); console.log(JSON.stringify(notes(given.answer)));"
    lines = [one["children"][0] for one in call(told, {"words": words, "answer": strange})]
    assert lines[0] == "The caption is too long: its first 2 tokens were read."
    assert lines[1] == "The run does not know 1 token of this text."
    service.close()


# --- Tag and classify -------------------------------------------------------------------------------------------------


def test_tags_and_their_probabilities_are_those_of_the_command(
    client: TestClient, runs: dict[str, Any], folders: dict[str, str], words: dict[str, str]
) -> None:
    program = f"""
    {SAY}
    const {{ bars, tagQuestion, tagged }} = await load("labels");
    const shown = ({{ tokens, tags, p }}) => [tagged(tokens[0], tags[0], given.run.labels, 7), bars(p[0][1], "p")];
    console.log(JSON.stringify(given.answer ? shown(given.answer)
      : tagQuestion(given.run, " the  dog sat\\n\\ndog \\n")));
    """
    given = {"words": words, "run": runs["tags"]}
    body = call(program, given)
    assert body["input"] == [["the", "dog", "sat"], ["dog"]]
    answer = posted(client, "tag", body)
    expected = chainrule.load(folders["tags"], threads=1).tag(body["input"], posteriors=True)
    assert answer["tags"] == expected["tags"] == [["D", "N", "V"], ["N"]]
    assert answer["p"][0][1] == pytest.approx(expected["p"][0][1])
    tokens, bars = call(program, {**given, "answer": answer})
    buttons = [one["children"][0] for one in tokens["children"]]
    assert [one["attributes"]["id"] for one in buttons] == ["token-7", "token-8", "token-9"]
    assert [[part["children"][0] for part in one["children"]] for one in buttons] == [
        ["the", "D"], ["dog", "N"], ["sat", "V"],
    ]  # fmt: skip
    assert len({one["attributes"]["class"] for one in buttons}) == 3
    assert numbers_in(bars) == sorted(answer["p"][0][1].values(), reverse=True)


@pytest.mark.parametrize("name", ["tags", "gru"])
def test_posteriors_sum_to_one_and_agree_with_the_probability_of_the_tags(
    name: str, folders: dict[str, str], tmp_path: Path
) -> None:
    from tests.serve.native_runs import TAGGED

    if name == "gru":
        chainrule.train(TAGGED, "gru", str(tmp_path / "gru"), task="tag", budget="3steps", set=["size=tiny"])
    run = chainrule.load(folders.get(name, str(tmp_path / name)), threads=1)
    found = run.tag([["the", "dog", "sat"], ["cat"], []], posteriors=True)
    for p in (one for row in found["p"] for one in row):
        assert sum(p.values()) == pytest.approx(1, abs=1e-6)
    assert [max(p, key=p.__getitem__) for p in found["p"][0]] == found["tags"][0]
    assert found["p"][2] == [] and [len(row) for row in found["p"]] == [3, 1, 0]
    assert np.log(found["p"][1][0][found["tags"][1][0]]) == pytest.approx(found["nats"][1], abs=1e-5)
    if name == "gru":  # its tags are independent given the words
        together = sum(np.log(p[tag]) for p, tag in zip(found["p"][0], found["tags"][0]))
        assert together == pytest.approx(found["nats"][0], abs=1e-5)
    assert "p" not in run.tag([["the"]])


def test_the_command_prints_the_probability_of_each_tag(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from chainrule.cli import main

    (tmp_path / "in.txt").write_text("the dog sat\n")
    assert main(["tag", folders["tags"], str(tmp_path / "in.txt"), "--posteriors", "--threads", "1"]) == 0
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert main(["tag", folders["tags"], str(tmp_path / "in.txt"), "--posteriors", "--json-lines"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert printed == [
        [word, tag, f"{p[tag]:.4f}"] for word, tag, p in zip(row["tokens"], row["tags"], row["p"], strict=True)
    ]


def test_the_work_of_posteriors_counts_the_tags(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.limits, "WORK", 60)
    body = {"model": "tags", "input": [["the", "dog", "sat"] * 3]}  # 37 characters and items, 3 tags
    assert client.post("/v1/tag", json=body).status_code == 200
    answer = client.post("/v1/tag", json={**body, "posteriors": True})
    assert answer.status_code == 422 and "111 characters and items" in answer.text


def test_labels_of_a_text_are_shown_with_their_probabilities(
    client: TestClient, runs: dict[str, Any], words: dict[str, str]
) -> None:
    program = f"""
    {SAY}
    const {{ bars, classQuestion, reads }} = await load("labels");
    console.log(JSON.stringify(given.p ? bars(given.p, "p") : [classQuestion(given.run, "to be"), reads(given.run)]));
    """
    body, kind = call(program, {"words": words, "run": runs["labels"]})
    p = posted(client, "classify", body)["p"][0]
    assert kind == "text" and numbers_in(call(program, {"words": words, "p": p})) == sorted(p.values(), reverse=True)
    many = {f"label {k}": (k + 1) / 210 for k in range(20)}
    assert numbers_in(call(program, {"words": words, "p": many})) == sorted(many.values(), reverse=True)


def test_an_image_is_sent_as_the_route_takes_it(
    client: TestClient, runs: dict[str, Any], folders: dict[str, str], tmp_path: Path
) -> None:
    program = """
    const { classQuestion, reads } = await load("labels");
    console.log(JSON.stringify([classQuestion(given.run, given.url), reads(given.run)]));
    """
    Image.fromarray(np.full((8, 8), 240, np.uint8)).save(tmp_path / "bright.png")
    content = (tmp_path / "bright.png").read_bytes()
    url = "data:image/png;base64," + base64.b64encode(content).decode()
    body, kind = call(program, {"run": runs["shades"], "url": url})
    expected = chainrule.load(folders["shades"], threads=1).classify(str(tmp_path / "bright.png"))
    answer = posted(client, "classify", body)
    assert kind == "image" and answer["p"] == [pytest.approx(expected["p"][0], abs=1e-6)]
    assert answer["labels"] == expected["labels"]


# --- Forecast ---------------------------------------------------------------------------------------------------------


def test_a_forecast_is_that_of_the_command(client: TestClient, folders: dict[str, str]) -> None:
    program = """
    const { csv, forecastOf, question } = await load("forecast");
    const shown = answer => answer.columns.map((_, k) => [forecastOf(answer, k), csv(forecastOf(answer, k))]);
    console.log(JSON.stringify(given.answer ? shown(given.answer)
      : question({ name: given.name }, given.values, { max_tokens: 4, n: 2, seed: 3 })));
    """
    values = [2.0, 2.3, 2.6, 2.8, 3.0, 2.9]
    for name, given, prompt in [("waves", values, [values]), ("waves", [], ()), ("two", [], ())]:
        body = call(program, {"name": name, "values": given})
        found = call(program, {"answer": posted(client, "forecast", body)})
        expected = chainrule.forecast(chainrule.load(folders[name], threads=1), 4, prompt=prompt, n=2, seed=3)
        assert len(found) == len(expected["columns"])
        for k, (one, text) in enumerate(found):
            assert one["name"] == expected["columns"][k]
            np.testing.assert_allclose(one["quantiles"], expected["quantiles"][k], rtol=1e-5)
            np.testing.assert_allclose(one["paths"], expected["sequences"][2 * k : 2 * k + 2], rtol=1e-5)
            head, *lines = text.strip().split("\n")
            assert head == "step,q0.1,q0.5,q0.9,path1,path2"
            table = np.array([[float(cell) for cell in line.split(",")] for line in lines])
            np.testing.assert_array_equal(table, np.column_stack([[1, 2, 3, 4], one["quantiles"], *one["paths"]]))


def test_the_chart_draws_the_band_around_the_median_behind_the_known_values(words: dict[str, str]) -> None:
    program = f"""
    {SAY}
    const {{ chart }} = await load("forecast");
    console.log(JSON.stringify(chart(given.past, given.one, 600)));
    """
    one = {"levels": [0.1, 0.5, 0.9], "quantiles": [[1, 2, 5], [0, 3, 7]], "paths": [[2, 6]]}
    plot = call(program, {"words": words, "past": [1, None, 2, 4], "one": one})
    paths = {}
    for group in (tree for tree in plot["children"][0]["children"] if tree["name"] == "g"):
        for path in group["children"]:
            key = (group["attributes"]["class"], path["attributes"]["class"])
            points = re.findall(r"([ML])([\d.]+) ([\d.]+)", path["attributes"]["d"])
            paths[key] = [(pen, float(x), float(y)) for pen, x, y in points]
    known, median, band = (paths[key] for key in (("sobserved", "line"), ("s3", "line"), ("s3", "band")))
    assert [pen for pen, _, _ in known] == ["M", "M", "L"], "a missing value interrupts the line"
    height = {v: y for v, (_, _, y) in zip([1, 2, 4], known)}
    assert [y for _, _, y in band] == pytest.approx(
        [height[1] - (v - 1) * (height[1] - height[2]) for v in (5, 7, 0, 1)], abs=0.2
    )
    (_, x1, y1), (_, x2, _) = median
    assert y1 == height[2] and [x for _, x, _ in band] == [x1, x2, x2, x1]
    assert x1 - known[-1][1] == pytest.approx(x2 - x1, abs=0.2), "0 is the last known value"


def parsed(text: str, words: dict[str, str]) -> Any:
    """Names of the columns of a text, the one to begin with and its numbers, or an error."""
    program = f"""
    {SAY}
    const {{ columnsOf, firstColumn, numbersOf }} = await load("series");
    const read = () => {{
      const all = columnsOf(given.text), first = firstColumn(all);
      return [all.map(one => one.name), first, numbersOf(all[first])];
    }};
    let found;
    try {{ found = read(); }} catch (error) {{ found = error.message; }}
    console.log(JSON.stringify(found));
    """
    return call(program, {"text": text, "words": words})


@pytest.mark.parametrize(
    "text", ["112 118 132", "112, 118,132", "1,2,3", "45,5 46,2; 47", "1e3 -2.5 +.5", "4\n5\n6", "1, 2,\n3, 4, 5"]
)
def test_numbers_are_read_as_the_command_reads_a_prompt(text: str, words: dict[str, str]) -> None:
    _, first, values = parsed(text, words)
    assert (first, values) == (0, read_numbers(text).tolist())


@pytest.mark.parametrize(
    ("text", "names", "first", "values"),
    [
        ("year,sun\n1700,5\n1701,11\n1702,16\n", ["year", "sun"], 1, [5, 11, 16]),
        ("1700,5\n1701,11\n1702,16", ["column 1", "column 2"], 1, [5, 11, 16]),
        ('day;"high; at noon"\n2012-01-01;12,8\n2012-01-02;10.5', ["day", "high; at noon"], 1, [12.8, 10.5]),
        ("a\tb\r\n3\tx\r\n5\ty\r\n", ["a", "b"], 0, [3, 5]),
        ("passengers\n112\n118", ["passengers"], 0, [112, 118]),
    ],
)
def test_a_table_has_columns(text: str, names: list[str], first: int, values: list[float], words: Any) -> None:
    assert parsed(text, words) == [names, first, values]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1 2 x", "Line 1: “x” is no number (numbers): give numbers such as 112 or 45.5."),
        ("t\n1\nn/a", "Line 3: “n/a” is no number (t): give numbers such as 112 or 45.5."),
        ("a,b\nx,\n,3\n2,\n", "Line 2: “x” is no number (a): give numbers such as 112 or 45.5."),
        ("a,b\n1,x\n,3\n", "Line 3: no value in a: give a number, or remove the line."),
        ("a,b\n1,2\n\n1\n", "Line 4 has 1 cell, the first line 2: give every line as many."),
        ("45,5", "“45,5”: one number with a decimal comma, or two? Give a point, or a space between them."),
        ("1 0x10", "Line 1: “0x10” is no number (numbers): give numbers such as 112 or 45.5."),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(text: str, error: str, words: dict[str, str]) -> None:
    if text == "45,5":
        with pytest.raises(UserError, match="decimal comma"):
            read_numbers(text)
    assert parsed(text, words) == error
