"""Integrated gradients and occlusion: analytic cases, completeness, and enumeration."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import chainrule
from chainrule.api import Run
from chainrule.explanation import attribution
from chainrule.explanation.attribution import MOST, NODES, PIECES, integrate
from tests.explain.runs import small_run

LINE = "3 the cat sat on a mat"
EMBEDDING = ["window", "rnn", "lstm", "gru", "gpt"]


# ------------------------------------------------------------------------------------------------- integrated gradients


def test_the_scores_of_a_linear_function_are_weight_times_difference() -> None:
    rng = torch.Generator().manual_seed(5)
    weight_TD, x_TD, baseline_TD = (torch.randn(7, 3, generator=rng, dtype=torch.float64) for _ in range(3))
    scores, total, steps = integrate(lambda x: (x * weight_TD).sum((1, 2)), x_TD, baseline_TD[None])
    expected = (weight_TD * (x_TD - baseline_TD)).sum(1)
    torch.testing.assert_close(scores, expected)
    assert total == pytest.approx(float(expected.sum())) and steps == PIECES * len(NODES)


def test_a_product_is_divided_equally_and_squares_by_their_difference() -> None:
    x_TD, zero_TD = torch.tensor([[2.0], [5.0]], dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)
    assert integrate(lambda x: x[:, 0, 0] * x[:, 1, 0], x_TD, zero_TD[None])[0].tolist() == pytest.approx([5.0, 5.0])
    squares, *_ = integrate(lambda x: (x**2).sum((1, 2)), x_TD, zero_TD[None] + 1)
    assert squares.tolist() == pytest.approx([3.0, 24.0])


def test_steep_functions_take_more_points_and_what_is_missing_is_told() -> None:
    x_TD, zero_TD = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    scores, total, steps = integrate(lambda x: torch.sigmoid(400 * (x[:, 0, 0] - 0.37)), x_TD, zero_TD[None])
    assert PIECES * len(NODES) < steps < 200 and float(scores) == pytest.approx(total, rel=0.01)
    scores, total, steps = integrate(lambda x: (x[:, 0, 0] > 0.5) + 0 * x[:, 0, 0], x_TD, zero_TD[None])
    assert (float(scores), total) == (0.0, 1.0) and MOST <= steps < 2 * MOST


def test_scores_are_the_mean_over_the_paths_of_all_baselines() -> None:
    """f = x²y along straight lines from (a, b) to (2, 5), by hand with s = 2 - a and t = 5 - b."""
    x_TD, begin_KTD = torch.tensor([[2.0], [5.0]], dtype=torch.float64), torch.zeros(3, 2, 1, dtype=torch.float64)
    begin_KTD[1], begin_KTD[2, 0] = 1.0, -2.0
    scores, total, _ = integrate(lambda x: x[:, 0, 0] ** 2 * x[:, 1, 0], x_TD, begin_KTD)
    by_hand = []
    for a, b in begin_KTD[..., 0].tolist():
        s, t = 2 - a, 5 - b
        of_x = 2 * s * (a * b + (a * t + s * b) / 2 + s * t / 3)  # integral of 2 (a + s k)(b + t k) s over k
        of_y = t * (a * a + a * s + s * s / 3)
        by_hand.append((of_x, of_y))
    assert scores.tolist() == pytest.approx(np.mean(by_hand, 0).tolist())
    assert total == pytest.approx(20 - np.mean([0, 1, 0])) == pytest.approx(float(scores.sum()))


def drawn_baselines(run: Run, text: bytes, at: int, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The tokens of the baselines of an explanation, as they were drawn."""
    drawn, seen = attribution._drawn, []
    monkeypatch.setattr(attribution, "_drawn", lambda *given: seen.append(drawn(*given)) or seen[-1])
    run.explain(text.decode(), view="integrated_gradients", at=at)
    return seen[0].tolist()


def log_p(run: Run, read: list[int], target: int) -> float:
    with torch.no_grad():
        prediction, _ = run.model(torch.tensor([[run.model.start_id, *read]]))
    return prediction.logits()[0, -1].double().log_softmax(-1)[target].item()


@pytest.mark.parametrize("model", EMBEDDING)
def test_scores_add_up_within_one_percent_to_what_the_tokens_change(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, at, text = small_run(model), 13, LINE.encode()
    baselines = drawn_baselines(run, text, at, monkeypatch)
    assert len(baselines) == 16 and len(baselines[0]) == at and baselines[0] != baselines[1]
    total = log_p(run, [*text[:at]], text[at]) - np.mean([log_p(run, read, text[at]) for read in baselines])
    found = run.explain(LINE, view="integrated_gradients", at=at)["trace"]["integrated_gradients"]
    assert found["total"] == pytest.approx(total, abs=1e-5) and abs(total) > 1e-3
    assert sum(found["scores"]) == pytest.approx(total, rel=0.01, abs=1e-4)
    assert found["difference"] == pytest.approx(sum(found["scores"]) - found["total"], abs=1e-12)
    assert (found["first"], len(found["scores"]), found["baselines"]) == (0, at, 16)


def test_baselines_are_drawn_half_from_what_the_run_expects_and_half_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "BASELINES", 4000)
    run, text, at = small_run("gru"), LINE.encode(), 2
    run = replace(run, model=copy.deepcopy(run.model))
    with torch.no_grad():
        run.model.head.bias[101] += 5
    monkeypatch.setattr(attribution, "integrate", lambda _f, x_TD, _b: (torch.zeros(len(x_TD)), 0.0, 0))
    second = np.array(drawn_baselines(run, text, at, monkeypatch))[:, 1]
    with torch.no_grad():
        prediction, _ = run.model(torch.tensor([[run.model.start_id, text[0]]]))
    p = (prediction.logits()[0, -1].detach().double().softmax(-1).numpy() + 1 / run.model.vocab_size) / 2
    best = np.argsort(-p)[:5]
    seen = np.bincount(second, minlength=len(p)) / len(second)
    assert np.abs(seen[best] - p[best]).max() < 4 * np.sqrt(0.25 / len(second))
    assert p[best].max() > 4 / run.model.vocab_size  # the two halves differ


def test_scores_are_those_of_a_plain_sum_over_the_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "BASELINES", 2)
    run, text, at = small_run("gru"), LINE.encode(), 5
    run = replace(run, model=copy.deepcopy(run.model).double())
    baselines = drawn_baselines(run, text, at, monkeypatch)
    found = run.explain(LINE, view="integrated_gradients", at=at)["trace"]["integrated_gradients"]
    model, steps = run.model, 200
    table, expected_T = model.embedding.weight.detach(), torch.zeros(at, dtype=torch.float64)
    x_TD = table[[*text[:at]]]
    for begin_TD in (table[read] for read in baselines):
        for k in range(steps):
            leaf = (begin_TD + (k + 0.5) / steps * (x_TD - begin_TD)).requires_grad_()
            handle = model.embedding.register_forward_hook(
                lambda _m, _i, out, leaf=leaf: torch.cat([out[:, :1], leaf[None]], 1)
            )
            prediction, _ = model(torch.tensor([[model.start_id, *text[:at]]]))
            handle.remove()
            (slope_TD,) = torch.autograd.grad(prediction.logits()[0, at].log_softmax(-1)[text[at]], leaf)
            expected_T += (slope_TD * (x_TD - begin_TD)).sum(1) / steps / 2
    np.testing.assert_allclose(found["scores"], expected_T.tolist(), atol=1e-5)
    assert float(expected_T.abs().max()) > 1e-3


def test_the_first_token_has_nothing_before_it() -> None:
    for name in ("integrated_gradients", "occlusion"):
        found = small_run("gru").explain(LINE, view=name, at=0)["trace"][name]
        assert (found["scores"], found["total"], found["difference"]) == ([], 0.0, 0.0)


# ------------------------------------------------------------------------------------------------------------ occlusion


@pytest.fixture(scope="module", params=["ngram", "hmm"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run over four letters, and a token for the many characters that occur once."""
    folder = tmp_path_factory.mktemp("tiny")
    words = np.random.default_rng(2).choice(["abca", "dab", "cc", "bad"], 900, p=[0.4, 0.3, 0.2, 0.1])
    rare = (chr(0x4E00 + n) if n % 3 == 0 else "" for n in range(len(words)))
    (folder / "text.txt").write_text("".join(f"{word}{one}" for word, one in zip(words, rare)))
    chosen = {"ngram": {"model.n": 3}, "hmm": {"model.states": 3}}[request.param]
    out = str(folder / "run")
    chainrule.train(
        str(folder / "text.txt"), request.param, out, budget="3steps", set={"size": "tiny", **chosen},
        tokenizer="char", threads=1,
    )  # fmt: skip
    return chainrule.load(out, threads=1, precision="fp32")


def nats(run: Run, text: str) -> np.ndarray:
    (line,) = run.score([text], unit="stream", tokens=True)["lines"]
    return -np.array(line["token_nats"])


def test_occlusion_is_the_enumeration_of_all_other_tokens(tiny: Run) -> None:
    text, at, letters = "dabcabbaca", 8, "abcd"
    found = tiny.explain(text, view="occlusion", at=at)["trace"]["occlusion"]
    known, expected = -nats(tiny, text)[at], []
    for place in range(at):
        changed = [text[:place] + letter + text[place + 1 :] for letter in letters if letter != text[place]]
        costs = np.array([nats(tiny, other) for other in changed])
        weight = np.exp(-costs[:, place])
        p = (weight * np.exp(-costs[:, at])).sum() / weight.sum()
        expected.append(known - math.log(p))
    np.testing.assert_allclose(found["scores"], expected, atol=1e-5)
    assert np.abs(expected).max() > 0.05
    total = known + nats(tiny, text[at])[0]
    assert found["total"] == pytest.approx(total, abs=1e-5)
    assert found["difference"] == pytest.approx(sum(expected) - total, abs=1e-4)


def test_tokens_beyond_the_context_of_an_ngram_score_zero() -> None:
    scores = small_run("ngram").explain(LINE, view="occlusion", at=14)["trace"]["occlusion"]["scores"]
    assert np.abs(scores[:-2]).max() < 1e-15 < 1e-3 < np.abs(scores[-2:]).min() and len(scores) == 14


@pytest.mark.parametrize("model", EMBEDDING)
def test_occlusion_of_networks_is_that_of_the_most_probable_replacements(model: str) -> None:
    run, at, place = small_run(model), 9, 7
    trace = run.explain(LINE, view=["occlusion", "surprise"], at=at, top_k=6)["trace"]
    best = [one for one in trace["surprise"]["tokens"][place]["best"] if one["text"] != LINE[place]][:4]
    known, p = -nats(run, LINE)[at], np.array([one["p"] for one in best])
    others = []
    for one in best:
        ids = [*LINE.encode()[:place], one["id"], *LINE.encode()[place + 1 : at]]
        with torch.no_grad():
            prediction, _ = run.model(torch.tensor([[run.model.start_id, *ids]]))
        others.append(prediction.logits()[0, at].softmax(-1)[LINE.encode()[at]].item())
    expected = known - math.log((p / p.sum()) @ others)
    assert trace["occlusion"]["scores"][place] == pytest.approx(expected, abs=2e-6)
