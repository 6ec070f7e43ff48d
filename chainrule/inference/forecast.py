"""Sample paths of a series from any autoregressive model of numbers, known only through ``forward``, ``Prediction`` and ``State``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from chainrule.core import Autoregressive
from chainrule.core.compute import Compute

CHUNK = 4096


@dataclass(frozen=True)
class Paths:
    """``values_BT`` continuations and their log p (nats) under the model."""

    values_BT: np.ndarray
    nats_B: np.ndarray

    def quantiles(self, levels: Sequence[float]) -> np.ndarray:
        """At each step the values that this share of the paths stays below, T x levels."""
        return np.quantile(self.values_BT, levels, axis=0).T


@torch.no_grad()
def sample_paths(
    model: Autoregressive, known_T: np.ndarray, horizon: int, count: int, compute: Compute, seed: int = 42
) -> Paths:
    """``count`` independent continuations of one series by ``horizon`` values; ``known_T`` has no gaps."""
    model.eval()
    rng = torch.Generator(compute.device).manual_seed(seed)
    read_T = torch.from_numpy(np.concatenate([[math.nan], known_T])).to(compute.device)
    values, nats_B = [], torch.zeros(count, dtype=torch.float64, device=compute.device)
    with compute.autocast():
        state = None
        for piece_T in read_T[:-1].split(CHUNK) if len(read_T) > 1 else ():
            _, state = model(piece_T[None], state)
        everyone = torch.zeros(count, dtype=torch.long, device=compute.device)
        state = state.reorder(everyone) if state is not None else None
        next_B1 = read_T[-1:].repeat(count, 1)
        for _ in range(horizon):
            prediction, state = model(next_B1, state)
            next_B1 = prediction.sample(rng)
            nats_B += prediction.log_prob(next_B1)[:, 0]
            values.append(next_B1[:, 0].double())
    return Paths(torch.stack(values, 1).cpu().numpy(), nats_B.cpu().numpy())
