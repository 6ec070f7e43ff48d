"""The numbers of one attention cell multiply out, and are those of a model that is written out from its weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from chainrule.core import UserError
from tests.explain.decoders import CONTEXT, KINDS, random_run, read_by_hand
from tests.explain.test_attention import AT, FIRST, LINE, explained

TIGHT: dict[str, Any] = {"rtol": 0, "atol": 1e-10}


def softmax(logits: list[float | None]) -> list[float]:
    terms = [0.0 if logit is None else math.exp(logit) for logit in logits]
    return [term / sum(terms) for term in terms]


@pytest.mark.parametrize("head", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_a_cell_multiply_out(kind: str, head: int) -> None:
    cell, _ = explained(random_run(kind), "attention_cell", layer=1, head=head)
    np.testing.assert_allclose(cell["products"], np.multiply(cell["q"], cell["k"]), **TIGHT)
    assert cell["score"] == pytest.approx(sum(cell["products"]), abs=1e-10)
    assert cell["scale"] == pytest.approx(6**-0.5)
    assert cell["scaled"] == pytest.approx(cell["score"] * cell["scale"], abs=1e-10)
    logits, weights = [cell["start_logit"], *cell["logits"]], [cell["start_weight"], *cell["weights"]]
    place = cell["k_path"]["place"]
    assert logits[place] == pytest.approx(cell["scaled"] + cell["bias"], abs=1e-10)
    np.testing.assert_allclose(softmax(logits), weights, **TIGHT)
    assert cell["weight"] == weights[place] == max(weights)
    np.testing.assert_allclose(cell["weighted"], np.multiply(cell["v"], cell["weight"]), **TIGHT)
    parts = [cell["out"], cell["others"], cell["out_bias"] or np.zeros(20)]
    np.testing.assert_allclose(np.sum(parts, 0), cell["output"], **TIGHT)
    assert np.abs(cell["out"]).min() > 1e-6 and (cell["out_bias"] is None) == (kind != "learned")


@pytest.mark.parametrize("head", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_is_that_of_the_formula(kind: str, head: int) -> None:
    run = random_run(kind)
    cell, oracle = explained(run, "attention_cell", layer=1, head=head)
    share = 4 // (run.model.config.groups or 4)
    assert (cell["layer"], cell["head"], cell["group"], cell["first"]) == (1, head, head // share, FIRST)
    weights, values = oracle.weights[1][head, -1].detach(), oracle.values[1][head].detach()
    place = int(weights.argmax())
    assert cell["key"] == (FIRST + place - 1 if place else None)
    assert (cell["q_path"]["place"], cell["k_path"]["place"]) == (AT - FIRST, place)
    np.testing.assert_allclose([cell["start_weight"], *cell["weights"]], weights, **TIGHT)
    np.testing.assert_allclose(cell["v"], values[place], **TIGHT)
    np.testing.assert_allclose(cell["mixed"], weights @ values, **TIGHT)
    out = run.model.blocks[1].attention.out.weight.detach()
    np.testing.assert_allclose(cell["out"], out[:, 6 * head : 6 * head + 6] @ (weights @ values), **TIGHT)
    np.testing.assert_allclose(cell["output"], oracle.outputs[1][-1].detach(), **TIGHT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["q", "k"])
def test_queries_and_keys_follow_from_their_linear_maps(kind: str, side: str) -> None:
    """Scaled to a mean square of 1 where the model does it, then turned by place / 10000^(2i/K)."""
    run = random_run(kind)
    cell, _ = explained(run, "attention_cell", head=3)
    way, c = cell[f"{side}_path"], run.model.config
    channels = np.array(way["linear"])
    if c.qk_norm:
        channels = channels / math.sqrt((channels**2).mean() + 2.0**-52)
        np.testing.assert_allclose(way["normed"], channels, **TIGHT)
    if c.positions == "rotary":
        angles = [way["place"] / 10000 ** (2 * i / 6) for i in range(3)]
        np.testing.assert_allclose(way["cos"], np.cos(angles), **TIGHT)
        np.testing.assert_allclose(way["sin"], np.sin(angles), **TIGHT)
        a, b = channels[:3], channels[3:]
        channels = np.concatenate([a * way["cos"] - b * way["sin"], b * way["cos"] + a * way["sin"]])
    np.testing.assert_allclose(cell[side], channels, **TIGHT)
    assert (way["normed"] is None) == (kind == "learned")
    assert (way["cos"] is None) == (way["sin"] is None) == (kind != "rotary")


@pytest.mark.parametrize(("kind", "head"), [("alibi", 1), ("relative", 2), ("none", 0)])
def test_the_bias_is_that_of_the_distance(kind: str, head: int) -> None:
    run = random_run(kind)
    cell, _ = explained(run, "attention_cell", head=head)
    away = cell["q_path"]["place"] - cell["k_path"]["place"]
    table = run.model.position.weight
    expected = {"alibi": lambda: -away / 16, "relative": lambda: table[away, head].item(), "none": lambda: 0}[kind]()
    assert cell["bias"] == pytest.approx(expected, abs=1e-12)


def test_keys_outside_of_a_sliding_window_have_no_logit() -> None:
    run = random_run("rotary")
    run.model.window = 3 * CONTEXT
    cell, oracle = explained(run, "attention_cell")
    logits = [cell["start_logit"], *cell["logits"]]
    assert [logit is None for logit in logits] == [s < len(logits) - CONTEXT for s in range(len(logits))]
    np.testing.assert_allclose(softmax(logits), oracle.weights[2][0, -1].detach(), **TIGHT)


def test_the_first_token_is_predicted_from_the_start_token_alone() -> None:
    cell, _ = explained(random_run("rotary"), "attention_cell", at=0)
    assert (cell["key"], cell["weight"], cell["logits"], cell["weights"]) == (None, 1, [], [])
    np.testing.assert_allclose(cell["mixed"], cell["v"], **TIGHT)
    assert cell["q_path"]["cos"] == [1, 1, 1]


def test_a_cell_is_shown_of_the_last_layer_and_the_first_head_unless_others_are_asked_for() -> None:
    run = random_run("alibi")
    cell, _ = explained(run, "attention_cell")
    assert (cell["layer"], cell["head"]) == (2, 0)
    assert "attention_cell" not in run.explain(LINE)["trace"]
    with torch.no_grad():
        expected = read_by_hand(run, [*LINE.encode()[FIRST:AT]], 0).weights[2][0, -1].max().item()
    assert cell["weight"] == pytest.approx(expected, abs=1e-10)


def test_the_cell_of_any_key_is_shown_where_it_is_asked_for() -> None:
    run = random_run("alibi")
    for key in (-1, *range(FIRST, AT)):
        cell, oracle = explained(run, "attention_cell", layer=0, head=2, key=key)
        place = 0 if key == -1 else key - FIRST + 1
        assert (cell["key"], cell["k_path"]["place"]) == (None if key == -1 else key, place)
        assert cell["weight"] == pytest.approx(oracle.weights[0][2, -1, place].item(), abs=1e-10)
        assert cell["bias"] == pytest.approx(-(AT - FIRST - place) / 64)
        np.testing.assert_allclose(cell["v"], oracle.values[0][2, place].detach(), **TIGHT)
        np.testing.assert_allclose(
            cell["mixed"], explained(run, "attention_cell", layer=0, head=2)[0]["mixed"], **TIGHT
        )


def test_a_key_that_the_window_hides_weighs_nothing() -> None:
    run = random_run("rotary")
    run.model.window = 3 * CONTEXT
    cell, _ = explained(run, "attention_cell", key=AT - CONTEXT - 1)
    assert (cell["weight"], cell["bias"], set(cell["weighted"])) == (0, None, {0})
    assert cell["logits"][cell["k_path"]["place"] - 1] is None and cell["scaled"] != 0


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"key": FIRST - 1}, "--key 41: what is shown of token 50 attends to tokens 42 to 49 and -1, the start token"),
        ({"key": AT}, "--key 50: what is shown of token 50 attends to tokens 42 to 49"),
        ({"key": -2}, "--key -2: what is shown"),
        ({"key": 0, "at": 0}, "--key 0: what is shown of token 0 attends to no token and -1, the start token"),
    ],
)
def test_a_key_that_is_not_attended_to_is_refused(asked: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        explained(random_run("rotary"), "attention_cell", **asked)
