"""Sequences: costs are those of score, and models that ignore order, or leak, change the finding."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chainrule.claims import Runs
from chainrule.claims.held_out import held_out
from chainrule.claims.sequences import TOKENS
from chainrule.explanation.stress import stress
from chainrule.explanation.views import Asked
from tests.claims.loaded import claim, loaded, table
from tests.explain.runs import small_run
from tests.explain.test_stress import Leaky, Unigram


def nats(model: str, text: str) -> np.ndarray:
    (line,) = small_run(model).score([text], unit="stream", tokens=True)["lines"]
    return -np.array(line["token_nats"])


def test_a_trimmed_text_costs_what_score_says_of_it() -> None:
    found = claim("sequences").measure(loaded("ngram", "gru"))
    text = "".join(held_out(small_run("ngram"), TOKENS).texts)
    for model, *changes in table(found, "others")[:-1]:
        for share, told in zip((0.5, 0.75), changes):
            change = float(told.split()[0])
            cut = round(TOKENS * share)
            rest = text.encode()[cut:].decode()
            assert change == pytest.approx((nats(model, rest) - nats(model, text)[cut:]).mean(), rel=0.006)


def test_every_change_has_its_interval() -> None:
    found = claim("sequences").measure(loaded("ngram"))
    run = held_out(small_run("ngram"), TOKENS)
    expected = stress(run, Asked(at=0, top_k=1, layer=None, head=None, begin=0, end=len(run))).changes
    told = [cell for title in ("omitted_table", "permuted_table", "others") for cell in table(found, title)[0][1:]]
    kinds = ("omit", "permute_nearby", "permute", "trim", "lengthen")
    ordered = [one for kind in kinds for one in expected if one.kind == kind]
    for cell, one in zip(told, ordered, strict=True):
        change, low, high = map(float, re.findall(r"[+-][\d.e-]+", cell))
        assert (change, low, high) == pytest.approx((one.change, *one.interval), rel=0.006)
        assert low <= change <= high


def test_a_bag_of_tokens_does_not_notice_a_permutation() -> None:
    found = claim("sequences").measure(loaded("ngram"))
    *runs, (_, bag) = table(found, "permuted")
    assert max(map(abs, bag)) < 1e-12 and all(values[-1] > 0.5 for _, values in runs)
    assert abs(table(found, "omitted")[-1][1][-1]) > 0.01


def measured(model: Any) -> Any:
    return claim("sequences").measure(Runs({"made": replace(small_run("ngram"), model=model)}))


def test_nothing_is_hard_for_a_model_that_reads_nothing() -> None:
    found = measured(Unigram(256))
    assert found.holds == "no" and [said.key for said in found.told[1:4]] == ["costs_none"] * 3


@pytest.mark.parametrize("leak", ["padding", "batching"])
def test_a_model_that_leaks_is_found(leak: str) -> None:
    found = measured(Leaky(leak))
    assert found.holds == "no" and found.told[-1].key == "not_exact"
