"""Counting and estimating n-grams: what Markov, n-gram and a classifier of n-grams share.

**Storage.** The windows of 1 .. n symbols that occur form a trie, numbered breadth-first. ``keys[i]``, parent * (V + 1)
+ last symbol, increases strictly, so that one binary search finds a child: exact, no hashing, for any V and n. The
table is closed under dropping the first or the last symbol.

**Memory** follows the number of different windows. Where a limit is set, tables that do not fit lie in temporary files:
adding up is a merge that reads and writes from front to back, so that the disk is never searched.
"""

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
"""Bits of a symbol that one counting sort takes: measured, 65,536 bounds stay in the second-level cache."""
WINDOW_BYTES = 80
"""What one window costs while a table is estimated: keys, counts, suffixes, continuations, p, g and their like."""


@dataclass(frozen=True)
class Room:
    """Where tables are put: in memory as long as they fit into ``memory`` bytes (None: always), else in unnamed files
    of the folder for temporary files.
    """

    memory: int | None = None

    def empty(self, size: int, dtype: Any, windows: int) -> np.ndarray:
        """An array of ``size`` for a table of so many windows."""
        if self.memory is None or windows * WINDOW_BYTES <= self.memory:
            return np.empty(size, dtype)
        folder = tempfile.gettempdir()
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.truncate(max(1, size) * np.dtype(dtype).itemsize)
                return np.memmap(file, dtype, "r+", shape=(size,))  # the file goes when the last view of it does
        except OSError as error:
            raise MachineError(
                f"cannot put {windows:,} n-grams on disk in {folder}: {error.strerror}; set TMPDIR to a folder with room"
            ) from None

    def full(self, size: int, value: float, dtype: Any, windows: int) -> np.ndarray:
        array = self.empty(size, dtype, windows)
        if value or not isinstance(array, np.memmap):  # a new file reads as zeros
            array.fill(value)
        return array


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_memory(text: str) -> int:
    """Bytes from ``2G``, ``500M``, ``64k``; units are powers of 1024, a B at the end changes nothing."""
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
    """How often every window of 1 .. n symbols was predicted, as a breadth-first trie (see the top of the file).

    ``keys[0]`` = -1 is the root. A window that only ever was context has count 0. Counts of parts add up exactly.
    """

    vocab_size: int
    n: int
    keys: np.ndarray
    counts: np.ndarray
    room: Room = Room()

    @property
    def base(self) -> int:
        return self.vocab_size + 1

    @functools.cached_property
    def parent(self) -> np.ndarray:
        return self.keys // self.base

    @functools.cached_property
    def last(self) -> np.ndarray:
        return self.keys % self.base

    @functools.cached_property
    def levels(self) -> list[slice]:
        """``levels[m]``: where the windows of m symbols stand, m = 0 .. n."""
        return levels(self.keys, self.base, self.n)

    @property
    def events(self) -> int:
        """Number of symbols that were counted."""
        return int(self.counts[self.levels[1]].sum())

    @classmethod
    def of(cls, batch: Batch, vocab_size: int, n: int, room: Room = Room()) -> Self:
        """Count a batch: every scored target with the up to n - 1 symbols before it.

        The first input of a row that joins a stream (no start symbol, not carried, its target scored) is counted with
        an empty context: nothing else would count it.
        """
        from chainrule.counting import kernels

        text, event = _chains(batch, vocab_size, n)
        order = kernels.sorted_places(text, n, vocab_size + 2, DIGIT_BITS)
        shared, new = np.empty(len(order), np.int8), np.zeros(n + 1, np.int64)
        kernels.shared_lengths(text, order, shared, new)
        size = 1 + int(new.sum())
        keys, counts = room.empty(size, np.int64, size), room.full(size, 0, np.int64, size)
        kernels.trie(text, event, order, shared, new, vocab_size + 1, keys, counts)
        return cls(vocab_size, n, keys, counts, room)._pruned()

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """The counts of all parts together; two neighbours at a time, so that every window is copied log(parts) times."""
        waiting = list(parts)
        while len(waiting) > 1:
            pairs = [waiting[i : i + 2] for i in range(0, len(waiting), 2)]
            waiting = [pair[0] if len(pair) == 1 else pair[0] + pair[1] for pair in pairs]
        return waiting[0]

    def __add__(self, other: Self) -> Self:
        from chainrule.counting import kernels

        if (self.vocab_size, self.n) != (other.vocab_size, other.n):
            raise UserError("counts over different alphabets or of different n cannot be added")
        most, room = len(self.keys) + len(other.keys), self.room
        keys, counts = (room.empty(most, np.int64, most) for _ in range(2))
        numbers = (room.empty(len(part.keys), np.int64, most) for part in (self, other))
        mine, theirs = ((part.keys, part.counts, number) for part, number in zip((self, other), numbers))
        size = kernels.merged(*mine, *theirs, self.base, keys, counts)
        return type(self)(self.vocab_size, self.n, keys[:size], counts[:size], room)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return keys and counts by name, from which ``CountModel.restore_statistics`` rebuilds them."""
        return {name: torch.from_numpy(np.asarray(getattr(self, name))) for name in ("keys", "counts")}

    def shorten(self, n: int) -> Self:
        """What counting with a smaller ``n`` would have given, without counting again."""
        if not 1 <= n <= self.n:
            raise UserError(f"n={n}: these counts hold n = 1 to {self.n}; count again with n={n}")
        stop = self.levels[n].stop
        return type(self)(self.vocab_size, n, self.keys[:stop], self.counts[:stop], self.room)._pruned()

    def _pruned(self) -> Self:
        """Keep what was predicted and what stands before it."""
        keep = closed(self.counts > 0, self.keys, self.base)
        if keep.all():
            return self
        return type(self)(self.vocab_size, self.n, renumbered(self.keys, keep, self.base), self.counts[keep], self.room)

    @functools.cached_property
    def first(self) -> np.ndarray:
        """Where the children of each window below length n begin; one entry more, so that they end where the next begin."""
        return first_children(self.keys, self.base, self.levels[self.n].start, self.room)

    @functools.cached_property
    def suffix(self) -> np.ndarray:
        """The window without its first symbol."""
        from chainrule.counting import kernels

        suffix = self.room.empty(len(self.keys), np.int64, len(self.keys))
        kernels.suffixes(self.keys, self.first, self.base, self.levels[1].stop, suffix)
        return suffix

    def continuations(self) -> np.ndarray:
        """N1+(.g) below the highest order; the count itself at the highest, and where g begins a record."""
        from chainrule.counting import kernels

        many = self.room.full(len(self.keys), 0, np.int64, len(self.keys))
        kernels.continuations(self.keys, self.counts, self.suffix, self.base, self.levels[self.n].start, many)
        return many


def levels(keys: np.ndarray, base: int, n: int) -> list[slice]:
    """``levels[m]``: where the windows of m symbols stand, m = 0 .. n."""
    bounds = [0, 1]
    for _ in range(n):
        bounds.append(int(np.searchsorted(keys, bounds[-1] * base)))
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def first_children(keys: np.ndarray, base: int, contexts: int, room: Room = Room()) -> np.ndarray:
    """``first[i]`` to ``first[i + 1]``: where the children of window i stand, for the first ``contexts`` windows."""
    from chainrule.counting import kernels

    first = room.empty(contexts + 1, np.int64, len(keys))
    kernels.first_children(keys, base, first)
    return first


def closed(keep: np.ndarray, keys: np.ndarray, base: int) -> np.ndarray:
    """The marks, with the root and all that stands before a marked window marked too (in place)."""
    from chainrule.counting import kernels

    keep[0] = True
    kernels.keep_ancestors(keys, keep, base)
    return keep


def renumbered(keys: np.ndarray, keep: np.ndarray, base: int) -> np.ndarray:
    """The keys of a part of a table; ``keep`` is closed under dropping the last symbol."""
    from chainrule.counting import kernels

    return kernels.renumbered(keys, keep, base)


def _chains(batch: Batch, vocab_size: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch as chains of symbols + 1, a 0 before each and n after the last, and which places are counted."""
    from chainrule.counting import kernels

    inputs, targets = (x.cpu().numpy().astype(np.int64, copy=False) for x in (batch.inputs_BT, batch.targets_BT))
    rows, length = inputs.shape
    lengths = np.full(rows, length) if batch.lengths_B is None else batch.lengths_B.cpu().numpy().astype(np.int64)
    chains = functools.partial(kernels.segments, inputs, targets, lengths, batch.carried, vocab_size, n)
    size = chains(np.empty(0, np.int32), np.empty(0, np.bool_))
    if size < 0:
        raise UserError(
            f"a batch holds ids outside 0..{vocab_size - 1} (inputs may also be the start token {vocab_size})"
        )
    if size + n >= 1 << 31:
        raise UserError(
            f"a batch of {size:,} symbols is too large to be counted at once: count its parts and add them up"
        )
    text, event = np.zeros(size + n, np.int32), np.zeros(size + n, np.bool_)
    chains(text, event)
    return text, event


# ---------------------------------------------------------------------------------------------------------- estimation


@dataclass(frozen=True)
class Estimate:
    """``log_prob[i]``: log p of the last symbol of window i given the others; ``log_backoff[i]``: log g of window i as a
    context, for windows below length n; ``notes``: what a reader should know.
    """

    keys: np.ndarray
    log_prob: np.ndarray
    log_backoff: np.ndarray
    notes: list[str]


def discounts(many: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Kneser-Ney's (0, D1, D2, D3+) from the counts of one order; with a reason where the closed form does not hold.

    Chen & Goodman (1999). Little data and small alphabets break it: where n_j is 0 or D_j is not above 0 for some j, the
    order takes 0.5, 1, 1.5.
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
    """Which windows stay: those counted more often than ``prune[m - 1]`` times (the last entry serves all longer ones),
    and what stands before them (as KenLM's ``--prune``).
    """
    if not prune:
        return np.ones(len(counts.keys), np.bool_)
    keep = np.ones(len(counts.keys), np.bool_)
    for m, level in enumerate(counts.levels[1:], start=1):
        keep[level] = counts.counts[level] > prune[min(m, len(prune)) - 1]
    return closed(keep, counts.keys, counts.base)


def estimate(counts: Counts, smoothing: Smoothing, k: float = 1.0, prune: Sequence[int] = ()) -> Estimate:
    """Probabilities and back-off weights of every window by one of the four formulas of ``chainrule.models.ngram``.

    A window that is pruned gives up all of its count, and stands nowhere; discounts are those of the whole table, as in
    KenLM (Heafield et al. 2013).
    """
    from chainrule.counting import kernels

    size, level, room = len(counts.keys), counts.levels, counts.room
    many = counts.continuations() if smoothing == "kneser_ney" else counts.counts
    kept = surviving(counts, prune)
    p, g = room.full(size, 1 / counts.vocab_size, float, size), room.full(level[counts.n].start, 1.0, float, size)
    extra = k * counts.vocab_size if smoothing == "add_k" else 0.0
    notes: list[str] = []
    for m in range(1, counts.n + 1):
        discount = np.zeros(4)
        if smoothing == "kneser_ney":
            discount, wrong = discounts(many[level[m]])
            if wrong is not None:
                notes.append(f"order {m}: {wrong}, so the discounts are 0.5, 1, 1.5")
        kernels.estimates(
            many, counts.first, counts.suffix, kept, discount, extra, float(smoothing == "witten_bell"),
            (level[m - 1].start, level[m - 1].stop), smoothing in ("witten_bell", "kneser_ney"), counts.vocab_size, p, g,
        )  # fmt: skip
    with np.errstate(divide="ignore"):
        np.log(p, out=p)
        np.log(g, out=g)
    if kept.all():
        return Estimate(counts.keys, p, g, notes)
    return Estimate(renumbered(counts.keys, kept, counts.base), p[kept], g[kept[: len(g)]], notes)
