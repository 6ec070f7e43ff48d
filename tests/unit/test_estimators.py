"""``chainrule.HMM``: accepted input, results, error messages and saved files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule
import chainrule.core
from chainrule.cli import main
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


# --- keeping ----------------------------------------------------------------------------------------------------------

WORDS = [["the", "dog", "sat", "달", "\ud800"], ["the", "cat"], ["a", "dog", "ran"], ["a", "cat", "sat", "the", "dog"]]
NUMBERS = [np.random.default_rng(k).normal(size=(17 + k, 3)) for k in range(2)]
MASK = [[True, True, False], [False, True, True], [True, False, True]]
KEPT: dict[str, tuple[Any, Any]] = {
    "words": (chainrule.HMM(3, n_init=2, n_iter=5, seed=7).fit(WORDS), WORDS),
    "labels": (chainrule.HMM(3).fit(WORDS[1:3], labels=[["D", "N"], ["D", None, "V"]]), [["the", "dog"], ["a", "cat"]]),
    "mask and alphabet": (
        chainrule.HMM(3, mask=np.array(MASK), symbols=iter("abcz"), smoothing=1e-5, n_iter=3).fit("abcabbca"),
        "zab",
    ),
    "numbers": (chainrule.HMM(2, "gaussian", covariance="full", mixture=2, n_iter=3).fit(NUMBERS), NUMBERS),
    "given": (coin(), [0, 1, 1, 0]),
    "parts": (chainrule.HMM(2, n_iter=3).partial_fit("abba").partial_fit("babb"), "abab"),
}


@pytest.mark.parametrize("kind", KEPT)
def test_a_saved_model_answers_as_before_bit_for_bit(kind: str, tmp_path: Any) -> None:
    model, x = KEPT[kind]
    model.save(tmp_path / "kept")
    again = chainrule.HMM.load(tmp_path / "kept")
    assert again.score(x) == model.score(x)
    for command in ("predict", "predict_proba", "decode"):
        np.testing.assert_equal(getattr(again, command)(x), getattr(model, command)(x))
    np.testing.assert_equal(again.sample(13, seed=3), model.sample(13, seed=3))
    for name in ("symbols_", "labels_", "history_", "scores_", "seed_", "free_parameters"):
        assert hasattr(again, name) == hasattr(model, name), name
        assert getattr(again, name, None) == getattr(model, name, None), name
    for name, value in model.get_params().items():
        if name != "symbols":  # here an iterator that is spent: what it gave is kept
            np.testing.assert_equal(again.get_params()[name], value)
    if kind == "mask and alphabet":
        assert again.symbols == ["a", "b", "c", "z"]


def test_a_saved_model_goes_on_learning_where_it_was(tmp_path: Any) -> None:
    """The third part moves both by 1 / sqrt(4), and a new fit begins from the same settings."""
    model = chainrule.HMM(2, seed=5).partial_fit("abba").partial_fit("babb")
    model.save(tmp_path / "kept")
    again = chainrule.HMM.load(tmp_path / "kept")
    np.testing.assert_equal(again.partial_fit("aab").transmat_, model.partial_fit("aab").transmat_)
    np.testing.assert_equal(again.fit("abba").transmat_, model.fit("abba").transmat_)


def test_a_saved_model_holds_no_pickle_and_is_not_overwritten_unasked(tmp_path: Any) -> None:
    coin().save(tmp_path / "kept")
    assert {p.name for p in (tmp_path / "kept").iterdir() if p.is_file()} == {
        "MANIFEST.json", "config.json", "config.yaml", "data.json", "environment.json", "model.safetensors",
    }  # fmt: skip
    with pytest.raises(chainrule.core.UserError, match="overwrite=True"):
        KEPT["words"][0].save(tmp_path / "kept")
    KEPT["words"][0].save(tmp_path / "kept", overwrite=True)
    assert chainrule.HMM.load(tmp_path / "kept").symbols_ == KEPT["words"][0].symbols_


def test_a_folder_that_is_no_saved_model_is_refused_in_one_line(tmp_path: Any) -> None:
    load = chainrule.HMM.load
    with pytest.raises(chainrule.core.UserError, match=r"no saved HMM here; expected a folder that HMM\.save"):
        load(tmp_path)
    with pytest.raises(chainrule.core.UserError, match="no saved HMM here"):
        load(tmp_path / "nowhere")
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be\n" * 97)
    assert main(["train", str(text), "--model", "markov", "--out", str(tmp_path / "run")]) == 0
    with pytest.raises(chainrule.core.UserError, match=r"a run of 'markov'.*chainrule\.load opens it"):
        load(tmp_path / "run")
    coin().save(tmp_path / "kept")
    with pytest.raises(chainrule.core.UserError, match=r"unknown model 'chainrule\.HMM'"):
        chainrule.load(tmp_path / "kept")
    weights = tmp_path / "kept" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(chainrule.core.CheckpointCorrupt, match=r"model\.safetensors"):
        load(tmp_path / "kept")


def test_symbols_that_would_not_come_back_are_refused(tmp_path: Any) -> None:
    model = chainrule.HMM(2, symbols=[("a", 1), "b"], n_iter=2).fit(["b", "b"])
    with pytest.raises(chainrule.core.UserError, match=r"\('a', 1\) cannot be saved"):
        model.save(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
