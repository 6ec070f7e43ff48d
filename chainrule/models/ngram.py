"""Markov chains and n-grams: remember the last n - 1 symbols, forget the rest.

    p(x_t | x_<t)  =  p(x_t | x_{t-n+1} .. x_{t-1})                                                    (n = 2: Markov)

Write h for the context, h' for h without its oldest symbol, c for counts. All four estimators have one form: take ``d``
off every count, set aside ``e`` in every context, and hand what is reserved to a lower distribution:

    p(w | h) = (c(hw) - d) / (c(h.) + e)  +  g(h) * lower(w),        g(h) = (sum_w d + e) / (c(h.) + e)

| smoothing   | d             | e       | lower       | source                                      |
|-------------|---------------|---------|-------------|---------------------------------------------|
| ml          | 0             | 0       | (nothing)   | relative frequency, Markov 1913             |
| add_k       | 0             | k V     | 1 / V       | Lidstone 1920; k = 1 is Laplace's rule      |
| witten_bell | 0             | N1+(h.) | p(w, if h') | Witten & Bell 1991, method C                |
| kneser_ney  | D1, D2 or D3+ | 0       | p(w, if h') | Chen & Goodman 1999, interpolated, modified |

N1+(h.) is the number of different symbols seen after h. Single symbols interpolate with 1 / V. Kneser-Ney counts
differently below the highest order: c(g) becomes N1+(.g), the number of different symbols seen *before* g, except where
g begins with the start symbol, which nothing precedes (as in KenLM, Heafield et al. 2013). Its discounts follow, for
every order by itself, from n_j, the number of n-grams of that order with count j:

    Y = n_1 / (n_1 + 2 n_2),        D_j = j - (j + 1) Y n_{j+1} / n_j        for j = 1, 2, 3+

**Beginnings.** The start symbol is one real context symbol: it is never predicted, nothing extends to its left, and no
n-gram spans it. Where nothing is known (a stream joined in the middle) the context is shorter, down to empty. A model
that never saw a start symbol reads one as "nothing is known". A context never seen backs off wholly to h'; ``ml``
cannot, and says so, and ``add_k`` is uniform there.

**Deviations.** Where n_j is 0 or D_j is not above 0 for some j (D_j never exceeds j), that order takes 0.5, 1, 1.5
instead, and ``notes`` says so; D_j = 0 falls back too, because it would leave unseen symbols impossible. The base 1 / V
is over the V symbols that can be predicted. ``auto`` is the family's own choice: add_k for Markov, kneser_ney for the
n-gram.

**Storage.** The windows of 1 .. n symbols that occur form a trie, numbered breadth-first. ``keys[i]``, parent * (V + 1)
+ last symbol, increases strictly, so that one binary search finds a child: exact, no hashing, for any V and n. The
table is closed under dropping the first or the last symbol. A look-up is in back-off form: p of the longest window
found, times g of the longer contexts.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from chainrule.core import (
    IGNORED,
    Autoregressive,
    Batch,
    Config,
    Counting,
    Prediction,
    Recipe,
    State,
    UserError,
    draw,
    register,
)

Smoothing = Literal["auto", "ml", "add_k", "witten_bell", "kneser_ney"]


class NgramConfig(Config):
    """``n`` is the length of the n-gram: it sees n - 1 symbols back."""

    symbols: int = Field(ge=1)
    n: int = Field(default=5, ge=1, le=64)
    smoothing: Smoothing = "auto"
    k: float = Field(default=1.0, gt=0)
    """What add_k adds to every count."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {"n": 3}, "small": {"n": 5}, "base": {"n": 7}}


class MarkovConfig(NgramConfig):
    """A chain of order one: n = 2."""

    n: Literal[2] = 2  # type: ignore[assignment]

    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {}, "small": {}, "base": {}}


# ------------------------------------------------------------------------------------------------------------ counting


@dataclass(frozen=True, eq=False)
class Counts:
    """How often every window of 1 .. n symbols was predicted, as a breadth-first trie (see the top of the file).

    ``keys[0]`` = -1 is the root. A window that only ever was context has count 0. Counts of parts add up exactly.
    """

    symbols: int
    n: int
    keys: np.ndarray
    counts: np.ndarray

    @property
    def base(self) -> int:
        return self.symbols + 1

    @functools.cached_property
    def parent(self) -> np.ndarray:
        return self.keys // self.base

    @functools.cached_property
    def last(self) -> np.ndarray:
        return self.keys % self.base

    @functools.cached_property
    def levels(self) -> list[slice]:
        """``levels[m]``: where the windows of m symbols stand, m = 0 .. n."""
        bounds = [0, 1]
        for _ in range(self.n):
            bounds.append(int(np.searchsorted(self.keys, bounds[-1] * self.base)))
        return [slice(a, b) for a, b in itertools.pairwise(bounds)]

    @property
    def events(self) -> int:
        """Number of symbols that were counted."""
        return int(self.counts[self.levels[1]].sum())

    @classmethod
    def of(cls, batch: Batch, symbols: int, n: int) -> Self:
        """Count a batch: every scored target with the up to n - 1 symbols before it."""
        previous, symbol, event = _occurrences(batch, symbols)
        window = np.zeros(len(symbol), np.int64)
        keys, counts, size = [np.array([-1])], [np.zeros(1, np.int64)], 1
        for m in range(1, n + 1):
            shorter = window if m == 1 else np.where(previous >= 0, window[previous], -1)
            alive = np.flatnonzero((shorter >= 0) & (symbol >= 0))
            found, index = np.unique(shorter[alive] * (symbols + 1) + symbol[alive], return_inverse=True)
            keys.append(found)
            counts.append(np.bincount(index[event[alive]], minlength=len(found)))
            window = np.full(len(symbol), -1)
            window[alive] = size + index
            size += len(found)
        return cls(symbols, n, np.concatenate(keys), np.concatenate(counts))._pruned()

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """The counts of all parts together."""
        first = parts[0]
        if any((part.symbols, part.n) != (first.symbols, first.n) for part in parts):
            raise UserError("counts over different alphabets or of different n cannot be added")
        moved = [np.zeros(len(part.keys), np.int64) for part in parts]
        keys, counts, size = [np.array([-1])], [np.zeros(1, np.int64)], 1
        for m in range(1, first.n + 1):
            at = [part.levels[m] for part in parts]
            asked = [new[p.parent[s]] * first.base + p.last[s] for p, s, new in zip(parts, at, moved, strict=True)]
            found, index = np.unique(np.concatenate(asked), return_inverse=True)
            many = np.concatenate([p.counts[s] for p, s in zip(parts, at, strict=True)])
            keys.append(found)
            counts.append(np.bincount(index, weights=many, minlength=len(found)).astype(np.int64))
            ends = np.cumsum([s.stop - s.start for s in at])
            for new, s, piece in zip(moved, at, np.split(index, ends[:-1]), strict=True):
                new[s] = size + piece
            size += len(found)
        return cls(first.symbols, first.n, np.concatenate(keys), np.concatenate(counts))

    def __add__(self, other: Self) -> Self:
        return self.merge([self, other])

    def shorten(self, n: int) -> Self:
        """What counting with a smaller ``n`` would have given, without counting again."""
        if not 1 <= n <= self.n:
            raise UserError(f"n={n}: these counts hold n = 1 to {self.n}; count again with n={n}")
        stop = self.levels[n].stop
        return type(self)(self.symbols, n, self.keys[:stop], self.counts[:stop])._pruned()

    def _pruned(self) -> Self:
        """Keep what was predicted and what stands before it."""
        keep = self.counts > 0
        keep[0] = True
        for level in reversed(self.levels[1:]):
            keep[self.parent[level][keep[level]]] = True
        number = np.cumsum(keep) - 1
        keys = number[self.parent[keep]] * self.base + self.last[keep]
        keys[0] = -1
        return type(self)(self.symbols, self.n, keys, self.counts[keep])

    @functools.cached_property
    def suffix(self) -> np.ndarray:
        """The window without its first symbol."""
        suffix = np.zeros(len(self.keys), np.int64)
        for m in range(2, self.n + 1):
            level, below = self.levels[m], self.levels[m - 1]
            asked = suffix[self.parent[level]] * self.base + self.last[level]
            suffix[level] = below.start + np.searchsorted(self.keys[below], asked)
        return suffix

    def continuations(self) -> np.ndarray:
        """N1+(.g) below the highest order; the count itself at the highest, and where g begins a record."""
        many = np.zeros(len(self.keys), np.int64)
        begins = self.last == self.symbols
        for m in range(1, self.n + 1):
            level = self.levels[m]
            if m > 1:
                begins[level] = begins[self.parent[level]]
            if m == self.n:
                many[level] = self.counts[level]
                break
            longer = self.levels[m + 1]
            seen = self.suffix[longer][self.counts[longer] > 0] - level.start
            before = np.bincount(seen, minlength=level.stop - level.start)
            many[level] = np.where(begins[level], self.counts[level], before)
        return many


def _occurrences(batch: Batch, symbols: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A batch as a flat list of symbols: (index of the symbol before it or -1, symbol or -1 for a pad, is it counted?).

    Inputs come first. A target that is also the next input is that input; any other (the last of a row, the last before
    a start symbol) is added at the end. The first input of a row that joins a stream (no start symbol, not carried, its
    target scored) is counted with an empty context: nothing else would count it.
    """
    inputs, targets = batch.inputs_BT.cpu().numpy().astype(np.int64), batch.targets_BT.cpu().numpy().astype(np.int64)
    rows, length = inputs.shape
    valid = np.ones(inputs.shape, bool)
    if batch.lengths_B is not None:
        valid = np.arange(length) < batch.lengths_B.cpu().numpy()[:, None]
    scored = valid & (targets != IGNORED)
    if (valid & ((inputs < 0) | (inputs > symbols))).any() or (scored & ((targets < 0) | (targets >= symbols))).any():
        raise UserError(f"a batch holds ids outside 0..{symbols - 1} (inputs may also be the start symbol {symbols})")

    index = np.arange(rows * length).reshape(rows, length)
    previous = index - 1
    previous[:, :1] = -1
    previous[inputs == symbols] = -1
    follows = np.zeros(inputs.shape, bool)
    follows[:, :-1] = (targets == np.roll(inputs, -1, axis=1))[:, :-1] & (scored & np.roll(valid, -1, axis=1))[:, :-1]
    event = np.roll(follows, 1, axis=1)
    event[:, :1] = False if batch.carried else scored[:, :1] & (inputs[:, :1] != symbols)

    extra = scored & ~follows
    symbol = np.concatenate([np.where(valid, inputs, -1).ravel(), targets[extra]])
    return np.concatenate([previous.ravel(), index[extra]]), symbol, np.append(event, np.ones(extra.sum(), bool))


# ---------------------------------------------------------------------------------------------------------- estimation


def discounts(many: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Kneser-Ney's (0, D1, D2, D3+) from the counts of one order; with a reason where the closed form does not hold.

    Chen & Goodman (1999). Little data and small alphabets break it: see Deviations.
    """
    n = [0, *(int((many == j).sum()) for j in (1, 2, 3, 4))]
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


def estimate(counts: Counts, smoothing: Smoothing, k: float) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(log p of every window's last symbol given the others, log g of every window as a context, notes)."""
    many = counts.continuations() if smoothing == "kneser_ney" else counts.counts
    interpolated = smoothing in ("witten_bell", "kneser_ney")
    p, g = np.full(len(counts.keys), 1 / counts.symbols), np.ones(len(counts.keys))
    notes: list[str] = []
    for m in range(1, counts.n + 1):
        level, above = counts.levels[m], counts.levels[m - 1]
        c, context = many[level], counts.parent[level] - above.start
        per_context = functools.partial(np.bincount, context, minlength=above.stop - above.start)
        d, e = np.zeros(len(c)), np.zeros(above.stop - above.start)
        if smoothing == "add_k":
            e += k * counts.symbols
        elif smoothing == "witten_bell":
            e += per_context(weights=c > 0)
        elif smoothing == "kneser_ney":
            by_count, wrong = discounts(c)
            d = by_count[np.minimum(c, 3)]
            if wrong is not None:
                notes.append(f"order {m}: {wrong}, so the discounts are 0.5, 1, 1.5")
        total = per_context(weights=c)
        whole = np.where(total > 0, total + e, 1.0)
        g[above] = np.where(total > 0, (per_context(weights=d) + e) / whole, 1.0)
        lower = p[counts.suffix[level]] if interpolated else 1 / counts.symbols
        p[level] = (c - d) / whole[context] + g[above][context] * lower
    with np.errstate(divide="ignore"):
        return np.log(p), np.log(g), notes


# ---------------------------------------------------------------------------------------------------------- prediction


@dataclass(frozen=True)
class Tables:
    """The trie with its two numbers a window."""

    symbols: int
    keys: Tensor
    log_prob: Tensor
    log_backoff: Tensor

    def child(self, window: Tensor, symbol: Tensor) -> Tensor:
        """Index of ``window`` followed by ``symbol``, -1 where that (or either of them) is not in the table."""
        base = self.symbols + 1
        legal = (window >= 0) & (symbol >= 0) & (symbol < base)
        key = torch.where(legal, window * base + symbol, -2)
        index = torch.searchsorted(self.keys, key).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[index] == key, index, -1)

    def backoff(self, window: Tensor) -> Tensor:
        """log g, and 0 for a window that is not in the table."""
        return torch.where(window >= 0, self.log_backoff[window.clamp(min=0)], 0.0)


class Backoff(Prediction):
    """Distributions that are looked up. ``contexts_BTm``: the contexts to try, longest first; -1 is not in the table.

    ``log_prob`` needs B x T x n numbers whatever V is; ``sample`` and ``top`` make logits for some positions at a time.
    """

    chunk_elements = 1 << 22

    def __init__(self, tables: Tables, contexts_BTm: Tensor):
        self.tables, self.contexts_BTm = tables, contexts_BTm

    def check(self, contexts: Tensor) -> None:
        """A distribution exists after every context; whoever cannot promise that says so here."""

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        tables, scored = self.tables, targets_BT != IGNORED
        contexts, symbol = self.contexts_BTm[scored], targets_BT[scored]
        if ((symbol < 0) | (symbol >= tables.symbols)).any():
            raise IndexError(f"a target is outside 0..{tables.symbols - 1}")
        self.check(contexts)
        answer = torch.zeros(len(symbol), dtype=torch.float64, device=symbol.device)
        left = torch.arange(len(symbol), device=symbol.device)
        for context in contexts.unbind(-1):
            context = context[left]
            entry = tables.child(context, symbol[left])
            found = entry >= 0
            answer[left] += torch.where(found, tables.log_prob[entry.clamp(min=0)], tables.backoff(context))
            left = left[~found]
        answer[left] -= math.log(tables.symbols)
        result = torch.zeros(targets_BT.shape, dtype=torch.float64, device=symbol.device)
        result[scored] = answer
        return result

    def logits(self) -> Tensor:
        """log p, normalised, float64."""
        tables, contexts = self.tables, self.contexts_BTm.flatten(0, 1)
        self.check(contexts)
        base, positions = tables.symbols + 1, torch.arange(len(contexts), device=contexts.device)
        through = tables.backoff(contexts).cumsum(-1)
        beyond = torch.nn.functional.pad(through, (1, 0))[:, :-1]

        # Every symbol seen after any of the contexts, shorter contexts first, behind one row of "seen after none".
        context, longer = contexts.t().flip(0).reshape(-1), beyond.t().flip(0).reshape(-1)
        first = torch.searchsorted(tables.keys, context * base)
        many = torch.where(context >= 0, torch.searchsorted(tables.keys, (context + 1) * base) - first, 0)
        pair = torch.arange(len(context), device=context.device).repeat_interleave(many)
        place = torch.arange(len(pair), device=context.device)
        entry = first[pair] + place - (many.cumsum(0) - many)[pair]
        log_p = torch.cat([through[:, -1] - math.log(tables.symbols), tables.log_prob[entry] + longer[pair]])

        # The longest context that has seen the symbol decides: it comes last.
        cell = positions.repeat(self.contexts_BTm.shape[-1])[pair] * base + tables.keys[entry] % base
        decides = positions.repeat_interleave(base).scatter_reduce(0, cell, len(positions) + place, "amax")
        shape = (*self.contexts_BTm.shape[:2], base)
        return log_p[decides].view(shape)[..., : tables.symbols]

    def _pieces(self) -> Iterable[Backoff]:
        size = max(1, self.chunk_elements // self.tables.symbols)
        return (type(self)(self.tables, part.unsqueeze(0)) for part in self.contexts_BTm.flatten(0, 1).split(size))

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        values, index = zip(*(Prediction.top(piece, k) for piece in self._pieces()), strict=True)
        shape = (*self.contexts_BTm.shape[:2], k)
        return torch.cat(values, 1).view(shape), torch.cat(index, 1).view(shape)

    def sample(self, rng: torch.Generator | None = None) -> Tensor:
        drawn = [draw(piece.logits(), rng) for piece in self._pieces()]
        return torch.cat(drawn, 1).view(self.contexts_BTm.shape[:2])

    def select(self, time_B: Tensor) -> Self:
        rows = torch.arange(len(time_B), device=time_B.device)
        return type(self)(self.tables, self.contexts_BTm[rows, time_B].unsqueeze(1))


class Unsmoothed(Backoff):
    """Maximum likelihood: impossible targets have log p = -inf, and after an unseen context there is no answer."""

    def check(self, contexts: Tensor) -> None:
        trained = len(self.tables.keys) > 1
        if trained and (self.tables.backoff(contexts) == 0).any():
            raise UserError(
                "smoothing=ml has no estimate after a context that was never seen in training: "
                "use smoothing=kneser_ney, witten_bell or add_k, or a smaller n"
            )


# --------------------------------------------------------------------------------------------------------------- model


@dataclass
class NgramState(State):
    """The last n - 1 symbols, oldest first; -1 where nothing is known."""

    context_Bm: Tensor


class CountModel(Autoregressive, Counting[Counts]):
    """What Markov and n-gram share: everything but the smoothing that ``auto`` means."""

    customary: ClassVar[Smoothing]
    config: NgramConfig
    keys: Tensor
    log_table: Tensor
    log_backoff: Tensor

    def __init__(self, config: NgramConfig):
        super().__init__(config)
        self.symbols, self.context = config.symbols, config.n - 1
        self.smoothing: Smoothing = self.customary if config.smoothing == "auto" else config.smoothing
        self.notes: list[str] = []
        """One line for each thing about the last ``update`` that a reader should know."""
        self.register_buffer("keys", torch.full((1,), -1))
        self.register_buffer("log_table", torch.full((1,), -math.log(config.symbols), dtype=torch.float64))
        self.register_buffer("log_backoff", torch.zeros(1, dtype=torch.float64))

    @property
    def parameters_count(self) -> int:
        """Number of distinct n-grams stored, of all lengths."""
        return len(self.keys) - 1

    def summarize(self, batch: Batch) -> Counts:
        """Count a batch. Where a row goes on from another (a shard), repeat its last max(n, 2) symbols with the
        targets among them ``IGNORED``: context, not counted, so that the counts of shards add up to those of the whole.
        """
        return Counts.of(batch, self.symbols, self.config.n)

    def update(self, stats: Counts, rate: float = 1.0) -> Self:
        """Estimate from counts (those of a larger n will do). There is no part of the way: ``rate`` must be 1."""
        if rate != 1:
            raise UserError(f"rate={rate}: an n-gram is estimated at once from all its counts; rate must be 1")
        if stats.symbols != self.symbols:
            raise UserError(f"counts over {stats.symbols} symbols do not fit a model over {self.symbols}")
        stats = stats if stats.n == self.config.n else stats.shorten(self.config.n)
        log_prob, log_backoff, self.notes = estimate(stats, self.smoothing, self.config.k)
        device = self.keys.device
        self.keys, self.log_table, self.log_backoff = (
            torch.from_numpy(x).to(device) for x in (stats.keys, log_prob, log_backoff)
        )
        return self

    def ladder(self, stats: Counts, orders: Sequence[int]) -> list[Self]:
        """A model of this kind for every n in ``orders``, from one pass of counting at the largest."""
        return [type(self)(self.config.replace(n=n)).update(stats) for n in orders]

    def empty(self, batch: int, capacity: int | None = None) -> NgramState:
        device = self.keys.device
        nothing = torch.full((batch, self.config.n - 1), -1, device=device)
        return NgramState(torch.zeros(batch, dtype=torch.long, device=device), nothing)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Backoff, NgramState]:
        rows, length = inputs_BT.shape
        before = self.empty(rows) if state is None else state
        assert isinstance(before, NgramState)
        if lengths_B is None:
            lengths_B = torch.full((rows,), length, device=inputs_BT.device)
        pad_BT = torch.arange(length, device=inputs_BT.device) >= lengths_B[:, None]
        read_BT = torch.cat([before.context_Bm, inputs_BT.masked_fill(pad_BT, -1)], 1)
        last_Bm = lengths_B[:, None] + torch.arange(self.config.n - 1, device=inputs_BT.device)
        after = NgramState(before.length_B + lengths_B, read_BT.gather(1, last_Bm))
        tables = Tables(self.symbols, self.keys, self.log_table, self.log_backoff)
        windows_BTm = self._windows(tables, read_BT)[:, self.config.n - 1 :]
        if self.smoothing in ("witten_bell", "kneser_ney"):
            return Backoff(tables, windows_BTm.flip(-1)), after
        depth_BT = self._depth(tables, read_BT)[:, self.config.n - 1 :]
        only_BT1 = windows_BTm.gather(2, depth_BT[..., None])
        return (Unsmoothed if self.smoothing == "ml" else Backoff)(tables, only_BT1), after

    def _windows(self, tables: Tables, read_BT: Tensor) -> Tensor:
        """Index of the window of m symbols that ends at each place, m = 0 .. n - 1 in the last dimension."""
        windows = [torch.zeros_like(read_BT)]
        for m in range(1, self.config.n):
            shorter = windows[-1] if m == 1 else torch.nn.functional.pad(windows[-1][:, :-1], (1, 0), value=-1)
            windows.append(tables.child(shorter, read_BT))
        return torch.stack(windows, -1)

    def _depth(self, tables: Tables, read_BT: Tensor) -> Tensor:
        """How many symbols are known at each place, at most n - 1: what is not interpolated uses just these."""
        place = torch.arange(read_BT.shape[1], device=read_BT.device)
        starts = read_BT.new_tensor(self.start_symbol)
        known = (tables.child(torch.zeros_like(starts), starts) >= 0).long()
        cut_BT = torch.where(read_BT == starts, place - known, torch.where(read_BT < 0, place, -1))
        return (place - cut_BT.cummax(1).values).clamp(max=self.config.n - 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """The size of the tables is known from the data only: take that of the saved ones."""
        for name in ("keys", "log_table", "log_backoff"):
            if prefix + name in state_dict:
                setattr(self, name, getattr(self, name).new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


@register("markov", config=MarkovConfig, recipe=Recipe(update="counting"))
class Markov(CountModel):
    """The last symbol decides."""

    customary = "add_k"


@register("ngram", config=NgramConfig, recipe=Recipe(update="counting"))
class Ngram(CountModel):
    """The last n - 1 symbols decide."""

    customary = "kneser_ney"
