"""The verdict on a board: facts from its statistics, and sentences of the message catalogue in two languages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from chainrule.core.metric import Metric
from chainrule.experiment.statistics import Blocks, Ranking, rank
from chainrule.report.messages import Catalogue
from chainrule.report.sentences import Amount, MetricValue, Sentence, spoken

MOST_TIMES = 32
"""Multiples of the training time up to which a learning curve is extrapolated."""
Rows = Mapping[str, dict[str, Any]]


def useful_context(curve: Sequence[Mapping[str, float]], tolerance: float = 0.01) -> int | None:
    """Return the fewest visible tokens with which a model comes within a tolerance of its best value.

    Args:
        curve: the memory curve, ``{"visible", "value"}`` by rising context; lower values are better.
        tolerance: relative distance from the best value.

    >>> useful_context([{"visible": 0, "value": 4.0}, {"visible": 8, "value": 2.01}, {"visible": 64, "value": 2.0}])
    8
    """
    if not curve:
        return None
    best = min(point["value"] for point in curve)
    return next(int(point["visible"]) for point in curve if point["value"] <= best * (1 + tolerance))


def gain_of_doubling(curve: Sequence[Mapping[str, float]], higher_is_better: bool = False) -> float:
    """Return the improvement of a learning curve from a quarter to half of the training tokens; 0 where it gets worse.

    Points are compared where the learning rate is still constant: a decay would bend the curve. Tokens stand for time,
    so that the gain does not depend on the load of the machine.

    Args:
        curve: ``{"tokens", "value"}`` by rising tokens; fewer than 5 points have no gain.
        higher_is_better: the direction of the value.
    """
    if len(curve) < 5:
        return 0.0
    total = curve[-1]["tokens"]
    near = lambda share: min(curve, key=lambda p: abs(p["tokens"] - share * total))["value"]  # noqa: E731
    gain = near(0.25) - near(0.5)
    return max(0.0, -gain if higher_is_better else gain)


def overtaking(rows: Rows, ranking: Ranking) -> tuple[str, float] | None:
    """Return the row that would overtake the best one, and about how many times the training time that would take.

    The estimate repeats the gain of the last doubling before the decay. It suits losses; accuracy and PSNR flatten.
    """
    best = ranking.order[0]
    gain = {name: rows[name].get("gain_of_doubling") or 0.0 for name in ranking.order}
    found = []
    for name in ranking.order[1:]:
        faster = gain[name] - gain[best]
        if faster > 1e-3 and ranking.behind(name)[0] > 0:
            found.append((2 ** (ranking.behind(name)[0] / faster), name))
    times, name = min(found, default=(math.inf, ""))
    return (name, times) if times <= MOST_TIMES else None


def cheapest(names: Sequence[str], rows: Rows) -> str:
    """Return the row of a tie that costs least to keep and to run: constant memory first, then fewer parameters."""
    return min(names, key=lambda n: ((rows[n].get("state_bytes_per_token") or 0) > 0, rows[n]["params"]))


def make_verdict(
    rows: Rows,
    blocks: Mapping[str, Blocks],
    metric: Metric,
    *,
    running: bool,
    followed: bool,
    say: Mapping[str, Catalogue],
) -> dict[str, Any]:
    """Return the verdict over finished rows.

    Args:
        rows: rows of the board by name; those of ``blocks`` are read.
        blocks: sums over the blocks of the test part, for each finished row.
        running: whether other rows may still finish.
        followed: whether learning curves show the main metric, so that they can be extrapolated.
        say: a catalogue for each language.

    Returns:
        ``{"text", "text_ko", "best", "tie", "confidence", "useful_context", "facts"}``.
    """
    ranking = rank(blocks, metric)
    if ranking is None:
        key, confidence = ("verdict_nothing", "so far") if running else ("verdict_failed", "cannot tell")
        verdict = {"best": None, "tie": [], "confidence": confidence, "useful_context": None, "facts": {}}
        return {**spoken([Sentence(key, {})], say), **verdict}
    chosen, tie, size = ranking.order[0], ranking.tie, next(iter(blocks.values())).size(metric)
    value = rows[chosen][metric.name]
    facts: dict[str, Any] = {"metric": metric.name, "value": value, "size": size, "order": ranking.order}
    leads = {"model": rows[chosen]["label"], "value": MetricValue(metric, value)}
    if running:
        confidence, sentences = "so far", [Sentence("verdict_so_far", leads)]
    elif size < metric.min_items:
        too_few = {**leads, "size": Amount(size, metric.items), "least": metric.min_items}
        confidence, sentences = "cannot tell", [Sentence("verdict_too_small", too_few)]
    elif len(tie) > 1:
        chosen, models = cheapest(tie, rows), ", ".join(rows[name]["label"] for name in tie)
        told = {**leads, "models": models, "model": rows[chosen]["label"]}
        confidence, sentences = "tie", [Sentence("verdict_tie", told)]
    else:
        confidence, sentences = "clear", _clear(rows, ranking, leads, facts)
    reach = useful_context(rows[chosen].get("memory") or [])
    if confidence in ("tie", "clear"):
        key = {0: "verdict_context_none", 1: "verdict_context_one"}.get(reach or 0, "verdict_context")
        sentences += [] if reach is None else [Sentence(key, {"n": reach})]
        ahead = overtaking(rows, ranking) if followed and not metric.higher_is_better else None
        if ahead and ahead[0] not in tie:
            facts["overtaking"] = {"model": ahead[0], "times": ahead[1]}
            times = {"times": f"{max(ahead[1], 1.1):.2g}", "model": rows[ahead[0]]["label"]}
            sentences.append(Sentence("verdict_overtake", times))
    verdict = {"best": chosen, "tie": tie, "confidence": confidence, "useful_context": reach, "facts": facts}
    return {**spoken(sentences, say), **verdict}


def _clear(rows: Rows, ranking: Ranking, leads: Mapping[str, Any], facts: dict[str, Any]) -> list[Sentence]:
    """Sentences on a row that is clearly the best: beside the second, and beside the best of one pass over the data."""
    metric, best = ranking.metric, ranking.order[0]
    if len(ranking.order) == 1:
        return [Sentence("verdict_use", leads)]
    second = ranking.order[1]
    facts |= {"second": second, "gap": list(ranking.behind(second))}
    gap, low, high = map(metric.number, ranking.behind(second))
    ahead = {**leads, "gap": gap, "second": rows[second]["label"], "low": low, "high": high}
    sentences = [Sentence("verdict_use_ahead", ahead)]
    counting = next((name for name in ranking.order if _counts(rows[name])), None)
    if counting and counting != second and not _counts(rows[best]):
        facts["counting"] = {"model": counting, "gap": list(ranking.behind(counting))}
        gap = metric.number(ranking.behind(counting)[0])
        sentences.append(Sentence("verdict_counting", {"gap": gap, "model": rows[counting]["label"]}))
    return sentences


def _counts(row: Mapping[str, Any]) -> bool:
    """Is the row's model estimated from counts and sums in one pass over the data?"""
    return row.get("train", {}).get("update") == "counting"
