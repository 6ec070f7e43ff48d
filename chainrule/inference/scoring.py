"""Log-probabilities of held-out tokens, and the windows in which a text is read for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from chainrule.core import IGNORED, Autoregressive
from chainrule.core.compute import Compute
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
        first = min(end, start + reading.context)
        if first > start:
            yield Row(start, start, first, place)
        for scored in range(first, end, reading.stride):
            stop = min(end, scored + reading.stride)
            yield Row(stop - min(reading.context, stop - start), scored, stop, place + scored - start)
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


@torch.no_grad()
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
    model.eval()
    size = int((part.ends - part.starts).sum())
    nats = np.zeros(size, dtype=np.float64)
    found = Guesses(np.zeros(size, dtype=np.uint8), np.zeros(size)) if guesses else None
    rows = sorted(_rows(part, reading or EvalWindow.of(model)), key=lambda r: (-len(r), r.read))
    budget = 1 << 16 if model.window is None else 1 << 14
    for group in tracked(_groups(rows, budget)):
        _score(model, part, compute, group, nats, found, guesses)
    if model.byte_fallback:
        nats[places(part, part.unknown_at)] += part.unknown_bytes * math.log(256)
    return nats, found


def _score(
    model: Autoregressive,
    part: Symbols,
    compute: Compute,
    group: list[Row],
    nats: np.ndarray,
    found: Guesses | None,
    guesses: int,
) -> None:
    inputs = np.zeros((len(group), len(group[0])), dtype=np.int64)
    targets = np.full_like(inputs, IGNORED)
    for b, row in enumerate(group):
        inputs[b, 0] = model.start_id
        inputs[b, 1 : len(row)] = part.ids[row.read : row.stop - 1]
        targets[b, row.scored - row.read : len(row)] = part.ids[row.scored : row.stop]
    with compute.autocast():
        prediction, _ = model(torch.from_numpy(inputs).to(compute.device))
        wanted = torch.from_numpy(targets).to(compute.device)
        scores = prediction.score(wanted, guesses) if guesses else (prediction.log_prob(wanted),)
    log_prob, *best = (x.cpu().numpy() for x in (scores[0].double(), *scores[1:]))
    for b, row in enumerate(group):
        there, here = slice(row.scored - row.read, len(row)), slice(row.place, row.place + row.stop - row.scored)
        nats[here] = -log_prob[b, there]
        if found is not None:
            same = best[1][b, there] == targets[b, there, None]
            found.rank[here] = np.where(same.any(1), same.argmax(1) + 1, 0)
            found.log_p[here] = best[0][b, there, 0]
