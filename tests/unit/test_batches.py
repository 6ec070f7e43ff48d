"""Batches: every symbol once an epoch, nothing across a boundary, order that depends on (seed, epoch, step) alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from chainrule.core import IGNORED, Batch, DataError
from chainrule.data import Part, counting_batches, make_batches
from chainrule.data.batches import Batches

SYMBOLS = 1000
START = SYMBOLS


def part(sizes: list[int], unit: str, gap: int = 3) -> Part:
    """Spans of so many symbols with gaps of a symbol that must never be read; all other symbols are distinct."""
    starts = np.cumsum([gap, *[size + gap for size in sizes[:-1]]])
    ends = starts + np.array(sizes)
    ids = np.full(ends[-1] + gap, 999, np.uint16)
    for i, (s, e) in enumerate(zip(starts, ends, strict=True)):
        ids[s:e] = np.arange(sum(sizes[:i]), sum(sizes[: i + 1]))
    none = np.zeros(0, np.int64)
    return Part(ids, starts, ends, unit, sum(sizes), sum(sizes), none, none)


STREAM = part([311, 97, 211], "stream")
LINES = part([53, 1, 89, 31, 67, 2, 101, 43], "lines")
SHORT = part([5, 3, 7, 2, 11, 1, 13, 4, 6, 8, 3, 9, 5, 2, 7], "lines")
CASES = {
    "carried": (STREAM, dict(batch_size=3, sequence_length=7, stateful=True, reset_prob=0.3)),
    "carried records": (LINES, dict(batch_size=5, sequence_length=11, stateful=True, reset_prob=0.3)),
    "fresh": (STREAM, dict(batch_size=3, sequence_length=7, stateful=False)),
    "fresh records": (LINES, dict(batch_size=5, sequence_length=11, stateful=False)),
    "ragged": (SHORT, dict(batch_size=2, sequence_length=17, stateful=False)),
    "more rows than text": (part([13], "stream"), dict(batch_size=17, sequence_length=5, stateful=True)),
    "window longer than text": (part([13], "stream"), dict(batch_size=3, sequence_length=31, stateful=False)),
}
every_case = pytest.mark.parametrize("case", CASES)


def make(case: str, seed: int = 5) -> Batches:
    data, settings = CASES[case]
    return make_batches(data, SYMBOLS, seed=seed, **settings)


def epoch_of(batches: Batches, epoch: int) -> list[Batch]:
    return [batches.at(epoch, step) for step in range(batches.steps_per_epoch)]


def scored(batch: Batch) -> list[int]:
    return batch.targets_BT[batch.targets_BT != IGNORED].tolist()


def spans(data: Part) -> list[list[int]]:
    return [data.ids[s:e].tolist() for s, e in zip(data.starts, data.ends, strict=True)]


def predecessors(data: Part) -> dict[int, int | None]:
    """Return the symbols before each symbol of a record."""
    return {x: (r[i - 1] if i else None) for r in spans(data) for i, x in enumerate(r)}


@every_case
def test_every_symbol_is_a_target_exactly_once_an_epoch(case: str) -> None:
    batches = make(case)
    for epoch in (0, 3):
        seen = Counter(x for batch in epoch_of(batches, epoch) for x in scored(batch))
        assert seen == Counter(x for r in spans(CASES[case][0]) for x in r)
    assert batches.tokens(2 * batches.steps_per_epoch) == 2 * batches.tokens_per_epoch == 2 * len(CASES[case][0])


@every_case
def test_order_depends_on_seed_epoch_and_step_alone(case: str) -> None:
    first = make(case)
    keys = [(e, s) for e in range(4) for s in range(first.steps_per_epoch)]
    straight = {key: first.at(*key) for key in keys}
    np.random.default_rng(0).shuffle(keys)
    scattered = make(case)
    for key in keys:
        one, two = straight[key], scattered.at(*key)
        assert torch.equal(one.inputs_BT, two.inputs_BT)
        assert torch.equal(one.targets_BT, two.targets_BT)
        alone = make(case).at(*key)
        assert torch.equal(one.inputs_BT, alone.inputs_BT)


@pytest.mark.parametrize("case", list(CASES)[:5])
def test_epochs_and_seeds_differ(case: str) -> None:
    def flat(seed: int, epoch: int) -> list[int]:
        return [x for batch in epoch_of(make(case, seed), epoch) for x in batch.targets_BT.flatten().tolist()]

    assert flat(5, 0) != flat(5, 1)
    assert flat(5, 0) != flat(6, 0)


@every_case
def test_nothing_crosses_a_boundary(case: str) -> None:
    data, before = CASES[case][0], predecessors(CASES[case][0])
    for batch in epoch_of(make(case), 1):
        for inputs, targets in zip(batch.inputs_BT.tolist(), batch.targets_BT.tolist(), strict=True):
            for x, y in zip(inputs, targets, strict=True):
                if y != IGNORED:
                    assert x in (START, before[y])
                    assert before[y] is not None or x == START
    assert START not in {y for batch in epoch_of(make(case), 0) for y in scored(batch)}
    assert 999 not in {x for batch in epoch_of(make(case), 0) for x in batch.inputs_BT.flatten().tolist()}
    assert len(data)


@pytest.mark.parametrize("case", ["carried", "carried records"])
def test_rows_of_carried_batches_concatenate_to_the_text(case: str) -> None:
    data, settings = CASES[case]
    steps = epoch_of(make(case), 2)
    assert all(
        batch.carried and batch.inputs_BT.shape == (settings["batch_size"], settings["sequence_length"])
        for batch in steps
    )
    rows = torch.cat([batch.targets_BT for batch in steps], 1).tolist()
    text = [x for row in rows for x in row if x != IGNORED]
    turn = {x: i for i, x in enumerate(text)}
    for record in spans(data):
        places = [turn[x] for x in record]
        assert np.all(np.diff(places) % len(text) == 1)  # each record in one piece, but for the rotation
    if data.unit == "stream":
        whole = [x for r in spans(data) for x in r]
        assert text == whole[text[0] :] + whole[: text[0]]


def test_carried_rows_go_on_where_they_stopped_unless_they_forget() -> None:
    data = part([997], "stream")
    batches = make_batches(data, SYMBOLS, batch_size=3, sequence_length=7, stateful=True, reset_prob=0.25, seed=1)
    assert (batches.at(0, 0).inputs_BT[:, 0] == START).all()
    forgotten, moments = 0, 0
    for epoch in range(5):
        steps = epoch_of(batches, epoch)
        for last, this in pairwise(steps):
            for x, y in zip(last.targets_BT[:, -1].tolist(), this.inputs_BT[:, 0].tolist(), strict=True):
                if x != IGNORED:
                    assert y in (x, START)
                    forgotten, moments = forgotten + (y == START), moments + 1
    assert forgotten / moments == pytest.approx(0.25, abs=0.06)


def test_without_forgetting_a_start_is_read_only_where_something_begins() -> None:
    batches = make_batches(STREAM, SYMBOLS, batch_size=3, sequence_length=7, stateful=True, seed=1)
    starts = sum(int((batch.inputs_BT == START).sum()) for batch in epoch_of(batches, 0))
    assert 3 <= starts <= 3 + len(STREAM.starts) + 1


def test_fresh_windows_begin_with_start_and_shift_from_epoch_to_epoch() -> None:
    batches = make("fresh")
    begins = []
    for epoch in range(7):
        steps = epoch_of(batches, epoch)
        assert all((batch.inputs_BT[:, 0] == START).all() and not batch.carried for batch in steps)
        assert torch.equal(
            steps[0].inputs_BT[:, 1:], torch.where(steps[0].targets_BT < 0, START, steps[0].targets_BT)[:, :-1]
        )
        assert max(len(batch.inputs_BT) for batch in steps) - min(len(batch.inputs_BT) for batch in steps) <= 1
        begins.append({int(x) for batch in steps for x in batch.targets_BT[:, 0]})
    assert len(set().union(*begins)) > 3 * len(begins[0])


def test_ragged_rows_are_whole_records_padded_and_bucketed() -> None:
    rng = np.random.default_rng(2)
    data = part(rng.integers(1, 20, 89).tolist(), "lines")
    batches = make_batches(data, SYMBOLS, batch_size=3, sequence_length=32, stateful=True, seed=3)
    seen, area = [], 0
    for batch in epoch_of(batches, 0):
        assert not batch.carried
        assert batch.lengths_B is not None
        assert batch.inputs_BT.shape[1] == batch.lengths_B.max()
        area += batch.inputs_BT.numel()
        for inputs, targets, n in zip(
            batch.inputs_BT.tolist(), batch.targets_BT.tolist(), batch.lengths_B, strict=True
        ):
            assert inputs == [START, *targets[: n - 1]] + [0] * (len(targets) - n)
            assert targets[n:] == [IGNORED] * (len(targets) - n)
            seen.append(targets[:n])
    assert sorted(seen) == spans(data)
    assert area < 1.25 * len(data)  # unsorted rows of 1..19 symbols would be half padding


def test_ragged_records_beyond_eight_windows_are_cut() -> None:
    data = part([*[1] * 70, 53], "lines")
    batches = make_batches(data, SYMBOLS, batch_size=2, sequence_length=5, stateful=False, seed=3)
    lengths = [n for batch in epoch_of(batches, 0) for n in batch.lengths_B.tolist()]
    assert sorted(lengths)[-2:] == [13, 40]
    assert sum(lengths) == len(data)


def test_steps_outside_the_epoch_and_empty_parts_are_refused() -> None:
    batches = make("fresh")
    for step in (-1, batches.steps_per_epoch):
        with pytest.raises(IndexError):
            batches.at(0, step)
    with pytest.raises(DataError, match="no token"):
        make_batches(part([0], "lines"), SYMBOLS, batch_size=2, sequence_length=5, stateful=False, seed=3)


def windows_of(batches: list[Batch], width: int) -> Counter:
    """Return counts of (context, target) for a model that reads ``width`` symbols, cut at START and row starts."""
    counts: Counter = Counter()
    for batch in batches:
        assert len(batch.inputs_BT) == 1
        inputs, targets = batch.inputs_BT[0].tolist(), batch.targets_BT[0].tolist()
        for i, y in enumerate(targets):
            if y != IGNORED:
                context = inputs[max(0, i - width + 1) : i + 1]
                begins = max((j for j, x in enumerate(context) if x == START), default=0)
                counts[tuple(context[begins:]), y] += 1
    return counts


@pytest.mark.parametrize("data", [STREAM, LINES, SHORT, part([1], "stream"), part([1], "lines")])
@pytest.mark.parametrize("chunk", [1, 13, 10_000])
def test_counting_in_chunks_counts_the_same_as_in_one_piece(data: Part, chunk: int) -> None:
    pieces = list(counting_batches(data, SYMBOLS, overlap=4, chunk=chunk))
    expected: Counter = Counter()
    for record in spans(data):
        known = record if data.unit == "stream" else [START, *record]
        expected.update((tuple(known[max(0, i - 5) : i]), known[i]) for i in range(1, len(known)))
    assert windows_of(pieces, 5) == expected
    assert all((batch.targets_BT != IGNORED).sum() <= chunk for batch in pieces)


def test_counting_rows_of_a_stream_hold_no_start() -> None:
    rows = list(counting_batches(STREAM, SYMBOLS, overlap=4))
    assert [batch.inputs_BT[0].tolist() for batch in rows] == [r[:-1] for r in spans(STREAM)]
    assert [batch.targets_BT[0].tolist() for batch in rows] == [r[1:] for r in spans(STREAM)]
