"""Bayes against hand arithmetic, an independent n-gram model a label, and scikit-learn's bag of words."""

from __future__ import annotations

import functools
import math
import operator

import numpy as np
import pytest
import torch

from chainrule.core import Autoregressive, Batch, Classifier, Counting, DataError, TextBatch, UserError, model_type
from chainrule.core.model import SequenceModel
from chainrule.models.bayes import SHIFT_VARIANCE, BayesConfig, Counted, Examples, UnitModel, weigh_evidence

ODD = ("ab", "abab", "aab", "abb", "ba", "abc", "aabb")
EVEN = ("cd", "cdcd", "dcd", "ccd", "dd", "cda", "ddc")


def texts(rows: list[tuple[str, int]]) -> TextBatch:
    labels_B1 = torch.tensor([[label] for _, label in rows])
    return TextBatch(torch.zeros(len(rows), 0), labels_B1, texts=tuple(text for text, _ in rows))


def trained(rows: list[tuple[str, int]], name: str = "ngram", classes: int = 2, **values: object) -> SequenceModel:
    chosen = model_type(name, "classify")
    model = chosen.build(chosen.configure(num_labels=classes, **values))
    assert isinstance(model, Counting) and isinstance(model, Classifier)
    return model.update(model.summarize(texts(rows)))


ROWS = [(x, 0) for x in ODD] + [(x, 1) for x in EVEN]


def nats(rows: list[tuple[str, int]], text: str, n: int, units: str = "char", **values: object) -> list[float]:
    """log p(text | label) of each label from models of order n."""
    config = BayesConfig.make({"num_labels": 2, "units": units, "n": n, **values})
    model = UnitModel(units, config)
    model.k = config.k or 1.0
    labels = np.array([label for _, label in rows])
    model.set_counts(Counted.of(Examples(tuple(x for x, _ in rows), labels), units, n, config).ngrams)
    return model.log_likelihoods([text], [n])[0, 0].tolist()


def test_log_p_of_a_text_by_hand_add_k() -> None:
    """Label 0 holds ab (2 symbols and an end), label 1 holds b. V = 2 letters + other + end = 4. With k = 1/2 and n =
    1:

    p(a | 0) = (1 + .5) / (3 + 2), p(b | 0) the same, p(end | 0) the same; p(a | 1) = .5 / 4, p(b | 1) = p(end | 1) =
    1.5 / 4.
    """
    zero, one = nats([("ab", 0), ("b", 1)], "ab", 1, smoothing="add_k", k=0.5)
    assert zero == pytest.approx(3 * math.log(1.5 / 5), abs=1e-12)
    assert one == pytest.approx(math.log(0.5 / 4) + 2 * math.log(1.5 / 4), abs=1e-12)


def test_log_p_of_a_text_by_hand_witten_bell() -> None:
    """Label 0 holds ab: after the start only a came. p(a) = (1 + 3/4) / 6 (V = 4); p(a | start) = (1 + p(a)) / 2. A
    label that never saw a start followed by anything else passes it over; label 1 never saw a: p(a) = 0 + 2/4 of 2 + 2.
    """
    found = nats([("ab", 0), ("b", 1)], "ab", 2, smoothing="witten_bell")
    first = (1 + 3 / 4) / 6
    steps = [(1 + first) / 2, (1 + first) / 2, (1 + first) / 2]
    assert found[0] == pytest.approx(sum(map(math.log, steps)), abs=1e-12)
    low_a, low_b = (0 + 2 / 4) / 4, (1 + 2 / 4) / 4
    other = [(0 + low_a) / 2, low_b, (1 + low_b) / 2]
    assert found[1] == pytest.approx(sum(map(math.log, other)), abs=1e-12)


@pytest.mark.parametrize("smoothing", ["kneser_ney", "witten_bell", "add_k"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_probabilities_of_the_next_symbol_sum_to_one(smoothing: str, n: int) -> None:
    """exp of the difference that one more symbol makes, over all symbols and the end. ``?`` stands for all others."""
    model = trained(ROWS, smoothing=smoothing, n=n, units="char")
    estimator = model.unit_models["char"].estimator()
    vocabulary = estimator.ngrams.vocabulary
    for text in ("", "a", "abc", "dd", "zz"):
        symbols, ends = vocabulary.encode([text])
        for label in (0, 1):
            whole = 0.0
            for symbol in range(vocabulary.base - 1):
                row = np.concatenate([symbols[:-1], [symbol]])
                grams = estimator.ngrams.look_up(row, ends)
                *_, p_TC = estimator.probabilities(grams, slice(0, len(row)))
                whole += p_TC[-1, label]
            assert whole == pytest.approx(1, abs=1e-12), (text, label)


@pytest.mark.parametrize("smoothing", ["kneser_ney", "witten_bell"])
def test_one_label_alone_is_the_n_gram_model_of_its_texts(smoothing: str) -> None:
    """Against the model type ngram of generate with the end as a symbol. Both labels hold the same texts, so that
    discounts over both (ratios of numbers of counts) are those of one; V is 5 there and here: three letters, one for
    all others, and the end.
    """
    rng = np.random.default_rng(3)
    mine = ["".join(rng.choice(list("abc"), rng.integers(1, 9), p=[0.6, 0.3, 0.1])) for _ in range(61)]
    other = model_type("ngram").build(model_type("ngram").configure(vocab_size=5, n=3, smoothing=smoothing))
    assert isinstance(other, Counting) and isinstance(other, Autoregressive)
    ids = {text: ["abc".index(x) + 1 for x in text] + [0] for text in (*mine, "abc", "ccba", "b")}
    read = {text: Batch(torch.tensor([[5, *row[:-1]]]), torch.tensor([row])) for text, row in ids.items()}
    other.update(functools.reduce(operator.add, (other.summarize(read[text]) for text in mine)))
    for text in ("abc", "ccba", "b"):
        prediction, _ = other(read[text].inputs_BT)
        expected = float(prediction.log_prob(read[text].targets_BT).sum())
        rows = [(x, c) for x in mine for c in (0, 1)]
        assert nats(rows, text, 3, smoothing=smoothing) == pytest.approx([expected] * 2, abs=1e-9)


def test_a_bag_of_words_is_scikit_learns_multinomial_bayes() -> None:
    """Up to the exponent and the shift, which are taken off. V there is the known words; here one more stands for
    all others.
    """
    naive_bayes = pytest.importorskip("sklearn.naive_bayes")
    words = ["red", "blue", "sun", "rain"]
    rng = np.random.default_rng(5)
    rows = [
        (" ".join(rng.choice(words, 5, p=p)), c)
        for c, p in ((0, [0.5, 0.2, 0.2, 0.1]), (1, [0.1, 0.2, 0.3, 0.4]))
        for _ in range(20)
    ]
    model = trained(rows, "bag", k=1.0)
    table = np.array([[text.split().count(w) for w in words] + [0] for text, _ in rows])
    peer = naive_bayes.MultinomialNB(alpha=1.0).fit(table, [c for _, c in rows])
    asked = "sun sun red"
    expected = peer.feature_log_prob_ @ np.array([1, 0, 2, 0, 0])
    assert nats(rows, asked, 1, "word", smoothing="add_k", ends=False) == pytest.approx(expected.tolist(), abs=1e-12)
    s = float(model.exponents[0, 0])
    root = math.sqrt(float(model.length) / (1 + len(asked)))
    assert float(model.length) == pytest.approx(math.prod((1 + len(text)) ** (1 / len(rows)) for text, _ in rows))
    expected_score = torch.tensor(expected) * s * root + model.log_prior + model.shifts
    assert torch.allclose(model.classify(texts([(asked, 0)]))[0], expected_score.log_softmax(-1), atol=1e-12)


def test_counts_by_position_tell_what_blind_ones_cannot() -> None:
    """Label 0 has its a at the second place, label 1 at the third, among random letters: single symbols are
    distributed alike.
    """
    rng = np.random.default_rng(7)
    rows = []
    for c in (0, 1):
        for _ in range(60):
            letters = rng.choice(list("bcd"), 5)
            letters[1 + c] = "a"
            rows.append(("".join(letters), c))
    held = texts([(x, 0) for x, _ in rows])
    truth = np.array([c for _, c in rows])
    placed = trained(rows, positional=True).classify(held).argmax(1).numpy()
    blind = trained(rows, units="char", n=1).classify(held).argmax(1).numpy()
    assert (placed == truth).mean() == 1.0
    assert (blind == truth).mean() < 0.7


def test_a_position_beyond_all_training_texts_is_answered() -> None:
    rows = [(x * 2, c) for c, group in enumerate((ODD, EVEN)) for x in group]
    log_p_BC = trained(rows, positional=True).classify(texts([("ab" * 30, 0), ("", 0)]))
    assert torch.isfinite(log_p_BC).all()
    assert log_p_BC[0].argmax() == 0


def test_log_p_of_labels_sums_to_one_for_any_text() -> None:
    log_p_BC = trained(ROWS).classify(texts([(x, 0) for x in ("abab", "", "한글", "\ud83d", "z" * 300, "dcd dcd")]))
    assert torch.allclose(log_p_BC.exp().sum(1), torch.ones(6, dtype=torch.float64), atol=1e-12)


def test_the_exponents_are_where_held_out_log_p_is_greatest() -> None:
    """Moving any exponent or shift a little either way lowers log p(labels) + log prior."""
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 3, 200)
    evidence = [rng.normal(size=(200, 3)) * 4 + 3 * np.eye(3)[labels] * strength for strength in (1.0, 0.5)]
    prior = np.log(np.full((200, 3), 1 / 3))
    s, b, accuracy, mean = weigh_evidence(prior, evidence, labels)

    def value(s: np.ndarray, b: np.ndarray) -> float:
        score = prior + b + s[0] * evidence[0] + s[1] * evidence[1]
        own = score[np.arange(200), labels] - np.log(np.exp(score).sum(1))
        return float(own.sum() - (b**2).sum() / (2 * SHIFT_VARIANCE) - s.sum())

    best = value(s, b)
    for step in (-1e-2, 1e-2):
        for k in range(2):
            assert value(s + step * np.eye(2)[k], b) < best
        for c in range(3):
            assert value(s, b + step * np.eye(3)[c]) < best
    score = prior + b + s[0] * evidence[0] + s[1] * evidence[1]
    assert accuracy == pytest.approx(float((score.argmax(1) == labels).mean()))
    assert mean == pytest.approx(-float((score[np.arange(200), labels] - np.log(np.exp(score).sum(1))).mean()))


def test_leaving_a_part_out_is_training_on_the_others() -> None:
    """Subtracting a part from the counts gives the same as counting the rest, for a vocabulary that both
    share.
    """
    rng = np.random.default_rng(13)
    rows = ["".join(rng.choice(list("abcd"), rng.integers(2, 7))) for _ in range(40)]
    labels, side = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    config = BayesConfig(num_labels=2, units="char", n=3)
    whole = Counted.of(Examples(tuple(rows), labels), "char", 3, config)
    held = whole.held_out(labels, side, "kneser_ney", 1.0)[2]
    rest = [(x, int(c)) for x, c, out in zip(rows, labels, side) if out == 0]
    assert {x for text, _ in rest for x in text} == set("abcd")
    for b in np.flatnonzero(side == 1)[:7]:
        assert held[b].tolist() == pytest.approx(nats(rest, rows[b], 3), abs=1e-9)


def test_a_text_is_classified_alone_as_among_others() -> None:
    """Also without a start symbol, where the first symbol of a text must not see the text before it."""
    for settings in ({}, {"ends": False, "n": 2}):
        model = trained(ROWS, **settings)
        together = model.classify(texts([("abba", 0), ("ddcc", 0)]))
        assert torch.allclose(together[1], model.classify(texts([("ddcc", 0)]))[0], atol=1e-12, rtol=0)


def test_statistics_of_parts_add_up_and_a_saved_model_answers_the_same() -> None:
    chosen = model_type("ngram", "classify")
    model = chosen.build(chosen.configure(num_labels=2))
    assert isinstance(model, Counting)
    model.update(model.summarize(texts(ROWS[9:])) + model.summarize(texts(ROWS[:9])))
    asked = texts([("abba", 0), ("ddcc", 0), ("a b", 1)])
    expected = trained(ROWS).classify(asked)
    assert torch.allclose(model.classify(asked), expected, atol=0, rtol=0)
    other = chosen.build(chosen.configure(num_labels=2))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.classify(asked), model.classify(asked))


def test_a_label_with_one_text_and_one_that_training_lacks_are_answered() -> None:
    model = trained([*ROWS, ("xyz", 2)], classes=4)
    log_p_BC = model.classify(texts([("xyz", 0), ("q", 0)]))
    assert torch.isfinite(log_p_BC).all()


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(UserError, match="positional=true with kneser_ney"):
        trained(ROWS, positional=True, smoothing="kneser_ney")
    model = trained(ROWS)
    with pytest.raises(UserError, match="rate must be 1"):
        model.update(model.summarize(texts(ROWS)), rate=0.5)
    fresh = model_type("ngram", "classify")
    with pytest.raises(DataError, match="not been trained"):
        fresh.build(fresh.configure(num_labels=2)).classify(texts(ROWS))
