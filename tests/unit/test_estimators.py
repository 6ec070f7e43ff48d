"""``chainrule.HMM``: what goes in, what comes out, and what is said to a person who gives it nonsense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule
from chainrule.core import ChainruleError

HALF = {"startprob": [0.5, 0.5], "transmat": [[0.9, 0.1], [0.2, 0.8]], "emissionprob": [[0.7, 0.3], [0.1, 0.9]]}


def coin() -> Any:
    """Two states over the symbols 0 and 1, as given: nothing is fitted."""
    return chainrule.HMM(2, **HALF)


@pytest.mark.parametrize(
    ("x", "lengths"),
    [
        ([0, 1, 1, 0, 1], None),
        (np.array([[0], [1], [1], [0], [1]]), [5]),
        (np.array([0, 1, 1, 0, 1]), None),
        (np.array([0.0, 1.0, 1.0, 0.0, 1.0]), None),
    ],
)
def test_one_sequence_in_any_form_has_one_answer(x: Any, lengths: list[int] | None) -> None:
    by_hand = np.array([0.5, 0.5]) * [0.7, 0.1]
    for symbol in (1, 1, 0, 1):
        by_hand = by_hand @ np.array(HALF["transmat"]) * np.array(HALF["emissionprob"])[:, symbol]
    assert coin().score(x, lengths=lengths) == pytest.approx(np.log(by_hand.sum()), abs=1e-12)
    assert coin().predict_proba(x, lengths).shape == (5, 2)


def test_several_sequences_come_back_as_they_came() -> None:
    model = coin()
    rows = [[0, 1, 1], [1], [0, 0]]
    listed, joined = model.predict(rows), model.predict([0, 1, 1, 1, 0, 0], lengths=[3, 1, 2])
    assert [len(path) for path in listed] == [3, 1, 2]
    np.testing.assert_array_equal(np.concatenate(listed), joined)
    assert model.score(rows) == pytest.approx(sum(model.score(row) for row in rows), abs=1e-12)
    nats, posteriors = model.score_samples(rows)
    assert nats == pytest.approx(model.score(rows), abs=1e-12)
    np.testing.assert_allclose(posteriors[2], model.predict_proba(rows[2]), atol=1e-12)


def test_strings_are_sequences_of_characters_and_words_are_symbols() -> None:
    letters = chainrule.HMM(2, n_iter=3).fit(["banana", "cab"])
    assert letters.symbols_ == ["a", "b", "c", "n"]
    assert len(letters.predict("nab")) == 3
    words = chainrule.HMM(2, n_iter=3).fit([["the", "cat"], ["the", "dog", "sat"]])
    assert words.symbols_ == ["cat", "dog", "sat", "the"]
    drawn, states = words.sample(7, seed=3)
    assert len(drawn) == len(states) == 7
    assert set(drawn) <= set(words.symbols_)
    assert words.sample(7, seed=3)[0] == drawn


def test_samples_have_the_frequencies_of_the_model() -> None:
    drawn, states = coin().sample(20_000, seed=1)
    assert states.mean() == pytest.approx(1 / 3, abs=0.03)  # by hand: 0.1 / (0.1 + 0.2) of the time in state 1
    assert np.mean(np.array(drawn)[states == 1]) == pytest.approx(0.9, abs=0.02)


def test_the_best_of_several_starts_is_kept_and_the_seeds_are_noted() -> None:
    rows = ["abababab", "ccdccdccd", "abccab"]
    model = chainrule.HMM(3, n_init=4, n_iter=15, seed=7).fit(rows)
    assert list(model.scores_) == [7, 8, 9, 10]
    assert model.scores_[model.seed_] == max(model.scores_.values()) == model.history_[-1]
    alone = chainrule.HMM(3, n_iter=15, seed=model.seed_).fit(rows)
    np.testing.assert_array_equal(alone.transmat_, model.transmat_)


def test_free_parameters_are_counted_by_hand() -> None:
    assert coin().free_parameters == 1 + 2 + 2
    x = np.random.default_rng(1).normal(size=(40, 3))
    left_right = chainrule.HMM(3, "gaussian", topology="left_right", covariance="full", n_iter=1).fit(x)
    assert left_right.free_parameters == 0 + 2 + 3 * 3 + 3 * 6  # the last state goes nowhere
    assert left_right.aic(x) == pytest.approx(-2 * left_right.score(x) + 2 * 29)
    assert left_right.bic(x) == pytest.approx(-2 * left_right.score(x) + 29 * np.log(40))


def test_labels_that_are_names_name_the_states() -> None:
    model = chainrule.HMM(2, n_iter=3).fit(
        [["a", "dog"], ["the", "cat", "sat"]], labels=[["D", "N"], ["D", None, None]]
    )
    assert model.labels_ == ["D", "N"]
    assert list(model.predict([["the", "dog"]])[0]) == ["D", "N"]


def test_parts_that_do_not_fit_into_memory_are_learnt_one_by_one() -> None:
    truth = chainrule.HMM(2, **{**HALF, "emissionprob": [[0.95, 0.05], [0.05, 0.95]]})
    model = chainrule.HMM(2, symbols=[0, 1], smoothing=1e-4, seed=3)
    for part in range(12):
        model.partial_fit([truth.sample(50, seed=100 * part + k)[0] for k in range(8)])
    held_out = [truth.sample(60, seed=9000 + k)[0] for k in range(8)]
    uniform = -8 * 60 * np.log(2)
    assert len(model.history_) == 12
    assert model.score(held_out) > uniform + 0.8 * (truth.score(held_out) - uniform)


def test_gaussians_find_two_clusters_and_a_constant_series_is_no_accident() -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(size=30), 10 + rng.normal(size=41)])
    model = chainrule.HMM(2, "gaussian", n_init=2).fit(x)
    assert sorted(model.means_[:, 0]) == pytest.approx([x[:30].mean(), x[30:].mean()], abs=1e-3)
    assert len(set(model.predict(x)[:30])) == len(set(model.predict(x)[30:])) == 1
    constant = chainrule.HMM(2, "gaussian").fit([3.0] * 17)
    assert np.isfinite(constant.score([3.0, 3.0]))
    assert np.isfinite(constant.score([4.0]))
    assert (constant.covars_ >= 1e-6 * (1 - 1e-9)).all()


def test_one_observation_alone_is_a_sound_sequence() -> None:
    assert chainrule.HMM(1).fit("a").score("a") == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(chainrule.HMM(2, "gaussian").fit([2.5]).score([2.5]))


def test_it_keeps_scikit_learns_protocol() -> None:
    clone = pytest.importorskip("sklearn.base").clone
    model = clone(chainrule.HMM(3, n_init=2)).set_params(states=4)
    assert model.get_params()["states"] == 4
    assert model.get_params()["n_init"] == 2


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "unseen symbol": (lambda: chainrule.HMM(1).fit("abc").score("abz"), "'z' is none of the 3"),
    "all-zero row": (lambda: chainrule.HMM(2, transmat=[[0, 0], [0.5, 0.5]]).fit("ab"), "transmat: row 0 sums to 0"),
    "shape": (lambda: chainrule.HMM(2, startprob=[1.0]).fit("ab"), "startprob has shape (1,): expected (2,)"),
    "nothing": (lambda: chainrule.HMM().fit([]), "sequence 0 is empty"),
    "empty sequence": (lambda: chainrule.HMM().fit(["ab", ""]), "sequence 1 is empty"),
    "lengths": (lambda: chainrule.HMM().fit("abc", lengths=[1, 3]), "lengths: 4 in all"),
    "length 0": (lambda: chainrule.HMM().fit("abc", lengths=[3, 0]), "lengths"),
    "nan": (lambda: chainrule.HMM(2, "gaussian").fit([1.0, float("nan")]), "at place 1"),
    "infinity": (lambda: chainrule.HMM(2, "gaussian").fit(np.array([[1.0], [np.inf]])), "at place 1"),
    "fractions as symbols": (lambda: chainrule.HMM().fit([0.5, 1.5]), "emission='gaussian'"),
    "words as numbers": (lambda: chainrule.HMM(2, "gaussian").fit(["a", "b"]), "not numbers"),
    "width": (lambda: chainrule.HMM(1, "gaussian").fit(np.eye(3)).score(np.ones((2, 2))), "this model has 3"),
    "not fitted": (lambda: chainrule.HMM().score("ab"), "call fit(X) first"),
    "labels": (lambda: chainrule.HMM(2).fit("abc", labels=[0, 1]), "labels: not as many"),
    "many labels": (lambda: chainrule.HMM(2).fit("abc", labels=["x", "y", "z"]), "at least states=3"),
    "impossible": (lambda: chainrule.HMM(2, **{**HALF, "emissionprob": [[1, 0], [1, 0]]}).predict([1]), "p = 0"),
    "impossible start": (lambda: chainrule.HMM(2, **{**HALF, "emissionprob": [[1, 0], [1, 0]]}).fit([1]), "impossible"),
    "emission": (lambda: chainrule.HMM(2, "poisson").fit([1]), "'categorical' and 'gaussian'"),  # type: ignore[arg-type]
    "topology": (lambda: chainrule.HMM(2, mask=[[1, 1], [0, 0]]).fit("ab"), "a true in every row"),
    "states": (lambda: chainrule.HMM(0).fit("ab"), "states=0"),
    "algorithm": (lambda: coin().decode([1], algorithm="best"), "'viterbi' and 'map'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_in_one_line(name: str) -> None:
    do, wanted = BAD[name]
    with pytest.raises(ChainruleError) as raised:
        do()
    assert wanted in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_status == 2
