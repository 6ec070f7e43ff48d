"""Learning curves beyond the budget: what a row would reach with more training, with the uncertainty of that.

A run trains at a constant learning rate, then the rate decays to zero. The curve of the constant phase does not depend
on the end of the budget, so a longer run repeats it and goes on. It is fitted by a power law; what the decay gains is
measured once, at the end of this budget. Priors stand for what so few noisy points cannot tell: how fast gains shrink,
how the gain of the decay grows, and after how many passes over the data validation stops improving.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.metric import Metric

DRAWS = 1000
EXPONENTS = np.linspace(0.1, 1.5, 29)
"""Exponents of the power law that are weighed."""
EXPONENT, EXPONENT_SPREAD = 0.5, 0.5
"""Median and spread (standard deviation of the logarithm) of the prior of the exponent."""
NOISE = 0.004
"""Prior standard deviation of a point, relative to what training has improved so far."""
NOISE_WEIGHT = 4.0
"""The number of points that the prior of the noise counts for."""
DECAY_GROWTH, DECAY_SPREAD = 0.15, 0.35
"""The gain of the decay grows as times^N(DECAY_GROWTH, DECAY_SPREAD) when training is that many times as long."""
EPOCHS, EPOCHS_SPREAD = 25.0, 1.0
"""Median and spread of the prior of the passes over the training data after which validation stops improving."""


def best_possible(metric: Metric) -> float | None:
    """Return the figure of a model without mistakes; None where there is none, or it is 0."""
    if metric.aggregate == "chrf":
        return 100.0
    return 1.0 if metric.higher_is_better and metric.of in ("right", "exact") else None


@dataclass(frozen=True)
class Curve:
    """The learning curve of a finished row, as losses (lower is better).

    Args:
        at: training seconds (or tokens) of the points.
        loss: their values.
        end: the loss at the end of the budget, after the decay: that of the weights that were kept.
        constant: which points lie in the constant phase, past the warm-up.
        epochs: passes over the training data.
    """

    at: np.ndarray
    loss: np.ndarray
    end: float
    constant: np.ndarray
    epochs: float

    @staticmethod
    def of(row: Mapping[str, Any], metric: Metric, train_tokens: float | None = None) -> Curve | None:
        """Return the curve of a row of the board; None for rows that are not trained step by step.

        Args:
            row: with ``curve`` and ``train``.
            metric: that of the curve's values.
            train_tokens: tokens of the training split.
        """
        points, recipe = row.get("curve") or [], row.get("train") or {}
        if recipe.get("update") == "counting" or len(points) < 2:
            return None
        at = np.array([point["tokens"] for point in points], float)
        value = np.array([point["value"] for point in points], float)
        loss = (best_possible(metric) or 0.0) - value if metric.higher_is_better else value
        steps = np.array([point.get("step", 0) for point in points], float)
        flat = (1 - recipe.get("decay_fraction", 0.5)) * at[-1]
        kept = recipe.get("keep_weights", "best") == "best"
        warm = (steps >= 1.5 * recipe.get("warmup", 0)) | (steps == 0)
        constant = warm & (at <= 1.02 * flat) & np.isfinite(loss)
        return Curve(
            at, loss, float(np.nanmin(loss) if kept else loss[-1]), constant, at[-1] / (train_tokens or at[-1])
        )

    @property
    def scale(self) -> float:
        """Improvement by training so far, or the loss itself where that is more; changes are relative to it."""
        return max(float(np.nanmax(self.loss)) - self.end, abs(self.end) if self.end > 0 else 0.0, 1e-12)

    @property
    def rising(self) -> bool:
        """Has validation become worse for good: are the last points worse than the best by more than noise?"""
        behind = np.flatnonzero(self.loss == np.nanmin(self.loss))[-1] < len(self.loss) - 2
        return bool(behind and np.nanmin(self.loss[-2:]) > self.end + NOISE * self.scale)


def gains(curve: Curve, times: float, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return draws of the loss that a row would lose by training ``times`` as long; negative where it becomes worse.

    Args:
        curve: the curve of the row.
        times: length of training, relative to that of the curve.
        draws: number of draws.
        seed: of the draws.
    """
    rng = np.random.default_rng([2, seed])
    if curve.rising:
        kept = np.nanmin(curve.loss[curve.constant]) if curve.constant.any() else curve.end
        return -max(float(kept) - curve.end, 0.0) * rng.random(draws)
    level, gain, exponent = _fitted(curve, rng, draws)
    at = curve.at[curve.constant][-1] if curve.constant.any() else curve.at[-1]
    end, share = curve.at[-1] / at, _flat_share(curve)
    law = lambda t: level + gain * np.expm1(-exponent * np.log(t)) / np.expm1(exponent * math.log(2))  # noqa: E731
    decay = np.maximum(law(end) - curve.end, 0.0)
    longer = decay * times ** rng.normal(DECAY_GROWTH, DECAY_SPREAD, draws)
    stops = EPOCHS * np.exp(rng.normal(0, EPOCHS_SPREAD, draws))
    stops = np.maximum(stops, curve.epochs * share)
    reached = np.minimum(times, stops / curve.epochs)
    overfit = reached < times * share
    after = law(end * reached) - np.where(overfit, 0.0, longer)
    return curve.end - np.where(overfit, np.minimum(after, law(end * reached)), after)


def _flat_share(curve: Curve) -> float:
    return float(curve.at[curve.constant][-1] / curve.at[-1]) if curve.constant.any() else 1.0


def _fitted(curve: Curve, rng: np.random.Generator, draws: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of a power law through the constant phase: its level at the end of that phase, the gain of the last
    doubling there, and its exponent.

    For each exponent the law is linear in level and gain: a regression with a normal-inverse-gamma prior.
    """
    chosen = curve.constant if curve.constant.sum() >= 2 else np.isfinite(curve.loss)
    at, loss = curve.at[chosen], curve.loss[chosen]
    trust = (at / at[-1]) ** 0.5
    noise, mean = NOISE * curve.scale, np.array([loss[-1], 0.05 * curve.scale])
    precision = np.diag([1e-6, (noise / (0.15 * curve.scale)) ** 2])
    found, weights = [], []
    for exponent in EXPONENTS:
        shape = np.expm1(-exponent * np.log(at / at[-1])) / np.expm1(exponent * math.log(2))
        design = np.stack([np.ones_like(shape), shape], 1) * trust[:, None]
        target = loss * trust
        after = precision + design.T @ design
        fit = np.linalg.solve(after, precision @ mean + design.T @ target)
        rest = target @ target + mean @ precision @ mean - fit @ after @ fit
        squares = NOISE_WEIGHT * noise**2 + max(float(rest), 0.0)
        count = NOISE_WEIGHT + len(loss)
        prior = -0.5 * (math.log(exponent / EXPONENT) / EXPONENT_SPREAD) ** 2
        weights.append(prior - 0.5 * np.linalg.slogdet(after)[1] - 0.5 * count * math.log(squares))
        found.append((fit, np.linalg.cholesky(np.linalg.inv(after)), squares, count))
    weights = np.exp(np.array(weights) - max(weights))
    picked = rng.choice(len(EXPONENTS), draws, p=weights / weights.sum())
    spread = np.sqrt(np.array([s for _, _, s, _ in found])[picked] / rng.chisquare(found[0][3], draws))
    fits = np.array([fit for fit, *_ in found])[picked]
    roots = np.array([root for _, root, *_ in found])[picked]
    level, gain = (fits + spread[:, None] * np.einsum("nij,nj->ni", roots, rng.normal(size=(draws, 2)))).T
    return level, np.maximum(gain, 0.0), EXPONENTS[picked]


def doubling(curve: Curve | None) -> dict[str, float] | None:
    """Return the gain that the fitted curve expects of twice the budget, in units of the curve; None without a curve.

    Args:
        curve: the curve of a row.

    Returns:
        ``{"value", "low", "high", "share"}``: the median, the ends of the 80 % interval, and the median relative to
        what training has improved.
    """
    if curve is None:
        return None
    low, value, high = np.quantile(gains(curve, 2.0), [0.1, 0.5, 0.9])
    return {"value": float(value), "low": float(low), "high": float(high), "share": float(value) / curve.scale}
