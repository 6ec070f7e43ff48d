"""Used memory: costs with k tokens visible, against scores of the texts that these tokens are."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.api import Run
from tests.explain.runs import SETTINGS, small_run

LINE = "3 the cat sat on a mat, and then the dog sat on a hat"


def cost(run: Run, place: int, visible: int) -> float:
    """Cost of a token when the last ``visible`` tokens before it are all that is read."""
    text = LINE[max(0, place - visible) : place + 1]
    (line,) = run.score([text], unit="stream", tokens=True)["lines"]
    return -line["token_nats"][-1]


@pytest.mark.parametrize("model", SETTINGS)
def test_the_mean_cost_is_that_of_texts_of_the_visible_tokens(model: str) -> None:
    run, begin, end = small_run(model), 3, 21
    found = run.explain(LINE, view="memory", begin=begin, end=end)["trace"]["memory"]
    assert found["visible"] == ([1, 2, 4, 8, 15] if model == "gpt" else [1, 2, 4, 8, 16, 20])  # gpt: a window of 16
    for k, nats in zip(found["visible"], found["nats"]):
        assert nats == pytest.approx(np.mean([cost(run, t, k) for t in range(begin, end)]), abs=2e-6)


def test_an_ngram_uses_no_more_than_its_context() -> None:
    found = small_run("ngram").explain(LINE, view="memory")["trace"]["memory"]["nats"]
    assert found[0] - found[1] > 0.1 and found[1:] == [found[1]] * (len(found) - 1)  # n = 3


def test_the_interval_is_that_of_a_mean() -> None:
    run = small_run("hmm")
    found = run.explain(LINE, view="memory")["trace"]["memory"]
    costs = [cost(run, place, 4) for place in range(len(LINE))]
    (low, high), mean = found["interval"][2], found["nats"][2]
    drawn = np.random.default_rng(7).choice(costs, (4000, len(costs))).mean(1)
    expected = np.quantile(drawn, [0.025, 0.975]) - mean
    assert (low - mean, high - mean) == pytest.approx(expected, rel=0.1)
    narrow = run.explain(LINE, view="memory", begin=0, end=1)["trace"]["memory"]
    assert narrow == {"visible": [], "nats": [], "interval": []}, "nothing stands before the first token"
