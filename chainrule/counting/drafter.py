"""Drafts for speculative decoding: the most frequent continuations of the last tokens, looked up in a table.

A language model reads k drafted tokens in one pass faster than one after another, and keeps those that it would have
drawn itself (Leviathan et al. 2023, "Fast inference from transformers via speculative decoding"). Here an n-gram
drafts. Its table holds one row for each context of at most n - 1 tokens that the training text has often enough::

    context      best    share    following
    (empty)      " "     0.15     " "
    "t"          "h"     0.38     "th"
    "th"         "e"     0.44     "the"
    "the"        " "     0.52     "he "        the longest context of the table that "the " ends in

So a draft of k tokens is one search for the longest context, and k steps from row to row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from chainrule.counting.counts import Counts, closed

TABLE = ("keys", "best", "following", "share")
"""The columns of the table."""
SHARES = 255
"""The share 1 as it is stored."""
ROW_BYTES = 8 + 4 + 4 + 1
"""Bytes of a row of the table."""


@dataclass(frozen=True, eq=False)
class NgramDrafter:
    """A table of contexts as a trie, breadth-first, as in `chainrule.counting.counts`; row 0 is the empty context.

    Args:
        vocab_size: V; the start token is V.
        context: tokens of the longest contexts.
        keys: row of the context without its last token, times V + 1, plus that token; ascending, int64.
        best: the most frequent continuation of each context, int32.
        following: row of the longest context that the context and its continuation end in, int32.
        share: (count of the continuation) / (count of the context + number of its different continuations), an estimate
            of the probability of the continuation, in units of 1 / 255, uint8.
    """

    vocab_size: int
    context: int
    keys: np.ndarray
    best: np.ndarray
    following: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, counts: Counts, most: int) -> Self:
        """Return the table of the contexts of an n-gram that are most frequent.

        Args:
            counts: counts of n-grams of at least one token.
            most: rows of the table. Contexts that are rarer than all of these are left out.
        """
        first, contexts = counts.first, counts.levels[counts.n].start
        has_any = first[1:] > first[:-1]
        begins = first[:-1][has_any]
        total, best, share = np.zeros(contexts, np.int64), np.zeros(contexts, np.int64), np.zeros(contexts)
        total[has_any] = np.add.reduceat(counts.counts, begins)
        largest = np.maximum.reduceat(counts.counts, begins)
        types = np.diff(np.append(begins, len(counts.keys)))
        is_best = np.flatnonzero(counts.counts[1:] == np.repeat(largest, types)) + 1
        parents = counts.keys[is_best] // counts.base
        best[parents[::-1]] = is_best[::-1]  # of equals the first one stays
        share[has_any] = largest / (total[has_any] + types)

        keep = closed(total >= _threshold(total, most), counts.keys[:contexts], counts.base)
        row = np.where(keep, np.cumsum(keep) - 1, -1)
        following = best
        for _ in range(counts.n):
            kept = (following < contexts) & (row[np.minimum(following, contexts - 1)] >= 0)
            following = np.where(kept, following, counts.suffix[following])
        keys = counts.keys[:contexts][keep]
        parent, token = keys // counts.base, keys % counts.base
        return cls(
            counts.vocab_size, counts.n - 1,
            np.where(keys < 0, -1, row[parent] * counts.base + token),
            (counts.keys[best[keep]] % counts.base).astype(np.int32), row[following[keep]].astype(np.int32),
            (SHARES * share[keep]).round().astype(np.uint8),
        )  # fmt: skip

    def __len__(self) -> int:
        """Return the number of contexts."""
        return len(self.keys)

    def described(self) -> dict[str, int]:
        """Return the facts that a reader of ``data.json`` is told."""
        return {"context": self.context, "contexts": len(self), "bytes": ROW_BYTES * len(self)}

    def tensors(self) -> dict[str, Tensor]:
        """Return the table by name, as it is kept in a file."""
        sizes = {"sizes": torch.tensor([self.vocab_size, self.context])}
        return {name: torch.from_numpy(getattr(self, name)) for name in TABLE} | sizes

    @classmethod
    def restored(cls, tensors: dict[str, Tensor]) -> Self:
        """Return the drafter whose ``tensors`` these are."""
        vocab_size, context = tensors["sizes"].tolist()
        return cls(vocab_size, context, **{name: tensors[name].numpy() for name in TABLE})

    def draft(self, read: Sequence[int], k: int) -> tuple[list[int], list[int]]:
        """Return the tokens that follow most probably.

        Args:
            read: the last tokens, a start token among them; at least ``context`` of them, or all that there are.
            k: number of tokens.

        Returns:
            The tokens, and the share of each.
        """
        row, best, share = self._row(read), [], []
        for _ in range(k):
            best.append(self.best.item(row))
            share.append(self.share.item(row))
            row = self.following.item(row)
        return best, share

    def _row(self, read: Sequence[int]) -> int:
        """Row of the longest context that the tokens end in."""
        base = self.vocab_size + 1
        for begin in range(max(0, len(read) - self.context), len(read)):
            row = 0
            for token in read[begin:]:
                key = row * base + token
                row = int(self.keys.searchsorted(key))
                if row == len(self.keys) or self.keys.item(row) != key:
                    break
            else:
                return row
        return 0


def _threshold(total: np.ndarray, most: int) -> int:
    """Return the smallest count of which at most ``most`` contexts have as much; at least 1."""
    if np.count_nonzero(total) <= most:
        return 1
    return int(np.partition(total, len(total) - most)[len(total) - most - 1]) + 1
