"""Hidden Markov models against hmmlearn, against all N^T paths, and against results by hand."""

from __future__ import annotations

import gzip
import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule
from chainrule.core import Batch, ConfigError, model_type
from chainrule.counting import scan as chapter
from chainrule.counting.chain import Chain, chain
from chainrule.counting.scan import Cut, expected, filtered, paths, smoothed
from chainrule.counting.semirings import LOG_SUM, MAX, SUM, Sample
from chainrule.models.hmm import GaussianConfig, GaussianHMM

hmmlearn = pytest.importorskip("hmmlearn.hmm")
TEXT = Path(__file__).parents[3] / "shared" / "data" / "text_tinyshakespeare" / "all.txt.gz"


@pytest.fixture(autouse=True)
def one_thread_of_doubles():
    before = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_num_threads(before[0])
    torch.set_default_dtype(before[1])


def tables(seed: int, n: int, v: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n), n), rng.dirichlet(np.ones(v), n)


def chain_of(prior: Any, step: Any, emission: Any, rows: list[list[int]]) -> Chain:
    """Rows of symbols behind tables of probabilities; ragged rows are padded with symbol 0."""
    prior, step, emission = (torch.as_tensor(np.asarray(x), dtype=torch.float64) for x in (prior, step, emission))
    evidence = torch.cat([emission.T.log(), torch.zeros(1, len(prior))])
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.tensor([row + [0] * (int(lengths.max()) - len(row)) for row in rows])
    return chain(prior.log(), step.log(), evidence, padded, lengths)


# ------------------------------------------------------------------------------------------------------------- hmmlearn


@pytest.mark.parametrize("implementation", ["log", "scaling"])
def test_likelihood_posteriors_and_one_em_step_equal_hmmlearns(implementation: str) -> None:
    prior, step, emission = tables(5, 3, 7)
    lengths = [41, 1, 13]
    x = np.random.default_rng(2).integers(7, size=(sum(lengths), 1))
    x[:7, 0] = range(7)
    theirs = hmmlearn.CategoricalHMM(3, init_params="", n_iter=1, implementation=implementation)
    theirs.startprob_, theirs.transmat_, theirs.emissionprob_, theirs.n_features = prior, step, emission, 7
    ours = chainrule.HMM(3, startprob=prior, transmat=step, emissionprob=emission, n_iter=1).fit(x, lengths=lengths)
    assert ours.history_ == pytest.approx([theirs.score(x, lengths)], abs=1e-8)
    posteriors, best = theirs.predict_proba(x, lengths), theirs.decode(x, lengths)[0]
    theirs.fit(x, lengths)
    for name in ("startprob_", "transmat_", "emissionprob_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-8)
    as_given = chainrule.HMM(3, startprob=prior, transmat=step, emissionprob=emission)
    np.testing.assert_allclose(as_given.predict_proba(x, lengths), posteriors, atol=1e-8)
    assert as_given.decode(x, lengths)[0] == pytest.approx(best, abs=1e-8)


@pytest.mark.parametrize("covariance", ["diag", "full", "tied"])
def test_gaussian_likelihood_posteriors_and_one_em_step_equal_hmmlearns(covariance: str) -> None:
    rng = np.random.default_rng(3)
    lengths = [37, 23, 2]
    x = rng.normal(size=(sum(lengths), 2)) + 3 * rng.integers(2, size=(sum(lengths), 1))
    prior, step, _ = tables(7, 3, 2)
    means = rng.normal(size=(3, 2))
    root = rng.normal(size=(3, 2, 2))
    whole = root @ root.transpose(0, 2, 1) + np.eye(2)
    covars = {"diag": whole[:, [0, 1], [0, 1]], "full": whole, "tied": whole[0]}[covariance]
    theirs = hmmlearn.GaussianHMM(3, covariance, covars_prior=0.0, init_params="", n_iter=1)
    theirs.startprob_, theirs.transmat_, theirs.means_, theirs.covars_ = prior, step, means, covars
    nats = theirs.score(x, lengths)
    start = {"startprob": prior, "transmat": step, "means": means, "covars": covars}
    ours = chainrule.HMM(3, "gaussian", covariance=covariance, n_iter=1, **start).fit(x, lengths=lengths)
    theirs.fit(x, lengths)
    assert ours.history_ == pytest.approx([nats], abs=1e-8)
    for name in ("startprob_", "transmat_", "means_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-8)
    found = ours.covars_[:, 0] if covariance != "tied" else ours.covars_
    wanted = {"diag": theirs.covars_[:, [0, 1], [0, 1]], "full": theirs.covars_, "tied": theirs.covars_[0]}[covariance]
    np.testing.assert_allclose(found, wanted, atol=1e-8)
    np.testing.assert_allclose(ours.predict_proba(x, lengths), theirs.predict_proba(x, lengths), atol=1e-8)
    assert ours.bic(x, lengths) == pytest.approx(theirs.bic(x, lengths), abs=1e-6)
    assert ours.aic(x, lengths) == pytest.approx(theirs.aic(x, lengths), abs=1e-6)


def test_mixture_emissions_equal_hmmlearns() -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(53, 2))
    prior, step, weights = tables(13, 2, 3)
    means, variances = rng.normal(size=(2, 3, 2)), rng.uniform(0.5, 2, size=(2, 3, 2))
    theirs = hmmlearn.GMMHMM(2, 3, init_params="")
    theirs.n_features, theirs.startprob_, theirs.transmat_, theirs.weights_ = 2, prior, step, weights
    theirs.means_, theirs.covars_ = means, variances
    start = {"startprob": prior, "transmat": step, "weights": weights, "means": means, "covars": variances}
    ours = chainrule.HMM(2, "gaussian", mixture=3, n_iter=1, **start).fit(x)
    assert ours.history_ == pytest.approx([theirs.score(x)], abs=1e-8)


@pytest.mark.slow
@pytest.mark.skipif(not TEXT.exists(), reason="needs ../shared/data/text_tinyshakespeare")
def test_two_states_part_vowels_from_consonants_as_hmmlearn_does_from_the_same_start() -> None:
    with gzip.open(TEXT, "rt", encoding="utf-8") as file:
        text = re.sub("[^a-z]+", " ", file.read(100_000).lower())[:50_000]
    for seed in (1, 2, 3):
        first = chainrule.HMM(2, n_iter=1, seed=seed).fit(text)
        prior, step, emission = first.startprob_, first.transmat_, first.emissionprob_
        start = {"startprob": prior, "transmat": step, "emissionprob": emission, "symbols": first.symbols_}
        model = chainrule.HMM(2, n_iter=200, tol=0, **start)
        model.fit(text)
        parted = {"".join(s for s, k in zip(model.symbols_, model.emissionprob_.argmax(0)) if k == n) for n in (0, 1)}
        assert " aeiou" in parted
        assert model.score(text) / len(text) == pytest.approx(-2.718, abs=1e-3)
        theirs = hmmlearn.CategoricalHMM(
            2, init_params="", n_iter=len(model.history_), tol=-np.inf, implementation="scaling"
        )
        theirs.startprob_, theirs.transmat_, theirs.emissionprob_, theirs.n_features = prior, step, emission, 27
        x = np.array([[model.symbols_.index(c)] for c in text])
        theirs.fit(x)
        assert model.score(text) / len(text) == pytest.approx(theirs.score(x) / len(text), abs=1e-6)


# ---------------------------------------------------------------------------------------------------------- enumeration

weights = st.integers(0, 4)


@st.composite
def small_chains(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Tables with zeros and with ties, and a row of symbols that they can make."""
    n, v, length = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 6))

    def rows(count: int, width: int) -> np.ndarray:
        table = np.array(
            draw(st.lists(st.lists(weights, min_size=width, max_size=width), min_size=count, max_size=count)), float
        )
        table[table.sum(1) == 0, 0] = 1
        return table / table.sum(1, keepdims=True)

    return (
        rows(1, n)[0],
        rows(n, n),
        rows(n, v),
        draw(st.lists(st.integers(0, v - 1), min_size=length, max_size=length)),
    )


def enumerate_paths(
    prior: np.ndarray, step: np.ndarray, emission: np.ndarray, row: list[int]
) -> dict[tuple[int, ...], float]:
    found = {}
    for path in itertools.product(range(len(prior)), repeat=len(row)):
        p = prior[path[0]] * math.prod(step[i, j] for i, j in itertools.pairwise(path))
        found[path] = p * math.prod(emission[z, x] for z, x in zip(path, row))
    return found


@settings(max_examples=150, deadline=None)
@given(small_chains())
def test_likelihood_posteriors_and_best_path_are_those_of_all_paths(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray, list[int]],
) -> None:
    prior, step, emission, row = drawn
    every = enumerate_paths(*drawn)
    p, c = sum(every.values()), chain_of(prior, step, emission, [row])
    nats = float(filtered(c).nats_TB.sum())
    if p == 0:
        assert nats == -math.inf
        return
    assert nats == pytest.approx(math.log(p), abs=1e-9)
    posterior = np.zeros((len(row), len(prior)))
    for path, q in every.items():
        posterior[range(len(row)), path] += q / p
    np.testing.assert_allclose(smoothed(c)[:, 0].numpy(), posterior, atol=1e-9)
    best = max(every.values())
    states, score = paths(c, MAX)
    assert float(score) == pytest.approx(math.log(best), abs=1e-9)
    tied = [path for path, q in every.items() if q >= best * (1 - 1e-12)]
    assert tuple(states[:, 0].tolist()) == min(
        tied, key=lambda path: path[::-1]
    )  # lowest last state, then the one before


@settings(max_examples=25, deadline=None)
@given(small_chains())
def test_gradients_of_log_p_are_the_expected_counts_of_the_recursion(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray, list[int]],
) -> None:
    """d log p / d log parameter is how often the parameter was used, in the mean (Eisner 2016)."""
    prior, step, emission = (0.9 * x + 0.1 / x.shape[-1] for x in drawn[:3])
    c = chain_of(prior, step, emission, [drawn[3], drawn[3][:1]])
    logs = [x.clone().requires_grad_() for x in (c.log_prior_N, c.log_transition_NN, c.log_evidence_VN)]
    for semiring in (SUM, LOG_SUM):
        with_grad = replace(c, log_prior_N=logs[0], log_transition_NN=logs[1], log_evidence_VN=logs[2])
        nats_TB = chapter._filtered(with_grad, semiring)[0].nats_TB
        nats = nats_TB[c.counted_TB].sum()
        first_N, pairs_NN, rows_VN = torch.autograd.grad(nats, logs, allow_unused=True, materialize_grads=True)
        counts = chapter._expected(c, semiring)[0]
        torch.testing.assert_close(first_N, counts.first_N, atol=1e-9, rtol=0)
        torch.testing.assert_close(pairs_NN, counts.pairs_NN, atol=1e-9, rtol=0)
        torch.testing.assert_close(
            rows_VN[:-1], counts.emission[0][:-1], atol=1e-9, rtol=0
        )  # the last row is no parameter


def test_drawn_paths_have_the_frequencies_of_all_paths() -> None:
    prior, step, emission = tables(17, 2, 3)
    row, draws = [2, 0, 1], 20_000
    every = enumerate_paths(prior, step, emission, row)
    states, _ = paths(chain_of(prior, step, emission, [row] * draws), Sample(torch.Generator().manual_seed(1)))
    seen = {path: 0 for path in every}
    for path in states.T.tolist():
        seen[tuple(path)] += 1
    for path, p in every.items():
        share = p / sum(every.values())
        assert seen[path] / draws == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / draws) + 1e-12)


# -------------------------------------------------------------------------------------------------------- the recursion


def test_a_row_cut_into_blocks_gives_what_it_gives_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, step, emission = tables(19, 3, 5)
    step = np.triu(step) / np.triu(step).sum(1, keepdims=True)  # zeros, and states that are left for good
    rng = np.random.default_rng(4)
    rows = [rng.integers(5, size=n).tolist() for n in (331, 149)]
    c = chain_of(prior, step, emission, rows)
    c = replace(c, begins_TB=c.begins_TB.clone(), ends_TB=c.ends_TB.clone())
    for place in (1, 90, 200):
        c.begins_TB[place, 0], c.ends_TB[place - 1, 0] = True, True
    assert Cut.of(c).blocks > 8
    cut = (expected(c), filtered(c), smoothed(c), paths(c, MAX))
    monkeypatch.setattr(Cut, "of", lambda c: Cut(1, c.places - 1))
    whole = (expected(c), filtered(c), smoothed(c), paths(c, MAX))
    for got, want in zip(vars(cut[0]).values(), vars(whole[0]).values(), strict=True):
        torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)
    read = torch.arange(331)[:, None] < torch.tensor([331, 149])
    for got, want in zip((*cut[1], cut[2]), (*whole[1], whole[2]), strict=True):
        torch.testing.assert_close(got[read].exp(), want[read].exp(), atol=1e-9, rtol=0)
    assert torch.equal(cut[3][0][read], whole[3][0][read])


def test_a_state_that_scaling_would_lose_is_kept() -> None:
    """Two states that are never left: 200 symbols speak for one, 400 for the other, 100 to 1 each. By hand:
    p = (0.99^200 0.01^400 + 0.01^200 0.99^400) / 2.
    """
    c = chain_of([0.5, 0.5], np.eye(2), [[0.99, 0.01], [0.01, 0.99]], [[0] * 200 + [1] * 400])
    terms = [200 * math.log(0.99) + 400 * math.log(0.01), 200 * math.log(0.01) + 400 * math.log(0.99)]
    wanted = float(np.logaddexp(*terms)) - math.log(2)
    assert float(filtered(c).nats_TB.sum()) == pytest.approx(wanted, rel=1e-12)
    counts = expected(c)
    assert float(counts.nats) == pytest.approx(wanted, rel=1e-12)
    torch.testing.assert_close(counts.pairs_NN, torch.tensor([[0.0, 0.0], [0.0, 599.0]]), atol=1e-9, rtol=0)


def test_an_impossible_observation_is_minus_infinity_and_the_belief_passes_over_it() -> None:
    c = chain_of([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0, 2, 1]])
    found = filtered(c)
    assert found.nats_TB[:, 0].exp().tolist() == pytest.approx([0.5, 0.0, 0.9 * 0.1 + 0.1 * 0.8])
    assert bool(smoothed(c).isfinite().all())


def test_float32_agrees_with_float64() -> None:
    prior, step, emission = tables(23, 5, 7)
    c = chain_of(prior, step, emission, [np.random.default_rng(5).integers(7, size=97).tolist()])
    small = replace(c, **{n: getattr(c, n).float() for n in ("log_prior_N", "log_transition_NN", "log_evidence_VN")})
    assert float(expected(small).nats) == pytest.approx(float(expected(c).nats), rel=1e-5)
    torch.testing.assert_close(smoothed(small).double(), smoothed(c), atol=1e-4, rtol=0)


# ----------------------------------------------------------------------------------------------------------------- EM


def record(rows: list[list[int]], start: int) -> Batch:
    """Ragged records behind their start symbols; pads are symbol 0 and not scored."""
    size = max(map(len, rows))
    targets = torch.tensor([row + [-1] * (size - len(row)) for row in rows])
    inputs = torch.tensor([[start, *row[:-1]] + [0] * (size - len(row)) for row in rows])
    return Batch(inputs, targets, torch.tensor([len(row) for row in rows]))


def hidden_markov(states: int, vocab_size: int, **more: Any) -> Any:
    chosen = model_type("hmm")
    torch.manual_seed(29)
    return chosen.build(
        chosen.configure("tiny", states=states, vocab_size=vocab_size, **{"smoothing": 0.0, **more})
    ).double()


def test_with_identity_emissions_it_is_the_first_order_markov_chain() -> None:
    """Relative frequencies of pairs, counted by hand; and the model type ``markov`` says the same."""
    rows = [[0, 1, 2, 1, 0, 0, 2], [1, 1, 2], [2, 0, 1, 0]]
    counts = np.zeros((3, 3))
    for row in rows:
        for i, j in itertools.pairwise(row):
            counts[i, j] += 1
    model = chainrule.HMM(3, emissionprob=np.eye(3), n_iter=5).fit(rows)
    np.testing.assert_allclose(model.transmat_, counts / counts.sum(1, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(model.startprob_, [1 / 3] * 3, atol=1e-12)
    batch = record(rows, 3)
    chosen = model_type("markov")
    markov = chosen.build(chosen.configure("tiny", vocab_size=3, smoothing="ml"))
    markov.update(markov.summarize(batch))  # type: ignore[attr-defined]
    with torch.no_grad():
        wanted = markov(batch.inputs_BT, None, batch.lengths_B)[0].log_prob(batch.targets_BT)
        got = model.model_(batch.inputs_BT, None, batch.lengths_B)[0].log_prob(batch.targets_BT)
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("settings_", [{}, {"topology": "left_right", "band": 2}, {"topology": "banded"}])
def test_likelihood_never_falls_and_what_is_impossible_stays_exactly_so(settings_: dict[str, Any]) -> None:
    rng = np.random.default_rng(31)
    rows = [rng.integers(7, size=n).tolist() for n in (41, 3, 29, 1)]
    model = chainrule.HMM(5, n_iter=13, tol=0, **settings_).fit(rows)
    assert len(model.history_) == 13
    assert np.diff(model.history_).min() > -1e-9
    gap = np.arange(5) - np.arange(5)[:, None]
    possible = {"left_right": (gap >= 0) & (gap <= 2), "banded": abs(gap) <= 1}.get(
        settings_.get("topology", ""), gap == gap
    )
    assert (model.transmat_[~possible] == 0).all()
    if settings_.get("topology") == "left_right":
        assert model.startprob_.tolist() == [1, 0, 0, 0, 0]


def test_smoothing_leaves_mass_to_symbols_never_seen_and_none_to_what_is_forbidden() -> None:
    model = hidden_markov(3, 7, smoothing=1e-3, mask=((True, True, False), (False, True, True), (True, False, True)))
    batch = record([[0, 1, 2, 1, 0, 2, 2, 1]], 7)
    for _ in range(20):
        model.update(model.summarize(batch))
    found = model.tables()
    assert found["emissionprob"].min() >= 1e-3 / 7 / 3
    assert found["transmat"][0, 2] == 0
    assert found["transmat"][1, 0] == 0


def test_stepwise_em_moves_a_part_of_the_way_of_the_counts() -> None:
    """One state, two symbols at 1/4 and 3/4, a batch of three 0 and one 1, rate 1/2: p(0) = (1/4 + 3/4) / 2."""
    model = hidden_markov(1, 2)
    model.load_tables(emissionprob=torch.tensor([[0.25, 0.75]]))
    model.update(model.summarize(record([[0, 0, 1, 0]], 2)), 0.5)
    torch.testing.assert_close(model.tables()["emissionprob"], torch.tensor([[0.5, 0.5]]), atol=1e-12, rtol=0)
    with pytest.raises(ConfigError, match="rate=0"):
        model.update(model.summarize(record([[0]], 2)), 0)


def test_a_start_symbol_inside_a_row_counts_as_separate_records_do() -> None:
    model = hidden_markov(3, 5)
    apart = model.summarize(record([[0, 1, 4], [2, 2], [3]], 5))
    packed = torch.tensor([[5, 0, 1, 4, 5, 2, 2, 5, 3]])
    targets = torch.tensor([[0, 1, 4, -1, 2, 2, -1, 3, -1]])
    joined = model.summarize(Batch(packed, targets))
    for name, value in apart.tensors().items():
        torch.testing.assert_close(joined.tensors()[name], value, atol=1e-12, rtol=0)


def test_known_states_are_counted_and_unknown_ones_are_expected() -> None:
    """All known: relative frequencies, by hand. One state unknown: either value, by its share."""
    rows, labels = ["abba", "ab"], [[0, 1, 1, 0], [0, 1]]
    model = chainrule.HMM(2, n_iter=2).fit(rows, labels=labels)
    np.testing.assert_allclose(model.startprob_, [1, 0], atol=1e-12)
    np.testing.assert_allclose(model.transmat_, [[0, 1], [0.5, 0.5]], atol=1e-12)
    np.testing.assert_allclose(model.emissionprob_, [[1, 0], [0, 1]], atol=1e-12)
    half = {"startprob": [0.5, 0.5], "transmat": [[0.5, 0.5], [0.5, 0.5]], "emissionprob": [[0.75, 0.25], [0.25, 0.75]]}
    some = chainrule.HMM(2, n_iter=1, **half).fit([[0, 0]], labels=[[0, None]])
    np.testing.assert_allclose(some.transmat_[0], [0.75, 0.25], atol=1e-12)


def test_gaussian_statistics_survive_a_large_offset() -> None:
    x = np.random.default_rng(37).normal(size=101)
    near, far = (chainrule.HMM(1, "gaussian", n_iter=3, min_covar=1e-9).fit(x + offset) for offset in (0.0, 1e8))
    assert float(near.covars_[0, 0, 0]) == pytest.approx(float(x.var()), rel=1e-9)
    assert float(far.covars_[0, 0, 0]) == pytest.approx(float(x.var()), rel=1e-5)
    assert float(far.means_[0, 0]) - 1e8 == pytest.approx(float(x.mean()), abs=1e-6)


# ------------------------------------------------------------------------------------------------------- missing values


def gaussian(seed: int, dims: int) -> tuple[GaussianHMM, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A model of two states with random tables, and these tables: prior, transitions, means N x D, variances N x D."""
    rng = np.random.default_rng(seed)
    prior, step, _ = tables(seed, 2, 2)
    mean, variance = rng.normal(size=(2, dims)), rng.uniform(0.5, 2.0, (2, dims))
    model = GaussianHMM(GaussianConfig(states=2, dims=dims)).double()
    with torch.no_grad():
        model.prior_N.copy_(torch.from_numpy(prior).log())
        model.transition_NN.copy_(torch.from_numpy(step).log())
        model.emission.mean_NMD.copy_(torch.from_numpy(mean)[:, None])
        model.emission.factor.copy_(torch.from_numpy(variance).log()[:, None] / 2)
    return model, prior, step, mean, variance, rng.normal(size=(6, dims))


@pytest.mark.parametrize("gaps", [(2,), (0, 4), (2, 3)], ids=str)
@pytest.mark.parametrize("dims", [1, 2])
def test_training_with_missing_values_is_that_of_all_paths_without_them(dims: int, gaps: tuple[int, ...]) -> None:
    model, prior, step, mean, variance, x = gaussian(7, dims)
    emission = np.exp(-((x[:, None] - mean) ** 2) / (2 * variance)) / np.sqrt(2 * math.pi * variance)
    evidence = emission.prod(-1).T  # N x T: of a missing value, nothing
    evidence[:, gaps] = 1
    every = enumerate_paths(prior, step, evidence, list(range(len(x))))
    p, weight, first, pairs = sum(every.values()), np.zeros((2, len(x))), np.zeros(2), np.zeros((2, 2))
    for path, q in every.items():
        weight[path, range(len(x))] += q / p
        first[path[0]] += q / p
        for i, j in itertools.pairwise(path):
            pairs[i, j] += q / p
    weight[:, gaps] = 0
    seen, targets = x.copy(), x.copy()
    seen[list(gaps)], targets[list(gaps)] = math.inf, math.nan
    inputs = np.concatenate([np.full((1, dims), math.nan), seen[:-1]])
    rows = [torch.from_numpy(a if dims > 1 else a[:, 0])[None] for a in (inputs, targets)]
    found = model.summarize(Batch(*rows))
    assert float(found.nats) == pytest.approx(math.log(p), abs=1e-9) and int(found.size) == len(x) - len(gaps)
    np.testing.assert_allclose(found.first_N.numpy(), first, atol=1e-9)
    np.testing.assert_allclose(found.pairs_NN.numpy(), pairs, atol=1e-9)
    np.testing.assert_allclose(found.emission[0][:, 0].numpy(), weight.sum(1), atol=1e-9)
    np.testing.assert_allclose(found.emission[1][:, 0].numpy() + weight.sum(1)[:, None] * mean, weight @ x, atol=1e-9)
