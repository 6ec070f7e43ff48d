"""Counting, pruning, merging on disk and the best continuations, against dictionaries and full tables of logits."""

from __future__ import annotations

import functools
import gc
import itertools
import math
import operator
from collections import Counter

import numpy as np
import pytest
import torch

from chainrule.core import IGNORED, Batch, ConfigError, Recipe, UserError
from chainrule.counting.counts import Counts, Storage, discounts, estimate, parse_memory, surviving
from chainrule.models.ngram import Backoff as Looked
from chainrule.models.ngram import Ngram, NgramConfig, Tables, Unsmoothed
from chainrule.training.rules import CountingRule


def windows(counts: Counts) -> dict[tuple[int, ...], int]:
    """The table as a dictionary, windows that were only context left out."""
    found = {}
    for i in range(1, len(counts.keys)):
        window, at = [], i
        while at:
            window.insert(0, int(counts.keys[at] % counts.base))
            at = int(counts.keys[at] // counts.base)
        if counts.counts[i]:
            found[tuple(window)] = int(counts.counts[i])
    return found


def by_hand(batch: Batch, vocab_size: int, n: int) -> dict[tuple[int, ...], int]:
    """Every scored target behind 0 .. n - 1 of the symbols that its row has read since its last start symbol."""
    found: Counter[tuple[int, ...]] = Counter()
    for row, (inputs, targets) in enumerate(zip(batch.inputs_BT.tolist(), batch.targets_BT.tolist())):
        length = len(inputs) if batch.lengths_B is None else int(batch.lengths_B[row])
        read: list[int] = []
        for t in range(length):
            if t == 0 and not batch.carried and targets[0] != IGNORED and inputs[0] != vocab_size:
                found[inputs[0],] += 1  # nothing else would count the first symbol of a stream
            read = [vocab_size] if inputs[t] == vocab_size else [*read, inputs[t]]
            if targets[t] != IGNORED:
                seen = [*read, targets[t]]
                for m in range(1, min(n, len(seen)) + 1):
                    found[tuple(seen[-m:])] += 1
    return dict(found)


def random_batch(seed: int, rows: int, length: int, vocab_size: int, carried: bool = False) -> Batch:
    """Start symbols, ignored targets, ragged rows, and targets that are not what is read next."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(vocab_size + 1, size=(rows, length)) % (vocab_size + 1)
    targets = np.append(inputs[:, 1:], rng.integers(vocab_size, size=(rows, 1)), 1)
    other = rng.random(targets.shape)
    targets = np.where(targets == vocab_size, IGNORED, targets)
    targets = np.where(
        other < 0.2, rng.integers(vocab_size, size=targets.shape), np.where(other > 0.9, IGNORED, targets)
    )
    lengths = torch.from_numpy(rng.integers(0, length + 1, size=rows))
    return Batch(torch.from_numpy(inputs), torch.from_numpy(targets), lengths, carried)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("carried", [False, True])
def test_any_batch_is_counted_as_by_hand(n, carried):
    for seed in range(11):
        batch = random_batch(seed, 5, 13, 3, carried)
        assert windows(Counts.of(batch, 3, n)) == by_hand(batch, 3, n)


def test_an_empty_batch_counts_nothing_and_leaves_the_model_uniform():
    for shape in ((0, 7), (3, 0)):
        nothing = torch.zeros(shape, dtype=torch.long)
        counts = Counts.of(Batch(nothing, nothing), 5, 4)
        assert (len(counts.keys), counts.counts[counts.levels[1]].sum()) == (1, 0)
        model = Ngram(NgramConfig(vocab_size=5, n=4)).update(counts)
        np.testing.assert_allclose(model.start(batch=1)[0].logits().exp(), np.full((1, 1, 5), 0.2), atol=1e-15)
        more = Counts.of(random_batch(1, 5, 13, 5), 5, 4)
        assert windows(counts + more) == windows(more) == windows(more + counts)


def test_an_n_longer_than_the_text_and_a_text_of_one_symbol_sum_to_one():
    for ids, symbols in (([0, 1, 0], 3), ([0] * 7, 2), ([0], 1)):
        row = torch.tensor([[symbols, *ids]])
        model = Ngram(NgramConfig(vocab_size=symbols, n=11))
        model.update(model.summarize(Batch(row[:, :-1], row[:, 1:])))
        assert (model(row)[0].logits().exp().sum(-1) - 1).abs().max() < 1e-12


def test_symbols_of_more_than_one_digit_are_sorted_by_all_of_them():
    """V = 70,000 needs two passes of a counting sort of 16 bits."""
    rng = np.random.default_rng(3)
    ids = torch.from_numpy(rng.choice([1, 65_537, 65_536, 2, 69_999, 131], size=(3, 61)))
    batch = Batch(ids[:, :-1], ids[:, 1:])
    assert windows(Counts.of(batch, 70_000, 3)) == by_hand(batch, 70_000, 3)


# --------------------------------------------------------------------------------------------------------------- memory


def test_tables_beyond_the_limit_lie_in_files_and_hold_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    batches = [random_batch(seed, 7, 31, 5) for seed in range(5)]
    small, large = (
        functools.reduce(operator.add, [Counts.of(b, 5, 4, Storage(limit)) for b in batches]) for limit in (4096, None)
    )
    assert isinstance(small.keys.base if small.keys.base is not None else small.keys, np.memmap)
    assert not isinstance(large.keys, np.memmap)
    assert windows(small) == windows(large)
    one, other = (estimate(c, "kneser_ney") for c in (small, large))
    assert np.array_equal(one.keys, other.keys)
    assert np.array_equal(one.log_prob, other.log_prob)
    assert np.array_equal(one.log_backoff, other.log_backoff)
    del small, one
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_a_memory_limit_is_the_model_without_one():
    batches = [random_batch(seed, 7, 31, 5) for seed in range(3)]
    rows = random_batch(9, 3, 17, 5).inputs_BT
    models = []
    for memory in (None, "1k"):
        model = Ngram(NgramConfig(vocab_size=5, n=3, memory=memory))
        models.append(model.update(functools.reduce(operator.add, [model.summarize(b) for b in batches])))
    assert torch.equal(models[0](rows)[0].logits(), models[1](rows)[0].logits())


def test_sizes_of_memory_are_read_as_people_write_them():
    assert [parse_memory(x) for x in ("2G", "500M", "64k", "1.5GiB", "7", "3mb")] == [
        2 << 30, 500 << 20, 64 << 10, 3 << 29, 7, 3 << 20,
    ]  # fmt: skip
    for wrong in ("", "G", "-1G", "2X", "0", "nan", "1e40"):
        with pytest.raises(UserError, match="such as 2G"):
            parse_memory(wrong)
    with pytest.raises(UserError, match="memory=much"):
        NgramConfig.make({"vocab_size": 3, "memory": "much"})


def test_the_rule_adds_up_equal_numbers_of_batches_and_ends_with_all_of_them():
    batches = [random_batch(seed, 3, 13, 5) for seed in range(7)]
    model = Ngram(NgramConfig(vocab_size=5, n=3))
    rule, depths = CountingRule(model), []
    for batch in batches:
        rule.step(batch, 1.0)
        depths.append([many for many, _ in rule.sums])
    assert depths == [[1], [2], [2, 1], [4], [4, 1], [4, 2], [4, 2, 1]]
    rule.finish()
    whole = Ngram(NgramConfig(vocab_size=5, n=3))
    whole.update(functools.reduce(operator.add, [whole.summarize(b) for b in batches]))
    assert torch.equal(model.keys, whole.keys)
    assert torch.equal(model.log_table, whole.log_table)
    assert Recipe().update == "gradient"


# -------------------------------------------------------------------------------------------------------------- pruning


def test_pruned_counts_go_to_the_shorter_context():
    """'aab aab ab' as three records over {a, b}, n = 2, bigrams seen once dropped, smoothing Witten-Bell, start
    symbol S.

    Counts: Sa 3, aa 2, ab 3; a 5, b 3. Nothing falls at prune [0, 1]. At [0, 2] aa goes: after a, 5 tokens and 2 types,
    g(a) = (2 + 2) / (5 + 2) and p(b | a) = 3/7 + 4/7 p(b), p(a | a) = 4/7 p(a), with p(a) = (5 + 2/2)/(8 + 2) = 0.6.
    """
    S = 2
    row = torch.tensor([[S, 0, 0, 1, S, 0, 0, 1, S, 0, 1, S]])
    batch = Batch(row[:, :-1], row[:, 1:].masked_fill(row[:, 1:] == S, IGNORED))
    for prune, after_a, size in (([0, 1], (2 / 7 + 2 / 7 * 0.6), 6), ([0, 2], 4 / 7 * 0.6, 5)):
        model = Ngram(NgramConfig(vocab_size=2, n=2, smoothing="witten_bell", prune=prune))
        model.update(model.summarize(batch))
        assert model.parameters_count == size
        p = model(torch.tensor([[S, 0]]))[0].logits()[0, 1].exp()
        np.testing.assert_allclose(p, [after_a, 1 - after_a], atol=1e-12)


@pytest.mark.parametrize("smoothing", ["add_k", "witten_bell", "kneser_ney"])
def test_pruned_models_sum_to_one_and_keep_what_is_counted_often(smoothing):
    batch = random_batch(4, 11, 97, 5)
    counts = Counts.of(batch, 5, 4)
    kept = {w for w, c in windows(counts).items() if c > (0, 1, 1, 3)[len(w) - 1]}
    keep = surviving(counts, [0, 1, 1, 3])
    assert keep.sum() < len(keep)
    model = Ngram(NgramConfig(vocab_size=5, n=4, smoothing=smoothing, prune=[0, 1, 1, 3])).update(counts)
    table = Counts(5, 4, model.keys.numpy(), np.ones(len(model.keys), np.int64))
    assert kept <= windows(table).keys()
    assert len(windows(table)) < len(windows(counts))
    rows = torch.tensor(list(itertools.product(range(6), repeat=3)))
    assert (model(rows)[0].logits().exp().sum(-1) - 1).abs().max() < 1e-12


def test_discounts_are_those_of_all_n_grams_pruned_or_not():
    counts, base = Counts.of(random_batch(5, 13, 97, 31), 31, 2), 32
    level = counts.levels[2]
    found, _ = discounts(counts.counts[level])
    assert not np.array_equal(found, [0, 0.5, 1, 1.5])
    pruned = estimate(counts, "kneser_ney", prune=[0, 1])
    whole = estimate(counts, "kneser_ney")
    inside = np.isin(whole.keys, pruned.keys) & (whole.keys >= base)
    parent = whole.keys[inside] // base
    total = np.bincount(counts.keys[level] // counts.base, weights=counts.counts[level])[parent]
    many = counts.counts[inside]
    lower = np.exp(pruned.log_backoff[parent] + pruned.log_prob[counts.suffix[inside]])
    expected = np.log((many - found[np.minimum(many, 3)]) / total + lower)
    np.testing.assert_allclose(pruned.log_prob[pruned.keys >= base], expected, atol=1e-12)


def test_thresholds_that_fall_are_refused():
    for wrong in ([2, 1], [-1]):
        with pytest.raises(ConfigError, match="do not fall"):
            NgramConfig.make({"vocab_size": 3, "prune": wrong})


def test_an_imported_table_is_not_estimated():
    model = Ngram(NgramConfig(vocab_size=3, n=2, smoothing="backoff"))
    with pytest.raises(UserError, match="imported table"):
        model.update(model.summarize(random_batch(1, 3, 7, 3)))


# ----------------------------------------------------------------------------------------------- the best continuations


@pytest.mark.parametrize("smoothing", ["ml", "add_k", "witten_bell", "kneser_ney"])
@pytest.mark.parametrize("k", [1, 2, 7])
def test_the_best_symbols_are_those_of_the_logits(smoothing, k):
    symbols = 7
    texts = torch.from_numpy(np.random.default_rng(6).integers(symbols, size=(1, 499)) ** 2 % symbols)
    model = Ngram(NgramConfig(vocab_size=symbols, n=4, smoothing=smoothing))
    model.update(model.summarize(Batch(texts[:, :-1], texts[:, 1:])))
    rows = texts[:, :97] if smoothing == "ml" else torch.randint(symbols, (3, 31), generator=torch.manual_seed(1))
    prediction = model(rows)[0]
    values, ids = prediction.top(k)
    logits = prediction.logits()
    torch.testing.assert_close(values, logits.topk(k).values, rtol=0, atol=1e-12)
    torch.testing.assert_close(logits.gather(2, ids), values, rtol=0, atol=1e-12)
    assert all(len(set(row)) == k for row in ids.flatten(0, 1).tolist())


def test_the_best_symbol_is_found_where_a_shorter_context_would_make_it_likelier():
    """A table from elsewhere need not grow with the context: p(0 | 1) = 0.05 is listed though p(0) = 0.6, so that after
    1 the best is 2 (0.9 * 0.3), and 0 comes last.
    """
    keys = torch.tensor([-1, 0, 1, 2, 3, 2 * 4 + 0])
    log_prob = torch.tensor([1.0, 0.6, 0.1, 0.3, 1.0, 0.05], dtype=torch.float64).log()
    log_backoff = torch.tensor([1.0, 1.0, 0.9, 1.0, 1.0], dtype=torch.float64).log()
    looked = Looked(Tables(3, keys, log_prob, log_backoff), torch.tensor([[[2, 0]]]))
    assert looked.top(1)[1].item() == 2
    values, ids = looked.top(3)
    assert ids.flatten().tolist() == [2, 1, 0]
    np.testing.assert_allclose(values.flatten().exp(), [0.27, 0.09, 0.05], atol=1e-12)


def test_the_best_of_many_words_needs_no_table_of_all_words():
    symbols = 30_011
    words = torch.from_numpy(np.random.default_rng(8).zipf(1.3, size=(1, 2_003)) % symbols)
    model = Ngram(NgramConfig(vocab_size=symbols, n=3))
    model.update(model.summarize(Batch(words[:, :-1], words[:, 1:])))
    prediction = model(words)[0]
    prediction._pieces = lambda: pytest.fail("logits were made")  # type: ignore[method-assign]
    values, ids = prediction.top(1)
    assert ids.shape == (1, 2_003, 1)
    few = model(words[:, :11])[0].logits()
    torch.testing.assert_close(few.max(-1).values, values[:, :11, 0], rtol=0, atol=1e-12)


def test_maximum_likelihood_refuses_the_best_after_an_unseen_context_too():
    model = Ngram(NgramConfig(vocab_size=4, n=2, smoothing="ml"))
    model.update(model.summarize(Batch(torch.tensor([[0, 1]]), torch.tensor([[1, 0]]))))
    prediction = model(torch.tensor([[3]]))[0]
    assert isinstance(prediction, Unsmoothed)
    with pytest.raises(UserError, match="never seen"):
        prediction.top(1)
    assert math.isclose(model(torch.tensor([[0]]))[0].top(1)[0].item(), 0.0)
