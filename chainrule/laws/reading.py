"""Laws of reading: all at once, in steps, in chunks, padded, packed, beyond the trained window."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from chainrule.core import ChainruleError, State
from chainrule.laws.subject import LawBroken, Subject, same

ROWS, TIME = 5, 13


def _ways(subject: Subject) -> list[tuple[str, Tensor, State | None]]:
    """Ways to begin a sequence: start() and then the rest, forward(start token and the rest), or in the middle."""
    rows = subject.rows(ROWS, TIME, salt=2)
    return [
        ("after start()", rows, subject.started(*range(ROWS))),
        ("from no state", torch.cat([subject.start_rows(ROWS), rows[:, 1:]], dim=1), None),
        ("from no state and without a start token", rows, None),
    ]


def _branch(state: State | None) -> State | None:
    return None if state is None else state.clone()


def one_at_a_time(subject: Subject) -> None:
    """Single steps give the predictions of one pass."""
    for way, rows, state in _ways(subject):
        whole, after = subject.read(rows, _branch(state))
        stepped, after_steps = subject.steps(rows, _branch(state), [1] * TIME)
        same(stepped, whole, f"one at a time, {way}")
        more = subject.rows(ROWS, 3, salt=3)
        same(subject.read(more, after_steps)[0], subject.read(more, after)[0], f"what follows single steps, {way}")


def in_chunks(subject: Subject) -> None:
    """Chunks of any sizes give the predictions of one pass."""
    rng = subject.rng(4)
    for way, rows, state in _ways(subject):
        whole, _ = subject.read(rows, _branch(state))
        for _ in range(3):
            sizes: list[int] = []
            while sum(sizes) < TIME:
                sizes.append(min(int(torch.randint(1, 6, (), generator=rng)), TIME - sum(sizes)))
            same(subject.steps(rows, _branch(state), sizes)[0], whole, f"in chunks of {sizes}, {way}")


def ragged(subject: Subject) -> None:
    """Two padded chunks and a step give the predictions of every row alone; padding is arbitrary."""
    first, second = torch.tensor([7, 1, 0, 5, 3]), torch.tensor([2, 0, 6, 1, 4])
    rows, more = subject.rows(ROWS, 13, salt=5), subject.rows(ROWS, 2, salt=6)
    chunks = [subject.rows(ROWS, 7, salt=7), subject.rows(ROWS, 6, salt=8)]
    for chunk in chunks:
        chunk[:, -1:] = subject.start_rows(ROWS)
    for b in range(ROWS):
        chunks[0][b, : first[b]] = rows[b, : first[b]]
        chunks[1][b, : second[b]] = rows[b, first[b] : first[b] + second[b]]
    state = subject.started(*range(ROWS))
    got_first, state = subject.read(chunks[0], state, first)
    got_second, state = subject.read(chunks[1], state, second)
    padded_lengths = state.length_B.clone()
    got_more, _ = subject.read(more, state)
    for b in range(ROWS):
        a, z = int(first[b]), int(first[b] + second[b])
        alone = subject.started(b)
        if z:
            want, alone = subject.read(rows[b : b + 1, :z], alone)
            same(got_first[b, :a], want[0, :a], f"row {b} of a padded batch")
            same(got_second[b, : z - a], want[0, a:], f"row {b} of a second padded batch")
        same(padded_lengths[b : b + 1], alone.length_B, f"length_B of row {b} after padded batches", 0)
        same(got_more[b : b + 1], subject.read(more[b : b + 1], alone)[0], f"row {b}, what follows padded batches")


def ragged_from_nothing(subject: Subject) -> None:
    """A padded batch from no state (a training batch of records) gives the predictions of every row alone."""
    batch = subject.batch(ROWS, TIME, salt=9)
    assert batch.lengths_B is not None
    got, state = subject.read(batch.inputs_BT, None, batch.lengths_B)
    more = subject.rows(ROWS, 2, salt=10)
    got_more, _ = subject.read(more, state)
    for b, length in enumerate(batch.lengths_B.tolist()):
        want, alone = subject.read(batch.inputs_BT[b : b + 1, :length])
        same(got[b : b + 1, :length], want, f"row {b} of a padded batch from no state")
        same(got_more[b : b + 1], subject.read(more[b : b + 1], alone)[0], f"row {b}, what follows a padded batch")


def start_is_reading_start(subject: Subject) -> None:
    """start(), forward(start token) and the first position of a longer row give one prediction."""
    first = subject.start_rows(ROWS)
    with torch.no_grad():
        prediction, state = subject.model.start(batch=ROWS, capacity=TIME)
    want = subject.table(prediction, first)
    same(subject.read(first)[0], want, "forward(start token) against start()")
    same(subject.read(first, subject.model.initial_state(ROWS))[0], want, "forward(start, initial_state()) vs start()")
    rows = subject.rows(ROWS, 4, salt=11)
    whole, _ = subject.read(torch.cat([first, rows], dim=1))
    same(whole[:, :1], want, "first position of a longer row against start()")
    same(subject.read(rows, state)[0], whole[:, 1:], "what follows start() against a longer row")


def start_forgets(subject: Subject) -> None:
    """Packed records give the predictions of separate records, with boundaries on both sides of a chunk's end."""
    cuts = [(2, 3, 6), (1, 5, 5), (4, 1, 6), (3, 7, 1), (8, 2, 1)]
    start = subject.start_rows(1)
    records = [[subject.rows(1, n, salt=100 + 10 * b + i) for i, n in enumerate(cut)] for b, cut in enumerate(cuts)]
    packed = torch.cat([torch.cat([part for r in row for part in (start, r)], dim=1) for row in records])

    def separate(state: Callable[[int], State | None]) -> Tensor:
        """Predictions of each record alone, those of a row side by side."""
        found = [[subject.read(torch.cat([start, r], 1), state(b))[0] for r in row] for b, row in enumerate(records)]
        return torch.cat([torch.cat(row, dim=1) for row in found])

    want, length = separate(lambda b: None), packed.shape[1]
    same(subject.read(packed)[0], want, "packed records against separate ones")
    used = separate(lambda b: subject.started(b)) if subject.takes_prompt else want
    same(subject.read(packed, subject.started(*range(ROWS)))[0], used, "packed records read into a used State")
    for sizes in ([1] * length, [5] * (length // 5) + [length % 5] * (length % 5 > 0)):
        same(subject.steps(packed, None, sizes)[0], want, f"packed records in chunks of {sizes[0]}")


def beyond_the_window(subject: Subject) -> str | None:
    """A row of three times the context has the same predictions in all ways of reading, or the same refusal."""
    context = subject.model.context
    length = 61 if context is None else min(max(3 * context, 31), 512)
    rows = subject.rows(2, length, salt=12)
    outcomes: list[Tensor | ChainruleError] = []
    for sizes in ([length], [1] * length, [7] * (length // 7) + [length % 7] * (length % 7 > 0)):
        try:
            outcomes.append(subject.steps(rows, subject.started(0, 1), sizes)[0])
        except ChainruleError as error:
            outcomes.append(error)
    refused = [o for o in outcomes if isinstance(o, ChainruleError)]
    if refused:
        if len(refused) < len(outcomes):
            raise LawBroken(f"{length} tokens are refused one way and read another: {refused[0]}")
        return f"refuses {length} tokens: {refused[0]}"
    tables = [o for o in outcomes if isinstance(o, Tensor)]
    same(tables[1], tables[0], f"{length} tokens one at a time against all at once")
    same(tables[2], tables[0], f"{length} tokens in sevens against all at once")
    return None


def context_is_exact(subject: Subject) -> str | None:
    """Tokens more than ``context`` steps back change nothing."""
    context = subject.model.context
    assert context is not None
    rows = subject.rows(2, context + 7, salt=13)
    rows[1] = rows[0]
    rows[1, :7] = subject.other(rows[0, :7])
    try:
        got, _ = subject.read(rows, subject.started(0, 0))
    except ChainruleError as error:
        return f"refuses {context + 7} tokens: {error}"
    same(got[1, context + 6 :], got[0, context + 6 :], f"prediction after tokens more than {context} back changed")
    return None


def rows_are_independent(subject: Subject) -> None:
    """Rows in another order, and rows alone, have the same predictions."""
    rows, order = subject.rows(ROWS, TIME, salt=14), torch.tensor([3, 0, 4, 2, 1])
    whole, _ = subject.read(rows, subject.started(*range(ROWS)))
    permuted, _ = subject.read(rows[order], subject.started(*order.tolist()))
    same(permuted, whole[order], "rows in another order")
    for b in range(ROWS):
        same(
            subject.read(rows[b : b + 1], subject.started(b))[0], whole[b : b + 1], f"row {b} alone against in a batch"
        )
