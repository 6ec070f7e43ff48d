"""Mixtures: equal to Bayes' rule from what the parts themselves answer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from chainrule.core import model_type
from chainrule.explanation.trace import schema
from chainrule.explanation.views import views, views_of
from tests.explain.made import batch_of, mixed_run, trace_of, with_model
from tests.explain.runs import small_run

LINE = "3 the cat sat on a mat, not né, and then the dog sat on a hat"


def test_the_share_of_a_part_is_that_of_bayes_rule() -> None:
    run, names = mixed_run("ngram", "gru", "hmm"), ["ngram", "gru", "hmm"]
    with torch.no_grad():
        run.model.log_weights_K.copy_(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log())
    found = run.explain(LINE, view="mixture", begin=7, end=50)["trace"]["mixture"]
    scores = [small_run(name).score([LINE], unit="stream", tokens=True)["lines"][0]["token_nats"] for name in names]
    nats_TK = -np.array(scores).T[7:50]
    assert found["parts"] == [{"model": name, "run": small_run(name).path.name} for name in names]
    np.testing.assert_allclose(found["weights"], [0.2, 0.5, 0.3], rtol=1e-9)
    np.testing.assert_allclose(found["nats"], nats_TK, atol=2e-6)
    joint_TK = np.exp(-nats_TK) * [0.2, 0.5, 0.3]
    np.testing.assert_allclose(found["posterior"], joint_TK / joint_TK.sum(1, keepdims=True), atol=1e-5)
    assert np.ptp(found["posterior"], axis=0).min() > 0.01, "the shares differ from token to token"


def test_parts_and_weights_give_the_surprise_where_a_part_has_a_window() -> None:
    trace = mixed_run("gpt", "ngram").explain(LINE, view=["mixture", "surprise"], begin=3)["trace"]
    found, nats = trace["mixture"], [one["nats"] for one in trace["surprise"]["tokens"]]
    assert found["begin"] == 3 and len(found["nats"]) == len(nats) == len(trace["tokens"]) - 3
    np.testing.assert_allclose(np.exp(-np.array(found["nats"])) @ found["weights"], np.exp(-np.array(nats)), rtol=1e-5)


def test_a_part_may_rule_a_token_out() -> None:
    """Unigrams without smoothing of "aab": a part that has seen no b, and two that have seen no c."""
    part = {"model_type": "ngram", "model": {"n": 1, "smoothing": "ml"}}
    chosen = model_type("mix", trained=False)
    mix: Any = chosen.build(chosen.config.make({"vocab_size": 256, "parts": [part, part]}))
    for model, text in zip(mix.parts, (b"aab", b"aaa")):
        model.estimate(model.summarize(batch_of(text)))
    found = trace_of(with_model(mix), "abc", "mixture")["mixture"]
    assert found["parts"] == [{"model": "ngram", "run": None}] * 2
    nats = np.array(found["nats"][0])
    np.testing.assert_allclose(nats, [np.log(1.5), 0], atol=1e-12)
    np.testing.assert_allclose(found["posterior"][0], [0.4, 0.6])
    assert found["nats"][1] == [pytest.approx(np.log(3)), None] and found["posterior"][1] == [1.0, 0.0]
    assert found["nats"][2] == [None, None] and found["posterior"][2] is None
    assert views()["mixture"].facts.model_validate_json(json.dumps(found, allow_nan=False)).model_dump() == found


def test_a_trace_of_a_mixture_fits_the_schema() -> None:
    run = mixed_run("ngram", "gru")
    trace = run.explain(LINE, view=[one.name for one in views_of(run)])["trace"]
    assert {"mixture", "gates", "surprise"} <= {*trace} <= {*schema()["properties"]}
    assert "mixture" not in small_run("ngram").explain(LINE)["trace"]
