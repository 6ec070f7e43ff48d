"""Judge recommendations after a short comparison by the ranking after ten times the budget, from kept result files.

Regret is the relative difference, in the long comparison, between the recommended row and the best one on the test
split. Every recommendation is made from the short comparison alone, except that successive halving continues the
networks that it keeps, at the cost of the short comparison: their curves are those of the long one.
"""

from __future__ import annotations

import gzip
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.experiment.board import build_board
from chainrule.experiment.jobs import Results
from chainrule.experiment.plan import Plan
from chainrule.training.budget import Budget

SURE = 0.9
"""Confidence from which an answer for the horizon counts as clear."""


@dataclass(frozen=True)
class Pair:
    """One set with one seed: the board after the short comparison and the board after the long one."""

    name: str
    seed: int
    short: dict[str, Any]
    long: dict[str, Any]

    @property
    def metric(self) -> Metric:
        return Metric.from_json(self.short["metrics"][0])

    def figures(self, board: dict[str, Any]) -> dict[str, float]:
        """Return test figures by row."""
        return {row["model"]: row[self.metric.name] for row in board["rows"] if row["status"] == "done"}

    def best(self, figures: dict[str, float]) -> str:
        return max(figures, key=lambda row: self.metric.better(figures[row], 0.0))

    def regret(self, row: str) -> float:
        """Return the relative loss of a row against the best one of the long comparison."""
        figures = self.figures(self.long)
        best = figures[self.best(figures)]
        return self.metric.better(best, figures[row]) / abs(best)

    def confirmed(self, row: str) -> bool:
        """Return whether the long comparison ranks the row first, alone or in a tie."""
        figures = self.figures(self.long)
        return row == self.best(figures) or row in self.long["verdict"]["tie"]


def read_pair(files: tuple[Path, Path], name: str, seed: int) -> Pair:
    """Return the boards of a short and a long comparison; the horizon of the short one is the long one's budget."""
    saved = [json.loads(gzip.decompress(path.read_bytes())) for path in files]
    plans = [Plan.from_json(found["plan"]) for found in saved]
    plans[0] = replace(plans[0], horizon=plans[1].settings["budget"])
    boards = []
    for plan, found in zip(plans, saved, strict=True):
        with tempfile.TemporaryDirectory() as place:
            results = Results(Path(place))
            results.folder.mkdir()
            for job, result in found["results"].items():
                (results.folder / f"{job}.json").write_text(json.dumps(result), encoding="utf-8")
            boards.append(build_board(plan, results))
    for board in boards:  # a mixture is no model to choose
        board["rows"] = [row for row in board["rows"] if row["model"] != "mix"]
    return Pair(name, seed, *boards)


# --- recommendations --------------------------------------------------------------------------------------------------


def at_horizon(pair: Pair) -> str:
    return pair.short["verdict"]["at_horizon"]["best"]


def leader(pair: Pair) -> str:
    return pair.best(pair.figures(pair.short))


def counting(pair: Pair) -> str:
    """The n-gram; where there is none, the model that is counted."""
    rows = [row["model"] for row in pair.short["rows"] if row["train"]["update"] == "counting"]
    return "ngram" if "ngram" in rows else rows[0]


def lstm(pair: Pair) -> str:
    return "lstm"


def successive_halving(pair: Pair) -> str:
    """Networks share the seconds of the short comparison: in each round all that are left train for an equal share,
    then the worse half by validation is dropped (Jamieson & Talwalkar 2016). Counted models stay and cost nothing.
    """
    curves = {row["model"]: _continued(pair, row["model"]) for row in pair.short["rows"]}
    validation = Metric.from_json(pair.short["validation"])
    left = [row["model"] for row in pair.short["rows"] if row["train"]["update"] != "counting"]
    still = {name: curves[name][-1]["value"] for name in curves if name not in left}
    rounds, at = max(1, math.ceil(math.log2(max(len(left), 1)))), 0.0
    total, values = len(left) * Budget.parse(_budget(pair.short)).amount, {}
    for _ in range(rounds):
        at += total / rounds / max(len(left), 1)
        values = {name: _value(curves[name], at) for name in left}
        left = sorted(left, key=lambda name: validation.better(values[name], 0.0))[len(left) // 2 :]
    last = still | {name: values[name] for name in left}
    return max(last, key=lambda name: validation.better(last[name], 0.0))


def _budget(board: dict[str, Any]) -> str:
    return board["budget"]["text"].split(" for ")[0].replace(",", "")


def _continued(pair: Pair, name: str) -> list[dict[str, float]]:
    """The curve of the long comparison; before its first point, that of the short one's constant phase."""
    short, long = (
        next(row["curve"] for row in board["rows"] if row["model"] == name) for board in (pair.short, pair.long)
    )
    constant = [point for point in short[:-1] if point["tokens"] <= 0.5 * short[-1]["tokens"]]
    return [*(point for point in constant if point["seconds"] < long[0]["seconds"]), *long]


def _value(curve: Sequence[dict[str, float]], seconds: float) -> float:
    return float(np.interp(seconds, [p["seconds"] for p in curve], [p["value"] for p in curve]))


METHODS: dict[str, Callable[[Pair], str]] = {
    "verdict at the horizon": at_horizon, "current leader": leader, "always n-gram": counting, "always LSTM": lstm,
    "successive halving": successive_halving,
}  # fmt: skip


# --- figures ----------------------------------------------------------------------------------------------------------


def wilson(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927).

    >>> [round(end, 3) for end in wilson(9, 10)]
    [0.596, 0.982]
    """
    if count == 0:
        return 0.0, 1.0
    share, extra = hits / count, z**2 / count
    half = z * math.sqrt(share * (1 - share) / count + extra / (4 * count))
    return (share + extra / 2 - half) / (1 + extra), (share + extra / 2 + half) / (1 + extra)


def judge(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return recommendations and regrets of every method, and how many clear verdicts the long run confirms."""
    rows = []
    for pair in pairs:
        chosen = {method: choose(pair) for method, choose in METHODS.items()}
        verdict = pair.short["verdict"]
        rows.append(
            {
                "set": pair.name, "seed": pair.seed, "best": pair.best(pair.figures(pair.long)), "chosen": chosen,
                "regret": {method: pair.regret(row) for method, row in chosen.items()},
                "confidence": verdict["at_horizon"]["confidence"], "now": verdict["confidence"],
                "now_confirmed": pair.confirmed(verdict["best"]),
                "horizon_confirmed": pair.confirmed(chosen["verdict at the horizon"]),
            }
        )  # fmt: skip
    regrets = {method: np.array([row["regret"][method] for row in rows]) for method in METHODS}
    sure = [row["horizon_confirmed"] for row in rows if row["confidence"] >= SURE]
    now = [row["now_confirmed"] for row in rows if row["now"] == "clear"]
    return {
        "rows": rows,
        "mean_regret": {method: float(values.mean()) for method, values in regrets.items()},
        "within_2_percent": {method: int((values <= 0.02).sum()) for method, values in regrets.items()},
        "clear_at_horizon": _confirmed(sure), "clear_now": _confirmed(now),
    }  # fmt: skip


def _confirmed(hits: list[bool]) -> dict[str, Any]:
    low, high = wilson(sum(hits), len(hits))
    return {"confirmed": sum(hits), "of": len(hits), "low": low, "high": high}


def as_markdown(found: dict[str, Any], short: str, long: str) -> str:
    """Return the page of the evidence."""
    count = len(found["rows"])
    lines = [
        f"# Verdicts after {short} a row against the ranking after {long}", "",
        f"`make evidence-verdict` writes this page from the result files in `verdict/`: {count} comparisons, in "
        "seconds of the processor, one thread. Regret: how much worse the recommended row is than the best one of the "
        "long comparison, on the test split, relative to the best one's figure.", "",
        "![regret by set and method](verdict.svg)", "",
        "| method | mean regret | at most 2 % |", "|---|---|---|",
        *(
            f"| {method} | {100 * regret:.2f} % | {found['within_2_percent'][method]} of {count} |"
            for method, regret in found["mean_regret"].items()
        ),
        "",
        _told("Verdicts for the horizon with a confidence of 90 % or more", found["clear_at_horizon"], long),
        _told("Verdicts on the rows as trained that are called clear", found["clear_now"], long), "",
        f"| set | seed | best after {long} | recommended | confidence | regret | "
        + " | ".join(f"{method}" for method in list(METHODS)[1:]) + " |",
        "|---|---|---|---|---|---|" + "---|" * (len(METHODS) - 1),
    ]  # fmt: skip
    for row in found["rows"]:
        others = " | ".join(f"{row['chosen'][m]} {100 * row['regret'][m]:.2f} %" for m in list(METHODS)[1:])
        mine = row["chosen"]["verdict at the horizon"], 100 * row["regret"]["verdict at the horizon"]
        lines.append(
            f"| {row['set']} | {row['seed']} | {row['best']} | {mine[0]} | {row['confidence']:.0%} | {mine[1]:.2f} % | "
            f"{others} |"
        )
    return "\n".join(lines) + "\n"


def _told(what: str, found: dict[str, Any], long: str) -> str:
    return (
        f"- {what}: {found['confirmed']} of {found['of']} are confirmed after {long}, alone at the top or in its tie "
        f"(95 % Wilson interval {found['low']:.0%} to {found['high']:.0%})."
    )


def as_svg(found: dict[str, Any]) -> str:
    """Return a figure with a row for each comparison and a mark for each method, regret in percent on a log scale."""
    colours = ("#1b6ca8", "#d1495b", "#7a7a7a", "#edae49", "#66a182")
    left, right, step = 190, 700, 22
    height = 70 + step * len(found["rows"])

    def place(regret: float) -> float:
        return left + (right - left) * (math.log10(max(100 * regret, 0.05)) + 1.31) / 3.4

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{right + 30}" height="{height + 20}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{right + 30}" height="{height + 20}" fill="white"/>',
    ]
    for k, method in enumerate(METHODS):
        x = 20 + 140 * k
        parts += [f'<circle cx="{x}" cy="16" r="5" fill="{colours[k]}"/>', f'<text x="{x + 9}" y="20">{method}</text>']
    for tick in (0.1, 0.5, 2, 10, 50):
        x = place(tick / 100)
        stroke = "#333" if tick == 2 else "#ddd"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="34" y2="{height - 20}" stroke="{stroke}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height}" text-anchor="middle">{tick} %</text>')
    for i, row in enumerate(found["rows"]):
        y = 46 + step * i
        parts.append(f'<text x="10" y="{y + 4}">{row["set"]}, seed {row["seed"]}</text>')
        for k, method in reversed(list(enumerate(METHODS))):
            x, r = place(row["regret"][method]), 6 if k == 0 else 4
            parts.append(f'<circle cx="{x:.1f}" cy="{y + 1.5 * (k - 2):.1f}" r="{r}" fill="{colours[k]}"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
