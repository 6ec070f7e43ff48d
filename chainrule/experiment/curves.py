"""Learning curves beyond the budget: the improvement of a row by more training, with its uncertainty.

A run trains at a constant learning rate, then the rate decays to zero. Few noisy points cannot tell a free curve, so
only one number is fitted: the gain of the last doubling of training in the constant phase. From there a power law goes
on, ``loss(t) = a + b t^-c``, for the losses at the end of budgets of length t. Its exponent c has a prior: early in
training gains shrink slowly, later faster. A second prior says after how many passes over the training data validation
stops to improve. What is more, a row whose validation rises does not improve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.metric import Metric

DRAWS = 1000
YOUNG, OLD, AGE = 0.3, 0.65, 10.0
"""Median exponent of a row at the end of its warm-up, and of one that trained at least AGE times as long."""
EXPONENT_SPREAD = 0.35
"""Standard deviation of the logarithm of the exponent."""
WINDOW = 0.25
"""Points of the constant phase from this share of its length on show the gain of its last doubling."""
NOISE = 0.004
"""Standard deviation of a point, relative to what training has improved so far; residuals may show more."""
EPOCHS, EPOCHS_SPREAD = 25.0, 1.0
"""Median and spread (of the logarithm) of the passes over the training data after which validation stops improving."""


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
        flat: share of training before the decay.
        age: steps, relative to those of the warm-up.
        bounded: losses are mistakes, which cannot be fewer than none.
    """

    at: np.ndarray
    loss: np.ndarray
    end: float
    constant: np.ndarray
    epochs: float
    flat: float
    age: float
    bounded: bool = False

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
        flat = 1 - recipe.get("decay_fraction", 0.5)
        kept = recipe.get("keep_weights", "best") == "best"
        warm = (steps >= recipe.get("warmup", 0)) | (steps == 0)
        constant = warm & (at <= 1.02 * flat * at[-1]) & np.isfinite(loss)
        end = float(np.nanmin(loss) if kept else loss[-1])
        age = steps[-1] / max(recipe.get("warmup", 0), 1) if steps[-1] else AGE
        bounded = best_possible(metric) is not None
        return Curve(at, loss, end, constant, at[-1] / (train_tokens or at[-1]), flat, age, bounded)

    @property
    def exponent(self) -> float:
        """The median of the prior of the exponent: it grows with the logarithm of the age."""
        return YOUNG + (OLD - YOUNG) * float(np.clip(math.log(max(self.age, 1e-9)) / math.log(AGE), 0, 1))

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
    exponent = curve.exponent * np.exp(EXPONENT_SPREAD * rng.normal(size=draws))
    value, error, share = last_doubling(curve)
    gain = np.maximum(value + error * rng.normal(size=draws), 0.0)
    stops = EPOCHS * np.exp(EPOCHS_SPREAD * rng.normal(size=draws))
    reached = np.clip(stops / curve.epochs, 1.0, times)
    gain *= share**exponent * (1 - reached**-exponent) / np.expm1(exponent * math.log(2))
    return curve.end * -np.expm1(-gain / curve.end) if curve.bounded and curve.end > 0 else gain


def last_doubling(curve: Curve) -> tuple[float, float, float]:
    """Return the gain of the last doubling in the constant phase, its standard error, and the share of the phase.

    The gain is the slope of a regression of the last points on a power law with the expected exponent. Where there are
    no two points in the phase past the warm-up, all points count.
    """
    chosen = curve.constant & (curve.at >= WINDOW * curve.flat * curve.at[-1])
    if chosen.sum() < 2:
        chosen = np.isfinite(curve.loss) & (curve.at >= WINDOW * curve.at[-1])
    at, loss = curve.at[chosen], curve.loss[chosen]
    shape = np.expm1(-curve.exponent * np.log(at / at[-1])) / np.expm1(curve.exponent * math.log(2))
    design = np.stack([np.ones_like(shape), shape], 1)
    fit, *_ = np.linalg.lstsq(design, loss, rcond=None)
    left, prior = loss - design @ fit, NOISE * curve.scale
    noise = (4 * prior**2 + left @ left) / (4 + max(len(loss) - 2, 0))
    error = math.sqrt(noise * np.linalg.pinv(design.T @ design)[1, 1])
    return float(fit[1]), error, float(at[-1] / curve.at[-1])


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
