"""Batches of a split. The tokens of a batch are a pure function of (seed, epoch, step): nothing is remembered between
calls, so that a resumed run and any number of readers see the same order.

There are three layouts, all over one virtual stream ``START r1 START r2 ...`` (one START for each record, or for each
span of a stream):

- stateful: the stream is cut into contiguous rows that go on from batch to batch;
- windows: windows in random order, each without state (packed documents: a START inside a window);
- records: whole short records, padded.

START is read and never predicted, and whatever follows it does not depend on what precedes it. In every layout, each
token of the split is a target exactly once an epoch; a last window that would be short reads on, and what it reads is
not scored, so that shapes stay fixed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from chainrule.core.batch import Batch
from chainrule.core.errors import DataError
from chainrule.core.prediction import IGNORED
from chainrule.data.encoding import Part

MEGA = 50
"""Batches whose records are sorted by length together: little padding, yet new neighbours every epoch."""
LONGEST = 8
"""Windows beyond which a whole record is cut."""


class Buckets:
    """Batches of records of similar length, grouped anew in every epoch.

    Args:
        lengths: length of each record.
        edges: where each batch begins in the records of an epoch, and their number.
        seed: with the epoch it determines the order.
        mega: batches whose records are sorted by length together.
    """

    def __init__(self, lengths: np.ndarray, edges: np.ndarray, seed: int, mega: int = MEGA):
        self.lengths, self.edges, self.seed, self.mega = lengths, edges, seed, mega
        self.steps_per_epoch = len(edges) - 1
        self._epoch = lru_cache(maxsize=2)(self._arrange)

    @classmethod
    def even(cls, lengths: np.ndarray, wanted: int, seed: int) -> Buckets:
        """Return batches of about ``wanted`` records each."""
        steps = -(-len(lengths) // wanted)
        return cls(lengths, np.arange(steps + 1) * len(lengths) // steps, seed)

    def _arrange(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return records in order, sorted by length within each mega-batch, and the order of the batches."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))
        mega = np.searchsorted(self.edges[:: self.mega], np.arange(len(order)), "right")
        return order[np.lexsort((self.lengths[order], mega))], rng.permutation(self.steps_per_epoch)

    def rows(self, epoch: int, step: int) -> np.ndarray:
        """Return the positions of the records of one batch. Raises IndexError outside the epoch."""
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch}")
        order, batches = self._epoch(epoch)
        return order[self.edges[batches[step]] : self.edges[batches[step] + 1]]


class _VirtualStream:
    """``START r1 START r2 ...`` in a given order of the records, addressed by position without being built."""

    def __init__(self, part: Part, vocab_size: int, order: np.ndarray | None = None):
        self.ids, self.start = part.ids, vocab_size
        starts, ends = (part.starts, part.ends) if order is None else (part.starts[order], part.ends[order])
        self.first = np.concatenate([[0], np.cumsum(ends - starts + 1)])  # position of each record's START
        self.shift = starts - self.first[:-1] - 1

    def __len__(self) -> int:
        return int(self.first[-1])

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Return the tokens at positions (any shape), START included; int64."""
        record = np.searchsorted(self.first, positions, "right") - 1
        at_start = positions == self.first[record]
        tokens = self.ids[np.where(at_start, 0, positions + self.shift[record])].astype(np.int64)
        tokens[at_start] = self.start
        return tokens


@dataclass(frozen=True)
class Plan:
    """Size and seed of batches: ``rows`` x ``window`` tokens; START has the id ``vocab_size``."""

    part: Part
    vocab_size: int
    rows: int
    window: int
    seed: int

    @property
    def size(self) -> int:
        """Tokens of the virtual stream."""
        return len(self.part) + len(self.part.starts)

    def rng(self, *key: int) -> np.random.Generator:
        """Return the random generator of a key, such as (epoch, step)."""
        return np.random.default_rng([self.seed, *key])

    def stream(self, epoch: int) -> tuple[_VirtualStream, int]:
        """Return the virtual stream of an epoch and its rotation; records are shuffled, spans of a stream are not."""
        rng = self.rng(epoch)
        order = None if self.part.unit == "stream" else rng.permutation(len(self.part.starts))
        stream = _VirtualStream(self.part, self.vocab_size, order)
        return stream, int(rng.integers(len(stream)))

    def batch(self, inputs_BT: np.ndarray, targets_BT: np.ndarray, ignored_BT: np.ndarray) -> Batch:
        """Return a batch whose targets are IGNORED where the mask says so, and where they are START."""
        targets_BT = np.where(ignored_BT | (targets_BT == self.vocab_size), IGNORED, targets_BT)
        return Batch(torch.from_numpy(inputs_BT), torch.from_numpy(targets_BT))

    def shifted(self, read_BT: np.ndarray) -> np.ndarray:
        """Return the inputs of rows that begin with START: each token is read after it was predicted."""
        return np.concatenate([np.full((len(read_BT), 1), self.vocab_size), read_BT[:, :-1]], 1)


class Batches(ABC):
    """Batches of one split: ``at(epoch, step)`` for steps 0..steps_per_epoch - 1.

    Args:
        plan: the split, the size of a batch and the seed of the order.
    """

    steps_per_epoch: int

    def __init__(self, plan: Plan):
        self.plan = plan
        self.tokens_per_epoch = len(plan.part)
        """Tokens that are predicted in an epoch: all of the split."""
        self._epoch = lru_cache(maxsize=2)(self._arrange)

    def at(self, epoch: int, step: int) -> Batch:
        """Return the batch of a step; int64 tensors. Raises IndexError outside the epoch."""
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch}")
        return self._batch(epoch, step)

    def tokens(self, steps: int) -> int:
        """Return the tokens predicted in the first ``steps``: exact at whole epochs, proportional between them."""
        return steps * self.tokens_per_epoch // self.steps_per_epoch

    def _arrange(self, epoch: int) -> tuple:
        """Return what the steps of an epoch share; kept for the last two epochs."""
        return self.plan.stream(epoch)

    @abstractmethod
    def _batch(self, epoch: int, step: int) -> Batch: ...


class _Stateful(Batches):
    """Row b reads the b-th of ``rows`` equal stretches of the rotated stream; step s its s-th window."""

    def __init__(self, plan: Plan, reset_prob: float):
        super().__init__(plan)
        self.reset_prob = reset_prob
        self.stretch = -(-plan.size // plan.rows)
        self.steps_per_epoch = -(-self.stretch // plan.window)

    def _batch(self, epoch: int, step: int) -> Batch:
        plan = self.plan
        stream, rotation = self._epoch(epoch)
        within = step * plan.window + np.arange(plan.window + 1)
        place_BT = self.stretch * np.arange(plan.rows)[:, None] + within
        read_BT = stream.read((place_BT + rotation) % plan.size)
        inputs_BT = read_BT[:, :-1].copy()
        resets = (step == 0) | (plan.rng(epoch, step, 1).random(plan.rows) < self.reset_prob)
        inputs_BT[resets, 0] = plan.vocab_size
        beyond_BT = (within[:-1] >= self.stretch) | (place_BT[:, :-1] >= plan.size)
        return replace(plan.batch(inputs_BT, read_BT[:, 1:], beyond_BT), carried=True)


class _Windows(Batches):
    """Windows of the rotated stream in random order, spread evenly over the steps; each begins with START."""

    def __init__(self, plan: Plan):
        super().__init__(plan)
        self.windows = -(-plan.size // plan.window)
        self.steps_per_epoch = -(-self.windows // plan.rows)

    def _arrange(self, epoch: int) -> tuple[_VirtualStream, int, np.ndarray]:
        return *self.plan.stream(epoch), self.plan.rng(epoch, 2).permutation(self.windows)

    def _batch(self, epoch: int, step: int) -> Batch:
        plan = self.plan
        stream, rotation, order = self._epoch(epoch)
        low, high = (k * self.windows // self.steps_per_epoch for k in (step, step + 1))
        place_BT = order[low:high, None] * plan.window + np.arange(plan.window)
        read_BT = stream.read((place_BT + rotation) % plan.size)
        return plan.batch(plan.shifted(read_BT), read_BT, place_BT >= plan.size)


class _Records(Batches):
    """Whole records, START first, padded to the longest of the batch; about ``rows`` x ``window`` tokens a batch."""

    def __init__(self, plan: Plan, longest: int):
        super().__init__(plan)
        self.starts, self.lengths = cut_long(plan.part, longest)
        wanted = max(1, round(plan.rows * plan.window / self.lengths.mean()))
        self.buckets = Buckets.even(self.lengths, wanted, plan.seed)
        self.steps_per_epoch = self.buckets.steps_per_epoch

    def _batch(self, epoch: int, step: int) -> Batch:
        chosen = self.buckets.rows(epoch, step)
        starts_B, lengths_B = self.starts[chosen], self.lengths[chosen]
        time_T = np.arange(lengths_B.max())
        valid_BT = time_T < lengths_B[:, None]
        read_BT = self.plan.part.ids[np.where(valid_BT, starts_B[:, None] + time_T, 0)].astype(np.int64)
        inputs_BT = np.where(valid_BT, self.plan.shifted(read_BT), 0)
        return replace(self.plan.batch(inputs_BT, read_BT, ~valid_BT), lengths_B=torch.from_numpy(lengths_B))


def cut_long(part: Part, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and lengths of the records; those beyond ``longest`` tokens are cut, empty ones left out."""
    sizes = part.ends - part.starts
    pieces = -(-sizes // longest)
    record = np.repeat(np.arange(len(sizes)), pieces)
    number = np.arange(len(record)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = part.starts[record] + number * longest
    return starts, np.minimum(longest, part.ends[record] - starts)


def make_batches(
    part: Part,
    vocab_size: int,
    *,
    batch_size: int,
    sequence_length: int,
    stateful: bool,
    reset_prob: float = 0.0,
    longest: int = LONGEST,
    seed: int,
) -> Batches:
    """Return batches to train on.

    Args:
        part: encoded split. Records shorter than half a window on average make batches of whole padded records, with
            about ``batch_size * sequence_length`` tokens each, whatever ``stateful`` says.
        vocab_size: V; START has this id.
        batch_size: B, rows of a batch. Without ``stateful`` an epoch spreads its windows evenly, so that B may be a
            little less.
        sequence_length: T, tokens of a row.
        stateful: True for recurrent networks (``Batch.carried``; the first batch of an epoch begins with START in
            every row, so that a State from the epoch before is reset there), False for fixed contexts.
        reset_prob: probability that a row of a stateful batch begins with START.
        longest: windows beyond which a whole record is cut.
        seed: with epoch and step it determines every batch.

    Raises:
        DataError: the split has no token.

    >>> from chainrule.data import ByteTokenizer, encode_texts
    >>> part = encode_texts([b"to be"], ByteTokenizer(), "stream")
    >>> batches = make_batches(part, 256, batch_size=1, sequence_length=6, stateful=True, seed=0)
    >>> batches.steps_per_epoch, batches.at(0, 0).inputs_BT.shape
    (1, torch.Size([1, 6]))
    """
    if len(part) == 0:
        raise DataError("nothing to train on: the part holds no token")
    plan = Plan(part, vocab_size, batch_size, sequence_length, seed)
    if part.unit != "stream" and 2 * len(part) < sequence_length * len(part.starts):
        return _Records(plan, longest * sequence_length)
    return _Stateful(plan, reset_prob) if stateful else _Windows(plan)


def counting_batches(part: Part, vocab_size: int, overlap: int, chunk: int = 1 << 21) -> Iterator[Batch]:
    """Yield all records once and in order, one row a batch, for models that count.

    Spans of a stream come without START: the first token of a span is context only. Other records are joined, each
    after its START, whose own position as a target is IGNORED.

    Args:
        part: encoded split.
        vocab_size: V; START has this id.
        overlap: inputs that a row repeats after a cut, with their targets IGNORED: a model that reads at most
            ``overlap + 1`` tokens counts the same as in one piece.
        chunk: targets beyond which a row is cut.
    """
    if part.unit == "stream":
        for start, end in zip(part.starts.tolist(), part.ends.tolist(), strict=True):
            for low, cut, high in _cuts(end - start - 1, overlap, chunk):
                yield _row(part.ids[start + low : start + high + 1].astype(np.int64), cut - low, vocab_size)
    else:
        stream = _VirtualStream(part, vocab_size)
        for low, cut, high in _cuts(len(stream) - 1, overlap, chunk):
            yield _row(stream.read(np.arange(low, high + 1)), cut - low, vocab_size)


def _cuts(pairs: int, overlap: int, chunk: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first input, first counted, end) of each chunk of input-target pairs."""
    for cut in range(0, pairs, chunk):
        yield max(0, cut - overlap), cut, min(cut + chunk, pairs)


def _row(read_T: np.ndarray, repeated: int, vocab_size: int) -> Batch:
    targets_T = np.where(read_T[1:] == vocab_size, IGNORED, read_T[1:])
    targets_T[:repeated] = IGNORED
    return Batch(torch.from_numpy(read_T[None, :-1]), torch.from_numpy(targets_T[None]))
