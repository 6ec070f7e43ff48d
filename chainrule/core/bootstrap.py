"""Bootstrap samples: how often each item is drawn, and the interval of a mean (Efron 1979)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

DRAWS = 2000
"""Bootstrap samples."""


@lru_cache(maxsize=2)
def resample(count: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return bootstrap weights, draws x count: the number of times each block is drawn. Equal calls share one array.

    >>> resample(5, draws=2).sum(1)
    array([5., 5.])
    """
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    weights.flags.writeable = False
    return weights


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of some items.

    Args:
        values: a number for each item; differences for a paired interval.
        level: the probability that the interval covers.

    >>> mean_interval(np.array([2.0, 2.0, 2.0]))
    (2.0, 2.0)
    """
    means = resample(len(values)) @ values / len(values)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
