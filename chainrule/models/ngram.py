"""Markov chains and n-grams: the last n - 1 tokens predict the next.

    p(x_t | x_<t)  =  p(x_t | x_{t-n+1} .. x_{t-1})                                                    (n = 2: Markov)

Write h for the context, h' for h without its oldest token, c for counts. All four estimators have one form: subtract
``d`` from every count, reserve ``e`` in every context, and distribute what is reserved by a lower distribution:

    p(w | h) = (c(hw) - d) / (c(h.) + e)  +  g(h) * lower(w),        g(h) = (sum_w d + e) / (c(h.) + e)

| smoothing   | d             | e       | lower       | source                                      |
|-------------|---------------|---------|-------------|---------------------------------------------|
| ml          | 0             | 0       | (nothing)   | relative frequency, Markov 1913             |
| add_k       | 0             | k V     | 1 / V       | Lidstone 1920; k = 1 is Laplace's rule      |
| witten_bell | 0             | N1+(h.) | p(w, if h') | Witten & Bell 1991, method C                |
| kneser_ney  | D1, D2 or D3+ | 0       | p(w, if h') | Chen & Goodman 1999, interpolated, modified |

N1+(h.) is the number of different tokens seen after h. Unigrams interpolate with 1 / V. Below the highest order,
Kneser-Ney replaces c(g) by N1+(.g), the number of different tokens seen *before* g, except where g begins with the
start symbol, which nothing precedes (as in KenLM, Heafield et al. 2013). The discounts of every order follow from
n_j, the number of n-grams of that order with count j:

    Y = n_1 / (n_1 + 2 n_2),        D_j = j - (j + 1) Y n_{j+1} / n_j        for j = 1, 2, 3+

**Beginnings.** The start symbol is a context token: it is never predicted, nothing precedes it, and no n-gram spans
it. Where nothing is known (a stream joined in the middle) the context is shorter, down to empty. A model that never
saw a start symbol treats it as "nothing is known". An unseen context backs off wholly to h'; ``ml`` cannot, and
raises an error, and ``add_k`` is uniform there.

**Deviations.** Where n_j is 0 or D_j is not above 0 for some j (D_j never exceeds j), the discounts of that order are
0.5, 1, 1.5, and ``notes`` says so; D_j = 0 is replaced too, because it would make unseen tokens impossible. V in 1 /
V counts the tokens that can be predicted. ``auto`` is add_k for Markov and kneser_ney for the n-gram.

**Pruning.** ``prune=[0, 0, 1]`` drops n-grams counted at most so often (by length; the last number applies to all
longer ones): they give their whole count to g. Counts of lower orders and discounts are those of all n-grams (as in
KenLM).

**Storage.** The n-grams of 1 .. n tokens form a trie (``chainrule.counting.counts``): exact, without hashing, for any V
and n. A look-up multiplies p of the longest n-gram found by g of the longer contexts. Imported tables
(``smoothing="backoff"``) are used as they are, and cannot be estimated.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from chainrule.core import (
    IGNORED,
    Autoregressive,
    BacksOff,
    Batch,
    Config,
    ContextSteps,
    Prediction,
    Randomness,
    Recipe,
    State,
    UserError,
    draw,
    register,
)
from chainrule.counting.counts import Counts, Storage, estimate, first_children, levels, parse_memory
from chainrule.counting.model import CountingModel, DataSized, RecentState, resume, within_lengths

Smoothing = Literal["auto", "ml", "add_k", "witten_bell", "kneser_ney", "backoff"]


def _thresholds(prune: list[int]) -> list[int]:
    if any(many < 0 for many in prune) or prune != sorted(prune):
        raise ValueError("expected counts that do not fall with the length of the n-gram, such as [0, 0, 1]")
    return prune


def _size(memory: str | None) -> str | None:
    if memory is not None:
        parse_memory(memory)
    return memory


class NgramConfig(Config):
    """Settings of an n-gram model."""

    vocab_size: int = Field(ge=1)
    n: int = Field(default=5, ge=1, le=64)
    """Length of the n-grams: n - 1 tokens predict the next."""
    smoothing: Smoothing = "auto"
    k: float = Field(default=1.0, gt=0)
    """Constant that add_k adds to every count."""
    prune: Annotated[list[int], AfterValidator(_thresholds)] = []
    """Drop n-grams counted at most so often: one number for each length, the last for all longer ones."""
    memory: Annotated[str | None, AfterValidator(_size)] = None
    """Tables larger than this, such as 2G, are counted and estimated in temporary files; None: never."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {"n": 3}, "small": {"n": 5}, "base": {"n": 7}}


class MarkovConfig(NgramConfig):
    """Settings of a Markov chain of order one: n = 2."""

    n: Literal[2] = 2  # type: ignore[assignment]

    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {}, "small": {}, "base": {}}


# ----------------------------------------------------------------------------------------------------------- prediction


@dataclass(frozen=True, eq=False)
class Tables:
    """Trie of n-grams with log p and log g; the longest n-grams are no contexts and have no ``log_backoff``."""

    vocab_size: int
    keys: Tensor
    log_prob: Tensor
    log_backoff: Tensor

    def child(self, ngram: Tensor, token: Tensor) -> Tensor:
        """Return the index of ``ngram`` followed by ``token``, -1 where that (or either of them) is not in the
        table.

        Args:
            ngram: indices of n-grams.
            token: tokens.
        """
        base = self.vocab_size + 1
        legal = (ngram >= 0) & (token >= 0) & (token < base)
        key = torch.where(legal, ngram * base + token, -2)
        index = torch.searchsorted(self.keys, key).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[index] == key, index, -1)

    def backoff(self, context: Tensor) -> Tensor:
        """Return log g, 0 for a context that is not in the table."""
        return torch.where(context >= 0, self.log_backoff[context.clamp(min=0)], 0.0)

    @functools.cached_property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """Input of the compiled ``top``: keys, first child and best child of each context, log p, log g."""
        from chainrule.counting import kernels

        keys, log_prob, log_backoff = (x.numpy() for x in (self.keys, self.log_prob, self.log_backoff))
        first = first_children(keys, self.vocab_size + 1, len(log_backoff))
        best = np.empty(len(log_backoff), np.int64)
        kernels.best_children(first, keys, log_prob, self.vocab_size + 1, best)
        return keys, first, best, log_prob, log_backoff


class Backoff(Prediction):
    """Distributions from back-off tables. ``log_prob`` and ``top`` need memory for B x T x n numbers, whatever V is.

    Args:
        tables: the tables.
        contexts_BTm: indices of the contexts to try, longest first; -1: not in the table.
    """

    chunk_elements = 1 << 22

    def __init__(self, tables: Tables, contexts_BTm: Tensor):
        self.tables, self.contexts_BTm = tables, contexts_BTm

    def check(self, contexts: Tensor) -> None:
        """Raise UserError if there is no distribution after one of the contexts."""

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        tables, scored = self.tables, targets_BT != IGNORED
        contexts, token = self.contexts_BTm[scored], targets_BT[scored]
        if ((token < 0) | (token >= tables.vocab_size)).any():
            raise IndexError(f"a target is outside 0..{tables.vocab_size - 1}")
        self.check(contexts)
        answer = torch.zeros(len(token), dtype=torch.float64, device=token.device)
        left = torch.arange(len(token), device=token.device)
        for context in contexts.unbind(-1):
            context = context[left]
            entry = tables.child(context, token[left])
            found = entry >= 0
            answer[left] += torch.where(found, tables.log_prob[entry.clamp(min=0)], tables.backoff(context))
            left = left[~found]
        answer[left] -= math.log(tables.vocab_size)
        result = torch.zeros(targets_BT.shape, dtype=torch.float64, device=token.device)
        result[scored] = answer
        return result

    def steps(self, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether each target was seen after each context, and its log p after this one and the shorter ones,
        both B x T x m.

        Args:
            targets_BT: tokens.
        """
        tables, contexts_BTm = self.tables, self.contexts_BTm
        self.check(contexts_BTm)
        entry_BTm, through_BTm = tables.child(contexts_BTm, targets_BT[..., None]), tables.backoff(contexts_BTm)
        own_BTm = tables.log_prob[entry_BTm.clamp(min=0)]
        log_p_mBT = [torch.full_like(own_BTm[..., 0], -math.log(tables.vocab_size))]
        for m in reversed(range(contexts_BTm.shape[-1])):
            shorter_BT = through_BTm[..., m] + log_p_mBT[-1]
            log_p_mBT.append(torch.where(entry_BTm[..., m] >= 0, own_BTm[..., m], shorter_BT))
        return entry_BTm >= 0, torch.stack(log_p_mBT[:0:-1], -1)

    def logits(self) -> Tensor:
        """Return log p, normalised, float64, B x T x V."""
        tables, contexts = self.tables, self.contexts_BTm.flatten(0, 1)
        self.check(contexts)
        base, positions = tables.vocab_size + 1, torch.arange(len(contexts), device=contexts.device)
        through = tables.backoff(contexts).cumsum(-1)
        beyond = torch.nn.functional.pad(through, (1, 0))[:, :-1]

        # All tokens seen after any of the contexts, shorter contexts first, after one row for "seen after none".
        context, longer = contexts.t().flip(0).reshape(-1), beyond.t().flip(0).reshape(-1)
        first = torch.searchsorted(tables.keys, context * base)
        many = torch.where(context >= 0, torch.searchsorted(tables.keys, (context + 1) * base) - first, 0)
        pair = torch.arange(len(context), device=context.device).repeat_interleave(many)
        place = torch.arange(len(pair), device=context.device)
        entry = first[pair] + place - (many.cumsum(0) - many)[pair]
        log_p = torch.cat([through[:, -1] - math.log(tables.vocab_size), tables.log_prob[entry] + longer[pair]])

        # The longest context in which the token was seen decides: it comes last.
        cell = positions.repeat(self.contexts_BTm.shape[-1])[pair] * base + tables.keys[entry] % base
        decides = positions.repeat_interleave(base).scatter_reduce(0, cell, len(positions) + place, "amax")
        shape = (*self.contexts_BTm.shape[:2], base)
        return log_p[decides].view(shape)[..., : tables.vocab_size]

    def split(self, size: int) -> Iterable[Self]:
        return (type(self)(self.tables, part.unsqueeze(0)) for part in self.contexts_BTm.flatten(0, 1).split(size))

    def _pieces(self) -> Iterable[Self]:
        return self.split(max(1, self.chunk_elements // self.tables.vocab_size))

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the k most probable tokens, exactly: from the table entries on a CPU, else from logits.

        Args:
            k: number of tokens.

        Returns:
            log p and ids, each B x T x k.
        """
        from chainrule.counting import kernels

        shape = (*self.contexts_BTm.shape[:2], k)
        if self.contexts_BTm.device.type != "cpu" or k > self.tables.vocab_size:
            values, index = zip(*(Prediction.top(piece, k) for piece in self._pieces()), strict=True)
            return torch.cat(values, 1).view(shape), torch.cat(index, 1).view(shape)
        contexts = self.contexts_BTm.flatten(0, 1)
        self.check(contexts)
        values, index = np.empty((len(contexts), k)), np.empty((len(contexts), k), np.int64)
        keys, first, best, log_prob, log_backoff = self.tables.arrays
        rows = contexts.contiguous().numpy()
        kernels.top(keys, first, best, log_prob, log_backoff, rows, self.tables.vocab_size + 1, values, index)
        return torch.from_numpy(values).view(shape), torch.from_numpy(index).view(shape)

    def sample(self, rng: Randomness = None) -> Tensor:
        drawn = [draw(piece.logits(), rng) for piece in self._pieces()]
        return torch.cat(drawn, 1).view(self.contexts_BTm.shape[:2])

    def select(self, time_B: Tensor) -> Self:
        rows = torch.arange(len(time_B), device=time_B.device)
        return type(self)(self.tables, self.contexts_BTm[rows, time_B].unsqueeze(1))


class Unsmoothed(Backoff):
    """Maximum likelihood: impossible targets have log p = -inf, and an unseen context is an error."""

    def check(self, contexts: Tensor) -> None:
        trained = len(self.tables.keys) > 1
        if trained and (self.tables.backoff(contexts) == 0).any():
            raise UserError(
                "smoothing=ml has no estimate after a context that was never seen in training: "
                "use smoothing=kneser_ney, witten_bell or add_k, or a smaller n"
            )


# ---------------------------------------------------------------------------------------------------------------- model


class CountModel(DataSized, CountingModel[Counts], Autoregressive, BacksOff):
    """An n-gram model; subclasses name the smoothing of ``auto``."""

    customary: ClassVar[Smoothing]
    config: NgramConfig
    keys: Tensor
    log_table: Tensor
    log_backoff: Tensor

    def __init__(self, config: NgramConfig):
        super().__init__(config)
        self.vocab_size, self.context = config.vocab_size, config.n - 1
        self.smoothing: Smoothing = self.customary if config.smoothing == "auto" else config.smoothing
        self.byte_fallback = self.smoothing != "backoff"
        self.storage = Storage(None if config.memory is None else parse_memory(config.memory))
        self.register_buffer("keys", torch.full((1,), -1))
        self.register_buffer("log_table", torch.full((1,), -math.log(config.vocab_size), dtype=torch.float64))
        self.register_buffer("log_backoff", torch.zeros(1, dtype=torch.float64))

    @property
    def parameters_count(self) -> int:
        """Number of distinct n-grams of all lengths."""
        return len(self.keys) - 1

    def summarize(self, batch: Batch) -> Counts:
        """Count a batch.

        Counts of shards add up to those of the whole if a row that continues another repeats its last max(n, 2)
        tokens with ``IGNORED`` targets, as context that is not counted.

        Args:
            batch: the tokens.
        """
        return Counts.of(batch, self.vocab_size, self.config.n, self.storage)

    def restore_statistics(self, tensors: dict[str, Tensor]) -> Counts:
        keys, counts = (tensors[name].numpy() for name in ("keys", "counts"))
        return Counts(self.vocab_size, self.config.n, keys, counts, self.storage)

    def estimate(self, stats: Counts) -> None:
        """Estimate the tables from counts of n-grams of at least this length."""
        if stats.vocab_size != self.vocab_size:
            raise UserError(f"counts over {stats.vocab_size} tokens do not fit a model over {self.vocab_size}")
        if self.smoothing in ("auto", "backoff"):
            raise UserError("smoothing=backoff is for imported tables; use kneser_ney or witten_bell to train")
        stats = stats if stats.n == self.config.n else stats.shorten(self.config.n)
        found = estimate(stats, self.smoothing, self.config.k, self.config.prune)
        self.notes = found.notes
        device = self.keys.device
        self.keys, self.log_table, self.log_backoff = (
            torch.from_numpy(x).to(device) for x in (found.keys, found.log_prob, found.log_backoff)
        )

    @property
    def tables(self) -> Tables:
        """The current tables; what is derived from them is computed once."""
        mine = self.keys, self.log_table, self.log_backoff
        held = self._derived
        if held is None or any(a is not b for a, b in zip(mine, (held.keys, held.log_prob, held.log_backoff))):
            held = self._derived = Tables(self.vocab_size, *mine)
        return held

    def ladder(self, stats: Counts, orders: Sequence[int]) -> list[Self]:
        """Return a model for every n in ``orders``, from counts of the largest n.

        Args:
            stats: counts of the largest n.
            orders: every n.
        """
        return [type(self)(self.config.replace(n=n)).update(stats) for n in orders]

    def initial_state(self, batch: int, capacity: int | None = None) -> RecentState:
        return RecentState.beginning(torch.full((batch, self.config.n - 1), -1, device=self.keys.device))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Backoff, RecentState]:
        before, lengths_B = resume(self, inputs_BT, state, lengths_B)
        pad_BT = ~within_lengths(inputs_BT, lengths_B)
        read_BT, after = before.read(inputs_BT.masked_fill(pad_BT, -1), lengths_B)
        tables = self.tables
        contexts_BTm = self._contexts(tables, read_BT)[:, self.config.n - 1 :]
        if self.smoothing in ("witten_bell", "kneser_ney", "backoff"):
            return Backoff(tables, contexts_BTm.flip(-1)), after
        depth_BT = self._depth(tables, read_BT)[:, self.config.n - 1 :]
        only_BT1 = contexts_BTm.gather(2, depth_BT[..., None])
        return (Unsmoothed if self.smoothing == "ml" else Backoff)(tables, only_BT1), after

    @property
    def interpolated(self) -> bool:
        return self.smoothing != "backoff"

    def context_steps(self, inputs_BT: Tensor, targets_BT: Tensor) -> ContextSteps:
        prediction, _ = self(inputs_BT)
        seen_BTm, log_p_BTm = prediction.steps(targets_BT)
        contexts_BTm, trie = prediction.contexts_BTm, levels(self.keys.cpu().numpy(), self.start_id + 1, self.config.n)
        longer = torch.tensor([level.start for level in trie[1:]], device=contexts_BTm.device)
        length_BTm = torch.where(contexts_BTm < 0, -1, torch.bucketize(contexts_BTm, longer, right=True))
        return ContextSteps(length_BTm, seen_BTm, log_p_BTm, self.tables.backoff(contexts_BTm))

    def _contexts(self, tables: Tables, read_BT: Tensor) -> Tensor:
        """Return the index of the m tokens that end at each place, m = 0 .. n - 1 in the last dimension."""
        found = [torch.zeros_like(read_BT)]
        for m in range(1, self.config.n):
            shorter = found[-1] if m == 1 else torch.nn.functional.pad(found[-1][:, :-1], (1, 0), value=-1)
            found.append(tables.child(shorter, read_BT))
        return torch.stack(found, -1)

    def _depth(self, tables: Tables, read_BT: Tensor) -> Tensor:
        """Return the number of known tokens at each place, at most n - 1; without interpolation exactly these are the
        context.
        """
        place = torch.arange(read_BT.shape[1], device=read_BT.device)
        starts = read_BT.new_tensor(self.start_id)
        known = (tables.child(torch.zeros_like(starts), starts) >= 0).long()
        cut_BT = torch.where(read_BT == starts, place - known, torch.where(read_BT < 0, place, -1))
        return (place - cut_BT.cummax(1).values).clamp(max=self.config.n - 1)


@register("markov", label="Markov", config=MarkovConfig, recipe=Recipe(update="counting"))
class Markov(CountModel):
    """A Markov chain: the last token predicts the next."""

    customary = "add_k"


@register("ngram", label="n-gram", config=NgramConfig, recipe=Recipe(update="counting"))
class Ngram(CountModel):
    """An n-gram model: the last n - 1 tokens predict the next."""

    customary = "kneser_ney"
