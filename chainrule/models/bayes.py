"""Naive Bayes with n-grams: which label's language model expects this text most?

    log p(c | x) = log p(c) + b_c + sqrt(L / |x|) sum_u,n s_un log p_un(x | c) + const
    p_un(x | c)  = prod_t p(x_t | c, x_{t-n+1} .. x_{t-1})

Each label c has n-gram models of its own: over units u, which are characters (in lower case or as they are; or bytes) and
words (in lower case), and of every order n = 1, 2, … up to 6 characters and 3 words. A start symbol stands before every
text and an end symbol, which is predicted too, after it. With n = 1 over words without start and end this is the
multinomial Bayes of a bag of words (McCallum & Nigam 1998): the row ``bag``.

Write h for the context, h' for h without its oldest symbol, c() for counts *in one label*. All smoothings have the form

    p(w | h) = (c(hw) - d + r(h) p(w | h')) / (c(h.) + e(h))

| smoothing   | d             | r(h)        | e(h)     | below it    | source                       |
|-------------|---------------|-------------|----------|-------------|------------------------------|
| kneser_ney  | D1, D2 or D3+ | sum of d    | 0        | p(w given h') | Chen & Goodman 1999        |
| witten_bell | 0             | N1+(h.)     | N1+(h.)  | p(w given h') | Witten & Bell 1991, C      |
| add_k       | 0             | k V         | k V      | 1 / V       | Lidstone 1920                |

V is the number of symbols that training texts use, and one for all others. The lowest order interpolates with 1 / V. A
context that a label never saw is passed over. Kneser-Ney's lower orders count different symbols before (within a label),
and its discounts are those of each order over all labels together, since one label may hold a handful of texts only.

``positional=true`` is for texts that are aligned (a window of DNA around a splice site): every position has counts of its
own, p(x_t | c, t, the n - 1 symbols before). Positions beyond the longest training text share one that was never seen.

**What is chosen.** The symbols of a text are no independent witnesses, and orders and units say much the same again, so
that p(x | c) is far too sure of itself against p(c): hence the exponents s_un >= 0, which also settle which orders and
units are heard at all, and a shift b_c a label; and hence the root: twice the text is less than twice the evidence (L is the
typical length). Priors keep both in bounds where few texts are held out: exponential with
mean 1 for s, normal with variance 1 for b. They maximise log p of held-out labels, by cross-validation over five parts
of the training texts, cut by a hash of the text so that equal texts are on one side; so does k of add_k where it is not
set. The validation part is not looked at. ``n`` and ``units``, where set, leave one order and these units. Sources: Cavnar
& Trenkle 1994 (n-grams of characters tell languages), Peng & Schuurmans 2003 (n-gram models as Bayes classifiers), Platt
1999 (calibration by held-out scores), Raina et al. 2003 (parts of a naive Bayes model weighed against each other).
"""

from __future__ import annotations

import functools
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from chainrule.core import (
    Batch,
    Classifier,
    Config,
    Counting,
    DataError,
    Recipe,
    SequenceModel,
    TextBatch,
    UserError,
    register,
)
from chainrule.counting.counts import discounts

Units = Literal["letter", "char", "byte", "word", "letter+word", "char+word", "byte+word"]
Smoothing = Literal["kneser_ney", "witten_bell", "add_k"]
FOLDS = 5
CHUNK = 1 << 21
"""Numbers in one table of positions x labels."""
LIMITS = {"letter": 6, "char": 6, "byte": 8, "word": 3}
"""The largest n that is tried."""
ADDED = (1.0, 0.3, 0.1, 0.03, 0.01)
"""The k that are tried."""
SILENT = 1e-5
"""Exponents below this are 0."""
SHIFT_VARIANCE = 1.0
"""Of the prior on the shifts b."""


class BayesConfig(Config):
    """What is None is settled by cross-validation on the training part."""

    num_labels: int = Field(ge=2)
    """How many labels."""
    units: Units | None = None
    """``letter`` is a character in lower case. None: letter+word; letter by position."""
    n: int | None = Field(default=None, ge=1, le=16)
    """The one order that is heard; None: all up to 6 characters, 8 bytes or 3 words."""
    smoothing: Smoothing | None = None
    """None: kneser_ney; witten_bell by position."""
    k: float | None = Field(default=None, gt=0)
    """What add_k adds."""
    positional: bool = False
    ends: bool = True
    """Start and end are symbols."""

    @property
    def smooth(self) -> str:
        return self.smoothing or ("witten_bell" if self.positional else "kneser_ney")

    @property
    def voices(self) -> list[str]:
        asked: str = self.units or ("letter" if self.positional else "letter+word")
        return [str(units) for units in asked.split("+")]

    def orders(self, units: str) -> list[int]:
        return [self.n] if self.n else list(range(1, LIMITS[units] + 1))

    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {"n": 2, "units": "char"}, "small": {}, "base": {}}


# -------------------------------------------------------------------------------------------------------------- texts


@dataclass(frozen=True)
class Examples:
    """Texts with labels; those of parts add up. The texts are kept, because settling the exponents needs texts held out."""

    texts: tuple[str, ...]
    labels: np.ndarray

    def __add__(self, other: Self) -> Self:
        return type(self)(self.texts + other.texts, np.concatenate([self.labels, other.labels]))

    def sorted(self) -> Self:
        """In an order of their own, so that sums are the same to the last bit whatever order the parts came in."""
        order = sorted(range(len(self.texts)), key=lambda b: (self.texts[b], self.labels[b]))
        return type(self)(tuple(self.texts[b] for b in order), self.labels[order])


def pieces(text: str, units: str) -> list[int] | list[str]:
    """A text in units: code points, bytes, or words (a sign that is no letter or digit stands alone)."""
    if units in ("letter", "char"):
        return [ord(x) for x in (text.lower() if units == "letter" else text)]
    return list(text.encode(errors="replace")) if units == "byte" else re.findall(r"\w+|[^\w\s]", text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Known units, sorted. Ids: 0 the end, 1 .. known units, then one for all others, then the start, which is only read."""

    units: str
    known: tuple[Any, ...]
    ends: bool

    @functools.cached_property
    def ids(self) -> dict[Any, int]:
        return {unit: i for i, unit in enumerate(self.known, 1)}

    @property
    def vocab_size(self) -> int:
        """V: symbols that can be predicted."""
        return len(self.known) + 1 + self.ends

    @property
    def base(self) -> int:
        return len(self.known) + 3

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All texts in a row, and where each ends."""
        unknown, start = self.base - 2, self.base - 1
        rows = []
        for text in texts:
            inside = [self.ids.get(unit, unknown) for unit in pieces(text, self.units)]
            rows.append([start, *inside, 0] if self.ends else inside)
        flat = np.fromiter((i for row in rows for i in row), np.int64)
        return flat, np.cumsum([len(row) for row in rows], dtype=np.int64)

    @classmethod
    def of(cls, texts: Sequence[str], units: str, ends: bool) -> Self:
        return cls(units, tuple(sorted({unit for text in texts for unit in pieces(text, units)})), ends)


# ----------------------------------------------------------------------------------------------------------- counting


@dataclass(frozen=True)
class Level:
    """n-grams of one length. ``keys`` = (number of the n-gram without its last symbol) * base + last symbol, ascending; each
    was seen in the labels ``label[first[g]:first[g + 1]]``, ``count`` times."""

    keys: np.ndarray
    first: np.ndarray
    label: np.ndarray
    count: np.ndarray

    def gram(self) -> np.ndarray:
        """The n-gram that each entry belongs to."""
        return np.repeat(np.arange(len(self.keys)), np.diff(self.first))


def before(symbols: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many symbols of its own text stand before each."""
    starts = np.concatenate([[0], ends[:-1]])
    return np.arange(len(symbols)) - np.repeat(starts, ends - starts)


@dataclass(frozen=True)
class Grams:
    """The n-grams that end at each symbol of some texts: ``at[m]`` the number of the one of length m, -1 where it was never seen
    or does not fit; ``at[0]`` the position, or 0."""

    at: list[np.ndarray]

    def context(self, m: int) -> np.ndarray:
        """The m - 1 symbols before each symbol, by number; the number of ``at[0]`` is the symbol's own position."""
        if m == 1:
            return self.at[0]
        return np.concatenate([[-1], self.at[m - 1][:-1]])


def number(symbols: np.ndarray, ends: np.ndarray, levels: Sequence[Level], base: int, positions: int) -> Grams:
    """Look the n-grams of some texts up."""
    depth = before(symbols, ends)
    grams = Grams([np.minimum(depth, positions - 1) if positions > 1 else np.zeros(len(symbols), np.int64)])
    for m, level in enumerate(levels, 1):
        parent = np.where(depth >= m - 1, grams.context(m), -1)
        key = np.where(parent >= 0, parent * base + symbols, -1)
        place = np.minimum(np.searchsorted(level.keys, key), max(0, len(level.keys) - 1))
        found = (key >= 0) & (level.keys[place] == key) if len(level.keys) else np.zeros(len(key), bool)
        grams.at.append(np.where(found, place, -1))
    return grams


def count(symbols: np.ndarray, ends: np.ndarray, labels: np.ndarray, n: int, vocabulary: Vocabulary, positions: int, classes: int) -> list[Level]:  # fmt: skip
    """Count the n-grams of texts in each label; a start symbol is context, never counted."""
    base, depth = vocabulary.base, before(symbols, ends)
    label = np.repeat(labels, np.diff(ends, prepend=0))
    event = symbols != base - 1
    at = np.minimum(depth, positions - 1) if positions > 1 else np.zeros(len(symbols), np.int64)
    levels: list[Level] = []
    for m in range(1, n + 1):
        parent = at if m == 1 else np.concatenate([[-1], at[:-1]])
        alive = np.flatnonzero((depth >= m - 1) & (parent >= 0))
        keys, index = np.unique(parent[alive] * base + symbols[alive], return_inverse=True)
        at = np.full(len(symbols), -1)
        at[alive] = index
        scored = event[alive]
        pairs, many = np.unique(index[scored] * classes + label[alive][scored], return_counts=True)
        first = np.searchsorted(pairs // classes, np.arange(len(keys) + 1))
        levels.append(Level(keys, first, pairs % classes, many))
    return levels


# --------------------------------------------------------------------------------------------------------- estimation


@dataclass(frozen=True)
class Weights:
    """What the formula at the top needs of one level: ``c(hw) - d`` by n-gram and label, r(h) and c(h.) + e(h) by context and label."""

    level: Level
    kept: np.ndarray
    first: np.ndarray
    label: np.ndarray
    reserve: np.ndarray
    whole: np.ndarray


@dataclass(frozen=True)
class Estimator:
    """A smoothing with what it needs to know. ``suffix[m]`` gives each n-gram of length m without its first symbol."""

    smoothing: str
    k: float
    vocab_size: int
    classes: int
    base: int
    suffix: list[np.ndarray]

    @classmethod
    def of(cls, smoothing: str, k: float, vocabulary: Vocabulary, classes: int, levels: Sequence[Level]) -> Self:
        suffix = suffixes(levels, vocabulary.base) if smoothing == "kneser_ney" else []
        return cls(smoothing, k, vocabulary.vocab_size, classes, vocabulary.base, suffix)

    def weigh_all(self, levels: Sequence[Level], counts: Sequence[np.ndarray], n: int) -> list[tuple[Weights, Weights]]:
        """For m = 1 .. n: the weights of level m below a higher one, and as the highest (which Kneser-Ney tells apart)."""
        highest = [self._weigh(levels[m - 1], counts[m - 1]) for m in range(1, n + 1)]
        if self.smoothing != "kneser_ney":
            return list(zip(highest, highest))
        below = [self._weigh(levels[m - 1], self._continuations(levels, counts, m)) for m in range(1, n)]
        return list(zip([*below, highest[-1]], highest))

    def _weigh(self, level: Level, c: np.ndarray) -> Weights:
        parent, label = (level.keys // self.base)[level.gram()], level.label
        contexts = int(parent.max(initial=-1)) + 1
        pairs, index = np.unique(parent * self.classes + label, return_inverse=True)
        sums = functools.partial(np.bincount, index, minlength=len(pairs))
        total = sums(weights=c)
        d = np.zeros(len(c))
        if self.smoothing == "kneser_ney":
            d = discounts(c)[0][np.minimum(c, 3)]
            reserve, whole = sums(weights=d), total
        elif self.smoothing == "witten_bell":
            reserve = sums(weights=c > 0)
            whole = total + reserve
        else:
            reserve = np.full(len(pairs), self.k * self.vocab_size)
            whole = total + reserve
        first = np.searchsorted(pairs // self.classes, np.arange(contexts + 1))
        return Weights(level, c - d, first, pairs % self.classes, reserve * (total > 0), whole * (total > 0))

    def _continuations(self, levels: Sequence[Level], counts: Sequence[np.ndarray], m: int) -> np.ndarray:
        """Different symbols before each n-gram in each label; the count itself where nothing stands before (a beginning)."""
        level, longer = levels[m - 1], levels[m]
        seen = counts[m] > 0
        key = self.suffix[m + 1][longer.gram()[seen]] * self.classes + longer.label[seen]
        mine = level.gram() * self.classes + level.label
        many = np.bincount(np.searchsorted(mine, key), minlength=len(mine))
        return np.where(many > 0, many, counts[m - 1])

    def probabilities(
        self, weights: Sequence[tuple[Weights, Weights]], grams: Grams, rows: slice
    ) -> Iterator[np.ndarray]:
        """p(symbol | label, context) of some symbols, T x C, for n = 1, 2, …"""
        lower_TC = np.full((rows.stop - rows.start, self.classes), 1 / self.vocab_size)
        for m, (below, highest) in enumerate(weights, 1):
            here, context = grams.at[m][rows], grams.context(m)[rows]
            p_TC = self._step(highest, here, context, lower_TC)
            yield p_TC
            lower_TC = p_TC if below is highest else self._step(below, here, context, lower_TC)

    def _step(self, w: Weights, here: np.ndarray, context: np.ndarray, lower_TC: np.ndarray) -> np.ndarray:
        context = np.where(context < len(w.first) - 1, context, -1)
        kept_TC = _spread(here, w.level.first, w.level.label, w.kept, self.classes)
        reserve_TC = _spread(context, w.first, w.label, w.reserve, self.classes)
        whole_TC = _spread(context, w.first, w.label, w.whole, self.classes)
        known_TC = whole_TC > 0
        under_TC = 1 / self.vocab_size if self.smoothing == "add_k" else lower_TC
        return np.where(known_TC, (kept_TC + reserve_TC * under_TC) / np.where(known_TC, whole_TC, 1.0), lower_TC)


def _spread(index: np.ndarray, first: np.ndarray, label: np.ndarray, value: np.ndarray, classes: int) -> np.ndarray:
    """Sparse rows ``index`` as a dense table, T x C; -1 is a row of zeros."""
    table = np.zeros((len(index), classes))
    there = np.flatnonzero(index >= 0)
    start = first[index[there]]
    many = first[index[there] + 1] - start
    entry = np.repeat(start - (np.cumsum(many) - many), many) + np.arange(int(many.sum()))
    table[np.repeat(there, many), label[entry]] = value[entry]
    return table


def log_likelihoods(estimator: Estimator, weights: Sequence[tuple[Weights, Weights]], grams: Grams, symbols: np.ndarray, ends: np.ndarray, orders: Sequence[int]) -> np.ndarray:  # fmt: skip
    """log p(text | label) for each of some n, O x B x C. Start symbols are read only."""
    text = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    nats = np.zeros((len(orders), len(ends), estimator.classes))
    step = max(1, CHUNK // estimator.classes)
    for begin in range(0, len(symbols), step):
        rows = slice(begin, min(begin + step, len(symbols)))
        scored = symbols[rows] != estimator.base - 1
        for n, p_TC in enumerate(estimator.probabilities(weights, grams, rows), 1):
            if n in orders:
                log_TC = np.where(scored[:, None], np.log(p_TC), 0.0)
                here, begins = np.unique(text[rows], return_index=True)
                nats[orders.index(n)][here] += np.add.reduceat(log_TC, begins)
    return nats


def suffixes(levels: Sequence[Level], base: int) -> list[np.ndarray]:
    """``suffix[m]``: the number of each n-gram of length m without its first symbol."""
    found = [np.zeros(1, np.int64)]
    for m, level in enumerate(levels, 1):
        shorter = found[-1][level.keys // base] * base + level.keys % base
        found.append(np.searchsorted(levels[m - 2].keys, shorter) if m > 1 else np.zeros(len(level.keys), np.int64))
    return found


# ----------------------------------------------------------------------------------------------------------- choosing


@dataclass(frozen=True)
class Counted:
    """Training texts in some units, with their n-grams looked up and counted: what leaving a part out is quick with."""

    vocabulary: Vocabulary
    symbols: np.ndarray
    ends: np.ndarray
    levels: list[Level]
    positions: int
    classes: int

    @classmethod
    def of(cls, examples: Examples, units: str, n: int, config: BayesConfig) -> Self:
        vocabulary = Vocabulary.of(examples.texts, units, config.ends)
        symbols, ends = vocabulary.encode(examples.texts)
        longest = int(np.diff(ends, prepend=0).max(initial=0))
        positions = longest + 1 if config.positional else 1
        levels = count(symbols, ends, examples.labels, n, vocabulary, positions, config.num_labels)
        return cls(vocabulary, symbols, ends, levels, positions, config.num_labels)

    def held_out(self, labels: np.ndarray, side: np.ndarray, smoothing: str, k: float) -> np.ndarray:
        """log p(text | label) for n = 1, 2, …, N x B x C, every text judged by a model of the parts that it is not in."""
        base, n = self.vocabulary.base, len(self.levels)
        estimator = Estimator.of(smoothing, k, self.vocabulary, self.classes, self.levels)
        nats_NBC = np.zeros((n, len(labels), self.classes))
        for part in np.unique(side):
            out = np.flatnonzero(side == part)
            symbols, ends = self._texts(out)
            grams = number(symbols, ends, self.levels, base, self.positions)
            counts = [
                level.count - self._in(level, grams.at[m], labels[out], ends) for m, level in enumerate(self.levels, 1)
            ]
            weights = estimator.weigh_all(self.levels, counts, n)
            nats_NBC[:, out] = log_likelihoods(estimator, weights, grams, symbols, ends, range(1, n + 1))
        return nats_NBC

    def _texts(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts = np.concatenate([[0], self.ends[:-1]])
        rows = [self.symbols[a:z] for a, z in zip(starts[which].tolist(), self.ends[which].tolist())]
        return np.concatenate(rows), np.cumsum([len(row) for row in rows], dtype=np.int64)

    def _in(self, level: Level, gram: np.ndarray, labels: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """How much of each count comes from these texts."""
        label = np.repeat(labels, np.diff(ends, prepend=0))
        mine = level.gram() * self.classes + level.label
        here = (gram >= 0) & (level.keys[gram] % self.vocabulary.base != self.vocabulary.base - 1)
        return np.bincount(np.searchsorted(mine, gram[here] * self.classes + label[here]), minlength=len(mine))


def folds(texts: Sequence[str]) -> np.ndarray:
    """A part for every text, by a hash of the text: equal texts are on one side."""
    return np.array([zlib.crc32(" ".join(text.split()).encode(errors="replace")) % FOLDS for text in texts])


def log_priors(labels: np.ndarray, classes: int) -> np.ndarray:
    """log p(c) from counts, one added to each."""
    many = np.bincount(labels, minlength=classes) + 1
    return np.log(many / many.sum())


@dataclass(frozen=True)
class Choice:
    """What cross-validation settled: the exponents s by unit and order, the shifts b, k, and held-out accuracy and nats a text."""

    exponents: dict[str, dict[int, float]]
    shifts: np.ndarray
    k: float
    accuracy: float
    nats: float


def weigh_evidence(prior_BC: np.ndarray, evidence: Sequence[np.ndarray], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:  # fmt: skip
    """(s, b, held-out accuracy, held-out nats a text): the maximum of log p(labels) + log prior of s and b, by L-BFGS in float64."""
    prior, truth, given = torch.from_numpy(prior_BC), torch.from_numpy(labels), [torch.from_numpy(e) for e in evidence]
    log_s = torch.full((len(given),), -2.0, dtype=torch.float64, requires_grad=True)
    b_C = torch.zeros(prior.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_s, b_C], max_iter=60, line_search_fn="strong_wolfe")

    def score() -> Tensor:
        return prior + b_C + sum(s.exp() * e for s, e in zip(log_s, given))

    def loss() -> Tensor:
        optimizer.zero_grad()
        prior_nats = (b_C**2).sum() / (2 * SHIFT_VARIANCE) + log_s.exp().sum()
        value = torch.nn.functional.cross_entropy(score(), truth) + prior_nats / len(truth)
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    with torch.no_grad():
        made = score()
        right = float((made.argmax(1) == truth).double().mean())
        nats = float(torch.nn.functional.cross_entropy(made, truth))
    return log_s.detach().exp().numpy(), b_C.detach().numpy(), right, nats


def typical_length(texts: Sequence[str]) -> float:
    """The geometric mean of the lengths in characters, one added to each."""
    return math.exp(float(np.log1p([len(text) for text in texts]).mean()))


def damped(nats_OBC: np.ndarray, texts: Sequence[str], typical: float) -> np.ndarray:
    """Evidence grows with the root of the length."""
    return nats_OBC * np.sqrt(typical / (1.0 + np.array([len(text) for text in texts])))[:, None]


def choose(examples: Examples, config: BayesConfig) -> Choice:
    """Cross-validate whatever the config leaves open."""
    side, labels, typical = folds(examples.texts), examples.labels, typical_length(examples.texts)
    prior_BC = np.zeros((len(labels), config.num_labels))
    for part in np.unique(side):
        prior_BC[side == part] = log_priors(labels[side != part], config.num_labels)
    places = [(units, n) for units in config.voices for n in config.orders(units)]
    counted = {units: Counted.of(examples, units, config.orders(units)[-1], config) for units in config.voices}
    found: list[Choice] = []
    for k in ADDED if config.smooth == "add_k" and config.k is None else (config.k or 1.0,):
        made = {
            units: damped(counts.held_out(labels, side, config.smooth, k), examples.texts, typical)
            for units, counts in counted.items()
        }
        s, b_C, accuracy, nats = weigh_evidence(prior_BC, [made[units][n - 1] for units, n in places], labels)
        heard: dict[str, dict[int, float]] = {units: {} for units in config.voices}
        for (units, n), power in zip(places, s.tolist()):
            if power > SILENT:
                heard[units][n] = power
        found.append(Choice(heard, b_C, k, accuracy, nats))
    return min(found, key=lambda choice: choice.nats)


# --------------------------------------------------------------------------------------------------------------- model


class Voice(nn.Module):
    """n-gram models over one kind of unit, one a label: counts, and what follows from them."""

    BUFFERS: ClassVar[tuple[str, ...]] = ("known", "shape", "sizes", "keys", "first", "label", "count")
    known: Tensor
    shape: Tensor
    """n and the number of positions."""
    sizes: Tensor
    keys: Tensor
    first: Tensor
    label: Tensor
    count: Tensor

    def __init__(self, units: str, config: BayesConfig):
        super().__init__()
        self.units, self.config, self.k = units, config, 1.0
        for name in self.BUFFERS:
            self.register_buffer(name, torch.zeros(0, dtype=torch.uint8 if name == "known" else torch.long))
        self._made: tuple[Vocabulary, Estimator, list[Level], list[tuple[Weights, Weights]]] | None = None

    def set_counts(self, counted: Counted | None) -> None:
        """Take over what was counted; None: this kind of unit is not heard."""
        self._made = None
        for name in self.BUFFERS:
            setattr(self, name, getattr(self, name).new_zeros(0))
        if counted is None:
            return
        known = "\n".join(map(str, counted.vocabulary.known)).encode("utf-8", "surrogatepass")
        self.known = torch.from_numpy(np.frombuffer(known, np.uint8).copy())
        self.shape = torch.tensor([len(counted.levels), counted.positions])
        self.sizes = torch.tensor([[len(x.keys), len(x.count)] for x in counted.levels])
        for name in ("keys", "first", "label", "count"):
            whole = np.concatenate([getattr(level, name) for level in counted.levels])
            setattr(self, name, torch.from_numpy(whole.astype(np.int64)))

    def tables(self) -> tuple[Vocabulary, Estimator, list[Level], list[tuple[Weights, Weights]]]:
        """Everything that follows from the counts; made once."""
        if self._made is None:
            text = self.known.numpy().tobytes().decode("utf-8", "surrogatepass")
            known = tuple(text.split("\n")) if text else ()
            vocabulary = Vocabulary(
                self.units, known if self.units == "word" else tuple(map(int, known)), self.config.ends
            )
            levels, g, e = [], 0, 0
            for m, (grams, entries) in enumerate(self.sizes.tolist()):
                first, cut = self.first[g + m : g + m + grams + 1].numpy(), slice(e, e + entries)
                keys = self.keys[g : g + grams].numpy()
                levels.append(Level(keys, first, self.label[cut].numpy(), self.count[cut].numpy()))
                g, e = g + grams, e + entries
            estimator = Estimator.of(self.config.smooth, self.k, vocabulary, self.config.num_labels, levels)
            weights = estimator.weigh_all(levels, [level.count for level in levels], len(levels))
            self._made = vocabulary, estimator, levels, weights
        return self._made

    def log_likelihoods(self, texts: Sequence[str], orders: Sequence[int]) -> np.ndarray:
        """log p(text | label) for each of these orders, O x B x C."""
        vocabulary, estimator, levels, weights = self.tables()
        symbols, ends = vocabulary.encode(texts)
        grams = number(symbols, ends, levels, vocabulary.base, int(self.shape[1]))
        return log_likelihoods(estimator, weights, grams, symbols, ends, orders)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """The size of the tables is known from the data only: take that of the saved ones."""
        for name in self.BUFFERS:
            if prefix + name in state_dict:
                setattr(self, name, getattr(self, name).new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._made = None


@register("ngram", task="classify", config=BayesConfig, recipe=Recipe(update="counting", batch_size=4096))
@register("bag", task="classify", config=BayesConfig, recipe=Recipe(update="counting", batch_size=4096), fixed={"units": "word", "n": 1, "smoothing": "add_k", "ends": False})  # fmt: skip
class NgramBayes(SequenceModel, Classifier, Counting[Examples]):
    """Language models for each label, and the labels' shares."""

    config: BayesConfig
    log_prior: Tensor
    exponents: Tensor
    """s by unit and order (column n - 1)."""
    shifts: Tensor
    length: Tensor
    """L"""
    k: Tensor
    """0 until it is trained."""

    def __init__(self, config: BayesConfig):
        super().__init__(config)
        if config.positional and config.smoothing == "kneser_ney":
            raise UserError("positional=true with kneser_ney: its lower orders mix positions; use witten_bell or add_k")
        self.voices = nn.ModuleDict({units: Voice(units, config) for units in config.voices})
        widest = max(config.orders(units)[-1] for units in config.voices)
        self.register_buffer(
            "log_prior", torch.full((config.num_labels,), -math.log(config.num_labels), dtype=torch.float64)
        )
        self.register_buffer("exponents", torch.zeros(len(config.voices), widest, dtype=torch.float64))
        self.register_buffer("shifts", torch.zeros(config.num_labels, dtype=torch.float64))
        self.register_buffer("length", torch.ones((), dtype=torch.float64))
        self.register_buffer("k", torch.zeros((), dtype=torch.float64))
        self.notes: list[str] = []

    @property
    def parameters_count(self) -> int:
        """Counts that are not 0."""
        return sum(voice.count.numel() for voice in self._voices())

    def _voices(self) -> list[Voice]:
        return [voice for voice in self.voices.values() if isinstance(voice, Voice)]

    def summarize(self, batch: Batch) -> Examples:
        assert isinstance(batch, TextBatch)
        return Examples(batch.texts, batch.targets_BT[:, 0].numpy().astype(np.int64))

    def update(self, stats: Examples, rate: float = 1.0) -> Self:
        """Settle what is open, then count everything. Raises UserError for ``rate`` other than 1."""
        if rate != 1:
            raise UserError(f"rate={rate}: Bayes is estimated at once from all its counts; rate must be 1")
        stats = stats.sorted()
        c = choose(stats, self.config)
        self.log_prior = torch.from_numpy(log_priors(stats.labels, self.config.num_labels))
        self.shifts, self.k = torch.from_numpy(c.shifts), torch.tensor(c.k, dtype=torch.float64)
        self.length = torch.tensor(typical_length(stats.texts), dtype=torch.float64)
        self.exponents = torch.zeros_like(self.exponents)
        for row, voice in enumerate(self._voices()):
            heard = c.exponents[voice.units]
            for n, power in heard.items():
                self.exponents[row, n - 1] = power
            voice.set_counts(Counted.of(stats, voice.units, max(heard), self.config) if heard else None)
        settled = ", ".join(f"{u} n = {n}: {s:.3g}" for u, heard in c.exponents.items() for n, s in heard.items())
        settled = settled or "all 0 (nothing in the texts tells labels apart)"
        added = f"; k = {c.k:g}" if self.config.smooth == "add_k" else ""
        self.notes = [f"exponents {settled}{added}; accuracy {c.accuracy:.4f} by cross-validation on train"]
        return self

    def classify(self, batch: Batch) -> Tensor:
        assert isinstance(batch, TextBatch)
        if not self.k:
            raise DataError("this model has not been trained")
        score_BC = (self.log_prior + self.shifts).expand(len(batch.texts), -1)
        for voice, powers in zip(self._voices(), self.exponents):
            orders = (powers.nonzero()[:, 0] + 1).tolist()
            if orders:
                voice.k = float(self.k)
                nats_OBC = damped(voice.log_likelihoods(batch.texts, orders), batch.texts, float(self.length))
                score_BC = score_BC + torch.einsum("o,obc->bc", powers[powers > 0], torch.from_numpy(nats_OBC))
        return score_BC.log_softmax(-1)
