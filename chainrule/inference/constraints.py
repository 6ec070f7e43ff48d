"""Phrases that must and that must not appear, compiled to one automaton: for every id, how many ids are still needed
after it.

A node is the longest end of the generated ids that begins a phrase (Aho & Corasick 1975); a state is a node and the set
of must-phrases that have appeared. ``need`` is the least number of ids after which all have appeared, by relaxation
over the whole table: overlaps of phrases, and detours around forbidden ones, are in it. An id is allowed where the ids
needed after it still fit: so every hypothesis can be completed, and nothing has to be repaired at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from chainrule.core import UserError

Phrase = tuple[int, ...]

NEVER = 1 << 30
"""More ids than any length allows."""
MOST = 1 << 24
"""Entries of a table, at most."""


class Phrases:
    """The automaton. States are integers, 0 the first; ids fall into classes: each id of a phrase, the forbidden, all
    others.

    Args:
        must: phrases that must appear.
        forbid: phrases that must not appear.
        vocab_size: V.
        end: the id that ends a sequence, if any.

    Raises:
        UserError: so many phrases that the table would not fit.

    Example:
        >>> phrases = Phrases(must=[(0, 1)], forbid=[], vocab_size=3, end=2)
        >>> phrases.after(torch.tensor(0)).tolist() == [1, 2, NEVER]
        True
    """

    def __init__(self, must: Sequence[Phrase], forbid: Sequence[Phrase], vocab_size: int, end: int | None):
        must = list(dict.fromkeys(must))
        longer = [p for p in forbid if len(p) > 1]
        out = {p[0] for p in forbid if len(p) == 1}
        known = sorted({i for p in (*must, *longer) for i in p} - out)
        kind_V = np.zeros(vocab_size, np.int64)  # 0: every other id
        kind_V[list(out)] = 1
        kind_V[known] = np.arange(2, 2 + len(known))
        step_NC, met_N, bad_N = _automaton(
            [tuple(kind_V[list(p)]) for p in (*must, *longer)], 2 + len(known), len(must)
        )
        if step_NC.size << len(must) > MOST:
            raise UserError(
                f"{len(must)} phrases that must and {len(longer)} that must not appear are too many at once"
            )
        sets, exists_C = np.arange(1 << len(must)), np.zeros(2 + len(known), bool)
        exists_C[kind_V[[v for v in range(vocab_size) if v != end]]] = True
        exists_C[1] = False
        next_SC = (step_NC[:, None] * len(sets) + (sets[:, None] | met_N[step_NC][:, None])).reshape(-1, len(exists_C))
        closed_SC = np.repeat(bad_N[step_NC] | ~exists_C, len(sets), 0)
        need_S, after_SC = _needs(np.tile(sets == sets[-1], len(step_NC)), next_SC, closed_SC)
        self.end, self.banks = end, int(need_S[need_S < NEVER].max(initial=0)) + 1
        self.kind_V, self.next_SC, self.need_S, self.after_SC = map(
            torch.from_numpy, (kind_V, next_SC, need_S, after_SC)
        )

    def to(self, device: torch.device | str) -> Phrases:
        """Return the same automaton with its tables on a device."""
        moved = copy.copy(self)
        for name in ("kind_V", "next_SC", "need_S", "after_SC"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved

    def read(self, state: Tensor, ids: Tensor) -> Tensor:
        """Return the states after these ids, of the same shape."""
        return self.next_SC[state, self.kind_V[ids]]

    def need(self, state: Tensor) -> Tensor:
        """Return the least number of ids after which every must-phrase has appeared."""
        return self.need_S[state]

    def after(self, state: Tensor) -> Tensor:
        """Return ``need`` after each id that might come next, ... x V.

        NEVER stands where the id is forbidden, and for the end while a phrase is missing.
        """
        after = self.after_SC[state][..., self.kind_V]
        if self.end is not None:
            after[..., self.end] = torch.where(self.need(state) == 0, 0, NEVER)
        return after


@lru_cache(maxsize=16)
def compiled(must: tuple[Phrase, ...], forbid: tuple[Phrase, ...], vocab_size: int, end: int | None) -> Phrases:
    """Return the automaton of these phrases, compiled when it is first asked for."""
    return Phrases(must, forbid, vocab_size, end)


def _automaton(phrases: list[Phrase], classes: int, musts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The next node, nodes x classes; for each node the set of must-phrases (the first ``musts``) that end there, as
    bits, and whether a forbidden one does.
    """
    children: list[dict[int, int]] = [{}]
    last = []
    for phrase in phrases:
        node = 0
        for c in phrase:
            node = children[node].setdefault(c, len(children))
            if node == len(children):
                children.append({})
        last.append(node)
    step_NC = np.zeros((len(children), classes), np.int64)
    met_N, bad_N = np.zeros(len(children), np.int64), np.zeros(len(children), bool)
    for k, node in enumerate(last):
        met_N[node] |= 1 << k if k < musts else 0
        bad_N[node] |= k >= musts
    suffix, order = [0] * len(children), [0]
    for node in order:  # grows while it is read: shorter beginnings first
        step_NC[node] = step_NC[suffix[node]]
        met_N[node] |= met_N[suffix[node]]
        bad_N[node] |= bad_N[suffix[node]]
        for c, child in children[node].items():
            suffix[child] = int(step_NC[node, c])  # where its parent's suffix would go
        for c, child in children[node].items():
            step_NC[node, c] = child
        order.extend(children[node].values())
    return step_NC, met_N, bad_N


def _needs(over_S: np.ndarray, next_SC: np.ndarray, closed_SC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least number of steps from each state to one that is ``over``, and the same after each class of ids."""
    need_S = np.where(over_S, 0, NEVER).astype(np.int32)
    while True:
        after_SC = np.where(closed_SC, NEVER, need_S[next_SC]).astype(np.int32)
        better_S = np.minimum(need_S, after_SC.min(1) + 1)
        if (better_S == need_S).all():
            return need_S, after_SC
        need_S = better_S
