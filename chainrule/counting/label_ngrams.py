"""N-gram models over the texts of each label, which share one table of n-grams; equations in
``chainrule.models.bayes``.

N-grams of one length have numbers. The number of an n-gram is its place among the sorted keys (number of the n-gram
without its last symbol) * base + last symbol, so that a table of one length is found by binary search from that of the
length below.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from chainrule.counting.counts import discounts

CHUNK = 1 << 21
"""Elements in one table of positions x labels."""
Grams = list[tuple[np.ndarray, np.ndarray]]
"""For n = 1, 2, …: the numbers of the context before each symbol and of the n-gram that ends there; -1 where never
seen.
"""


def split_units(text: str, units: str) -> list[int] | list[str]:
    """Split a text.

    Args:
        text: the text.
        units: ``char`` and ``letter`` (in lower case) for code points, ``byte``, or ``word``.

    Returns:
        Code points, byte values, or words in lower case; a sign that is no letter or digit is a word of its own.

    >>> split_units("It's 5.", "word")
    ['it', "'", 's', '5', '.']
    """
    if units in ("letter", "char"):
        return [ord(x) for x in (text.lower() if units == "letter" else text)]
    return list(text.encode(errors="replace")) if units == "byte" else re.findall(r"\w+|[^\w\s]", text.lower())


@dataclass(frozen=True)
class UnitVocabulary:
    """Known units, sorted. Ids: 0 the end, 1 … known units, then one for all others, then the start, which is only
    read.
    """

    units: str
    known: tuple[Any, ...]
    ends: bool

    @functools.cached_property
    def ids(self) -> dict[Any, int]:
        """Id of each known unit."""
        return {unit: i for i, unit in enumerate(self.known, 1)}

    @property
    def vocab_size(self) -> int:
        """V: number of symbols that can be predicted."""
        return len(self.known) + 1 + self.ends

    @property
    def base(self) -> int:
        """Number of all ids."""
        return len(self.known) + 3

    @property
    def start(self) -> int:
        """Id of the start symbol."""
        return self.base - 1

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts in a row, and where each ends.

        >>> UnitVocabulary("char", (97, 98), ends=True).encode(["ab", "x"])[0].tolist()
        [4, 1, 2, 0, 4, 3, 0]
        """
        rows = []
        for text in texts:
            inside = [self.ids.get(unit, self.start - 1) for unit in split_units(text, self.units)]
            rows.append([self.start, *inside, 0] if self.ends else inside)
        return np.fromiter((i for row in rows for i in row), np.int64), np.cumsum([len(row) for row in rows], dtype=int)

    @classmethod
    def of(cls, texts: Sequence[str], units: str, ends: bool) -> Self:
        """Return the vocabulary of all units in these texts."""
        return cls(units, tuple(sorted({unit for text in texts for unit in split_units(text, units)})), ends)


# ----------------------------------------------------------------------------------------------------------- counting


@dataclass(frozen=True)
class Level:
    """N-grams of one length: n-gram g was seen in the labels ``label[first[g]:first[g + 1]]``, ``count`` times each."""

    keys: np.ndarray
    first: np.ndarray
    label: np.ndarray
    count: np.ndarray

    def gram(self) -> np.ndarray:
        """Return the n-gram of each entry."""
        return np.repeat(np.arange(len(self.keys)), np.diff(self.first))


def _depth(symbols: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the number of symbols before each symbol in its own text."""
    starts = np.concatenate([[0], ends[:-1]])
    return np.arange(len(symbols)) - np.repeat(starts, ends - starts)


def _contexts(before: np.ndarray, depth: np.ndarray, m: int) -> np.ndarray:
    """Return the numbers of the m - 1 symbols before each symbol (m = 1: its position), from those that end at each."""
    return before if m == 1 else np.where(depth >= m - 1, np.concatenate([[-1], before[:-1]]), -1)


@dataclass(frozen=True)
class LabelNgrams:
    """Counts of the n-grams of n = 1, 2, … in each label. With ``positions`` > 1 every position has counts of its
    own.
    """

    vocabulary: UnitVocabulary
    levels: list[Level]
    positions: int
    classes: int

    @classmethod
    def of(
        cls, vocabulary: UnitVocabulary, texts: tuple[np.ndarray, np.ndarray], labels: np.ndarray, n: int, *,
        positions: int, classes: int,
    ) -> Self:  # fmt: skip
        """Count encoded texts; a start symbol is context and never counted.

        Args:
            vocabulary: the vocabulary.
            texts: ids of all texts, and where each ends.
            labels: label of each text.
            n: largest length of the n-grams.
            positions: 1, or the number of positions that are counted separately.
            classes: number of labels.

        Returns:
            The counts.
        """
        symbols, ends = texts
        depth, base = _depth(symbols, ends), vocabulary.base
        label, event = np.repeat(labels, np.diff(ends, prepend=0)), symbols != vocabulary.start
        here, levels = np.minimum(depth, positions - 1), []
        for m in range(1, n + 1):
            context = _contexts(here, depth, m)
            alive = np.flatnonzero(context >= 0)
            keys, index = np.unique(context[alive] * base + symbols[alive], return_inverse=True)
            here = np.full(len(symbols), -1)
            here[alive] = index
            scored = event[alive]
            pairs, many = np.unique(index[scored] * classes + label[alive][scored], return_counts=True)
            first = np.searchsorted(pairs // classes, np.arange(len(keys) + 1))
            levels.append(Level(keys, first, pairs % classes, many))
        return cls(vocabulary, levels, positions, classes)

    def look_up(self, symbols: np.ndarray, ends: np.ndarray) -> Grams:
        """Return the numbers of the n-grams of encoded texts.

        Args:
            symbols: ids of all texts.
            ends: where each text ends.
        """
        depth, found = _depth(symbols, ends), []
        here = np.minimum(depth, self.positions - 1)
        for m, level in enumerate(self.levels, 1):
            context = _contexts(here, depth, m)
            key = np.where(context >= 0, context * self.vocabulary.base + symbols, -1)
            place = np.minimum(np.searchsorted(level.keys, key), max(0, len(level.keys) - 1))
            known = (key >= 0) & (level.keys[place] == key) if len(level.keys) else np.zeros(len(key), bool)
            here = np.where(known, place, -1)
            found.append((context, here))
        return found

    def count_of(self, m: int, here: np.ndarray, labels: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return the share of these texts in each count of length m; ``here``: numbers of their n-grams of that
        length.
        """
        level, label = self.levels[m - 1], np.repeat(labels, np.diff(ends, prepend=0))
        mine = level.gram() * self.classes + level.label
        known, label = here[here >= 0], label[here >= 0]
        event = level.keys[known] % self.vocabulary.base != self.vocabulary.start
        return np.bincount(np.searchsorted(mine, (known * self.classes + label)[event]), minlength=len(mine))

    def suffixes(self) -> list[np.ndarray]:
        """Return, for each length m (0 included), the number of each n-gram without its first symbol."""
        found, base = [np.zeros(1, np.int64)], self.vocabulary.base
        for m, level in enumerate(self.levels, 1):
            shorter = found[-1][level.keys // base] * base + level.keys % base
            below = self.levels[m - 2].keys
            found.append(np.searchsorted(below, shorter) if m > 1 else np.zeros(len(level.keys), np.int64))
        return found


# --------------------------------------------------------------------------------------------------------- estimation


@dataclass(frozen=True)
class Weights:
    """Terms of the smoothing formula for one length: ``kept`` = c(hw) - d by n-gram and label, and by context and label
    ``reserve`` = r(h) and ``whole`` = c(h.) + e(h).
    """

    level: Level
    kept: np.ndarray
    first: np.ndarray
    label: np.ndarray
    reserve: np.ndarray
    whole: np.ndarray


class LabelEstimator:
    """Probabilities p(symbol | label, context) by one smoothing.

    Args:
        ngrams: the n-grams.
        smoothing: kneser_ney, witten_bell or add_k.
        k: what add_k adds.
        counts: counts by length, as in ``ngrams.levels``, where others are to be used.
    """

    def __init__(self, ngrams: LabelNgrams, smoothing: str, k: float, counts: Sequence[np.ndarray] | None = None):
        self.ngrams, self.smoothing, self.k, self.classes = ngrams, smoothing, k, ngrams.classes
        counts = [level.count for level in ngrams.levels] if counts is None else counts
        highest = [self._weigh(level, c) for level, c in zip(ngrams.levels, counts)]
        below = highest
        if smoothing == "kneser_ney":
            suffixes = ngrams.suffixes()
            lower = [self._continuations(suffixes, counts, m) for m in range(1, len(counts))]
            below = [*map(self._weigh, ngrams.levels, lower), highest[-1]]
        self.weights = list(zip(below, highest))
        """For n = 1, 2, …: weights below a higher order, and as the highest; only Kneser-Ney distinguishes them."""

    def _weigh(self, level: Level, c: np.ndarray) -> Weights:
        parent, label = (level.keys // self.ngrams.vocabulary.base)[level.gram()], level.label
        contexts = int(parent.max(initial=-1)) + 1
        pairs, index = np.unique(parent * self.classes + label, return_inverse=True)
        sums = functools.partial(np.bincount, index, minlength=len(pairs))
        total = sums(weights=c)
        d = np.zeros(len(c))
        if self.smoothing == "kneser_ney":
            d = discounts(c)[0][np.minimum(c, 3)]
            reserve, whole = sums(weights=d), total
        else:
            added = np.full(len(pairs), self.k * self.ngrams.vocabulary.vocab_size)
            reserve = sums(weights=c > 0) if self.smoothing == "witten_bell" else added
            whole = total + reserve
        first = np.searchsorted(pairs // self.classes, np.arange(contexts + 1))
        return Weights(level, c - d, first, pairs % self.classes, reserve * (total > 0), whole * (total > 0))

    def _continuations(self, suffixes: list[np.ndarray], counts: Sequence[np.ndarray], m: int) -> np.ndarray:
        """Return the number of different symbols before each n-gram in each label; the count itself where there is
        none.
        """
        level, longer = self.ngrams.levels[m - 1], self.ngrams.levels[m]
        seen = counts[m] > 0
        key = suffixes[m + 1][longer.gram()[seen]] * self.classes + longer.label[seen]
        mine = level.gram() * self.classes + level.label
        many = np.bincount(np.searchsorted(mine, key), minlength=len(mine))
        return np.where(many > 0, many, counts[m - 1])

    def probabilities(self, grams: Grams, rows: slice) -> Iterator[np.ndarray]:
        """Yield p(symbol | label, context) of some symbols, T x C, for n = 1, 2, …

        Args:
            grams: from ``LabelNgrams.look_up``.
            rows: which symbols.
        """
        lower_TC = np.full((rows.stop - rows.start, self.classes), 1 / self.ngrams.vocabulary.vocab_size)
        for (context, here), (below, highest) in zip(grams, self.weights):
            p_TC = self._step(highest, here[rows], context[rows], lower_TC)
            yield p_TC
            lower_TC = p_TC if below is highest else self._step(below, here[rows], context[rows], lower_TC)

    def _step(self, w: Weights, here: np.ndarray, context: np.ndarray, lower_TC: np.ndarray) -> np.ndarray:
        context = np.where(context < len(w.first) - 1, context, -1)
        kept_TC = _dense(here, w.level.first, w.level.label, w.kept, self.classes)
        reserve_TC = _dense(context, w.first, w.label, w.reserve, self.classes)
        whole_TC = _dense(context, w.first, w.label, w.whole, self.classes)
        known_TC = whole_TC > 0
        under_TC = 1 / self.ngrams.vocabulary.vocab_size if self.smoothing == "add_k" else lower_TC
        return np.where(known_TC, (kept_TC + reserve_TC * under_TC) / np.where(known_TC, whole_TC, 1.0), lower_TC)

    def log_likelihoods(self, symbols: np.ndarray, ends: np.ndarray, grams: Grams, orders: Sequence[int]) -> np.ndarray:
        """Return log p(text | label) of encoded texts for each of these n, O x B x C. Start symbols are read only.

        Args:
            symbols: ids of all texts.
            ends: where each text ends.
            grams: from ``LabelNgrams.look_up``.
            orders: every n in question.
        """
        text = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
        nats = np.zeros((len(orders), len(ends), self.classes))
        step = max(1, CHUNK // self.classes)
        for begin in range(0, len(symbols), step):
            rows = slice(begin, min(begin + step, len(symbols)))
            scored = symbols[rows] != self.ngrams.vocabulary.start
            for n, p_TC in enumerate(self.probabilities(grams, rows), 1):
                if n in orders:
                    log_TC = np.where(scored[:, None], np.log(p_TC), 0.0)
                    here, begins = np.unique(text[rows], return_index=True)
                    nats[orders.index(n)][here] += np.add.reduceat(log_TC, begins)
        return nats


def _dense(index: np.ndarray, first: np.ndarray, label: np.ndarray, value: np.ndarray, classes: int) -> np.ndarray:
    """Return the sparse rows ``index`` as a dense table, T x C; -1 is a row of zeros."""
    table = np.zeros((len(index), classes))
    there = np.flatnonzero(index >= 0)
    start = first[index[there]]
    many = first[index[there] + 1] - start
    entry = np.repeat(start - (np.cumsum(many) - many), many) + np.arange(int(many.sum()))
    table[np.repeat(there, many), label[entry]] = value[entry]
    return table
