"""The part of a verdict on the row ``mix``: a pure function of the board's rows and blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule.core.metric import Metric
from chainrule.experiment.plan import MIX
from chainrule.experiment.statistics import Blocks, difference
from chainrule.report.messages import Catalogue
from chainrule.report.sentences import MetricValue, Sentence, spoken


def add_mixture(
    verdict: dict[str, Any],
    rows: Mapping[str, dict[str, Any]],
    blocks: Mapping[str, Blocks],
    metric: Metric,
    say: Mapping[str, Catalogue],
) -> dict[str, Any]:
    """Return the verdict with what the mixture gains over the recommended row, and what it costs to run.

    Args:
        verdict: the verdict over the other rows.
        rows: all rows of the board, by name.
        blocks: sums over the blocks of the test part, for each finished row.
        metric: the main metric.
        say: a catalogue for each language.

    Returns:
        The verdict, with ``mix`` among its facts; as it was if there is no mixture or no recommended row.
    """
    best = verdict["best"]
    if MIX not in blocks or best not in blocks:
        return verdict
    mix, alone = rows[MIX], rows[best]
    value, low, high = difference(blocks[MIX], blocks[best], metric)
    gap = {"value": value, "low": low, "high": high}
    gain, least, most = (value, low, high) if metric.higher_is_better else (-value, -high, -low)
    parts = [rows[name]["label"] for name in mix["config"]["parts"]]
    told = {"models": " + ".join(parts), "value": MetricValue(metric, mix[metric.name]), "best": alone["label"]}
    if least > 0:
        numbers = {k: metric.number(x) for k, x in (("gap", gain), ("low", least), ("high", most))}
        sentences = [Sentence("verdict_mix", {**told, **numbers}), *_cost(mix, alone)]
    else:
        sentences = [Sentence("verdict_mix_none" if gain > 0 else "verdict_mix_worse", told)]
    fact = {
        "parts": mix["config"]["parts"], "weights": mix["config"]["weights"], "value": mix[metric.name], "gap": gap,
        "better": least > 0, "params": mix["params"],
        "tokens_per_second_generate": mix.get("tokens_per_second_generate"),
    }  # fmt: skip
    mix["gap"] = gap
    added = spoken(sentences, say)
    return {
        **verdict, **{key: f"{verdict[key]} {text}".strip() for key, text in added.items()},
        "facts": {**verdict.get("facts", {}), "mix": fact},
    }  # fmt: skip


def _cost(mix: Mapping[str, Any], alone: Mapping[str, Any]) -> list[Sentence]:
    """The cost of running the mixture beside that of one row."""
    mine, other = mix.get("tokens_per_second_generate"), alone.get("tokens_per_second_generate")
    numbers = {"params": mix["params"], "other_params": alone["params"]}
    if not mine or not other:
        return [Sentence("verdict_mix_params", numbers)]
    return [Sentence("verdict_mix_cost", {**numbers, "share": f"{max(1, round(100 * mine / other))}"})]
