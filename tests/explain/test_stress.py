"""Stress: changed texts are what they are called, costs are those of score, and what must not matter does not."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from chainrule.api import Run
from chainrule.core import Categorical, UserError
from chainrule.explanation.stress import variants
from tests.explain.runs import SETTINGS, small_run

LINE = "3 the cat sat on a mat, and then the dog sat on a hat"


def nats(run: Run, text: str) -> np.ndarray:
    (line,) = run.score([text], unit="stream", tokens=True)["lines"]
    return -np.array(line["token_nats"])


@pytest.mark.parametrize("model", SETTINGS)
def test_a_trimmed_text_costs_what_score_says_of_it(model: str) -> None:
    run = small_run(model)
    found = run.explain(LINE, view="stress")["trace"]["stress"]
    assert found["nats"] == pytest.approx(nats(run, LINE).mean(), abs=1e-5)
    for changed in found["changes"][:2]:
        cut = round(len(LINE) * changed["amount"])
        before, after = nats(run, LINE)[cut:], nats(run, LINE[cut:])
        assert (changed["kind"], changed["tokens"]) == ("trim", len(after))
        assert changed["nats"] == pytest.approx(after.mean(), abs=1e-5)
        assert changed["change"] == pytest.approx((after - before).mean(), abs=1e-5)
        low, high = changed["interval"]
        error = (after - before).std() / math.sqrt(len(after))
        assert high - low == pytest.approx(2 * 1.96 * error, rel=0.4, abs=1e-6)


def test_every_change_is_what_it_is_called() -> None:
    size = 40
    for variant in variants(size):
        for text in variant.texts:
            order, kept = text.order, sorted(set(text.order.tolist()))
            if variant.kind == "trim":
                assert order.tolist() == list(range(round(size * variant.amount), size))
            elif variant.kind == "omit":
                assert order.tolist() == kept and len(kept) == size - round(size * variant.amount)
            elif variant.kind == "permute_nearby":
                assert (
                    kept == list(range(size)) and (order // variant.amount == np.arange(size) // variant.amount).all()
                )
                assert order.tolist() != kept
            elif variant.kind == "permute":
                assert kept == list(range(size)) and np.abs(order - np.arange(size)).max() > size / 2
            else:
                assert order[text.first :].tolist() == kept == list(range(size))
                assert len(order) == variant.amount * size
                assert (np.bincount(order) == variant.amount).all() and order[:size].tolist() != kept
    assert {variant.kind for variant in variants(size)} == {"trim", "omit", "permute_nearby", "permute", "lengthen"}


class Unigram(torch.nn.Module):
    """A model that ignores everything before a token."""

    window, context, byte_fallback = None, None, False

    def __init__(self, vocab_size: int):
        super().__init__()
        self.vocab_size = self.start_id = vocab_size
        self.logits_V = torch.nn.Parameter(torch.arange(vocab_size) / 50)

    def forward(self, inputs_BT: Any, state: Any = None, lengths_B: Any = None) -> tuple[Categorical, None]:
        return Categorical(self.logits_V.expand(*inputs_BT.shape, -1)), None


def stressed(model: Any) -> dict[str, Any]:
    """The stress of a run with another model."""
    from chainrule.explanation.model_input import ModelInput
    from chainrule.explanation.stress import stress
    from chainrule.explanation.views import Asked

    run = replace(small_run("ngram"), model=model)
    ids = np.array([*LINE.encode()])
    asked = Asked(at=0, top_k=1, layer=None, head=None, begin=0, end=len(ids))
    return stress(ModelInput(run, ids, [*LINE]), asked).model_dump()


def test_nothing_changes_for_a_model_that_ignores_order() -> None:
    for changed in stressed(Unigram(256))["changes"]:
        assert (changed["change"], *changed["interval"]) == pytest.approx((0, 0, 0), abs=1e-6)


def test_a_permutation_changes_nothing_for_a_bag_and_much_for_an_ngram() -> None:
    changes = small_run("ngram").explain(LINE, view="stress")["trace"]["stress"]["changes"]
    for changed in changes:
        if changed["kind"].startswith("permute"):
            assert abs(changed["bag"]) < 1e-12 and changed["interval"][0] > 0.5
        else:
            assert abs(changed["bag"]) > 0.01
    # what 26 of 53 counted tokens are worth to a bag, by the formula of Krichevsky and Trofimov, one token at a time
    seen: list[str] = []
    costs = {}
    for place, letter in enumerate(LINE):
        costs[place] = math.log((place + 128) / (seen.count(letter) + 0.5))
        seen.append(letter)
    half = LINE[26:]
    again = [math.log((t + 128) / (half[:t].count(letter) + 0.5)) for t, letter in enumerate(half)]
    expected = np.mean([b - costs[26 + t] for t, b in enumerate(again)])
    assert changes[0]["bag"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("model", SETTINGS)
def test_padding_and_batching_change_no_score(model: str) -> None:
    found = small_run(model).explain(LINE, view="stress")["trace"]["stress"]
    assert max(found["padding"], found["batching"]) < 1e-9


class Leaky(Unigram):
    """Sees the end of its row, or the other rows."""

    def __init__(self, leak: str):
        super().__init__(256)
        self.leak = leak

    def forward(self, inputs_BT: Any, state: Any = None, lengths_B: Any = None) -> tuple[Categorical, None]:
        told = inputs_BT.shape[1] if self.leak == "padding" else len(inputs_BT)
        return Categorical((self.logits_V * (1 + 0.01 * told)).expand(*inputs_BT.shape, -1)), None


def test_what_leaks_is_found() -> None:
    padded, batched = stressed(Leaky("padding")), stressed(Leaky("batching"))
    assert padded["padding"] > 1e-3
    assert batched["batching"] > 1e-3 and batched["padding"] < 1e-12


def test_the_run_itself_stays_as_it_was() -> None:
    run = small_run("gru")
    before = copy.deepcopy(run.model.state_dict())
    run.explain(LINE, view="stress")
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight, before[name]) and weight.dtype == torch.float32


def test_a_text_of_a_few_tokens_cannot_be_stressed() -> None:
    with pytest.raises(UserError, match="--view stress: 5 tokens cannot be changed in every way; give at least 8"):
        small_run("gru").explain("a cat", view="stress")
