"""Counting and estimation of n-grams.

**Storage.** The n-grams of 1 .. n tokens that occur form a trie, numbered breadth-first. ``keys[i]`` = parent * (V +
1) + last token increases strictly, so that a binary search finds a child: exact, without hashing, for any V and n.
The table is closed under dropping the first or the last token.

**Memory** grows with the number of different n-grams. Tables beyond a limit are put into temporary files. Adding two
tables is a merge that reads and writes sequentially, without seeking on the disk."""

from __future__ import annotations

import functools
import itertools
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch

from chainrule.core import Batch, MachineError, UserError

Smoothing = Literal["ml", "add_k", "witten_bell", "kneser_ney"]

DIGIT_BITS = 16
"""Bits of a token sorted in one counting sort: 65,536 buckets stay in the second-level cache (measured)."""
NGRAM_BYTES = 80
"""Memory per n-gram during estimation: keys, counts, suffixes, continuations, p and g."""


@dataclass(frozen=True)
class Storage:
    """Allocation of tables: in memory up to ``memory`` bytes (None: no limit), beyond that in unnamed temporary
    files.
    """

    memory: int | None = None

    def empty(self, size: int, dtype: Any, ngrams: int) -> np.ndarray:
        """Return an array of ``size`` for a table of so many n-grams.

        Args:
            size: number of elements.
            dtype: their type.
            ngrams: number of n-grams of the whole table.

        Raises:
            MachineError: there is no space for temporary files.
        """
        if self.memory is None or ngrams * NGRAM_BYTES <= self.memory:
            return np.empty(size, dtype)
        folder = tempfile.gettempdir()
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.truncate(max(1, size) * np.dtype(dtype).itemsize)
                return np.memmap(file, dtype, "r+", shape=(size,))  # the file is deleted with the last view of it
        except OSError as error:
            reason = f"{error.strerror}; set TMPDIR to a folder with more space"
            raise MachineError(f"cannot put {ngrams:,} n-grams on disk in {folder}: {reason}") from None

    def full(self, size: int, value: float, dtype: Any, ngrams: int) -> np.ndarray:
        """Return an array filled with ``value``, allocated as by ``empty``.

        Args:
            size: number of elements.
            value: value of every element.
            dtype: their type.
            ngrams: number of n-grams of the whole table.
        """
        array = self.empty(size, dtype, ngrams)
        if value or not isinstance(array, np.memmap):  # a new file reads as zeros
            array.fill(value)
        return array


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_memory(text: str) -> int:
    """Parse an amount of memory.

    Args:
        text: a number with a unit k, M, G or T (powers of 1024) or none; a B at the end is ignored.

    Returns:
        Bytes.

    Raises:
        UserError: the text is no amount of memory.

    >>> parse_memory("2G"), parse_memory("64kB")
    (2147483648, 65536)
    """
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        size = float(number.removesuffix(unit)) * _UNITS[unit]
    except (KeyError, ValueError):
        size = math.nan
    if not 1 <= size < 1 << 60:
        raise UserError(f"memory={text}: expected a size such as 2G or 500M")
    return int(size)


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of n-grams of 1 .. n tokens, as a breadth-first trie (see the top of the file). Counts of parts add up.

    ``keys[0]`` = -1 is the root. An n-gram that only ever was context has count 0.
    """

    vocab_size: int
    n: int
    keys: np.ndarray
    counts: np.ndarray
    storage: Storage = Storage()

    @property
    def base(self) -> int:
        """Number of tokens, the start symbol included."""
        return self.vocab_size + 1

    @functools.cached_property
    def levels(self) -> list[slice]:
        """Ranges of the n-grams of m tokens, m = 0 .. n."""
        return levels(self.keys, self.base, self.n)

    @classmethod
    def of(cls, batch: Batch, vocab_size: int, n: int, storage: Storage = Storage()) -> Self:
        """Count a batch: every scored target with up to n - 1 tokens before it.

        The first input of a row that joins a stream (no start symbol, not carried, its target scored) is counted with
        an empty context, since it is no target.

        Args:
            batch: the tokens.
            vocab_size: V; the start symbol is V.
            n: length of the n-grams.
            storage: where tables are put.

        Returns:
            The counts.

        Raises:
            UserError: a token is out of range, or the batch is too large.

        >>> import torch
        >>> Counts.of(Batch(torch.tensor([[2, 0, 1]]), torch.tensor([[0, 1, 0]])), 2, 1).counts.tolist()[1:3]
        [2, 1]
        """
        from chainrule.counting import kernels

        text, event = _chains(batch, vocab_size, n)
        order = kernels.sorted_places(text, n, vocab_size + 2, DIGIT_BITS)
        shared, new = np.empty(len(order), np.int8), np.zeros(n + 1, np.int64)
        kernels.shared_lengths(text, order, shared, new)
        size = 1 + int(new.sum())
        keys, counts = storage.empty(size, np.int64, size), storage.full(size, 0, np.int64, size)
        kernels.trie(text, event, order, shared, new, vocab_size + 1, keys, counts)
        return cls(vocab_size, n, keys, counts, storage)._pruned()

    def __add__(self, other: Self) -> Self:
        from chainrule.counting import kernels

        if (self.vocab_size, self.n) != (other.vocab_size, other.n):
            raise UserError("counts over different vocabularies or of different n cannot be added")
        most, storage = len(self.keys) + len(other.keys), self.storage
        keys, counts = (storage.empty(most, np.int64, most) for _ in range(2))
        numbers = (storage.empty(len(part.keys), np.int64, most) for part in (self, other))
        mine, theirs = ((part.keys, part.counts, number) for part, number in zip((self, other), numbers))
        size = kernels.merged(*mine, *theirs, self.base, keys, counts)
        return type(self)(self.vocab_size, self.n, keys[:size], counts[:size], storage)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return keys and counts by name, from which ``CountModel.restore_statistics`` rebuilds them."""
        return {name: torch.from_numpy(np.asarray(getattr(self, name))) for name in ("keys", "counts")}

    def shorten(self, n: int) -> Self:
        """Return the counts for a smaller ``n``, without counting again.

        Args:
            n: length of the longest n-grams.

        Raises:
            UserError: ``n`` is larger than that of these counts.
        """
        if not 1 <= n <= self.n:
            raise UserError(f"n={n}: these counts hold n = 1 to {self.n}; count again with n={n}")
        stop = self.levels[n].stop
        return type(self)(self.vocab_size, n, self.keys[:stop], self.counts[:stop], self.storage)._pruned()

    def _pruned(self) -> Self:
        """Keep what was predicted, and its prefixes."""
        from chainrule.counting import kernels

        keep = closed(self.counts > 0, self.keys, self.base)
        if keep.all():
            return self
        keys = kernels.renumbered(self.keys, keep, self.base)
        return type(self)(self.vocab_size, self.n, keys, self.counts[keep], self.storage)

    @functools.cached_property
    def first(self) -> np.ndarray:
        """Index of the first child of each n-gram shorter than n, and where the children of the last one end."""
        return first_children(self.keys, self.base, self.levels[self.n].start, self.storage)

    @functools.cached_property
    def suffix(self) -> np.ndarray:
        """Index of each n-gram without its first token."""
        from chainrule.counting import kernels

        suffix = self.storage.empty(len(self.keys), np.int64, len(self.keys))
        kernels.suffixes(self.keys, self.first, self.base, self.levels[1].stop, suffix)
        return suffix

    def continuations(self) -> np.ndarray:
        """Return N1+(.g) below the highest order; the count itself at the highest, and where g begins a record."""
        from chainrule.counting import kernels

        many = self.storage.full(len(self.keys), 0, np.int64, len(self.keys))
        kernels.continuations(self.keys, self.counts, self.suffix, self.base, self.levels[self.n].start, many)
        return many


def levels(keys: np.ndarray, base: int, n: int) -> list[slice]:
    """Return the ranges of the n-grams of m tokens, m = 0 .. n.

    Args:
        keys: keys of a trie.
        base: number of tokens, the start symbol included.
        n: length of the longest n-grams.
    """
    bounds = [0, 1]
    for _ in range(n):
        bounds.append(int(np.searchsorted(keys, bounds[-1] * base)))
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def first_children(keys: np.ndarray, base: int, contexts: int, storage: Storage = Storage()) -> np.ndarray:
    """Return ``first``: the children of n-gram i are ``first[i]`` to ``first[i + 1]``.

    Args:
        keys: keys of a trie.
        base: number of tokens, the start symbol included.
        contexts: number of n-grams, from the first, that may have children.
        storage: where the table is put.
    """
    from chainrule.counting import kernels

    first = storage.empty(contexts + 1, np.int64, len(keys))
    kernels.first_children(keys, base, first)
    return first


def closed(keep: np.ndarray, keys: np.ndarray, base: int) -> np.ndarray:
    """Mark, in place, the root and all prefixes of marked n-grams too; return the marks.

    Args:
        keep: marks, one for each n-gram.
        keys: keys of a trie.
        base: number of tokens, the start symbol included.
    """
    from chainrule.counting import kernels

    keep[0] = True
    kernels.keep_ancestors(keys, keep, base)
    return keep


def _chains(batch: Batch, vocab_size: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a batch as chains of tokens + 1, a 0 before each and n after the last, and the places that are counted."""
    from chainrule.counting import kernels

    inputs, targets = (x.cpu().numpy().astype(np.int64, copy=False) for x in (batch.inputs_BT, batch.targets_BT))
    rows, length = inputs.shape
    lengths = np.full(rows, length) if batch.lengths_B is None else batch.lengths_B.cpu().numpy().astype(np.int64)
    chains = functools.partial(kernels.segments, inputs, targets, lengths, batch.carried, vocab_size, n)
    size = chains(np.empty(0, np.int32), np.empty(0, np.bool_))
    if size < 0:
        raise UserError(f"ids outside 0..{vocab_size - 1} in a batch (inputs may also be the start token {vocab_size})")
    if size + n >= 1 << 31:
        raise UserError(f"a batch of {size:,} tokens is too large to be counted at once: count its parts and add them")
    text, event = np.zeros(size + n, np.int32), np.zeros(size + n, np.bool_)
    chains(text, event)
    return text, event


# ----------------------------------------------------------------------------------------------------------- estimation


@dataclass(frozen=True)
class Estimate:
    """Estimated tables.

    Attributes:
        keys: keys of the trie.
        log_prob: log p of the last token of each n-gram given the others.
        log_backoff: log g of each n-gram as a context, for n-grams shorter than n.
        notes: remarks for the reader of a report.
    """

    keys: np.ndarray
    log_prob: np.ndarray
    log_backoff: np.ndarray
    notes: list[str]


def discounts(many: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Return the discounts of modified Kneser-Ney (Chen & Goodman 1999).

    Args:
        many: counts of the n-grams of one order.

    Returns:
        (0, D1, D2, D3+), and the reason if they are the fixed 0.5, 1, 1.5: with little data or a small vocabulary
        some n_j is 0
        or some D_j not above 0.

    >>> discounts(np.array([1, 1, 1, 2, 2, 3, 4]))[0].round(3).tolist()
    [0.0, 0.429, 1.357, 1.286]
    """
    n = [0, *(int(np.count_nonzero(many == j)) for j in (1, 2, 3, 4))]
    given = np.array([0.0, 0.5, 1.0, 1.5])
    for j in (1, 2, 3):
        if n[j] == 0:
            return given, f"no n-gram has count {j}"
    y = n[1] / (n[1] + 2 * n[2])
    found = np.array([0.0, *(j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3))])
    for j in (1, 2, 3):
        if found[j] <= 0:
            return given, f"D{j} would be {found[j]:.2f}"
    return found, None


def surviving(counts: Counts, prune: Sequence[int]) -> np.ndarray:
    """Return which n-grams are kept, as KenLM's ``--prune`` does.

    Args:
        counts: the counts.
        prune: for each length, the largest count that is dropped; the last entry applies to all longer n-grams.

    Returns:
        Marks of the n-grams with larger counts, and of their prefixes.
    """
    keep = np.ones(len(counts.keys), np.bool_)
    if not prune:
        return keep
    for m, level in enumerate(counts.levels[1:], start=1):
        keep[level] = counts.counts[level] > prune[min(m, len(prune)) - 1]
    return closed(keep, counts.keys, counts.base)


def estimate(counts: Counts, smoothing: Smoothing, k: float = 1.0, prune: Sequence[int] = ()) -> Estimate:
    """Estimate probabilities and back-off weights; formulas in ``chainrule.models.ngram``.

    A pruned n-gram gives up all of its count and is not stored; discounts are those of the whole table, as in KenLM
    (Heafield et al. 2013).

    Args:
        counts: the counts.
        smoothing: ml, add_k, witten_bell or kneser_ney.
        k: constant of add_k.
        prune: see ``surviving``.

    Returns:
        The tables.
    """
    from chainrule.counting import kernels

    size, level, storage = len(counts.keys), counts.levels, counts.storage
    many = counts.continuations() if smoothing == "kneser_ney" else counts.counts
    kept = surviving(counts, prune)
    p = storage.full(size, 1 / counts.vocab_size, float, size)
    g = storage.full(level[counts.n].start, 1.0, float, size)
    extra = k * counts.vocab_size if smoothing == "add_k" else 0.0
    per_type, interpolated = float(smoothing == "witten_bell"), smoothing in ("witten_bell", "kneser_ney")
    notes: list[str] = []
    for m in range(1, counts.n + 1):
        discount, wrong = discounts(many[level[m]]) if smoothing == "kneser_ney" else (np.zeros(4), None)
        if wrong is not None:
            notes.append(f"order {m}: {wrong}, so the discounts are 0.5, 1, 1.5")
        contexts = (level[m - 1].start, level[m - 1].stop)
        weights = (discount, extra, per_type, contexts, interpolated, counts.vocab_size)
        kernels.estimates(many, counts.first, counts.suffix, kept, *weights, p, g)
    with np.errstate(divide="ignore"):
        np.log(p, out=p)
        np.log(g, out=g)
    if kept.all():
        return Estimate(counts.keys, p, g, notes)
    return Estimate(kernels.renumbered(counts.keys, kept, counts.base), p[kept], g[kept[: len(g)]], notes)
