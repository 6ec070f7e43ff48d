"""Markov and n-gram against hand arithmetic, a slow dictionary written from the formulas, and known figures.

**A toy by hand.** The text "abacab" over {a, b, c}, one stream without a start symbol; n = 2.
Counts: a 3, b 2, c 1; ab 2, ba 1, ac 1, ca 1.

- ml:           p(b|a) = 2/3,  p(c|a) = 1/3,  p(a|a) = 0,  p(a|b) = 1 (the last b is followed by nothing).
- add_k, k=1:   p(b|a) = (2+1)/(3+3) = 1/2,  p(a|a) = 1/6,  p(a|b) = (1+1)/(1+3) = 1/2.
- witten_bell:  p(a) = (3 + 3 * 1/3)/(6 + 3) = 4/9,  p(b) = (2+1)/9 = 1/3,  p(c) = (1+1)/9 = 2/9;
                after a: 3 tokens, 2 types: p(b|a) = (2 + 2 * 1/3)/(3+2) = 8/15,  p(a|a) = (2 * 4/9)/5 = 8/45.
- kneser_ney:   no bigram has count 3, so the discounts are .5 (1), 1 (2), 1.5 (3+) for both orders.
                Continuations: a 2 (after b, c), b 1, c 1, of 4 in all. g() = (1 + .5 + .5)/4 = 1/2:
                p(a) = 1/4 + 1/6 = 5/12,  p(b) = p(c) = .5/4 + 1/6 = 7/24.
                After a: g(a) = (1 + .5)/3 = 1/2:  p(b|a) = 1/3 + 7/48 = 23/48,  p(c|a) = .5/3 + 7/48 = 5/16,
                p(a|a) = 5/24.  After b: p(a|b) = .5 + .5 * 5/12 = 17/24.
"""

import functools
import gzip
import itertools
import math
import operator
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from chainrule.core import IGNORED, Batch, ConfigError, UserError, model_type, model_types
from chainrule.counting import counts
from chainrule.models import ngram as chapter
from chainrule.models.ngram import Counts, Markov, MarkovConfig, Ngram, NgramConfig

SMOOTHINGS = ["add_k", "witten_bell", "kneser_ney"]


pytestmark = pytest.mark.usefixtures("one_thread")


def added(parts: list[Counts]) -> Counts:
    return functools.reduce(operator.add, parts)


def events(counts: Counts) -> int:
    """Number of tokens that were counted."""
    return int(counts.counts[counts.levels[1]].sum())


def model_of(vocab_size: int, n: int, smoothing: str, batches: list[Batch], **settings) -> Ngram:
    model = Ngram(NgramConfig(vocab_size=vocab_size, n=n, smoothing=smoothing, **settings))
    return model.update(added([model.summarize(b) for b in batches]))


def stream(ids: list[int]) -> Batch:
    """A text joined in the middle: nothing is known before it."""
    row = torch.tensor([ids])
    return Batch(row[:, :-1], row[:, 1:])


def record(ids: list[int], start: int) -> Batch:
    row = torch.tensor([[start, *ids]])
    return Batch(row[:, :-1], row[:, 1:])


def distribution(model: Ngram, context: list[int]) -> np.ndarray:
    """p(. | context), the context all that is known; empty: nothing is."""
    row = torch.tensor([[IGNORED, *context]])  # an id of -1 says "nothing known", as a pad would
    prediction, _ = model(row)
    return prediction.logits()[0, -1].exp().numpy()


def scored(model: Ngram, context: list[int]) -> np.ndarray:
    """The same by ``log_prob``, one target after the other."""
    rows = torch.tensor([[IGNORED, *context]]).expand(model.vocab_size, -1)
    prediction, _ = model(rows)
    targets = torch.full(rows.shape, IGNORED)
    targets[:, -1] = torch.arange(model.vocab_size)
    return prediction.log_prob(targets)[:, -1].exp().numpy()


# ------------------------------------------------------------------------------------------------------ hand arithmetic

A, B, C = 0, 1, 2
BY_HAND = {
    "ml": {(A, B): 2 / 3, (A, C): 1 / 3, (A, A): 0, (B, A): 1, (C, A): 1},
    "add_k": {(A, B): 1 / 2, (A, A): 1 / 6, (B, A): 1 / 2, (B, C): 1 / 4},
    "witten_bell": {(A,): 4 / 9, (B,): 1 / 3, (C,): 2 / 9, (A, B): 8 / 15, (A, A): 8 / 45},
    "kneser_ney": {
        (A,): 5 / 12,
        (B,): 7 / 24,
        (C,): 7 / 24,
        (A, B): 23 / 48,
        (A, C): 5 / 16,
        (A, A): 5 / 24,
        (B, A): 17 / 24,
    },
}


@pytest.mark.parametrize("smoothing", BY_HAND)
def test_a_toy_text_has_the_probabilities_worked_out_by_hand(smoothing):
    model = model_of(3, 2, smoothing, [stream([A, B, A, C, A, B])])
    for (*context, symbol), expected in BY_HAND[smoothing].items():
        assert distribution(model, context)[symbol] == pytest.approx(expected, abs=1e-12)
        assert scored(model, context)[symbol] == pytest.approx(expected, abs=1e-12)


def test_add_k_adds_the_k_that_is_set():
    model = model_of(3, 2, "add_k", [stream([A, B, A, C, A, B])], k=0.25)
    assert distribution(model, [A])[B] == pytest.approx((2 + 0.25) / (3 + 0.75), abs=1e-12)


def test_discounts_are_the_closed_form_where_it_holds():
    """n_1..n_4 = 10, 4, 2, 1: Y = 10/18; D1 = 1 - 2Y*4/10 = 5/9; D2 = 2 - 3Y*2/4 = 7/6; D3 = 3 - 4Y*1/2 = 17/9."""
    many = np.array([1] * 10 + [2] * 4 + [3] * 2 + [4] + [9, 0, 0])
    found, wrong = counts.discounts(many)
    np.testing.assert_allclose(found, [0, 5 / 9, 7 / 6, 17 / 9], atol=1e-12)
    assert wrong is None


@pytest.mark.parametrize(
    ("many", "reason"),
    [
        ([1, 1, 3], "no n-gram has count 2"),
        ([2, 3], "no n-gram has count 1"),
        ([1] * 4 + [2] * 2 + [3] * 7 + [4], "D2 would be -3.25"),
    ],
)
def test_discounts_fall_back_and_say_why(many, reason):
    """The last: Y = 4/8, D2 = 2 - 3 * .5 * 7/2 = -3.25."""
    found, wrong = counts.discounts(np.array(many))
    np.testing.assert_array_equal(found, [0, 0.5, 1, 1.5])
    assert wrong == reason


# ------------------------------------------------------------------------------------------------ a slow second opinion


class Slow:
    """The formulas with dictionaries of tuples and recursion; nothing shared with the model."""

    def __init__(self, texts: list[list[int]], vocab_size: int, n: int, smoothing: str, known: int = 0):
        """A text that begins with ``symbols`` begins a record; no other symbol of a text may be that. The first
        ``known`` symbols of a text are context only.
        """
        self.V, self.n, self.smoothing = vocab_size, n, smoothing
        raw: list[dict[tuple, int]] = [defaultdict(int) for _ in range(n + 1)]
        for text in texts:
            for t, w in enumerate(text):
                if w == vocab_size or t < known:
                    continue
                for m in range(1, min(n, t + 1) + 1):
                    raw[m][tuple(text[t - m + 1 : t + 1])] += 1
        self.count = raw
        if smoothing == "kneser_ney":
            self.count = [dict(c) for c in raw]
            for m in range(1, n):
                before: dict[tuple, set] = defaultdict(set)
                for gram in raw[m + 1]:
                    before[gram[1:]].add(gram[0])
                self.count[m] = {g: c if g[0] == vocab_size else len(before[g]) for g, c in raw[m].items()}
        self.D = [self._discounts(c) for c in self.count]

    def _discounts(self, count: dict[tuple, int]) -> list[float]:
        n = [sum(c == j for c in count.values()) for j in range(5)]
        try:
            y = n[1] / (n[1] + 2 * n[2])
            d = [0.0] + [j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3)]
        except ZeroDivisionError:
            return [0, 0.5, 1, 1.5]
        return d if all(0 < d[j] <= j for j in (1, 2, 3)) else [0, 0.5, 1, 1.5]

    def p(self, w: int, h: tuple) -> float:
        """``h`` is all that is known, at most n - 1 symbols of it used."""
        h = h[len(h) - min(len(h), self.n - 1) :]
        after = {g[-1]: c for g, c in self.count[len(h) + 1].items() if g[:-1] == h and c > 0}
        total, c = sum(after.values()), after.get(w, 0)
        if self.smoothing == "add_k":
            return (c + 1) / (total + self.V)
        lower = self.p(w, h[1:]) if h else 1 / self.V
        if total == 0:
            return lower
        if self.smoothing == "witten_bell":
            return (c + len(after) * lower) / (total + len(after))
        d = self.D[len(h) + 1]
        kept = sum(d[min(x, 3)] for x in after.values())
        return (c - d[min(c, 3)]) / total + kept / total * lower


def texts_with_structure(seed: int, vocab_size: int, lengths: tuple[int, ...]) -> list[list[int]]:
    """Skewed symbols that depend on the one before, so that counts of 1, 2, 3, 4 and more all occur."""
    rng = np.random.default_rng(seed)
    rows = rng.random((vocab_size, vocab_size)) ** 4 + 0.01
    rows /= rows.sum(1, keepdims=True)
    texts = []
    for length in lengths:
        text = [int(rng.integers(vocab_size))]
        while len(text) < length:
            text.append(int(rng.choice(vocab_size, p=rows[text[-1]])))
        texts.append(text)
    return texts


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("records", [False, True])
def test_every_context_has_the_probabilities_of_the_slow_dictionary(smoothing, n, records):
    symbols = 7
    texts = texts_with_structure(2, symbols, (211, 83, 5, 1) if records else (307,))
    batches = [record(t, symbols) if records else stream(t) for t in texts]
    model = model_of(symbols, n, smoothing, batches)
    slow = Slow([[symbols, *t] if records else t for t in texts], symbols, n, smoothing)
    full = [[symbols, *t] if records else t for t in texts]
    contexts = {tuple(t[max(0, i - 5) : i]) for t in full for i in range(len(t)) if i % 7 < 3}
    rng = np.random.default_rng(1)
    contexts |= {tuple(rng.integers(symbols, size=4).tolist()) for _ in range(17)}
    for context in contexts:
        expected = [slow.p(w, context) for w in range(symbols)]
        np.testing.assert_allclose(distribution(model, list(context)), expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(scored(model, list(context)), expected, rtol=0, atol=1e-12)


def test_what_is_context_only_is_not_a_continuation_either():
    """The overlap of a shard by itself: its windows were never predicted, so nothing was seen before their suffixes."""
    text = [2, 5, 0, 3, 4, 1, 2, 5, 4, 2, 3, 1, 2, 3, 4, 5, 5, 1]
    row = torch.tensor([text])
    targets = row[:, 1:].clone()
    targets[:, :3] = IGNORED
    model = model_of(6, 4, "kneser_ney", [Batch(row[:, :-1], targets)])
    slow = Slow([text], 6, 4, "kneser_ney", known=4)
    for context in [(), *itertools.product(range(6), repeat=1), *itertools.product(range(6), repeat=3)]:
        expected = [slow.p(w, context) for w in range(6)]
        np.testing.assert_allclose(distribution(model, list(context)), expected, rtol=0, atol=1e-12)


def test_the_slow_dictionary_is_tried_with_closed_form_discounts_too():
    texts = texts_with_structure(2, 7, (307,))
    slow = Slow(texts, 7, 3, "kneser_ney")
    assert slow.D[3] != [0, 0.5, 1, 1.5]
    assert not any("order 3" in note for note in model_of(7, 3, "kneser_ney", [stream(texts[0])]).notes)


# -------------------------------------------------------------------------------------------------------- normalisation


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_every_context_seen_or_not_sums_to_one(smoothing):
    symbols, n = 11, 4
    text = texts_with_structure(3, symbols, (2_003,))[0]
    model = model_of(symbols, n, smoothing, [stream(text), record(text[:97], symbols)])
    seen = torch.tensor([[*text]])
    unseen = torch.randint(symbols + 1, (1, 1_009), generator=torch.Generator().manual_seed(5))
    for row in (seen, unseen):
        total = model(row)[0].logits().exp().sum(-1)
        assert (total - 1).abs().max() < 1e-9


@pytest.mark.parametrize("smoothing", ["ml", *SMOOTHINGS])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_all_strings_of_four_over_four_symbols_sum_to_one(smoothing, n):
    text = texts_with_structure(4, 4, (101, 13, 3))
    if smoothing == "ml":  # no context may be unseen
        text += [list(t) for t in itertools.product(range(4), repeat=4)]
    model = model_of(4, n, smoothing, [record(t, 4) for t in text])
    strings = torch.tensor(list(itertools.product(range(4), repeat=4)))
    read = torch.cat([torch.full((256, 1), 4), strings[:, :-1]], 1)
    assert model(read)[0].log_prob(strings).sum(1).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_an_untrained_model_is_uniform():
    for smoothing in ("ml", *SMOOTHINGS):
        model = Ngram(NgramConfig(vocab_size=5, n=3, smoothing=smoothing))
        prediction, _ = model.start(batch=2)
        np.testing.assert_allclose(prediction.logits().exp(), np.full((2, 1, 5), 0.2), atol=1e-15)
        np.testing.assert_allclose(prediction.log_prob(torch.tensor([[3], [0]])), math.log(0.2), atol=1e-15)


def test_maximum_likelihood_gives_zero_to_the_impossible_and_refuses_an_unseen_context():
    model = model_of(4, 2, "ml", [stream([A, B, A, C, A, B])])
    prediction, _ = model(torch.tensor([[A, B, 3]]))
    assert prediction.log_prob(torch.tensor([[A, IGNORED, IGNORED]]))[0, 0] == -math.inf
    with pytest.raises(UserError, match="never seen"):
        prediction.log_prob(torch.tensor([[A, A, A]]))
    with pytest.raises(UserError, match="never seen"):
        prediction.sample()
    assert not prediction.select(torch.tensor([1])).logits().isnan().any()
    ragged, _ = model(torch.tensor([[A, B, 3], [A, B, A]]), lengths_B=torch.tensor([2, 3]))
    assert ragged.logits()[0, :2].exp().sum().item() == pytest.approx(2, abs=1e-12)


# ------------------------------------------------------------------------------------------------------------- counting


def same(one: Counts, other: Counts) -> bool:
    return np.array_equal(one.keys, other.keys) and np.array_equal(one.counts, other.counts)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_counts_of_shards_add_up_to_those_of_the_whole(n):
    symbols, (text,) = 5, texts_with_structure(6, 5, (1_009,))
    model, row = Ngram(NgramConfig(vocab_size=symbols, n=n)), torch.tensor([text])
    shards = []
    for first, stop in itertools.pairwise([0, 101, 104, 463, 1_009]):
        begin = max(0, first - max(n, 2))
        inputs, targets = row[:, begin : stop - 1], row[:, begin + 1 : stop].clone()
        targets[:, : max(0, first - begin - 1)] = IGNORED
        shards.append(model.summarize(Batch(inputs, targets)))
    total = shards[0] + shards[1] + shards[2] + shards[3]
    assert same(total, model.summarize(Batch(row[:, :-1], row[:, 1:])))
    assert same(total, added(shards[::-1]))
    assert events(total) == 1_009


def test_shortened_counts_are_those_of_counting_with_the_smaller_n():
    texts = texts_with_structure(7, 5, (301, 7, 2, 1))
    for n in (1, 2, 4):
        long = added([Counts.of(record(t, 5), 5, 6) for t in texts])
        short = added([Counts.of(record(t, 5), 5, n) for t in texts])
        assert same(long.shorten(n), short)
    with pytest.raises(UserError, match="hold n = 1 to 6"):
        long.shorten(7)


def test_rows_padding_and_records_packed_in_one_row_count_the_same():
    """S a b c | S b a as two ragged rows (whose pads happen to equal the last targets), or packed in one row."""
    symbols, S = 4, 4
    packed = Batch(torch.tensor([[S, 0, 1, S, 1]]), torch.tensor([[0, 1, 2, 1, 0]]))
    packed_gap = Batch(torch.tensor([[S, 0, 1, 2, S, 1]]), torch.tensor([[0, 1, 2, IGNORED, 1, 0]]))
    ragged = Batch(
        torch.tensor([[S, 0, 1, 2], [S, 1, 0, 3]]), torch.tensor([[0, 1, 2, 3], [1, 0, 3, 3]]), torch.tensor([3, 2])
    )
    model = Ngram(NgramConfig(vocab_size=symbols, n=3))
    assert same(model.summarize(packed), model.summarize(ragged))
    assert same(model.summarize(packed_gap), model.summarize(ragged))
    windows = {(0,): 2, (1,): 2, (2,): 1, (S, 0): 1, (0, 1): 1, (1, 2): 1, (S, 1): 1, (1, 0): 1}
    assert events(model.summarize(ragged)) == 5
    counts = model.summarize(ragged)
    found = {}
    for i in range(1, len(counts.keys)):
        window, at = [], i
        while at:
            window.insert(0, int(counts.keys[at] % counts.base))
            at = int(counts.keys[at] // counts.base)
        if counts.counts[i] and len(window) < 3:
            found[tuple(window)] = int(counts.counts[i])
    assert found == windows


def test_a_carried_batch_does_not_count_its_first_input_again():
    row = torch.tensor([[0, 1, 2, 0, 1]])
    fresh = Counts.of(Batch(row[:, :-1], row[:, 1:]), 3, 2)
    carried = Counts.of(Batch(row[:, :-1], row[:, 1:], carried=True), 3, 2)
    assert (events(fresh), events(carried)) == (5, 4)


def test_ids_outside_the_alphabet_are_refused():
    with pytest.raises(UserError, match=r"outside 0\.\.2"):
        Counts.of(stream([0, 1, 7]), 3, 2)
    with pytest.raises(UserError, match=r"outside 0\.\.2"):
        Counts.of(Batch(torch.tensor([[0]]), torch.tensor([[3]])), 3, 2)
    model = model_of(3, 2, "add_k", [stream([0, 1, 2])])
    with pytest.raises(IndexError, match=r"outside 0\.\.2"):
        model(torch.tensor([[0]]))[0].log_prob(torch.tensor([[3]]))


# --------------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("knows_starts", [False, True])
def test_all_at_once_is_one_at_a_time_is_ragged(smoothing, n, knows_starts):
    symbols = 7
    text = texts_with_structure(8, symbols, (401,))[0]
    model = model_of(symbols, n, smoothing, [record(text, symbols) if knows_starts else stream(text)])
    rng = torch.Generator().manual_seed(1)
    rows = torch.randint(symbols, (3, 13), generator=rng)
    rows[:, 0], rows[1, 5], rows[2, 11] = symbols, symbols, symbols
    whole, end = model(rows)
    whole = whole.logits()

    state, steps = model.initial_state(3), []
    for t in range(13):
        prediction, state = model(rows[:, t : t + 1], state)
        steps.append(prediction.logits())
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-12)
    assert torch.equal(state.recent_Bm, end.recent_Bm)
    assert torch.equal(state.length_B, end.length_B)

    lengths = torch.tensor([13, 2, 7])
    pads = torch.arange(13) >= lengths[:, None]
    ragged, state = model(rows.masked_fill(pads, 3), lengths_B=lengths)
    torch.testing.assert_close(ragged.logits()[~pads], whole[~pads], rtol=0, atol=1e-12)
    for row, length in enumerate(lengths.tolist()):
        rest, _ = model(rows[row : row + 1, length:], state.reorder(torch.tensor([row])))
        torch.testing.assert_close(rest.logits()[0], whole[row, length:], rtol=0, atol=1e-12)


def test_nothing_before_a_start_symbol_matters():
    text = texts_with_structure(9, 5, (211,))[0]
    model = model_of(5, 6, "kneser_ney", [record(text, 5)])
    one, other = torch.tensor([[0, 1, 2, 5, 3, 1, 4]]), torch.tensor([[4, 4, 0, 5, 3, 1, 4]])
    assert torch.equal(model(one)[0].logits()[:, 3:], model(other)[0].logits()[:, 3:])


def test_only_the_last_n_less_one_symbols_matter():
    text = texts_with_structure(9, 5, (211,))[0]
    model = model_of(5, 4, "kneser_ney", [stream(text)])
    one, other = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[4, 1, 2, 3]])
    assert model.context == 3
    assert torch.equal(model(one)[0].logits()[:, -1], model(other)[0].logits()[:, -1])


def test_a_saved_model_of_any_size_loads_into_a_new_one():
    text = texts_with_structure(10, 5, (211,))[0]
    model = model_of(5, 4, "kneser_ney", [stream(text)])
    fresh = Ngram(model.config)
    fresh.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()})
    row = torch.tensor([text])
    assert torch.equal(fresh(row)[0].logits(), model(row)[0].logits())
    assert fresh.parameters_count == model.parameters_count > 100
    assert fresh.log_table.dtype == torch.float64


def test_log_prob_ignored_targets_are_exactly_zero_and_logits_top_and_select_agree():
    text = texts_with_structure(11, 7, (307,))[0]
    model = model_of(7, 3, "witten_bell", [stream(text)])
    rows = torch.tensor([text[:11], text[20:31]])
    prediction, _ = model(rows)
    targets = torch.tensor([text[1:12], text[21:32]])
    targets[1, 4] = IGNORED
    by_logits = prediction.logits().gather(2, targets.clamp(min=0)[..., None]).squeeze(2)
    answer = prediction.log_prob(targets)
    assert answer[1, 4] == 0
    keep = targets != IGNORED
    torch.testing.assert_close(answer[keep], by_logits[keep], rtol=0, atol=1e-12)
    values, index = prediction.top(2)
    expected = prediction.logits().topk(2)
    torch.testing.assert_close(values, expected.values, rtol=0, atol=1e-12)
    assert torch.equal(index, expected.indices)
    chosen = prediction.select(torch.tensor([3, 9])).logits()
    assert torch.equal(chosen, prediction.logits()[[0, 1], [3, 9]].unsqueeze(1))


def test_samples_have_the_frequencies_of_the_prediction(monkeypatch):
    monkeypatch.setattr(chapter.Backoff, "chunk_elements", 7 * 101)  # several pieces, the last one short
    text = texts_with_structure(12, 7, (307,))[0]
    model = model_of(7, 3, "kneser_ney", [stream(text)])
    rows = torch.tensor([text[:2]]).expand(20_011, -1)
    prediction = model(rows)[0].select(torch.full((20_011,), 1))
    drawn = prediction.sample(torch.Generator().manual_seed(3))
    assert drawn.shape == (20_011, 1)
    share = torch.bincount(drawn.flatten(), minlength=7) / 20_011
    torch.testing.assert_close(share.double(), prediction.logits()[0, 0].exp(), rtol=0, atol=0.015)


def test_a_ladder_comes_from_one_count():
    text = texts_with_structure(13, 5, (509,))[0]
    model = Ngram(NgramConfig(vocab_size=5, n=6))
    rungs = model.ladder(model.summarize(stream(text)), range(1, 7))
    row = torch.tensor([text[:53]])
    for n, rung in enumerate(rungs, start=1):
        apart = model_of(5, n, "auto", [stream(text)])
        assert rung.config.n == n
        assert torch.equal(rung(row)[0].logits(), apart(row)[0].logits())


def test_update_takes_all_counts_at_once_or_says_why_not():
    model = Ngram(NgramConfig(vocab_size=3, n=2))
    stats = model.summarize(stream([0, 1, 2]))
    with pytest.raises(UserError, match="rate must be 1"):
        model.update(stats, rate=0.5)
    with pytest.raises(UserError, match="do not fit"):
        Ngram(NgramConfig(vocab_size=4, n=2)).update(stats)
    with pytest.raises(UserError, match="cannot be added"):
        stats + Ngram(NgramConfig(vocab_size=3, n=3)).summarize(stream([0, 1, 2]))


def test_both_model_types_are_registered_and_count():
    names = [f.name for f in model_types()]
    assert {"markov", "ngram"} <= set(names)
    for name, n, smoothing in (("markov", 2, "add_k"), ("ngram", 3, "kneser_ney")):
        row = model_type(name)
        assert row.recipe.update == "counting"
        model = row.build(row.configure("tiny", vocab_size=5))
        assert (model.config.n, model.smoothing) == (n, smoothing)
    with pytest.raises(ConfigError):
        MarkovConfig.make({"vocab_size": 5, "n": 3})


def test_many_words_need_memory_for_what_was_seen_only():
    """V = 28,000: B x T x V would be 28,000 x 3,001 x 8 bytes = 0.7 GB."""
    symbols, length = 28_000, 3_001
    rng = np.random.default_rng(14)
    words = torch.from_numpy((rng.pareto(0.9, size=(1, length)) * 3).astype(np.int64) % symbols)
    model = Ngram(NgramConfig(vocab_size=symbols, n=3))
    model.update(model.summarize(Batch(words[:, :-1], words[:, 1:])))
    prediction, _ = model(words)
    assert sum(b.nbytes for b in model.buffers()) < 24 * (3 * length + 1)
    assert prediction.contexts_BTm.nbytes <= 3 * 8 * length
    targets = words.roll(-1, 1)
    picked = torch.tensor([0, 7, 1_500])
    full = model(words[:, :1_501])[0].contexts_BTm[:, picked]
    logits = chapter.Backoff(chapter.Tables(symbols, model.keys, model.log_table, model.log_backoff), full).logits()
    assert (logits.exp().sum(-1) - 1).abs().max() < 1e-9
    by_logits = logits[0, torch.arange(3), targets[0, picked]]
    torch.testing.assert_close(prediction.log_prob(targets)[0, picked], by_logits, rtol=0, atol=1e-12)


# -------------------------------------------------------------------------------------------------------- known figures

SHAKESPEARE = Path(__file__).parents[2].parent / "shared" / "data" / "text_tinyshakespeare" / "all.txt.gz"


@pytest.fixture(scope="module")
def shakespeare() -> tuple[torch.Tensor, torch.Tensor]:
    """Training and validation symbols of the usual split, over the sorted alphabet of 65 characters."""
    if not SHAKESPEARE.is_file():
        pytest.skip("needs ../shared/data/text_tinyshakespeare/all.txt.gz beside the repository")
    text = np.frombuffer(gzip.decompress(SHAKESPEARE.read_bytes()), np.uint8)
    alphabet, ids = np.unique(text, return_inverse=True)
    assert (len(text), len(alphabet)) == (1_115_394, 65)
    row = torch.from_numpy(ids.astype(np.int64))[None]
    return row[:, :1_003_854], row[:, 1_003_854:]


def nats_per_symbol(model: Ngram, row: torch.Tensor) -> float:
    """Every symbol scored; the first with nothing known (the model never saw a start symbol)."""
    first, state = model.start(batch=1)
    rest, _ = model(row[:, :-1], state)
    total = first.log_prob(row[:, :1]).sum() + rest.log_prob(row[:, 1:]).sum()
    return -total.item() / row.shape[1]


def test_markov_with_laplaces_rule_has_the_known_figure(shakespeare):
    train, valid = shakespeare
    model = Markov(MarkovConfig(vocab_size=65))
    model.update(model.summarize(Batch(train[:, :-1], train[:, 1:])))
    assert nats_per_symbol(model, valid) == pytest.approx(2.4819, abs=5e-5)


def test_modified_kneser_ney_has_the_known_figures(shakespeare):
    train, valid = shakespeare
    model = Ngram(NgramConfig(vocab_size=65, n=8))
    stats = model.summarize(Batch(train[:, :-1], train[:, 1:]))
    known = {5: 1.5612, 6: 1.5226, 7: 1.5165, 8: 1.5192}
    for n, rung in zip(known, model.ladder(stats, list(known)), strict=True):
        assert nats_per_symbol(rung, valid) == pytest.approx(known[n], abs=1e-4)
