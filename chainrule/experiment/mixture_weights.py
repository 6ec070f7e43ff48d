"""Weights of a linear mixture, by EM on held-out tokens, and which models are worth having in it.

The log-likelihood sum_t log sum_k w_k p_k(t) is concave in w, so that EM finds its one maximum. For any w, the mean of
p_k / (sum_j w_j p_j) exceeds 1 by at least as much as a token's log-likelihood can still grow (Cover 1984): the largest
of these K means tells when to stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

MAX_PARTS = 3
MIN_GAIN = 2e-3
"""Share of the nats by which one more part must lower them."""
LEAST = 1e-9
"""The smallest weight of a part."""
CLOSE = 1e-6
"""Nats per token within which weights are the best."""


def em_weights(log_p_NK: np.ndarray, steps: int = 2000) -> np.ndarray:
    """Return the weights that maximise the likelihood of a mixture.

    Args:
        log_p_NK: log p of each token under each part.
        steps: most iterations.

    Returns:
        K weights, which sum to 1.

    >>> em_weights(np.log([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])).round(3)
    array([0.708, 0.292])
    """
    count, K = log_p_NK.shape
    weights_K = np.full(K, 1 / K)
    p_NK = np.exp(log_p_NK - log_p_NK.max(1, keepdims=True))
    for _ in range(steps):
        growth_K = (p_NK / (p_NK @ weights_K)[:, None]).sum(0) / max(1, count)
        if growth_K.max() < 1 + CLOSE:
            break
        weights_K = np.maximum(weights_K * growth_K, LEAST)
    return weights_K / weights_K.sum()


def mixed_nats(log_p_NK: np.ndarray, weights_K: np.ndarray) -> np.ndarray:
    """Return -log p of each token under the mixture.

    Args:
        log_p_NK: log p of each token under each part.
        weights_K: the weights.
    """
    return -np.logaddexp.reduce(log_p_NK + np.log(weights_K), axis=1)


def best_parts(nats: Mapping[str, np.ndarray], most: int = MAX_PARTS) -> tuple[float, tuple[str, ...]]:
    """Return the two models whose mixture has the fewest nats; one more is taken only if it lowers them noticeably.

    Args:
        nats: -log p of the same tokens, by name of the model.
        most: most models of a mixture.

    Returns:
        The nats of the mixture in all, and the names; infinity and none if there are fewer than two models.
    """
    least, best = np.inf, ()
    for size in range(2, most + 1):
        log_p = {names: -np.stack([nats[name] for name in names], 1) for names in combinations(nats, size)}
        tried = [(float(mixed_nats(found, em_weights(found)).sum()), names) for names, found in log_p.items()]
        if not tried or min(tried)[0] > least * (1 - MIN_GAIN):
            break
        least, best = min(tried)
    return float(least), best
