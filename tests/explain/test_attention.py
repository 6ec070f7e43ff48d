"""Attention: weights, norms, rollout and relevance are those of a model that is written out from its weights."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
import torch

from chainrule.api import Run
from chainrule.core import UserError
from tests.explain.decoders import CONTEXT, KINDS, Reading, random_run, read_by_hand
from tests.explain.runs import small_run

LINE = "3 the cat sat on a mat, not né, and then the dog sat on a hat"
AT, FIRST = 50, 42
"""With a window of 13 and a stride of 6, the row that predicts token 50 scores 49 to 54 and reads from 42 on."""


def explained(run: Run, view: str = "attention", **asked: Any) -> tuple[dict[str, Any], Reading]:
    """A view of the prediction of token ``AT``, and the oracle."""
    trace = run.explain(LINE, view=view, **{"at": AT, **asked})["trace"]
    ids = [token["id"] for token in trace["tokens"]]
    first = trace[view]["first"]
    return trace[view], read_by_hand(run, ids[first : trace["at"]], ids[trace["at"]])


def row(told: dict[str, Any]) -> list[float]:
    return [told["start"], *told["weights"]]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_the_formula(kind: str) -> None:
    found, oracle = explained(random_run(kind))
    assert found["first"] == FIRST
    assert [layer["layer"] for layer in found["layers"]] == [0, 1, 2]
    for layer, expected in zip(found["layers"], oracle.weights, strict=True):
        assert [head["head"] for head in layer["heads"]] == [0, 1, 2, 3]
        for head, weights in zip(layer["heads"], expected[:, -1], strict=True):
            np.testing.assert_allclose(row(head), weights.detach(), atol=1e-10)
            assert sum(row(head)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_nats_are_those_of_the_formula_and_of_the_fused_path(kind: str) -> None:
    run = random_run(kind)
    found, oracle = explained(run)
    assert found["nats"] == pytest.approx(-oracle.log_p.item(), abs=1e-10)
    fused = run.explain(LINE, view="surprise", at=AT, begin=AT)["trace"]["surprise"]["tokens"][0]["nats"]
    assert found["nats"] == pytest.approx(fused, abs=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_lengths_of_what_each_key_adds(kind: str) -> None:
    run = random_run(kind)
    found, oracle = explained(run)
    for k, layer in enumerate(found["layers"]):
        out = run.model.blocks[k].attention.out.weight
        for h, head in enumerate(layer["heads"]):
            added = [
                out[:, 6 * h : 6 * h + 6] @ (weight * value)
                for weight, value in zip(oracle.weights[k][h, -1], oracle.values[k][h], strict=True)
            ]
            expected = [x.square().sum().sqrt().item() for x in added]
            np.testing.assert_allclose([head["start_norm"], *head["norms"]], expected, atol=1e-10)


def test_rollout_is_the_product_of_the_matrices_of_all_layers() -> None:
    found, oracle = explained(random_run("rotary"))
    T = AT - FIRST + 1
    product = torch.eye(T).double()
    for weights in oracle.weights:
        product = (0.5 * weights.mean(0) + 0.5 * torch.eye(T)) @ product
    np.testing.assert_allclose(row(found["rollout"]), product[-1].detach(), atol=1e-10)
    assert sum(row(found["rollout"])) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_relevance_is_the_rule_of_the_paper_with_gradients_of_the_formula(kind: str) -> None:
    found, oracle = explained(random_run(kind))
    gradients = torch.autograd.grad(oracle.log_p, oracle.weights)
    R = torch.eye(AT - FIRST + 1).double()
    for weights, gradient in zip(oracle.weights, gradients, strict=True):
        R = R + (gradient * weights).relu().mean(0) @ R
    expected = R[-1] - torch.eye(len(R))[-1]
    np.testing.assert_allclose(row(found["relevance"]), expected.detach(), atol=1e-10)
    assert min(row(found["relevance"])) >= 0 < max(row(found["relevance"]))


def test_the_gradient_of_a_weight_is_what_log_p_changes_by_it() -> None:
    """Central differences: log p of the formula where one weight of the first layer is moved."""
    run = random_run("alibi", layers=1, heads=1, groups=1)
    found, oracle = explained(run)
    model, weights = run.model, oracle.weights[0][0, -1]
    x = model.embedding.weight[[model.vocab_size, *LINE.encode()[FIRST:AT]]]

    def log_p(moved: torch.Tensor) -> torch.Tensor:
        block = model.blocks[0]
        y = x[-1] + block.attention.out(moved @ oracle.values[0][0])
        y = y + block.feed_forward(block.norm_feed_forward(y))
        return model.head(model.norm(y)).log_softmax(-1)[LINE.encode()[AT]]

    gains = []
    for s in range(len(weights)):
        step = torch.zeros_like(weights)
        step[s] = 1e-5
        gains.append((log_p(weights + step) - log_p(weights - step)).item() / 2e-5 * weights[s].item())
    np.testing.assert_allclose(row(found["relevance"]), np.maximum(gains, 0), atol=1e-8)


def test_a_sliding_window_within_the_row_hides_keys_and_rollout_goes_beyond_it() -> None:
    run = random_run("rotary")
    run.model.window = 3 * CONTEXT  # read in rows that are longer than the window of a layer
    found, oracle = explained(run)
    for layer, expected in zip(found["layers"], oracle.weights, strict=True):
        for head, weights in zip(layer["heads"], expected[:, -1], strict=True):
            np.testing.assert_allclose(row(head), weights.detach(), atol=1e-10)
            assert not any(row(head)[:-CONTEXT]) and all(row(head)[-CONTEXT:])
    assert all(row(found["rollout"])[-2 * CONTEXT : -CONTEXT])


@pytest.mark.parametrize("at", [0, 1, CONTEXT - 1, CONTEXT])
def test_the_first_tokens_attend_to_what_there_is(at: int) -> None:
    found, oracle = explained(random_run("learned"), at=at)
    assert found["first"] == (6 if at == CONTEXT else 0)
    for layer, expected in zip(found["layers"], oracle.weights, strict=True):
        np.testing.assert_allclose(row(layer["heads"][1]), expected[1, -1].detach(), atol=1e-10)
    assert len(found["relevance"]["weights"]) == at - found["first"]


def test_one_layer_and_one_head_are_shown_where_they_are_asked_for() -> None:
    run = random_run("rotary")
    whole, _ = explained(run)
    part, _ = explained(run, layer=1, head=2)
    assert part["layers"] == [{"layer": 1, "heads": [whole["layers"][1]["heads"][2]]}]
    assert part["rollout"] == whole["rollout"] and part["relevance"] == whole["relevance"]


@pytest.mark.parametrize("view", ["attention", "attention_cell"])
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"layer": 2}, "--layer 2: the model has 2 attention layers, which are numbered from 0"),
        ({"layer": -1}, "--layer -1: the model has 2 attention layers"),
        ({"head": 2}, "--head 2: the model has 2 attention heads, which are numbered from 0"),
    ],
)
def test_a_layer_or_head_that_the_model_does_not_have_is_refused(view: str, asked: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        small_run("gpt").explain(LINE, view=view, **asked)


def test_only_models_with_attention_have_the_view() -> None:
    with pytest.raises(UserError, match="--view attention: this gru has "):
        small_run("gru").explain(LINE, view="attention")


def test_a_long_text_gives_as_many_numbers_as_the_window_has() -> None:
    run, text = random_run("rotary", context=256), "".join(chr(97 + k * k % 26) for k in range(4096))
    began = time.perf_counter()
    trace = run.explain(text, view=["attention", "attention_cell"], at=4095)["trace"]
    assert time.perf_counter() - began < 5
    first = trace["attention"]["first"]
    assert 4096 - 256 <= first <= 4096 - 128
    for layer in trace["attention"]["layers"]:
        assert {len(head["weights"]) for head in layer["heads"]} == {4095 - first}
    assert len(json.dumps([trace["attention"], trace["attention_cell"]])) < 24 * 256 * (2 * 3 * 4 + 4)
    assert run.model.training is False and all(weight.grad is None for weight in run.model.parameters())
