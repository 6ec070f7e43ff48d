"""Laws of State, checked by the predictions that follow it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from chainrule.core import ChainruleError, NotRewindable
from chainrule.laws.subject import LawBroken, Subject, same

CAPACITY = 61


def reorder(subject: Subject) -> None:
    """Reordering repeats and drops rows, as beam search does; the batch may grow or shrink."""
    rows, more = subject.rows(5, 7, salt=20), subject.rows(7, 3, salt=21)
    index = torch.tensor([4, 1, 1, 0, 3, 4, 2])
    _, state = subject.read(rows, subject.started(*range(5)))
    got, _ = subject.read(more, state.clone().reorder(index))
    _, wanted = subject.read(rows[index], subject.started(*index.tolist()))
    same(got, subject.read(more, wanted)[0], "after reorder")
    few = torch.tensor([2, 0])
    _, wanted = subject.read(rows[few], subject.started(2, 0))
    want, _ = subject.read(more[:2], wanted)
    same(subject.read(more[:2], state.reorder(few))[0], want, "after reorder to fewer rows")


def concat(subject: Subject) -> None:
    """Rows that have read different numbers of tokens join one batch."""
    more = subject.rows(5, 4, salt=22)
    for capacity in (CAPACITY, None):
        parts, wants = [], []
        for rows, length in (((0, 1, 2), 7), ((3,), 2), ((4,), 0)):
            state = subject.started(*rows, capacity=capacity)
            if length:
                _, state = subject.read(subject.rows(len(rows), length, salt=23 + length), state)
            wants.append(subject.read(more[list(rows)], state.clone())[0])
            parts.append(state)
        got, _ = subject.read(more, parts[0].concat(*parts[1:]))
        same(got, torch.cat(wants), f"after concat (capacity {capacity})")
    states = [subject.read(subject.rows(1, length, salt=34 + length))[1] for length in (3, 17, 1)]
    want = torch.cat([subject.read(more[b : b + 1], state.clone())[0] for b, state in enumerate(states)])
    same(subject.read(more[:3], states[0].concat(*states[1:]))[0], want, "after concat of States made by forward")


def where(subject: Subject) -> None:
    """Each row takes the State that a mask selects."""
    more, keep = subject.rows(5, 4, salt=24), torch.tensor([True, False, False, True, False])
    for capacity in (CAPACITY, None):
        _, mine = subject.read(subject.rows(5, 7, salt=25), subject.started(*range(5), capacity=capacity))
        _, other = subject.read(subject.rows(5, 3, salt=26), subject.started(*range(5), capacity=capacity))
        want_mine, _ = subject.read(more, mine.clone())
        want_other, _ = subject.read(more, other.clone())
        got, _ = subject.read(more, mine.where(keep, other))
        want = torch.where(keep[:, None, None], want_mine, want_other)
        same(got, want, f"after where (capacity {capacity})")


def clone(subject: Subject) -> None:
    """Two branches from one State; consuming one changes nothing in the other."""
    left, right = subject.rows(3, 4, salt=27), subject.rows(3, 4, salt=28)
    _, state = subject.read(subject.rows(3, 7, salt=29), subject.started(0, 1, 2, capacity=CAPACITY))
    branch = state.clone()
    before = [t.clone() for t in branch.tensors()]
    first, _ = subject.read(left, state.clone())
    _, used = subject.read(right, state)
    subject.read(right, used)
    for mine, old in zip(branch.tensors(), before, strict=True):
        same(mine, old, "a tensor of a clone, after the State it came from was consumed", 0)
    same(subject.read(left, branch)[0], first, "a clone, after the State it came from was consumed")


def _rewind_trials(subject: Subject) -> Iterator[tuple[str, Tensor]]:
    rows = subject.rows(3, 9, salt=30)
    yield "", rows
    cut = rows.clone()
    cut[:, 5:6] = subject.start_rows(3)
    yield " over a start token", cut
    context = subject.model.context
    if context is not None and context <= 64:
        yield " beyond the window", subject.rows(3, 2 * context + 9, salt=35)


def rewind(subject: Subject) -> str | None:
    """Rewinding is exact, or raises NotRewindable; also over a start token, and after the window has moved."""
    more, back, refused = subject.rows(3, 4, salt=31), torch.tensor([0, 2, 5]), []
    for where_, rows in _rewind_trials(subject):
        try:
            begun = subject.started(0, 1, 2, capacity=CAPACITY).rewindable(5)
            _, state = subject.read(rows, begun)
            state = state.rewind(back)
        except NotRewindable as error:
            refused.append(f"not rewindable{where_}: {error}")
            continue
        except ChainruleError:
            if where_ == " beyond the window":  # another law checks that it is refused everywhere
                continue
            raise
        got, _ = subject.read(more, state)
        for b, n in enumerate(back.tolist()):
            _, alone = subject.read(rows[b : b + 1, : rows.shape[1] - n], subject.started(b, capacity=CAPACITY))
            want, _ = subject.read(more[b : b + 1], alone)
            same(got[b : b + 1], want, f"row {b}, after rewind by {n}{where_}")
    return refused[0] if refused else None


def counted(subject: Subject) -> str:
    """``length_B`` counts the tokens read, the start token included; ``nbytes`` is the size of the state."""
    empty = subject.model.initial_state(3)
    same(empty.length_B, torch.zeros(3, dtype=empty.length_B.dtype), "length_B of initial_state()", 0)
    state = subject.started(0, 1, 2)
    same(state.length_B, torch.ones_like(state.length_B), "length_B after start()", 0)
    _, state = subject.read(subject.rows(3, 7, salt=32), state)
    same(state.length_B, torch.full_like(state.length_B, 8), "length_B after start() and 7 tokens", 0)
    _, state = subject.read(subject.rows(3, 5, salt=33), state, torch.tensor([5, 0, 2]))
    same(state.length_B, torch.tensor([13, 8, 10]).to(state.length_B), "length_B after a padded chunk", 0)
    for tensor in state.tensors():
        if tensor.shape[:1] != (3,):
            raise LawBroken(f"a State tensor of shape {tuple(tensor.shape)} does not have the batch (3) first")
    if state.nbytes() <= 0:
        raise LawBroken(f"nbytes() is {state.nbytes()} after 13 tokens")
    return f"{state.nbytes() // 3} bytes per row after 13 tokens"
