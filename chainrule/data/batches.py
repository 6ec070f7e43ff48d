"""Batches of a part. Which symbols stand in a batch is a pure function of (seed, epoch, step): nothing is remembered
between calls, so that a resumed run and any number of readers see the same order.

Three shapes, all over one *virtual stream* ``START r1 START r2 ...`` (one START a record, or a span of a stream):

- carried: the stream is cut into contiguous rows that go on from batch to batch;
- fresh: windows in random order, each beginning with nothing known (packed documents: a START inside a window);
- ragged: whole short records, padded.

A START is read and never scored: nothing that follows one sees what precedes it. In every shape, each symbol of the
part is a target exactly once an epoch; where a last window would be short it reads on and what it reads is not scored,
so that shapes stay fixed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from chainrule.core.batch import Batch
from chainrule.core.errors import DataError
from chainrule.core.prediction import IGNORED
from chainrule.data.encoding import Part

MEGA = 50
"""Batches whose records are sorted by length together: little padding, yet a new company every epoch."""
LONGEST = 8
"""A ragged record is cut beyond this many windows."""


class Buckets:
    """Which records stand together in a batch of about ``wanted``: such of like length, in new company every epoch."""

    def __init__(self, lengths: np.ndarray, wanted: int, seed: int):
        self.lengths, self.seed = lengths, seed
        self.steps_per_epoch = -(-len(lengths) // wanted)
        self.edges = np.arange(self.steps_per_epoch + 1) * len(lengths) // self.steps_per_epoch

    def arrange(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Records in order, sorted by length within each mega-batch, and the order of the batches."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))
        mega = np.searchsorted(self.edges[::MEGA], np.arange(len(order)), "right")
        return order[np.lexsort((self.lengths[order], mega))], rng.permutation(self.steps_per_epoch)

    def pick(self, arranged: tuple[np.ndarray, np.ndarray], step: int) -> np.ndarray:
        """The numbers of the records of one batch."""
        records, batches = arranged
        return records[self.edges[batches[step]] : self.edges[batches[step] + 1]]


class _VirtualStream:
    """``START r1 START r2 ...`` in a given order of the records, addressed by position without being built."""

    def __init__(self, part: Part, vocab_size: int, order: np.ndarray | None = None):
        self.ids, self.start = part.ids, vocab_size
        starts, ends = (part.starts, part.ends) if order is None else (part.starts[order], part.ends[order])
        self.first = np.concatenate([[0], np.cumsum(ends - starts + 1)])  # where each record's START stands
        self.shift = starts - self.first[:-1] - 1

    def __len__(self) -> int:
        return int(self.first[-1])

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Symbols at positions (any shape), START included; int64."""
        record = np.searchsorted(self.first, positions, "right") - 1
        at_start = positions == self.first[record]
        symbols = self.ids[np.where(at_start, 0, positions + self.shift[record])].astype(np.int64)
        symbols[at_start] = self.start
        return symbols


@dataclass(frozen=True)
class Plan:
    """What to make batches of: ``rows`` x ``window`` symbols, START = ``symbols``."""

    part: Part
    vocab_size: int
    rows: int
    window: int
    seed: int

    def rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])


class Batches(ABC):
    """Batches of one part: ``at(epoch, step)`` for steps 0..steps_per_epoch - 1."""

    steps_per_epoch: int

    def __init__(self, plan: Plan):
        self.plan = plan
        self.tokens_per_epoch = len(plan.part)
        """Symbols that are scored in an epoch: all of the part."""
        self._epoch = lru_cache(maxsize=2)(self._arrange)

    def at(self, epoch: int, step: int) -> Batch:
        """The batch of a step; int64 tensors. Raises IndexError outside the epoch."""
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch}")
        return self._batch(epoch, step)

    def tokens(self, steps: int) -> int:
        """Symbols scored in so many steps from the beginning: exact at whole epochs, proportional between them."""
        return steps * self.tokens_per_epoch // self.steps_per_epoch

    @abstractmethod
    def _arrange(self, epoch: int) -> tuple:
        """What is common to the steps of an epoch (kept for the last two epochs asked for)."""

    @abstractmethod
    def _batch(self, epoch: int, step: int) -> Batch: ...


def _stream(plan: Plan, epoch: int) -> tuple[_VirtualStream, int]:
    """The virtual stream of an epoch (records shuffled; the spans of a stream keep their order) and its rotation."""
    rng = plan.rng(epoch)
    order = None if plan.part.unit == "stream" else rng.permutation(len(plan.part.starts))
    stream = _VirtualStream(plan.part, plan.vocab_size, order)
    return stream, int(rng.integers(len(stream)))


class _Carried(Batches):
    """Row b reads the b-th of ``rows`` equal stretches of the rotated stream; step s its s-th window."""

    def __init__(self, plan: Plan, forget: float):
        super().__init__(plan)
        self.forget = forget
        self.size = len(plan.part) + len(plan.part.starts)
        self.stretch = -(-self.size // plan.rows)
        self.steps_per_epoch = -(-self.stretch // plan.window)

    def _arrange(self, epoch: int) -> tuple[_VirtualStream, int]:
        return _stream(self.plan, epoch)

    def _batch(self, epoch: int, step: int) -> Batch:
        plan = self.plan
        stream, rotation = self._epoch(epoch)
        within = step * plan.window + np.arange(plan.window + 1)
        place_BT = self.stretch * np.arange(plan.rows)[:, None] + within
        read_BT = stream.read((place_BT + rotation) % self.size)
        inputs_BT, targets_BT = read_BT[:, :-1].copy(), read_BT[:, 1:]
        beyond = (within[:-1] >= self.stretch) | (place_BT[:, :-1] >= self.size)
        forgets = (step == 0) | (plan.rng(epoch, step, 1).random(plan.rows) < self.forget)
        inputs_BT[forgets, 0] = plan.vocab_size
        targets_BT = np.where(beyond | (targets_BT == plan.vocab_size), IGNORED, targets_BT)
        return Batch(torch.from_numpy(inputs_BT), torch.from_numpy(targets_BT), carried=True)


class _Fresh(Batches):
    """Windows of the rotated stream in random order, spread evenly over the steps; each begins with START."""

    def __init__(self, plan: Plan):
        super().__init__(plan)
        self.size = len(plan.part) + len(plan.part.starts)
        self.windows = -(-self.size // plan.window)
        self.steps_per_epoch = -(-self.windows // plan.rows)

    def _arrange(self, epoch: int) -> tuple[_VirtualStream, int, np.ndarray]:
        return *_stream(self.plan, epoch), self.plan.rng(epoch, 2).permutation(self.windows)

    def _batch(self, epoch: int, step: int) -> Batch:
        plan = self.plan
        stream, rotation, order = self._epoch(epoch)
        low, high = (k * self.windows // self.steps_per_epoch for k in (step, step + 1))
        place_BT = order[low:high, None] * plan.window + np.arange(plan.window)
        read_BT = stream.read((place_BT + rotation) % self.size)
        inputs_BT = np.concatenate([np.full((len(read_BT), 1), plan.vocab_size), read_BT[:, :-1]], 1)
        targets_BT = np.where((place_BT >= self.size) | (read_BT == plan.vocab_size), IGNORED, read_BT)
        return Batch(torch.from_numpy(inputs_BT), torch.from_numpy(targets_BT))


class _Ragged(Batches):
    """Whole records, START first, padded to the longest of the batch; about ``rows`` x ``window`` symbols a batch."""

    def __init__(self, plan: Plan, longest: int):
        super().__init__(plan)
        self.starts, self.lengths = cut_long(plan.part, longest)
        self.buckets = Buckets(self.lengths, max(1, round(plan.rows * plan.window / self.lengths.mean())), plan.seed)
        self.steps_per_epoch = self.buckets.steps_per_epoch

    def _arrange(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return self.buckets.arrange(epoch)

    def _batch(self, epoch: int, step: int) -> Batch:
        chosen = self.buckets.pick(self._epoch(epoch), step)
        starts_B, lengths_B = self.starts[chosen], self.lengths[chosen]
        time_T = np.arange(lengths_B.max())
        valid_BT = time_T < lengths_B[:, None]
        read_BT = self.plan.part.ids[np.where(valid_BT, starts_B[:, None] + time_T, 0)].astype(np.int64)
        targets_BT = np.where(valid_BT, read_BT, IGNORED)
        shifted_BT = np.concatenate([np.full((len(read_BT), 1), self.plan.vocab_size), read_BT[:, :-1]], 1)
        inputs_BT = np.where(valid_BT, shifted_BT, 0)
        return Batch(torch.from_numpy(inputs_BT), torch.from_numpy(targets_BT), torch.from_numpy(lengths_B))


def cut_long(part: Part, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of the records, those beyond ``longest`` cut into pieces; empty ones say nothing."""
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
    """Batches to train on.

    Args:
        part: what to read. Records shorter than half a window on average make ragged batches (padded whole records,
            as many as hold about ``batch_size * sequence_length`` symbols), whatever ``stateful`` says.
        vocab_size: V; START has this id.
        batch_size, sequence_length: B and T of a batch. Where batches are not stateful, an epoch spreads its windows evenly, so that
            B may be a little less.
        stateful: True for recurrent nets (``Batch.carried``; the first batch of an epoch begins with START in every row, so
            that a State carried across is forgotten there), False for fixed contexts.
        reset_prob: share of the rows of a stateful batch whose first input is replaced by START.
        longest: windows beyond which a whole record is cut.
        seed: with epoch and step it determines every batch.

    Raises:
        DataError: the part holds no token.
    """
    if len(part) == 0:
        raise DataError("nothing to train on: the part holds no token")
    plan = Plan(part, vocab_size, batch_size, sequence_length, seed)
    if part.unit != "stream" and 2 * len(part) < sequence_length * len(part.starts):
        return _Ragged(plan, longest * sequence_length)
    return _Carried(plan, reset_prob) if stateful else _Fresh(plan)


def counting_batches(part: Part, vocab_size: int, overlap: int, chunk: int = 1 << 21) -> Iterator[Batch]:
    """Everything once and in order, one row a batch, for models that count.

    Spans of a stream come as they are, without START: the first symbol of a span is context only. Records are joined,
    each behind its START, whose own place as a target is IGNORED. A row of more than ``chunk`` targets is cut, and what
    follows a cut repeats the last ``overlap`` inputs with their targets IGNORED: a model that looks back at most
    ``overlap + 1`` symbols counts the same as in one piece.
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
    """(first input, first counted, end) of each chunk of so many input-target pairs."""
    for cut in range(0, pairs, chunk):
        yield max(0, cut - overlap), cut, min(cut + chunk, pairs)


def _row(read_T: np.ndarray, repeated: int, vocab_size: int) -> Batch:
    targets_T = np.where(read_T[1:] == vocab_size, IGNORED, read_T[1:])
    targets_T[:repeated] = IGNORED
    return Batch(torch.from_numpy(read_T[None, :-1]), torch.from_numpy(targets_T[None]))
