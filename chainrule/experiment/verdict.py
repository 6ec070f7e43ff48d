"""The verdict on a board: facts from its statistics, and sentences of the message catalogue in two languages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule.core.metric import Metric
from chainrule.experiment.horizon import Outlook
from chainrule.experiment.statistics import Blocks, Ranking, rank, times_as_much
from chainrule.report.messages import Catalogue
from chainrule.report.sentences import Amount, MetricValue, Sentence, spoken

MOST_DATA = 100.0
"""Multiples of the test data (or of the seeds) up to which more of them are advised."""
MOST_TEST = 0.3
"""Share of all data up to which a larger test split is advised."""
LIKELY = 0.5
"""Probability to be the best at the horizon from which a row is recommended for it."""
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


def cheapest(names: Sequence[str], rows: Rows) -> str:
    """Return the row of a tie that costs least to keep and to run: constant memory first, then fewer parameters."""
    return min(names, key=lambda n: ((rows[n].get("state_bytes_per_token") or 0) > 0, rows[n]["params"]))


@dataclass(frozen=True)
class Evidence:
    """Facts that a verdict is made from.

    Args:
        rows: finished rows of the board by name.
        blocks: sums over the blocks of the test split, for each of them.
        metric: the main metric.
        running: whether other rows may still finish.
        refused: reasons why a row is not ranked; rows without one are.
        outlook: figures at the horizon.
        test_share: share of all data that is tested.
        folds: folds of cross-validation that the figures are over; 0: none.
    """

    rows: Rows
    blocks: Mapping[str, Blocks]
    metric: Metric
    running: bool = False
    refused: Mapping[str, Sequence[Sentence]] = field(default_factory=dict)
    outlook: Outlook | None = None
    test_share: float | None = None
    folds: int = 0

    @property
    def ranked(self) -> list[str]:
        """Rows that are ranked."""
        return [name for name in self.blocks if not self.refused.get(name)]

    def label(self, name: str) -> str:
        """Return the name of a row for readers."""
        return self.rows[name]["label"]

    @property
    def varied(self) -> bool:
        """Was every row with random initial weights trained from several seeds, or is there none?"""
        trained = [name for name in self.ranked if not _counts(self.rows[name])]
        return all(self.blocks[name].other_seeds for name in trained)


def make_verdict(found: Evidence, say: Mapping[str, Catalogue]) -> dict[str, Any]:
    """Return the verdict over finished rows.

    Args:
        found: what it is made from.
        say: a catalogue for each language.

    Returns:
        ``{"text", "text_ko", "best", "tie", "confidence", "useful_context", "would_decide", "at_horizon", "facts"}``.
    """
    ranking = rank(found.blocks, found.metric, found.ranked or None)
    if ranking is None:
        key, confidence = ("verdict_nothing", "so far") if found.running else ("verdict_failed", "cannot tell")
        none = {"best": None, "tie": [], "useful_context": None, "would_decide": None, "at_horizon": None, "facts": {}}
        return {**spoken([Sentence(key, {})], say), **none, "confidence": confidence}
    leader, tie, size = ranking.order[0], ranking.tie, next(iter(found.blocks.values())).size(found.metric)
    confidence = _confidence(found, ranking, size)
    chosen = leader if confidence in ("so far", "clear") else cheapest(tie if found.ranked else [leader], found.rows)
    facts: dict[str, Any] = {"metric": found.metric.name, "size": size, "order": ranking.order}
    facts |= {"value": found.rows[leader][found.metric.name], "not_ranked": sorted(found.refused)}
    sentences = _opening(found, ranking, chosen, confidence, facts)
    reach = useful_context(found.rows[chosen].get("memory") or [])
    decide = None
    if confidence != "so far":
        sentences += [Sentence("verdict_folds", {"folds": found.folds})] if found.folds else []
        sentences += _refusals(found)
        decide = would_decide(found, ranking, chosen, confidence)
        sentences += [decide] if decide else []
        if confidence != "cannot tell" and reach is not None:
            key = {0: "verdict_context_none", 1: "verdict_context_one"}.get(reach, "verdict_context")
            sentences.append(Sentence(key, {"n": reach, "model": found.label(chosen)}))
        sentences += [Sentence("verdict_one_seed", {})] if confidence != "cannot tell" and not found.varied else []
        sentences += _at_horizon(found, chosen)
    verdict = {"best": chosen, "tie": tie, "confidence": confidence, "useful_context": reach}
    at_horizon = None if found.outlook is None or found.running else found.outlook.to_json()
    verdict |= {"would_decide": spoken([decide], say) if decide else None, "at_horizon": at_horizon, "facts": facts}
    return {**spoken(sentences, say), **verdict}


def _confidence(found: Evidence, ranking: Ranking, size: float) -> str:
    """``so far``, ``cannot tell``, ``tie`` or ``clear``."""
    if found.running:
        return "so far"
    if size < found.metric.min_items or not found.ranked or len(ranking.order) < min(2, len(found.blocks)):
        return "cannot tell"
    return "tie" if len(ranking.tie) > 1 else "clear"


def _opening(found: Evidence, ranking: Ranking, chosen: str, confidence: str, facts: dict[str, Any]) -> list[Sentence]:
    """The sentences that say which row to use, or why that cannot be told."""
    metric, leader = ranking.metric, ranking.order[0]
    leads = {"model": found.label(leader), "value": MetricValue(metric, found.rows[leader][metric.name])}
    size = next(iter(found.blocks.values())).size(metric)
    if confidence == "so far":
        return [Sentence("verdict_so_far", leads)]
    if confidence == "clear":
        return _clear(found.rows, ranking, leads, facts)
    if confidence == "tie":
        models = ", ".join(map(found.label, ranking.tie))
        return [Sentence("verdict_tie", {**leads, "models": models, "model": found.label(chosen)})]
    if not found.ranked:
        return [Sentence("verdict_untrained", leads)]
    if size < metric.min_items:
        opening = Sentence(
            "verdict_too_small", {**leads, "size": Amount(size, metric.items), "least": metric.min_items}
        )
        cheap = Sentence("verdict_cheapest", {"model": found.label(chosen)})
        return [opening, cheap] if len(ranking.tie) > 1 else [opening]
    return [Sentence("verdict_one_ranked", leads)]


def _refusals(found: Evidence) -> list[Sentence]:
    """A sentence that names the rows that are not ranked, each with its reasons."""
    named = [
        Sentence("not_ranked_row", {"model": found.label(name), "why": list(reasons)})
        for name, reasons in found.refused.items()
        if reasons and name in found.blocks
    ]
    return [Sentence("verdict_not_ranked", {"rows": named})] if named else []


def would_decide(found: Evidence, ranking: Ranking, chosen: str, confidence: str) -> Sentence | None:
    """Return the sentence on what would decide a tie, or what a ranking lacks; None where it is clear.

    Args:
        found: what the verdict is made from.
        ranking: the ranked rows.
        chosen: the row that is recommended.
        confidence: the confidence of the verdict.
    """
    metric, size = ranking.metric, next(iter(found.blocks.values())).size(ranking.metric)
    if confidence in ("so far", "clear"):
        return None
    if len(found.ranked) < 2 and len(found.blocks) > 1:
        return Sentence("decide_budget", {})
    if size < metric.min_items:
        least = Amount(metric.min_items, metric.items)
        return Sentence("decide_data", {"least": least, "share": _more(found, metric.min_items / size)})
    rival = chosen if chosen != ranking.order[0] else ranking.tie[1]
    names = {"model": found.label(rival), "best": found.label(ranking.order[0])}
    times = times_as_much(ranking, rival)
    if found.blocks[rival].other_seeds and rival in ranking.overlapping:
        return Sentence("decide_seeds", {**names, "seeds": 2 * (1 + len(found.blocks[rival].other_seeds))})
    if times > MOST_DATA:
        widest = max(abs(end) for end in ranking.behind(rival)[1:])
        return Sentence("decide_nothing", {**names, "most": metric.number(widest)})
    told = {**names, "times": f"{math.ceil(times)}", "share": _more(found, times)}
    return Sentence("decide_test", told)


def _more(found: Evidence, times: float) -> Sentence:
    """The way to more test data: a larger test split, or more data where that would take too much of them."""
    share = (found.test_share or 1.0) * times
    if share > MOST_TEST:
        return Sentence("decide_more_data", {})
    test = math.ceil(100 * share) / 100
    return Sentence("decide_split", {"split": f"{1 - 1.5 * test:.3g}/{0.5 * test:.3g}/{test:.3g}"})


def _at_horizon(found: Evidence, chosen: str) -> list[Sentence]:
    """The second answer: the row to take if training goes on."""
    outlook = found.outlook
    if outlook is None or len(outlook.figures) < 2 or all(_counts(found.rows[name]) for name in outlook.figures):
        return []
    best, chance = outlook.order[0], outlook.probabilities()
    told = {"horizon": outlook.words, "model": found.label(best), "chance": chance[best]}
    if chance[best] < LIKELY:
        return [Sentence("verdict_horizon_open", told)]
    return [Sentence("verdict_horizon_same" if best == chosen else "verdict_horizon", told)]


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
