"""Log-probabilities of held-out tokens, and the windows in which a text is read for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from chainrule.core import IGNORED, Autoregressive
from chainrule.core.compute import Compute, keep_freed_memory
from chainrule.core.progress import tracked

BURN_IN = 1024
"""A model without a window reads at least this many tokens (or all there are) before one is scored."""


class Symbols(Protocol):
    """A split as scoring reads it: token ids, and where its records (or spans) begin and end."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    unknown_at: np.ndarray
    unknown_bytes: np.ndarray


@dataclass(frozen=True)
class EvalWindow:
    """The windows of an evaluation: rows of at most ``context`` tokens, of which the last ``stride`` are scored.

    The first row of a record scores all of its tokens.
    """

    context: int
    stride: int

    @staticmethod
    def of(model: Autoregressive) -> EvalWindow:
        """Return the convention of a board: the model's window with a stride of half of it, else a long burn-in."""
        if model.window is not None:
            return EvalWindow(model.window, max(1, model.window // 2))
        if model.context is not None:
            return EvalWindow(model.context + 65536, 65536)
        return EvalWindow(4 * BURN_IN, 3 * BURN_IN)

    def rows(self, start: int, end: int, place: int = 0) -> Iterator[Row]:
        """Yield the rows in which a record is read.

        Args:
            start: where it begins.
            end: where it ends.
            place: where its results begin.
        """
        first = min(end, start + self.context)
        if first > start:
            yield Row(start, start, first, place)
        for scored in range(first, end, self.stride):
            stop = min(end, scored + self.stride)
            yield Row(stop - min(self.context, stop - start), scored, stop, place + scored - start)


@dataclass(frozen=True)
class Row:
    """A row that reads ``ids[read:stop]`` and scores ``ids[scored:stop]``; the result goes to ``place`` on."""

    read: int
    scored: int
    stop: int
    place: int

    def __len__(self) -> int:
        return self.stop - self.read


def _rows(part: Symbols, reading: EvalWindow) -> Iterator[Row]:
    place = 0
    for start, end in zip(part.starts.tolist(), part.ends.tolist()):
        yield from reading.rows(start, end, place)
        place += end - start


def places(part: Symbols, at: np.ndarray) -> np.ndarray:
    """Return the places of positions of ``part.ids`` in a result of ``token_nats`` (records one after the other).

    Args:
        part: the split.
        at: positions in ``part.ids``, within its records.
    """
    record = np.searchsorted(part.starts, at, "right") - 1
    first = np.cumsum(part.ends - part.starts) - (part.ends - part.starts)
    return at - part.starts[record] + first[record]


@dataclass(frozen=True)
class Guesses:
    """The most probable tokens at each place, compared with the true one."""

    rank: np.ndarray
    """Place of the true token among the most probable ones, 1 for the first; 0: it is not among them."""
    log_p: np.ndarray
    """Log p of the most probable token, in nats."""

    @property
    def right(self) -> np.ndarray:
        """Is the most probable token the true one?"""
        return self.rank == 1


def _groups(rows: list[Row], budget: int) -> list[list[Row]]:
    """Rows, the longest first, in batches of about ``budget`` tokens."""
    groups, k = [], 0
    while k < len(rows):
        groups.append(rows[k : k + max(1, budget // len(rows[k]))])
        k += len(groups[-1])
    return groups


def token_nats(
    model: Autoregressive, part: Symbols, compute: Compute, reading: EvalWindow | None = None, *, guesses: int = 0
) -> tuple[np.ndarray, Guesses | None]:
    """Score every token of a split.

    Args:
        model: the model.
        part: the split.
        compute: where the model runs.
        reading: the windows; None: the convention of a board.
        guesses: find the true token among so many of the most probable ones, too.

    Returns:
        -log p of each token in nats, float64, records in order, an unknown token paying 8 bits for each byte that it
        stands for; and the guesses where they are asked for, else None.
    """
    size = int((part.ends - part.starts).sum())
    nats = np.zeros(size, dtype=np.float64)
    found = Guesses(np.zeros(size, dtype=np.uint8), np.zeros(size)) if guesses else None
    for row in score_rows(model, part, compute, reading, most=guesses):
        nats[row.places] = -row.log_p
        if found is not None:
            same = row.best_ids == part.ids[row.ids, None]
            found.rank[row.places] = np.where(same.any(1), same.argmax(1) + 1, 0)
            found.log_p[row.places] = row.best[:, 0]
    if model.byte_fallback:
        nats[places(part, part.unknown_at)] += part.unknown_bytes * math.log(256)
    return nats, found


@dataclass(frozen=True)
class Scores:
    """The scores of neighbouring tokens of a record.

    Args:
        ids: where the tokens are in the ``ids`` of the split.
        places: where they are in a result, in which records follow each other.
        log_p: log p of each token in nats, float64, an unknown token as any other.
        best: log p of the most probable tokens at each place, tokens x K; K is 0 where none are asked for.
        best_ids: the ids of these.
    """

    ids: slice
    places: slice
    log_p: np.ndarray
    best: np.ndarray
    best_ids: np.ndarray


@torch.no_grad()
def score_rows(
    model: Autoregressive, part: Symbols, compute: Compute, reading: EvalWindow | None = None, *, most: int = 0
) -> Iterator[Scores]:
    """Yield the scores of every token of a split, the longest rows first.

    Args:
        model: the model.
        part: the split.
        compute: where the model runs.
        reading: the windows; None: the convention of a board.
        most: so many of the most probable tokens at each place, too.
    """
    model.eval()
    keep_freed_memory()
    rows = sorted(_rows(part, reading or EvalWindow.of(model)), key=lambda r: (-len(r), r.read))
    budget = 1 << 16 if model.window is None else 1 << 14
    for group in tracked(_groups(rows, budget)):
        yield from _score(model, part, compute, group, most)


def _score(model: Autoregressive, part: Symbols, compute: Compute, group: list[Row], most: int) -> Iterator[Scores]:
    inputs = np.zeros((len(group), len(group[0])), dtype=np.int64)
    targets = np.full_like(inputs, IGNORED)
    for b, row in enumerate(group):
        inputs[b, 0] = model.start_id
        inputs[b, 1 : len(row)] = part.ids[row.read : row.stop - 1]
        targets[b, row.scored - row.read : len(row)] = part.ids[row.scored : row.stop]
    with compute.autocast():
        prediction, _ = model(torch.from_numpy(inputs).to(compute.device))
        wanted = torch.from_numpy(targets).to(compute.device)
        scores = prediction.score(wanted, most) if most else (prediction.log_prob(wanted),)
    log_prob, *best = (x.cpu().numpy() for x in (scores[0].double(), *scores[1:]))
    values, ids = best or (np.zeros((*targets.shape, 0)), np.zeros((*targets.shape, 0), np.int64))
    for b, row in enumerate(group):
        there = slice(row.scored - row.read, len(row))
        here = slice(row.place, row.place + row.stop - row.scored)
        yield Scores(slice(row.scored, row.stop), here, log_prob[b, there], values[b, there], ids[b, there])
