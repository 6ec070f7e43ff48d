"""Sample paths of a series from any autoregressive model of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.core import Autoregressive
from chainrule.core.compute import Compute
from chainrule.core.noise import derive_seeds
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Request
from chainrule.inference.sampling import Filters


@dataclass(frozen=True)
class Paths:
    """Continuations of a series.

    Args:
        values_BT: the values, paths x steps.
        nats_B: log p of each path under the model.

    Example:
        >>> Paths(np.array([[1.0, 4.0], [3.0, 8.0]]), np.zeros(2)).quantiles([0.5]).tolist()
        [[2.0], [6.0]]
    """

    values_BT: np.ndarray
    nats_B: np.ndarray

    def quantiles(self, levels: Sequence[float]) -> np.ndarray:
        """Return the quantiles of the values at each step, T x levels.

        Args:
            levels: shares of the paths that stay below, 0 to 1.
        """
        return np.quantile(self.values_BT, levels, axis=0).T


def sample_paths(
    model: Autoregressive, known_T: np.ndarray, horizon: int, count: int, compute: Compute, seed: int = 42
) -> Paths:
    """Draw independent continuations of one series.

    Args:
        model: a model of values.
        known_T: the series so far, without gaps; it is read once.
        horizon: how many values each continuation has.
        count: how many continuations are drawn; more of them leave the first ones as they are.
        compute: where the model runs.
        seed: seed of the noise.

    Returns:
        The continuations, and log p of each in nats.
    """
    plain = Filters()
    requests = [Request(known_T, plain, mine, max_tokens=horizon) for mine in derive_seeds(seed, count)]
    handles = Engine(model, compute).run(requests)
    return Paths(np.array([h.tokens for h in handles], np.float64), np.array([h.total for h in handles]))
