"""Gradient reach: norms against finite differences, tokens that are not read, and the theory of recurrent networks."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from chainrule.api import Run
from chainrule.core import UserError, model_type
from tests.explain.runs import small_run

DISTINCT = "the quick"[:3] + "fox jumped"[:7]  # "thefox jum": no byte occurs twice
STEP = 1e-5


def precise(run: Run, model: Any = None) -> Run:
    """The run with its model (or another) in float64."""
    return replace(run, model=copy.deepcopy(model or run.model).double().eval())


def log_p(run: Run, text: bytes, at: int) -> float:
    model = run.model
    with torch.no_grad():
        prediction, _ = model(torch.tensor([[model.start_id, *text[:at]]]))
        return float(prediction.logits()[0, at].log_softmax(-1)[text[at]])


def slope_norm(run: Run, vector: Tensor, text: bytes, at: int) -> float:
    """Norm of the gradient of log p with respect to a vector, by central differences."""
    slopes = []
    for d in range(len(vector)):
        ends = []
        for step in (STEP, -2 * STEP):
            vector[d] += step
            ends.append(log_p(run, text, at))
        vector[d] += STEP
        slopes.append((ends[0] - ends[1]) / (2 * STEP))
    return float(np.linalg.norm(slopes))


@pytest.mark.parametrize("model", ["window", "rnn", "lstm", "gru", "gpt"])
def test_norms_are_those_of_finite_differences(model: str) -> None:
    run, text, at = precise(small_run(model)), DISTINCT.encode(), 7
    assert len(set(text)) == len(text) > at
    found = run.explain(DISTINCT, view="reach", at=at)["trace"]["reach"]
    weight = run.model.embedding.weight.detach()
    expected = [slope_norm(run, weight[k], text, at) for k in (run.model.start_id, *text[:at])]
    assert found["first"] == 0
    np.testing.assert_allclose([found["start"], *found["norms"]], expected, rtol=1e-5, atol=1e-10)
    assert max(expected) > 1e-3


@pytest.mark.parametrize(("name", "settings"), [("gru", {}), ("gpt", {"tied": True, "context": 16})])
def test_the_same_token_at_two_places_has_two_norms(name: str, settings: dict[str, Any]) -> None:
    """A head that shares the table with the embedding has no part in them."""
    kind, run, text, at = model_type(name), small_run(name), b"abab", 3
    with torch.random.fork_rng():
        torch.manual_seed(2)
        run = precise(run, kind.build(kind.configure("tiny", vocab_size=run.model.vocab_size, **settings)))
    found = run.explain(text.decode(), view="reach", at=at)["trace"]["reach"]["norms"]
    expected = []
    for place in range(at):
        shift_D = torch.zeros(run.model.embedding.embedding_dim, dtype=torch.float64)
        hook = lambda _m, _i, out, place=place, by=shift_D: out + by * (torch.arange(at + 1) == place + 1)[:, None]  # noqa: E731
        handle = run.model.embedding.register_forward_hook(hook)
        expected.append(slope_norm(run, shift_D, text, at))
        handle.remove()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert abs(expected[0] - expected[2]) > 1e-3


def test_tokens_beyond_the_context_have_no_reach_and_those_within_have() -> None:
    norms = small_run("window").explain("a cat on a mat", view="reach", at=12)["trace"]["reach"]["norms"]
    assert norms[:9] == [0.0] * 9 and min(norms[9:]) > 0 and len(norms) == 12  # lag 3


def test_a_model_with_a_window_reaches_to_the_first_token_of_the_row() -> None:
    found = small_run("gpt").explain("0123456789" * 5, view="reach", at=41)["trace"]["reach"]
    assert (found["first"], len(found["norms"])) == (32, 9)  # rows of 16, of which the last 8 are scored


def test_threads_that_explain_at_once_leave_the_embedding_as_it_is() -> None:
    run = small_run("gru")
    before = run.model.embedding.weight
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: run.explain("a cat on a mat", view="reach", at=12)["trace"]["reach"], range(60))]
    assert run.model.embedding.weight is before and found == [found[0]] * 60


@pytest.mark.parametrize("model", ["markov", "ngram", "hmm"])
def test_a_model_without_embeddings_has_no_reach(model: str) -> None:
    with pytest.raises(UserError, match=f"--view reach: this {model} has "):
        small_run(model).explain("a cat", view="reach")


# --------------------------------------------------------------------------------------------------------------- theory


def recurrent(activation: str, spectral: float) -> Run:
    """A run of rnn with one layer, whose recurrent matrix has this spectral norm."""
    kind, run = model_type("rnn"), small_run("rnn")
    config = kind.configure("tiny", vocab_size=run.model.vocab_size, activation=activation, layers=1, width=11)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model: Any = kind.build(config)
    w_hh = model.stack.weights(0)[1]
    with torch.no_grad():
        w_hh *= spectral / torch.linalg.matrix_norm(w_hh, 2)
    return precise(run, model)


@pytest.mark.parametrize(("activation", "slope"), [("sigmoid", 0.25), ("tanh", 1.0)])
def test_reach_stays_below_the_product_of_slope_and_spectral_norm(activation: str, slope: float) -> None:
    """|d log p / d e_k| <= |W_o^T (1 - p)| (slope |W_hh|)^(steps) slope |W_ih|, whatever the text."""
    run, text, at = recurrent(activation, 0.9), b"the cat sat on a mat and a hat", 29
    found = run.explain(text.decode(), view="reach", at=at)["trace"]["reach"]["norms"]
    w_ih, w_hh, *biases = (x.detach() for x in run.model.stack.weights(0))
    h = torch.zeros(11, dtype=torch.float64)
    for token in (run.model.start_id, *text[:at]):
        h = getattr(torch, activation)(w_ih @ run.model.embedding.weight[token].detach() + w_hh @ h + sum(biases))
    head = run.model.head.weight.detach()
    p = (head @ h + run.model.head.bias.detach()).softmax(0)
    last = float((head[text[at]] - p @ head).norm())
    factor = slope * float(torch.linalg.matrix_norm(w_hh, 2))
    first = last * slope * float(torch.linalg.matrix_norm(w_ih, 2))
    bound = [first * factor ** (at - 1 - place) for place in range(at)]
    assert np.all(np.array(found) <= bound) and found[-1] > bound[-1] / 30
    assert bound[0] / bound[-1] == pytest.approx(factor ** (at - 1))
    np.testing.assert_array_less(np.array(found)[:-1] / np.array(found)[1:], factor / slope)


def test_a_relu_network_with_a_large_matrix_explodes_and_with_a_small_one_vanishes() -> None:
    text = "the cat sat on a mat and a hat"

    def growth(scale: float) -> float:
        run = recurrent("relu", 1.0)
        with torch.no_grad():
            run.model.stack.weights(0)[1].copy_(scale * torch.eye(11))
            for bias in run.model.stack.weights(0)[2:]:
                bias.fill_(5.0)  # every unit stays active, so that the Jacobian of a step is the matrix itself
        norms = run.explain(text, view="reach", at=29)["trace"]["reach"]["norms"]
        return norms[9] / norms[19]

    assert growth(1.1) == pytest.approx(1.1**10, rel=1e-6)
    assert growth(0.9) == pytest.approx(0.9**10, rel=1e-6)
