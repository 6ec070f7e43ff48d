"""The memory curve: bits per unit when only the last k tokens are visible. It shows how much context the data reward,
and which model uses it.

Windows of the text are read from the start token; the token in column k of a window is predicted with exactly k tokens
visible. The windows lie in short runs one token apart, so that neighbouring k are measured on almost the same tokens,
and every model is measured on the same windows. The cost of the same tokens with everything visible is known from the
evaluation and serves as a control variate: value(k) = mean over the split + mean over the windows of (cost with k
visible - cost with all).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from chainrule.core import Autoregressive
from chainrule.core.compute import Compute
from chainrule.core.progress import tracked
from chainrule.inference.scoring import Symbols, places


@dataclass(frozen=True)
class Tier:
    """Columns ``first`` to ``last`` from ``runs`` runs of ``length`` windows; neighbouring columns are pooled by
    ``pool``."""

    first: int
    last: int
    runs: int
    length: int
    pool: float


MOST = 1024
"""Largest number of visible tokens, where a model has no window."""
TIERS = (Tier(0, 15, 256, 16, 0.0), Tier(16, 127, 48, 24, 0.0), Tier(128, MOST, 16, 8, 0.08))


def _windows(part: Symbols, tier: Tier) -> tuple[np.ndarray, np.ndarray]:
    """First positions of the windows in ``part.ids``, and their places in the result of ``token_nats``."""
    reach = tier.last + tier.length
    lengths = part.ends - part.starts
    offsets = np.cumsum(lengths) - lengths
    fits = np.flatnonzero(lengths > reach)
    if not len(fits):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    room = lengths[fits] - reach
    bounds = np.concatenate([[0], np.cumsum(room)])
    chosen = np.unique(np.linspace(0, bounds[-1] - 1, min(tier.runs, bounds[-1])).astype(np.int64))
    record = np.searchsorted(bounds, chosen, "right") - 1
    inside = (chosen - bounds[record])[:, None] + np.arange(tier.length)
    begin = part.starts[fits[record]][:, None] + inside
    place = offsets[fits[record]][:, None] + inside
    return begin.ravel(), place.ravel()


@torch.no_grad()
def window_costs(model: Autoregressive, ids: np.ndarray, begin: np.ndarray, width: int, compute: Compute) -> np.ndarray:
    """Return -log p of the tokens of windows, each read from the start token.

    Args:
        model: the model.
        ids: the tokens of a text.
        begin: first position of each window.
        width: tokens of a window.
        compute: where the model runs.

    Returns:
        Nats, windows x width; in column k, k tokens were visible.
    """
    rows = max(1, (1 << 15) // width)
    out = np.zeros((len(begin), width))
    for k in tracked(range(0, len(begin), rows)):
        read = ids[begin[k : k + rows, None] + np.arange(width)].astype(np.int64)
        start = np.full((len(read), 1), model.start_id)
        inputs = torch.from_numpy(np.concatenate([start, read[:, :-1]], 1)).to(compute.device)
        with compute.autocast():
            prediction, _ = model(inputs)
            nats = prediction.log_prob(torch.from_numpy(read).to(compute.device))
        out[k : k + rows] = -nats.double().cpu().numpy()
    return out


def memory_curve(
    model: Autoregressive, part: Symbols, nats: np.ndarray, compute: Compute, units_per_token: float = 1.0
) -> list[dict[str, float]]:
    """Measure the memory curve of a model.

    Args:
        model: the model.
        part: the split that it is measured on.
        nats: the model's ``token_nats`` of the same split.
        compute: where the model runs.
        units_per_token: bytes (or whatever bits are counted per) of a token.

    Returns:
        ``[{"visible": k, "value": bits per unit}, …]`` up to 1,024 tokens, the model's window, or the longest record.
    """
    model.eval()
    base, curve = nats.mean(), []
    spelled = np.zeros(len(nats))
    if model.byte_fallback:
        spelled[places(part, part.unknown_at)] = part.unknown_bytes * math.log(256)  # whatever is visible
    for tier in tracked(TIERS):
        width = min(tier.last + 1, model.window or tier.last + 1)
        begin, place = _windows(part, tier)
        if width <= tier.first or not len(begin):
            break
        cost = window_costs(model, part.ids, begin, width, compute)
        column = place[:, None] + np.arange(width)
        extra = (cost + spelled[column] - nats[column]).mean(0)
        k = tier.first
        while k < width:
            stop = min(width, max(k + 1, int(k * (1 + tier.pool))))
            value = base + extra[k:stop].mean()
            curve.append({"visible": k, "value": value / math.log(2) / units_per_token})
            k = stop
    return curve
