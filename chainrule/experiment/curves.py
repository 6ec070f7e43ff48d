"""Learning curves beyond the budget: the improvement of a row by more training, with its uncertainty.

A run trains at a constant learning rate, then the rate decays to zero. Few noisy points cannot tell a free curve, so
only one number is fitted: the gain of the last doubling of training in the constant phase. From there the losses at the
end of budgets of length t follow ``a + (loss - a) t^-c``. The asymptote a has a prior that all rows share, since the
data, not the model, decide most of it: somewhat below the best loss of any row. The exponent c follows from the gain
and the asymptote, and is shrunk to what is usual. Another prior says after how many passes over the training data
validation stops to improve. A row whose validation has risen does not improve at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.metric import Metric

DRAWS = 1000
HEADROOM = 0.15
"""Mean of the prior (exponential) of the distance of the asymptote below the best loss of any row, relative to that."""
CAPACITY = 0.03
"""Spread of the distance of a row's own asymptote above the common one, relative to the loss."""
EXPONENT, EXPONENT_SPREAD = 0.6, 0.25
"""Usual exponent, and how far (standard deviation of the logarithm) the one that follows from the gain may be off."""
GAIN_SPREAD = 0.5
"""Spread of the prior of the gain, relative to the gain that the usual exponent would make."""
DECAYED = 1.4
"""The exponent of losses at the end of budgets, after the decay, relative to that of the constant phase."""
WINDOW = 0.25
"""Points of the constant phase from this share of its length on show the gain of its last doubling."""
NOISE = 0.002
"""Least standard deviation of a point, relative to what training has improved so far."""
EPOCHS, EPOCHS_SPREAD = 25.0, 1.0
"""Median and spread (of the logarithm) of the passes over the training data after which validation stops improving, for
a model with a parameter for each item of the training data. The median grows with the fourth root of items a parameter,
but not for accuracy, which suffers less from overfitting than log p does.
"""


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
        room: items of the training data for each parameter.
        bounded: losses are mistakes, which cannot be fewer than none.
    """

    at: np.ndarray
    loss: np.ndarray
    end: float
    constant: np.ndarray
    epochs: float
    flat: float
    room: float = 1.0
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
        loss = _loss(metric, value)
        steps = np.array([point.get("step", 0) for point in points], float)
        flat = 1 - recipe.get("decay_fraction", 0.5)
        kept = recipe.get("keep_weights", "best") == "best"
        warm = (steps >= recipe.get("warmup", 0)) | (steps == 0)
        constant = warm & (at <= 1.02 * flat * at[-1]) & np.isfinite(loss)
        end = float(np.nanmin(loss) if kept else loss[-1])
        items = train_tokens or at[-1]
        bounded = best_possible(metric) is not None
        return Curve(at, loss, end, constant, at[-1] / items, flat, items / max(row.get("params") or items, 1), bounded)

    @property
    def scale(self) -> float:
        """Improvement by training so far, or the loss itself where that is more; changes are relative to it."""
        return max(float(np.nanmax(self.loss)) - self.end, abs(self.end) if self.end > 0 else 0.0, 1e-12)

    @property
    def rising(self) -> bool:
        """Has validation become worse for good: are the last points worse than the best by more than noise?"""
        loss = self.loss[np.isfinite(self.loss)]
        if len(loss) < 5 or loss.argmin() >= len(loss) - 2:
            return False
        return bool(loss[-2:].min() > loss.min() + 2 * self.noise)

    @property
    def noise(self) -> float:
        """Standard deviation of a point, by second differences; at least what is usual."""
        loss = self.loss[np.isfinite(self.loss)]
        second = np.median(np.abs(np.diff(loss, 2))) if len(loss) > 2 else 0.0
        return max(1.48 * float(second) / math.sqrt(6), NOISE * self.scale)


def frontier(rows: Iterable[Mapping[str, Any]], metric: Metric) -> float:
    """Return the best validation loss of any row: the asymptote lies below it.

    Args:
        rows: rows with curves; that of a counted model is one point.
        metric: that of the curves.
    """
    values = [point["value"] for row in rows for point in row.get("curve") or [] if np.isfinite(point["value"])]
    losses = [_loss(metric, np.array(value)) for value in values]
    return float(min(losses, default=0.0))


def gains(curve: Curve, times: float, best: float | None = None, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return draws of the loss that a row would lose by training ``times`` as long; negative where it becomes worse.

    Args:
        curve: the curve of the row.
        times: length of training, relative to that of the curve.
        best: the best loss of any row; None: that of the curve.
        draws: number of draws.
        seed: of the draws; the common asymptote is the same for every seed.
    """
    rng, common = np.random.default_rng([2, seed]), np.random.default_rng(2)
    if curve.rising:
        kept = np.nanmin(curve.loss[curve.constant]) if curve.constant.any() else curve.end
        return -max(float(kept) - curve.end, 0.0) * rng.random(draws)
    if curve.bounded and curve.end <= 0:
        return np.zeros(draws)  # it makes no mistakes
    best = curve.end if best is None else min(best, curve.end)
    unit = max(best, 0.1 * curve.end) if curve.bounded else best if best > 0 else curve.scale
    asymptote = best - unit * -np.expm1(-common.exponential(HEADROOM, draws))
    asymptote = np.maximum(asymptote, 0.0) if curve.bounded else asymptote
    asymptote += CAPACITY * unit * np.abs(rng.normal(size=draws))
    level, gain, error = last_doubling(curve)
    above = np.maximum(level - asymptote, max(0.02 * unit, 1e-12))
    usual = above * np.expm1(EXPONENT / DECAYED * math.log(2))
    trust = 1 / (1 + (error / (GAIN_SPREAD * usual)) ** 2)
    gain = trust * gain + (1 - trust) * usual + np.sqrt(trust) * error * rng.normal(size=draws)
    exponent = DECAYED * np.log2(1 + np.maximum(gain, 0.0) / above) * np.exp(EXPONENT_SPREAD * rng.normal(size=draws))
    stops = EPOCHS * (1.0 if curve.bounded else curve.room**0.25) * np.exp(EPOCHS_SPREAD * rng.normal(size=draws))
    reached = np.clip(stops / curve.epochs, 1.0, times)
    return np.maximum(curve.end - asymptote, 0.0) * (1 - reached**-exponent)


def last_doubling(curve: Curve) -> tuple[float, float, float]:
    """Return the loss at the end of the constant phase, the gain of its last doubling, and the gain's standard error.

    They are a regression of the last points on a power law with the usual exponent. Where there are no two points in
    the phase past the warm-up, the gain is not known, and its standard error is that of anything.
    """
    chosen = curve.constant & (curve.at >= WINDOW * curve.flat * curve.at[-1])
    if chosen.sum() < 2:
        return curve.end, 0.0, 1e6 * curve.scale
    at, loss = curve.at[chosen], curve.loss[chosen]
    shape = np.expm1(-EXPONENT * np.log(at / at[-1])) / np.expm1(EXPONENT * math.log(2))
    design = np.stack([np.ones_like(shape), shape], 1)
    (level, gain), *_ = np.linalg.lstsq(design, loss, rcond=None)
    left = loss - design @ [level, gain]
    variance = (4 * curve.noise**2 + left @ left) / (4 + max(len(loss) - 2, 0))
    error = math.sqrt(variance * np.linalg.pinv(design.T @ design)[1, 1])
    return float(level), float(gain), error


def _loss(metric: Metric, value: np.ndarray) -> np.ndarray:
    return (best_possible(metric) or 0.0) - value if metric.higher_is_better else value


def doubling(curve: Curve | None, best: float | None = None) -> dict[str, float] | None:
    """Return the gain that the fitted curve expects of twice the budget, in units of the curve; None without a curve.

    Args:
        curve: the curve of a row.
        best: the best loss of any row.

    Returns:
        ``{"value", "low", "high", "share"}``: the median, the ends of the 80 % interval, and the median relative to
        what training has improved.
    """
    if curve is None:
        return None
    low, value, high = np.quantile(gains(curve, 2.0, best), [0.1, 0.5, 0.9])
    return {"value": float(value), "low": float(low), "high": float(high), "share": float(value) / curve.scale}
