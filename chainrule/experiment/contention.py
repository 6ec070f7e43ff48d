"""Rows in contention: those that a user may choose between. What is costly to measure is measured of them alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule.experiment.jobs import Results
from chainrule.experiment.plan import MIX, Plan, PlannedRow

REACH = 0.05
"""Rows whose figure is at most this share behind the best one are within reach of it."""


def in_contention(board: Mapping[str, Any]) -> list[str]:
    """Return the names of the best row, of the rows that tie with it, and of those within reach.

    Args:
        board: the content of ``board.json``.
    """
    verdict = board["verdict"]
    chosen = {verdict["best"], *verdict["tie"]}
    main = board["metrics"][0] if board["metrics"] else {"name": "", "higher_is_better": False}
    done = [row for row in board["rows"] if row["status"] == "done" and row["model"] != MIX]
    value = {row["model"]: row[main["name"]] for row in done if row.get("eligible", True)}
    if not value:
        return []
    lead = (max if main["higher_is_better"] else min)(value.values())
    return [name for name, own in value.items() if name in chosen or abs(own - lead) <= REACH * abs(lead)]


def unmeasured(plan: Plan, results: Results, board: Mapping[str, Any]) -> list[PlannedRow]:
    """Return the rows whose memory job has to be run: none before every row is done or has failed.

    Args:
        plan: the experiment.
        results: its result files.
        board: the board of both.
    """
    if any(row["status"] in ("waiting", "running") for row in board["rows"]):
        return []
    done = [row["model"] for row in board["rows"] if row["status"] == "done"]
    wanted = set(done if plan.memory_curves == "all" else in_contention(board))
    return [row for row in plan.rows if row.memory and row.name in wanted and not _over(plan, results, row.memory)]


def _over(plan: Plan, results: Results, name: str) -> bool:
    found = results.get(plan.jobs[name])
    return found is not None and found.status != "running"
