"""The page of a trace: it shows the numbers of the JSON and no others, loads nothing, and no text in it can act."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chainrule.cli import main
from chainrule.core import UserError
from chainrule.explanation import export
from chainrule.explanation.gates import recurrent_probes
from chainrule.explanation.units import PROPERTIES, RECORD
from chainrule.explanation.views import views, views_of
from chainrule.tasks.base import all_tasks
from tests.explain.page_scripts import call, node
from tests.explain.runs import small_run
from tests.explain.traces import AT, sample_trace

HERE = Path(__file__).parent
POSITIONS = {"at", "begin", "first", "id"}
"""Keys of places and ids: where something stands, not what was measured."""
STATES = [
    {"layer": layer, "head": head, "measure": measure, "gate": gate, "moment": ("filtered", "predicted")[head % 2]}
    for layer in range(2) for head in range(3) for measure in ("weights", "norms", "rollout", "relevance")
    for gate in ("input_gate", "forget_gate", "memory")
]  # fmt: skip
"""Every choice that the panels of the sample offer."""


def shown(trace: dict[str, Any], lang: str = "en", *, fails: bool = False, **given: Any) -> dict[str, Any]:
    """Return what the modules of the page show of a trace."""
    found = call((HERE / "shown.mjs").read_text(), {"trace": export.finite(trace), **export.texts(lang), **given})
    assert bool(found["failures"]) == fails, found["failures"]
    return found


@cache
def of_sample() -> dict[str, Any]:
    return shown(sample_trace(), states=STATES)


def numbers(content: Any, leave_out: frozenset[str] | set[str] = frozenset()) -> Iterator[float]:
    """Yield the numbers in JSON, but those under some keys."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in leave_out:
                yield from numbers(value, leave_out)
    elif isinstance(content, list):
        for value in content:
            yield from numbers(value, leave_out)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield float(content)


def unit_of_last_place(text: str) -> float:
    """The value of one more in the last digit that a number shows.

    >>> unit_of_last_place("1.30"), unit_of_last_place("2.5e-7")
    (0.01, 1e-08)
    """
    digits, _, power = text.partition("e")
    return 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


# --- numbers ----------------------------------------------------------------------------------------------------------


VIEWS = [name for name in sample_trace() if name not in {"format", "run", "task", "model", "tokens", "at", "surprise"}]


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_every_number_of_the_json_and_no_other(view: str) -> None:
    """Over all tokens, layers, heads, measures and gates that can be chosen."""
    found = of_sample()["views"][view]
    told = {float(value) for value in [*(one for one, _ in found["numbers"]), *found["drawn"]] if value != "null"}
    left_out = (
        POSITIONS | ({"layer", "head"} if view.endswith("attention") else set())
        if view in of_sample()["known"]
        else set()
    )
    assert told == {*numbers(sample_trace()[view], left_out)}


def test_the_numbers_beside_a_token_are_those_of_the_token() -> None:
    trace, found = sample_trace(), of_sample()["views"]
    for k in range(7):
        told = {view: {float(one) for one in found[view]["places"][str(3 + k)] if one != "null"} for view in VIEWS}
        mixture, gates, belief, backoff = (trace[view] for view in ("mixture", "gates", "belief", "backoff"))
        of_token = {*numbers([mixture["posterior"][k], mixture["nats"][k]])}
        assert told["mixture"] == of_token | {*mixture["weights"]}
        fixed = {gates["layer"], gates["layers"], gates["size"], *gates["units"]}
        assert told["gates"] == fixed | {
            *numbers([each[kind][k] for each in (gates["means"], gates["values"]) for kind in each])
        }
        assert told["backoff"] == {backoff["uniform"], *numbers(backoff["tokens"][k])}
        for other in {*range(7)} - {k}:
            assert not told["belief"] & {*numbers([belief[kind]["p"][other] for kind in ("predicted", "filtered")])}
        for kind in ("predicted", "filtered"):
            assert {belief[kind]["rest"][k], *sorted(belief[kind]["p"][k])[-8:]} <= told["belief"]


def test_a_choice_of_layer_head_and_measure_shows_these() -> None:
    trace = sample_trace()
    found = shown(trace, states=[{"layer": 0, "head": 1, "measure": "norms"}])["views"]
    head = trace["cross_attention"]["layers"][0]["heads"][1]
    assert {float(value) for value, _ in found["cross_attention"]["numbers"]} == {*head["norms"]}
    heads = trace["attention"]["layers"][0]["heads"]
    chosen = {heads[1]["start_norm"], *heads[1]["norms"]}
    assert {float(value) for value, _ in found["attention"]["numbers"]} == chosen | {trace["attention"]["nats"]}
    every = {*numbers([[one["start_norm"], one["norms"]] for one in heads])}
    assert {*map(float, found["attention"]["drawn"])} == every, "and all heads of the layer, one below the other"


def test_the_text_and_the_prediction_show_the_numbers_of_surprise() -> None:
    found, expected = of_sample(), sample_trace()["surprise"]["tokens"]
    nats = [one["nats"] for one in expected]
    printed = [*numbers([[one["nats"], one["best"][0]["p"]] for one in expected])]
    assert [float(value) for value, _ in found["text"]["rows"]["numbers"]] == printed
    assert [*map(float, found["text"]["flow"]["drawn"])] == nats
    told = [float(value) for value, _ in found["prediction"]["numbers"]]
    assert told == [*numbers([[one["nats"], one["rank"], one["entropy"], one["best"]] for one in expected], {"id"})]


def test_what_people_read_of_a_number_is_that_number_rounded() -> None:
    found = of_sample()
    places = [*found["views"].values(), found["prediction"], found["text"]["rows"]]
    pairs = [pair for place in places for pair in place["numbers"] if pair != ["null", "–"]]
    assert len(pairs) > 1000
    for value, text in pairs:
        plain = text.replace(",", "").removesuffix("%")
        exact = float(value) * (100 if text.endswith("%") else 1)
        assert abs(float(plain) - exact) <= 0.5001 * unit_of_last_place(plain), (value, text)


def test_small_and_large_numbers_are_read_as_what_they_are() -> None:
    values = [0.0, 1e-9, 2.5e-7, 0.000123, 0.0999, 0.5, 1.0, 1234.5, 1e7, -3.25]
    mixture = {
        "begin": 3,
        "parts": [*"abcdefghij"],
        "weights": values,
        "posterior": [[0.1] * 10] * 7,
        "nats": [[0.1] * 10] * 7,
    }
    found = shown({**sample_trace(), "later": {"x": values}, "mixture": mixture})["views"]
    for value in values:
        texts = {
            text
            for view in ("later", "mixture")
            for number, text in found[view]["numbers"]
            if number != "null" and float(number) == value
        }
        assert len(texts) == 2, "as a number, and in per cent"
        for text in texts:
            read = float(text.replace(",", "").removesuffix("%")) / (100 if text.endswith("%") else 1)
            assert read == pytest.approx(value, rel=0.1)


def test_an_impossible_token_and_numbers_that_are_none_are_shown() -> None:
    trace = sample_trace()
    trace["surprise"]["tokens"][2]["nats"] = float("inf")
    found = shown(trace)
    assert ["null", "–"] in found["text"]["rows"]["numbers"] and ["null", "–"] in found["views"]["mixture"]["numbers"]
    (written,) = json.loads(
        scripts(export.page([trace]))["traces"], parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )
    assert written["surprise"]["tokens"][2]["nats"] is None and written["tokens"] == trace["tokens"]


# --- views and texts --------------------------------------------------------------------------------------------------


def test_a_view_that_no_panel_knows_and_one_that_differs_from_its_panel_are_shown_as_tables() -> None:
    trace = {**sample_trace(), "gates": {"begin": 3, "opened": [{"gate": "a", "share": 0.625}]}}
    found = shown(trace, fails=True)  # the author of a panel sees the error in the console
    assert {"later", "gates"} <= found["views"].keys() and "later" not in found["known"]
    assert ["0.625", "0.625"] in found["views"]["gates"]["numbers"]
    assert any("opened" in text for text in found["views"]["gates"]["texts"])


@pytest.mark.parametrize("model", ["gpt", "lstm", "hmm", "ngram"])
def test_the_panels_draw_what_runs_tell(model: str) -> None:
    """No panel has to fall back to a table, and the numbers are those of the trace."""
    run = small_run(model)
    told = run.explain("3 the cat sat", view=[one.name for one in views_of(run)])
    trace = json.loads(json.dumps(told["trace"]))
    found, known = shown(trace), {*numbers(trace)}
    for name in trace.keys() - {"format", "run", "task", "model", "tokens", "at", "surprise"}:
        assert name in found["known"]
        assert {float(value) for value, _ in found["views"][name]["numbers"] if value != "null"} <= known, name


def test_what_a_panel_does_not_read_of_its_view_is_shown_all_the_same() -> None:
    trace = sample_trace()
    trace["reach"] |= {"bound": 0.3125}
    assert ["0.3125", "0.313"] in shown(trace)["views"]["reach"]["numbers"]


def test_the_sample_has_the_form_of_the_views_of_the_package() -> None:
    trace = sample_trace()
    for name, one in views().items():
        assert one.facts.model_validate(trace[name]).model_dump(mode="json") == trace[name], name


def test_a_view_of_another_token_says_so() -> None:
    found = of_sample()
    assert set(found["ofOne"]) == {
        "attention", "attention_cell", "cross_attention", "source_attention", "reach", "integrated_gradients",
        "occlusion",
    }  # fmt: skip
    for view in found["ofOne"]:
        assert any(f"Computed for token {AT}" in text for text in found["views"][view]["texts"])


def test_the_text_is_a_list_for_keyboard_and_screen_reader() -> None:
    nats = [one["nats"] for one in sample_trace()["surprise"]["tokens"]]
    names = ["“↵”", "“né”", "“<” 1/2", "“<b>&'”", "“␣or”", "“␛”", "“not”"]
    found = of_sample()["text"]
    for kind in ("rows", "flow"):
        roles = found[kind]["roles"]
        assert roles[0][0] == "listbox" and roles[0][1]
        assert [role for role, _ in roles].count("option") == 7
    labels = [label for role, label in found["flow"]["roles"] if role == "option"]
    assert labels == [f"{at}: {name}, {one:.2f} nats" for at, (name, one) in enumerate(zip(names, nats), 3)]
    spoken = "".join(found["rows"]["texts"])
    places = [
        spoken.index(f"{at} {text}{one:.2f} nats") for at, (text, one) in enumerate(zip(["↵", "né", "< 1/2"], nats), 3)
    ]
    assert places == sorted(places)


def test_a_last_token_without_text_is_the_end_and_others_are_parts_of_characters() -> None:
    trace = sample_trace()
    texts = ["a", "\n", "b", "", "", "가", "c", "", "é", ""]
    trace["tokens"] = [{"id": k, "text": text} for k, text in enumerate(texts)]
    found = shown(trace)["text"]
    labels = [label.rpartition(",")[0] for role, label in found["flow"]["roles"] if role == "option"]
    assert labels == ["3: “가” 1/3", "4: “가” 2/3", "5: “가”", "6: “c”", "7: “é” 1/2", "8: “é”", "9: (end)"]
    assert {"가 1/3", "가 2/3", "가", "é 1/2", "(end)"} <= {*found["rows"]["texts"]}
    assert [text for text in found["flow"]["texts"] if len(text) == 1] == [*"¹²가c¹é"]


def test_the_most_probable_token_stands_beside_each_token_in_print() -> None:
    texts = of_sample()["text"]["rows"]["texts"]
    assert texts.count("most probable") == 1 and texts.count("to") == 7, (
        "the head of the column, and one for each token"
    )


def test_layers_are_told_to_be_counted_from_0() -> None:
    """As in the trace, on the command line and in links: the first and the last one are named."""
    for view in ("attention", "attention_cell", "cross_attention", "gates"):
        texts = of_sample()["views"][view]["texts"]
        assert "Layer (from 0)" in texts and {"0 (first)", "1 (last)"} <= {*texts}, view
    assert "Head (from 0)" in of_sample()["views"]["attention_cell"]["texts"]


def test_tokens_that_a_run_does_not_know_are_told_above_the_text() -> None:
    program = """
    const [{ heading }, { speak }] = await Promise.all(["viewer", "words"].map(load));
    speak(given.words);
    const notes = n => heading(given.trace, "run", n).children.slice(2).map(one => one.children[0]);
    console.log(JSON.stringify([0, 1, 3].map(notes)));
    """
    found = call(program, {"trace": export.finite(sample_trace()), **export.texts("en")})
    told = "The run does not know {} of this text."
    assert found == [[], [told.format("1 token")], [told.format("3 tokens")]]


def test_names_of_the_program_are_those_of_textbooks_in_both_languages() -> None:
    """Tasks, gates and cells of the recurrent networks, and the properties that units follow."""
    words, ko = (export.texts(lang)["words"] for lang in ("en", "ko"))
    gates = {name for model in ("rnn", "lstm", "gru") for name in recurrent_probes(small_run(model))}
    assert {"forget_gate", "memory", "reset_gate", "hidden"} <= gates
    names = gates | {one.name for one in all_tasks()}
    for key in [*(f"name_{name}" for name in names), *(f"property_{name}" for name in (*PROPERTIES, RECORD[0]))]:
        assert words[key] and re.search("[가-힣]", ko[key]), key
    found = shown(sample_trace(), "ko")
    told = " ".join(found["views"]["gates"]["texts"])
    assert "망각 게이트" in told and "셀 상태" in told and "forget" not in told
    assert not [text for text in ko.values() if re.search(r"\bnats\b(?!})", text)], "one word in Korean: nat"


def test_every_panel_has_its_sentence_and_every_picture_a_label() -> None:
    captions = export.texts("en")["captions"]
    for view, found in of_sample()["views"].items():
        sentence = captions.get(view, "This page has no picture of this view; these are its numbers.")
        assert sentence in found["texts"]
        assert all(label for role, label in found["roles"] if role in ("img", "group", "listbox"))


def test_each_view_of_the_package_has_a_sentence_in_both_languages() -> None:
    for lang in ("en", "ko"):
        told = export.texts(lang)["captions"]
        assert all(told.get(name, "").endswith(".") for name in views())
        assert not any(key.startswith("caption_") for key in export.texts(lang)["words"])
    assert export.texts("ko")["captions"]["attention"] != export.texts("en")["captions"]["attention"]


def test_every_message_that_the_scripts_use_exists() -> None:
    words = export.texts("en")["words"]
    used = {key for name in export.modules() for key in re.findall(r'\bsay\("(\w+)"', export.source(f"{name}.js"))}
    assert len(used) > 60 and used <= words.keys()


# --- the file ---------------------------------------------------------------------------------------------------------


def scripts(page: str) -> dict[str, str]:
    """The script elements of a page by their ids; the module has none."""
    found = re.findall(r'<script type="([\w/]+)"(?: id="(\w+)")?>(.*?)</script>', page, re.DOTALL)
    assert len(found) == page.count("<script")
    return {name or kind: text for kind, name, text in found}


def test_the_file_holds_the_trace_and_loads_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = small_run("gpt"), tmp_path / "page.html"
    options = [str(run.path), "the cat sat on né\n", "--threads", "1", "--precision", "fp32", "--json"]
    assert main(["explain", *options, "--out", str(out), "--lang", "ko"]) == 0
    answer = json.loads(capsys.readouterr().out)
    page = out.read_text()
    assert answer["out"] == str(out) and '<html lang="ko">' in page
    assert json.loads(scripts(page)["traces"]) == [answer["trace"]]
    assert json.loads(scripts(page)["texts"])["words"]["flow"] == "이어진 텍스트로 보기"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|\bsrc=|url\(|@import|\bfetch\(|import\(", page)
    assert str(run.path) not in page, "where a folder lies concerns no reader"


def test_only_the_script_of_the_page_may_run() -> None:
    page = export.page([sample_trace()])
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    digest = base64.b64encode(hashlib.sha256(scripts(page)["module"].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in policy


def test_no_text_of_a_trace_can_act() -> None:
    trace = sample_trace()
    for text in ("</script><script>alert(1)</script>", "<!--<script>", "<img src=x onerror=alert(1)>", "\u2028"):
        trace["tokens"][4]["text"] = trace["run"] = text
        page = export.page([trace])
        assert json.loads(scripts(page)["traces"]) == [export.finite(trace)]
        assert "<img" not in page and "<!--" not in page


def test_the_script_is_all_modules_in_the_order_of_their_imports() -> None:
    script = export.script("export")
    done = subprocess.run([node(), "--check", "--input-type=module", "-"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "import" not in re.findall(r"^\w+", script, re.MULTILINE) and "</" not in script
    for name in export.modules():
        text = export.source(f"{name}.js")
        assert len(re.findall(r"^(?:import|export)\b", text, re.MULTILINE)) == len(export.IMPORT.findall(text)) + len(
            export.EXPORT.findall(text)
        ), f"{name}: a form of import or export that the page in one file does not take"


def test_modules_import_what_others_export_and_they_use() -> None:
    exported = {
        name: {one for _, one in export.EXPORT.findall(export.source(f"{name}.js"))} for name in export.modules()
    }
    for name in export.modules():
        text = export.source(f"{name}.js")
        rest = export.IMPORT.sub("", text)
        for names, other in export.IMPORT.findall(text):
            wanted = set(names.split(", "))
            assert wanted <= exported[other], (name, other)
            assert {one for one in wanted if re.search(rf"\b{one}\b", rest)} == wanted, (name, other)
        others = (
            set().union(*exported.values())
            - exported[name]
            - {one for names, _ in export.IMPORT.findall(text) for one in names.split(", ")}
        )
        called = {
            one
            for one in others
            if re.search(rf"(?<![.\w]){one}\(", rest)
            and not re.search(rf"(?:const|function|let) {one}\b|[(,] ?{one}\b[^(]*\) ?(?:=>|{{)", rest)
        }
        assert called <= {"write", "body", "over"} & called, (name, called, "called without an import")


def test_the_numbers_stand_in_the_file_without_scripts() -> None:
    rows = re.findall(
        r'<tr><th scope="row">(\d+)</th><td>.*?</td><td>(.*?)</td><td>(\d+)</td><td>(.*?)</td></tr>',
        export.page([sample_trace()]),
        re.DOTALL,
    )
    expected = enumerate(sample_trace()["surprise"]["tokens"], 3)
    assert [(int(at), float(nats), int(rank), float(h)) for at, nats, rank, h in rows] == [
        (at, one["nats"], one["rank"], one["entropy"]) for at, one in expected
    ]
    assert "<noscript>" in export.page([sample_trace()])


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a folder; give the name of a file, such as .*explain\.html"):
        small_run("gru").explain("the", out=str(tmp_path))
    with pytest.raises(UserError, match=r"--lang ko: the language of a page: give --out PAGE\.html too"):
        small_run("gru").explain("the", lang="ko")
    with pytest.raises(UserError, match="no language 'fr'"):
        export.texts("fr")


def test_a_link_keeps_what_was_chosen() -> None:
    links = [
        "#run=a&run=b+c&view=occlusion&text=to+be%2C%0A%26&measure=norms&at=12&layer=0&head=3&key=-1",
        "#at=x&layer=-1&head=&other=1&key=-2",
    ]
    (kept, written), (wrong, _) = shown(sample_trace(), links=links)["links"]
    assert kept == {
        "run": ["a", "b c"], "view": ["occlusion"], "text": "to be,\n&", "measure": "norms",
        "at": 12, "layer": 0, "head": 3, "key": -1,
    }  # fmt: skip
    assert written == links[0] and wrong == {}


@pytest.mark.parametrize(("lang", "told"), [("en", "nats of the whole text"), ("ko", "텍스트 전체 nat")])
def test_the_cost_of_the_whole_text_is_told_where_all_of_it_is_shown(lang: str, told: str) -> None:
    run = small_run("gru")
    whole, part = (run.explain("the cat sat", view="surprise", end=end)["trace"] for end in (11, 10))
    nats = sum(one["nats"] for one in whole["surprise"]["tokens"])
    assert shown(whole, lang)["heading"]["texts"][-2:] == [told, f" {nats:.2f}"]
    assert told not in shown(part, lang)["heading"]["texts"]


def test_a_notebook_shows_the_page() -> None:
    answer = small_run("gru").explain("the <cat>", view="surprise")
    shown = answer._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and shown.count("<") == 2, "the page is escaped as a whole"
    (whole,) = re.findall('srcdoc="([^"]*)"', shown)
    assert html.unescape(whole) == export.page([answer["trace"]])
