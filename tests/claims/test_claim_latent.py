"""Latent autoregression: beliefs by hand arithmetic and by hmmlearn, and vowels where the order of letters tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from chainrule.claims import Runs, latent
from chainrule.core import model_type
from tests.claims.loaded import claim, loaded
from tests.explain.runs import small_run

START, STEP = np.array([0.25, 0.75]), np.array([[0.5, 0.5], [0.2, 0.8]])
EMIT = np.array([[0.1, 0.3, 0.6], [0.7, 0.2, 0.1]])


@pytest.fixture
def hmm() -> Any:
    chosen = model_type("hmm")
    model: Any = chosen.build(chosen.configure(vocab_size=3, states=2)).double()
    tables = {"startprob": START, "transmat": STEP, "emissionprob": EMIT}
    model.load_tables(**{name: torch.from_numpy(table) for name, table in tables.items()})
    return model


def test_the_belief_is_that_of_hand_arithmetic(hmm: Any) -> None:
    seen = START * EMIT[:, 2]
    second = (seen / seen.sum()) @ STEP
    for found in (latent.enumerated(hmm, np.array([2, 0])), latent.recursion(hmm, np.array([2, 0]))):
        assert found == pytest.approx(np.array([START, second]), abs=1e-12)


def test_all_ways_give_the_belief_of_hmmlearn(hmm: Any) -> None:
    from hmmlearn.hmm import CategoricalHMM

    ids = np.array([2, 0, 1, 1, 2, 0, 0])
    other = CategoricalHMM(2, n_features=3)
    other.startprob_, other.transmat_, other.emissionprob_ = START, STEP, EMIT
    last = [other.predict_proba(ids[: t + 1, None])[-1] for t in range(len(ids))]  # p(z_t | x_<=t)
    exact = np.array([START, *(np.array(last[:-1]) @ STEP)])
    found = latent.filtered(hmm, ids)
    assert found.after == pytest.approx(np.array(last), abs=1e-9)
    for beliefs in (found.predicted, latent.enumerated(hmm, ids), latent.recursion(hmm, ids)):
        assert beliefs == pytest.approx(exact, abs=1e-9)


def test_letters_that_alternate_are_told_apart_and_shuffled_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent, "STEPS", 60)
    rng = np.random.default_rng(0)
    pairs = zip(rng.choice([*"bcd"], 600), rng.choice([*"aei"], 600))
    letters = latent.as_letters("".join(a + b for a, b in pairs))
    found = max((latent.fit(letters, seed) for seed in (1, 2, 3)), key=lambda one: one.nats)
    assert found.purity == 1 and found.vowel_letters == ["a", "e", "i"] and found.moves > 0.9
    assert latent.fit(rng.permutation(letters), 2).purity < 0.9


def test_the_majority_is_what_one_state_for_all_reaches() -> None:
    assert latent.majority(latent.as_letters("abcd efgh")) == pytest.approx(6 / 8)


def test_shuffled_letters_make_the_claim_hold_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    letters, told = latent._letters(small_run("rnn"))
    shuffled = np.random.default_rng(1).permutation(letters)
    monkeypatch.setattr(latent, "_letters", lambda run: (shuffled, told))
    assert claim("latent").measure(loaded("rnn")).holds == "partly"


def test_a_belief_that_forgets_makes_the_claim_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    own = latent.filtered

    def forgetful(model: Any, letters: np.ndarray) -> latent.FilteredBelief:
        found = own(model, letters)
        return latent.FilteredBelief(np.full_like(found.predicted, 0.5), found.after)

    monkeypatch.setattr(latent, "filtered", forgetful)
    assert claim("latent").measure(loaded("rnn")).holds == "no"


def test_a_loaded_hmm_is_compared_with_the_recursion() -> None:
    run = small_run("hmm")
    facts, differs = latent.loaded_belief(run)
    assert facts.size == 4 and differs < 1e-5
    found = claim("latent").measure(Runs({"mine": run}))
    assert found.told[-1].key == "loaded" and found.inspect["run"] == ["mine"]
