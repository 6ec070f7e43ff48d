"""Beliefs: equal to sums over all paths through the hidden states."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from chainrule.explanation import belief
from tests.explain.made import made_run, plain

TEXT = "on a mat"
STATES = 3


@functools.cache
def tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the prior, the transitions and the emissions of the run."""
    found = made_run("hmm", states=STATES).model.tables()
    return plain(found["startprob"]), plain(found["transmat"]), plain(found["emissionprob"])


def by_enumeration(at: int, seen: int) -> np.ndarray:
    """Return p(state of token ``at`` | the first ``seen`` tokens), from all paths of hidden states."""
    first, step, emit = tables()
    mass = np.zeros(STATES)
    for path in itertools.product(range(STATES), repeat=at + 1):
        p = first[path[0]] * np.prod([step[pair] for pair in itertools.pairwise(path)])
        mass[path[-1]] += p * np.prod([emit[z, x] for z, x in zip(path, TEXT[:seen].encode())])
    return mass / mass.sum()


def test_the_belief_is_the_sum_over_all_paths() -> None:
    found = made_run("hmm", states=STATES).explain(TEXT, view="belief")["trace"]["belief"]
    assert found["begin"] == 0 and found["size"] == STATES
    for when, extra in (("predicted", 0), ("filtered", 1)):
        wanted = [by_enumeration(at, at + extra)[found["states"]] for at in range(len(TEXT))]
        np.testing.assert_allclose(found[when]["p"], wanted, atol=1e-5)
        assert found[when]["rest"] == [0.0] * len(TEXT), "all states are shown"
    assert found["states"] == np.argsort(-np.mean([by_enumeration(t, t + 1) for t in range(8)], 0)).tolist()


def test_the_belief_and_what_states_emit_give_the_surprise() -> None:
    trace = made_run("hmm", states=STATES).explain(TEXT, view=["belief", "surprise"], top_k=256, begin=3)["trace"]
    found, nats = trace["belief"], [one["nats"] for one in trace["surprise"]["tokens"]]
    emits = [{one["id"]: one["p"] for one in row} for row in found["emits"]]
    for x, p, cost in zip(TEXT[3:].encode(), found["predicted"]["p"], nats, strict=True):
        assert sum(q * emit[x] for q, emit in zip(p, emits, strict=True)) == pytest.approx(np.exp(-cost), rel=1e-4)


def test_of_many_states_those_with_the_largest_belief_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(belief, "STATES", 2)
    found = made_run("hmm", states=STATES).explain(TEXT, view="belief", begin=4, end=6)["trace"]["belief"]
    after = np.array([by_enumeration(at, at + 1) for at in (4, 5)])
    order = np.argsort(-after.mean(0))
    assert found["states"] == order[:2].tolist() and found["size"] == STATES
    np.testing.assert_allclose(found["filtered"]["p"], after[:, order[:2]], atol=1e-5)
    np.testing.assert_allclose(found["filtered"]["rest"], after[:, order[2]], atol=1e-5)
    np.testing.assert_allclose(found["predicted"]["rest"], [by_enumeration(t, t)[order[2]] for t in (4, 5)], atol=1e-5)
    for state, row in zip(found["states"], found["emits"], strict=True):
        emission = tables()[2][state]
        assert [one["id"] for one in row] == np.argsort(-emission)[:5].tolist()
        np.testing.assert_allclose([one["p"] for one in row], np.sort(emission)[: -5 - 1 : -1], rtol=1e-5)
