"""Choose the rows that are trained far enough to be ranked, as a pure function of the rows of a board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.experiment.curves import Curve, gains
from chainrule.report.sentences import MetricValue, Sentence

STEEP = 0.06
"""Expected gain of doubling the budget, relative to what training has improved (or to the loss), from which a row is
not ranked.
"""
Row = Mapping[str, Any]


def steps_of(row: Row) -> int | None:
    """Return the updates that a row took, or None where its curve does not tell."""
    points = row.get("curve") or [{}]
    found = row.get("steps", points[-1].get("step"))
    return None if found is None else int(found)


def not_ranked(
    row: Row, metric: Metric, least: Mapping[str, float], curve: Curve | None, best: float | None = None
) -> list[Sentence]:
    """Return the reasons why a row cannot be ranked; none if it is trained far enough.

    A counting model is estimated once from all the data: it is always ranked.

    Args:
        row: a finished row.
        metric: the main metric.
        least: values of references, by message key, that a trained model must be better than.
        curve: its learning curve.
        best: the best validation loss of any row.
    """
    recipe, steps = row.get("train") or {}, steps_of(row)
    if recipe.get("update", "counting") == "counting":
        return []
    warmup = recipe.get("warmup", 0) if recipe["update"] == "gradient" else 0
    if steps is not None and steps <= warmup:
        return [Sentence("not_ranked_warmup", {"steps": steps, "warmup": warmup})]
    for name, value in least.items():
        if metric.name in row and metric.better(row[metric.name], value) <= 0:
            told = {"reference": Sentence(name, {}), "value": MetricValue(metric, value), "steps": steps or 0}
            return [Sentence("not_ranked_reference", told)]
    if recipe["update"] == "gradient" and curve is not None and falls_steeply(curve, best):
        return [Sentence("not_ranked_steep", {"steps": steps or 0})]
    return []


def refusals(
    rows: Mapping[str, Row],
    metric: Metric,
    least: Mapping[str, float],
    curves: Mapping[str, Curve | None],
    best: float | None = None,
) -> dict[str, list[Sentence]]:
    """Return the reasons by row, for rows that are not ranked.

    A row that still improves fast and leads all the same is ranked: more training would only confirm it.

    Args:
        rows: finished rows by name.
        metric: the main metric.
        least: values of references, by message key, that a trained model must be better than.
        curves: learning curves by row.
        best: the best validation loss of any row.
    """
    found = {name: not_ranked(row, metric, least, curves.get(name), best) for name, row in rows.items()}
    free = [name for name, why in found.items() if all(reason.key == "not_ranked_steep" for reason in why)]
    if free:
        leader = max(free, key=lambda name: metric.better(rows[name][metric.name], 0.0))
        found[leader] = []
    return {name: why for name, why in found.items() if why}


def falls_steeply(curve: Curve, best: float | None = None) -> bool:
    """Return whether doubling the budget would probably improve the row a lot."""
    return float(np.median(gains(curve, 2.0, best))) > STEEP * curve.scale
