"""The second answer of a verdict: which row to take if training goes on to a horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.core.bootstrap import resample
from chainrule.core.metric import Metric
from chainrule.experiment.curves import DRAWS, Curve, best_possible, gains
from chainrule.experiment.statistics import Blocks

TIMES = 10
"""The horizon relative to the budget, unless another one is given."""
ELASTICITY, ELASTICITY_SPREAD = 0.8, 0.3
"""Relative change of the distance to a perfect figure by the relative change of the validation loss, where the two are
different metrics.
"""


@dataclass(frozen=True)
class Outlook:
    """Draws of the main figure of each row at the horizon, paired; ``words`` is the horizon as a sentence says it."""

    figures: dict[str, np.ndarray]
    metric: Metric
    times: float
    horizon: str
    words: Any = field(default=None)

    @property
    def order(self) -> list[str]:
        """Rows from best to worst by their expected figures."""
        means = {name: float(drawn.mean()) for name, drawn in self.figures.items()}
        return sorted(means, key=lambda name: means[name], reverse=self.metric.higher_is_better)

    def probabilities(self) -> dict[str, float]:
        """Return the probability of each row to be the best at the horizon; equal figures share it."""
        names = list(self.figures)
        drawn = np.stack([self.figures[name] for name in names]) * (-1 if self.metric.higher_is_better else 1)
        best = drawn <= drawn.min(0)
        return dict(zip(names, (best / best.sum(0)).mean(1).tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return ``{"best", "confidence", "horizon", "ranking"}``; intervals are of 80 %."""
        chances, ranking = self.probabilities(), []
        for name in self.order:
            low, high = np.quantile(self.figures[name], [0.1, 0.9])
            value = float(self.figures[name].mean())
            found = {"model": name, "value": value, "low": float(low), "high": float(high)}
            ranking.append({**found, "probability": round(chances[name], 4)})
        best = self.order[0]
        return {"best": best, "confidence": round(chances[best], 4), "horizon": self.horizon, "ranking": ranking}


def outlook(
    curves: Mapping[str, Curve | None],
    blocks: Mapping[str, Blocks],
    metrics: tuple[Metric, Metric],
    times: float,
    horizon: str,
    words: Any = None,
    best: float | None = None,
) -> Outlook:
    """Return the figures of all rows after training ``times`` as long.

    Args:
        curves: learning curves by row; a row without one does not change.
        blocks: sums over the blocks of the test split, by row.
        metrics: the main metric, and that of the curves.
        times: the horizon relative to the budget.
        horizon: the horizon as it is typed.
        words: the horizon as it is said.
        best: the best validation loss of any row.
    """
    main, validation = metrics
    found = {}
    for seed, name in enumerate(sorted(blocks)):
        several = blocks[name]
        now = several.drawn(main, resample(len(several), DRAWS), seed)
        curve = curves.get(name)
        gained = None if curve is None else gains(curve, times, best, seed=seed)
        found[name] = now if curve is None or gained is None else _later(now, curve, gained, main, validation)
    return Outlook(found, main, times, horizon, words)


def _later(now: np.ndarray, curve: Curve, gained: np.ndarray, main: Metric, validation: Metric) -> np.ndarray:
    """The main figure after the validation loss has fallen."""
    best, same = best_possible(main), main.name == validation.name
    if same and best is None:
        return now + (gained if main.higher_is_better else -gained)
    share = np.clip(gained / max(abs(curve.end), 1e-9), -1.0, 0.95)
    power = 1.0 if same else np.random.default_rng(3).normal(ELASTICITY, ELASTICITY_SPREAD, len(now))
    factor = (1 - share) ** power
    if best is None:
        return now / factor if main.higher_is_better else now * factor
    return best - (best - now) * factor
