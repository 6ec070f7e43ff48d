"""Weights of a linear mixture, by EM on held-out tokens; and which models, and which gate, are worth having in it.

The log-likelihood sum_t log sum_k w_k p_k(t) is concave in w, so that EM finds its one maximum. For any w, the mean of
p_k / (sum_j w_j p_j) exceeds 1 by at least as much as a token's log-likelihood can still grow (Cover 1984): the largest
of these K means tells when to stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

MAX_PARTS = 3
MIN_GAIN = 2e-3
"""Share of the nats by which one more part must lower them."""
PRIOR = 16.0
"""Tokens that the weights without a gate count for in the weights of each gate."""
BLOCKS = 128
"""Stretches of the tokens, alternately used to fit and to test a gate."""
CLOSE = 1e-6
"""Nats per token within which weights are the best."""


def em_weights(log_p_NK: np.ndarray, prior_K: np.ndarray | None = None, steps: int = 2000) -> np.ndarray:
    """Return the weights that maximise the likelihood of a mixture.

    Args:
        log_p_NK: log p of each token under each part.
        prior_K: tokens that each part is credited with beforehand (a Dirichlet prior); None: none.
        steps: most iterations.

    Returns:
        K weights, which sum to 1.

    >>> em_weights(np.log([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])).round(3)
    array([0.708, 0.292])
    """
    count, K = log_p_NK.shape
    prior_K = np.zeros(K) if prior_K is None else prior_K
    total = count + prior_K.sum()
    weights_K = np.full(K, 1 / K) if not prior_K.any() else prior_K / prior_K.sum()
    p_NK = np.exp(log_p_NK - log_p_NK.max(1, keepdims=True)) if count else np.ones((0, K))
    for _ in range(steps):
        ratio_K = (p_NK / (p_NK @ weights_K)[:, None]).sum(0)
        new_K = (weights_K * ratio_K + prior_K) / total
        done = np.abs(new_K - weights_K).sum() < CLOSE if prior_K.any() else ratio_K.max() - count < CLOSE * count
        weights_K = new_K
        if done:
            break
    return weights_K


def mixed_nats(log_p_NK: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return -log p of each token under the mixture.

    Args:
        log_p_NK: log p of each token under each part.
        weights: K weights, or N x K.
    """
    with np.errstate(divide="ignore"):
        return -np.logaddexp.reduce(log_p_NK + np.log(weights), axis=1)


@dataclass(frozen=True)
class Gated:
    """Weights of the parts for each length of known context: ``weights_GK``, by that of part ``gate`` (None: G = 1)."""

    weights_GK: np.ndarray
    gate: int | None = None
    gain: float = 0.0
    """Nats per token by which the gate lowered those of tokens that it was not fitted on."""

    def nats(self, log_p_NK: np.ndarray, known: Mapping[int, np.ndarray]) -> np.ndarray:
        """Return -log p of each token."""
        return mixed_nats(log_p_NK, self.weights_GK[0 if self.gate is None else self._level(known[self.gate])])

    def _level(self, known_N: np.ndarray) -> np.ndarray:
        return np.minimum(known_N, len(self.weights_GK) - 1)


def fit(log_p_NK: np.ndarray, known: Mapping[int, np.ndarray]) -> Gated:
    """Return the weights, with a gate where one pays on tokens that it was not fitted on.

    Args:
        log_p_NK: log p of each token under each part, in the order of the text.
        known: the length of the known context of each token, for the parts that count it.
    """
    plain = Gated(em_weights(log_p_NK)[None])
    side_N = np.arange(len(log_p_NK)) * BLOCKS // max(1, len(log_p_NK)) % 2 == 0
    best = plain
    for gate in known:
        gain = _held_out_gain(log_p_NK, known, gate, side_N)
        block = gain[: len(gain) // BLOCKS * BLOCKS].reshape(BLOCKS, -1).mean(1) if len(gain) >= BLOCKS else np.zeros(2)
        if block.mean() > max(2 * block.std(ddof=1) / len(block) ** 0.5, best.gain):
            best = Gated(_weights_by_level(log_p_NK, known[gate]), gate, float(block.mean()))
    return best


def _held_out_gain(log_p_NK: np.ndarray, known: Mapping[int, np.ndarray], gate: int, side_N: np.ndarray) -> np.ndarray:
    """Nats of each token without the gate minus those with it, both fitted on the other half of the tokens."""
    gain_N = np.zeros(len(log_p_NK))
    for test_N in (side_N, ~side_N):
        fitted = log_p_NK[~test_N]
        gated = Gated(_weights_by_level(fitted, known[gate][~test_N]), gate)
        plain = mixed_nats(log_p_NK[test_N], em_weights(fitted))
        gain_N[test_N] = plain - gated.nats(log_p_NK[test_N], {gate: known[gate][test_N]})
    return gain_N


def _weights_by_level(log_p_NK: np.ndarray, known_N: np.ndarray) -> np.ndarray:
    """Weights for each length of known context, drawn towards those of all tokens together."""
    prior_K = PRIOR * np.maximum(em_weights(log_p_NK), 1e-4)
    return np.stack([em_weights(log_p_NK[known_N == g], prior_K) for g in range(int(known_N.max(initial=0)) + 1)])


def choose_parts(candidates: Sequence[Mapping[str, np.ndarray]], most: int = MAX_PARTS) -> tuple[str, ...]:
    """Return the models whose mixture has the fewest nats; one more is taken only if it lowers them noticeably.

    Args:
        candidates: groups of models that can be mixed, each with -log p of the same tokens by name of the model. A
            model may be in several groups, with other values.
        most: most models of a mixture.

    Returns:
        Their names; empty where no group has two.
    """
    best, least = (), np.inf
    for size in range(2, most + 1):
        tried = [
            (float(mixed_nats(log_p, em_weights(log_p)).sum()), names)
            for group in candidates
            for names in combinations(group, size)
            if (log_p := -np.stack([group[name] for name in names], 1)) is not None
        ]
        if not tried or min(tried)[0] > least * (1 - MIN_GAIN):
            break
        least, best = min(tried)
    return best
