"""Traces: what they hold, that they agree with other commands, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import chainrule
from chainrule.core import UserError
from chainrule.explanation.trace import schema
from chainrule.explanation.views import views, views_of
from tests.explain.runs import SETTINGS, small_run

LINE = "3 the cat sat on a mat, not né, and then the dog sat on a hat"


@pytest.mark.parametrize("model", SETTINGS)
def test_the_nats_of_all_tokens_are_those_of_score(model: str) -> None:
    run = small_run(model)
    trace = run.explain(LINE, view="surprise", top_k=256)["trace"]
    (line,) = run.score([LINE], unit="stream", tokens=True)["lines"]
    found = trace["surprise"]["tokens"]
    np.testing.assert_allclose([one["nats"] for one in found], -np.array(line["token_nats"]), atol=2e-6)
    assert "".join(token["text"] for token in trace["tokens"]) == LINE
    for token, one in zip(trace["tokens"], found):
        p = {other["id"]: other["p"] for other in one["best"]}
        assert sum(p.values()) == pytest.approx(1, abs=1e-6)
        assert one["rank"] == 1 + sum(q > p[token["id"]] for q in p.values())
        assert one["entropy"] == pytest.approx(-sum(q * np.log(q) for q in p.values() if q), abs=1e-5)
        assert one["nats"] == pytest.approx(-np.log(p[token["id"]]), abs=1e-5)


def test_a_stretch_and_a_place_are_those_that_are_asked_for() -> None:
    run = small_run("gpt")
    whole = run.explain(LINE)["trace"]
    nats = [one["nats"] for one in whole["surprise"]["tokens"]]
    assert whole["at"] == int(np.argmax(nats)), "the most surprising one"
    part = run.explain(LINE, view=["surprise"], begin=21, end=40, at=30)["trace"]
    assert part["at"] == 30 and part["surprise"]["begin"] == 21 and len(part["tokens"]) == len(nats)
    np.testing.assert_allclose([one["nats"] for one in part["surprise"]["tokens"]], nats[21:40], atol=1e-6)


def test_every_trace_fits_the_schema() -> None:
    about = schema()
    assert {*about["properties"]} == {"format", "run", "task", "model", "tokens", "at", "image", *views()}
    for model in SETTINGS:
        run = small_run(model)
        trace = run.explain(LINE, view=[one.name for one in views_of(run)])["trace"]
        assert {*about["required"]} <= {*trace} <= {*about["properties"]}
        for name, one in views().items():
            if name in trace:
                assert one.facts.model_validate_json(json.dumps(trace[name])).model_dump() == trace[name]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"view": "surprisal"}, "--view surprisal: did you mean 'surprise'?"),
        ({"at": 99}, "--at 99: the input has 62 tokens, which are numbered from 0"),
        ({"at": -1}, "--at -1: the input has 62 tokens"),
        ({"begin": 5, "end": 5}, "--begin 5 --end 5: nothing between them"),
        ({"top_k": 0}, "--top-k 0: at least 1"),
    ],
)
def test_what_the_input_does_not_have_is_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told.replace("?", r"\?")):
        small_run("gru").explain(LINE, **options)


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to read: give a text of at least one token"):
        small_run("gru").explain("")


def test_what_cannot_be_has_no_nats_and_is_the_most_surprising(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcabcabc abd\n" * 90)
    chainrule.train(
        str(tmp_path / "text.txt"), "ngram", str(tmp_path / "run"), set={"model.n": 2, "model.smoothing": "ml"}
    )
    trace = chainrule.load(str(tmp_path / "run")).explain("abdabcb", view="surprise")["trace"]
    assert trace["at"] == 3 and [one["nats"] for one in trace["surprise"]["tokens"]].count(None) == 2
    json.dumps(trace, allow_nan=False)
