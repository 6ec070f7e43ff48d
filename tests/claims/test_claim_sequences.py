"""Sequences: costs are those of score, and models that ignore order, or leak, change the finding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chainrule.claims import Runs
from chainrule.claims.held_out import held_out
from chainrule.claims.sequences import TOKENS
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
        for share, change in zip((0.5, 0.75), changes):
            cut = round(TOKENS * share)
            rest = text.encode()[cut:].decode()
            assert change == pytest.approx((nats(model, rest) - nats(model, text)[cut:]).mean(), abs=1e-5)


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
