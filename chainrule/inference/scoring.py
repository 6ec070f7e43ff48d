"""log p of every symbol of a held-out part, and how it is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from chainrule.core import IGNORED, Autoregressive
from chainrule.core.compute import Compute

BURN_IN = 1024
"""A model without a window reads at least this many symbols (or all there are) before one is scored."""


class Symbols(Protocol):
    """What scoring needs of a data part: ids, and where its records (or spans) begin and end."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    unknown_at: np.ndarray
    unknown_bytes: np.ndarray


@dataclass(frozen=True)
class EvalWindow:
    """How long texts are read: rows of at most ``context`` symbols, of which the last ``stride`` are scored.

    The first row of a record scores all of its symbols, the first one from ``start``.
    """

    context: int
    stride: int

    @staticmethod
    def of(model: Autoregressive) -> EvalWindow:
        """The convention of a board: a window with a stride of half of it; else enough burn-in that more changes nothing."""
        if model.window is not None:
            return EvalWindow(model.window, max(1, model.window // 2))
        if model.context is not None:
            return EvalWindow(model.context + 65536, 65536)
        return EvalWindow(4 * BURN_IN, 3 * BURN_IN)


@dataclass(frozen=True)
class Row:
    """Read ``ids[read:stop]``, score ``ids[scored:stop]``, and put the result at ``place`` on."""

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
    """Where positions of ``part.ids`` stand in a result of ``token_nats`` (records one after the other)."""
    record = np.searchsorted(part.starts, at, "right") - 1
    first = np.cumsum(part.ends - part.starts) - (part.ends - part.starts)
    return at - part.starts[record] + first[record]


@torch.no_grad()
def token_nats(
    model: Autoregressive, part: Symbols, compute: Compute, reading: EvalWindow | None = None, *, guesses: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """-log p of every symbol of the part, records in order (float64 nats), and on request whether the most probable symbol
    was the right one. An unknown symbol pays 8 bits for each byte that it stands for.
    """
    model.eval()
    size = int((part.ends - part.starts).sum())
    nats = np.zeros(size, dtype=np.float64)
    hits = np.zeros(size, dtype=bool) if guesses else None
    rows = sorted(_rows(part, reading or EvalWindow.of(model)), key=lambda r: (-len(r), r.read))
    budget = 1 << 16 if model.window is None else 1 << 14
    k = 0
    while k < len(rows):
        group = rows[k : k + max(1, budget // len(rows[k]))]
        k += len(group)
        _score(model, part, compute, group, nats, hits)
    if model.byte_fallback:
        nats[places(part, part.unknown_at)] += part.unknown_bytes * math.log(256)
    return nats, hits


def _score(
    model: Autoregressive,
    part: Symbols,
    compute: Compute,
    group: list[Row],
    nats: np.ndarray,
    hits: np.ndarray | None,
) -> None:
    inputs = np.zeros((len(group), len(group[0])), dtype=np.int64)
    targets = np.full_like(inputs, IGNORED)
    for b, row in enumerate(group):
        inputs[b, 0] = model.start_id
        inputs[b, 1 : len(row)] = part.ids[row.read : row.stop - 1]
        targets[b, row.scored - row.read : len(row)] = part.ids[row.scored : row.stop]
    with compute.autocast():
        prediction, _ = model(torch.from_numpy(inputs).to(compute.device))
        log_prob = prediction.log_prob(torch.from_numpy(targets).to(compute.device)).double().cpu().numpy()
        best = prediction.top(1)[1][..., 0].cpu().numpy() if hits is not None else None
    for b, row in enumerate(group):
        there, here = slice(row.scored - row.read, len(row)), slice(row.place, row.place + row.stop - row.scored)
        nats[here] = -log_prob[b, there]
        if hits is not None and best is not None:
            hits[here] = best[b, there] == targets[b, there]
