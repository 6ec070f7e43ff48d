"""board.json as a pure function of a plan and its result files: no data, no model and no torch are needed to build it
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.experiment.jobs import Result, Results
from chainrule.experiment.plan import Plan, PlannedRow
from chainrule.experiment.statistics import Blocks, interval, rank
from chainrule.experiment.verdict import gain_of_doubling, make_verdict
from chainrule.report.messages import LANGUAGES, Catalogue
from chainrule.report.sentences import spoken
from chainrule.tasks.board import BoardTask, board_of, section_of
from chainrule.training.budget import Budget

FORMAT = 1
Row = dict[str, Any]


def build_board(plan: Plan, results: Results, *, running: bool = False) -> dict[str, Any]:
    """The content of ``board.json``.

    Args:
        plan: the experiment.
        results: its result files; jobs without one have not begun.
        running: whether somebody works on the jobs that are left.
    """
    task = board_of(plan.task)
    prepared = results.get(plan.jobs["prepare"])
    facts = prepared.found if prepared and prepared.status == "done" else {}
    metrics = [Metric.from_json(saved) for saved in facts.get("metrics", [])]
    made = [_make_row(row, plan, results, facts, metrics, task) for row in plan.rows]
    rows = {found["model"]: found for found, _, _ in made}
    left = not facts or any(row["status"] in ("waiting", "running") for row in rows.values())
    board: dict[str, Any] = {
        "format": FORMAT, "title": plan.title, "task": plan.task, "created": plan.created, "command": plan.command,
        "status": ("running" if running else "interrupted") if left else "finished",
        "budget": budget_in_words(plan.settings["budget"]), "references": {},
        "metrics": [metric.to_json() for metric in metrics], "rows": list(rows.values()), "key": plan.key,
    }  # fmt: skip
    if not facts:
        say = {lang: Catalogue(lang).counting(None) for lang in LANGUAGES}
        verdict = {**say_nothing(say), "best": None, "tie": [], "confidence": "so far", "useful_context": None}
        return {**board, "verdict": verdict, "warnings": []}
    validation = Metric.from_json(facts["validation"])
    board |= {
        "metric": metrics[0].name, "learnt": facts["learnt"], "data": facts["card"],
        "machine": facts["machine"], "validation": validation.to_json(),
        **{k: v for k, v in facts["board"].items() if k != "private"},
        **task.entries(facts["board"], {found["model"]: private for found, private, _ in made if private}),
    }  # fmt: skip
    blocks = {found["model"]: several for found, _, several in made if several is not None}
    return board | _judge(board, rows, blocks, metrics, validation, task, left)


def budget_in_words(text: str) -> dict[str, str]:
    """The budget in words, one entry per language."""
    budget = Budget.parse(text)
    amount = int(budget.amount) if budget.amount == int(budget.amount) else budget.amount
    return {
        "text" if lang == "en" else f"text_{lang}": Catalogue(lang).message(f"budget_{budget.kind}", amount=amount)
        for lang in LANGUAGES
    }


def say_nothing(say: Mapping[str, Catalogue]) -> dict[str, str]:
    """The verdict while no row is done."""
    return {"text" if lang == "en" else f"text_{lang}": say[lang].message("verdict_nothing") for lang in LANGUAGES}


def _judge(
    board: Mapping[str, Any],
    rows: Mapping[str, Row],
    blocks: Mapping[str, Blocks],
    metrics: list[Metric],
    validation: Metric,
    task: BoardTask,
    left: bool,
) -> dict[str, Any]:
    """Verdict and warnings; the gap of each row to the best one is put into it."""
    main, counted = metrics[0], board["data"].get("counted")
    say = {lang: section_of(board["task"]).catalogue(lang).counting(counted) for lang in LANGUAGES}
    ranking = rank(blocks, main)
    for name, (value, low, high) in (ranking.gaps if ranking else {}).items():
        rows[name]["gap"] = {"value": value, "low": low, "high": high}
    followed = validation.name == main.name
    verdict = make_verdict(rows, blocks, main, running=left, followed=followed, say=say)
    if verdict["best"]:
        more = spoken(task.remark(board, rows[verdict["best"]], metrics), say)
        verdict |= {key: f"{verdict[key]} {text}".rstrip() for key, text in more.items()}
    done = [rows[name] for name in rows if name in blocks]
    warnings = [warning.to_json(say) for warning in task.warnings(board, done, metrics)]
    return {"verdict": verdict, "warnings": warnings}


# --- rows -------------------------------------------------------------------------------------------------------------


def _make_row(
    row: PlannedRow, plan: Plan, results: Results, facts: Mapping[str, Any], metrics: list[Metric], task: BoardTask
) -> tuple[Row, dict[str, Any] | None, Blocks | None]:
    """A row, what its measuring found for the board as a whole, and its blocks; the latter two where it is done."""
    trained = [results.get(plan.jobs[cell.train]) for cell in row.cells]
    measured = [results.get(plan.jobs[cell.measure]) for cell in row.cells]
    chosen = trained[0].found.get("chosen") if trained[0] else None
    if chosen is None:
        chosen = choose(row, plan, results, task)
    found: Row = {"model": row.name, "label": task.label(row.model_type, row.label, chosen), "status": "waiting"}
    for result in trained:
        if result:
            found |= {
                "status": "running",
                **{k: result.found[k] for k in ("params", "config", "train", "tokenizer") if k in result.found},
            }
    if trained[0] and "curve" in trained[0].found:
        found |= _progress(trained[0].found)
    found["seeds"] = [
        {"seed": cell.seed, "value": result.found["metrics"][metrics[0].name]}
        for cell, result in zip(row.cells, measured)
        if result and result.status == "done" and metrics
    ]
    failed = next((r for r in (*trained, *measured) if r and r.status == "failed"), None)
    if failed:
        return {**found, "status": "failed", "error": failed.error}, None, None
    if not facts or not all(result and result.status == "done" for result in (*trained, *measured)):
        return found, None, None
    return _finished(
        found, [r for r in trained if r], [r for r in measured if r], metrics, Metric.from_json(facts["validation"])
    )


def choose(row: PlannedRow, plan: Plan, results: Results, task: BoardTask) -> dict[str, Any]:
    """Model settings of a row that follow from its prepare job; none before that is done."""
    prepared = results.get(plan.jobs[row.prepare])
    if prepared is None or prepared.status != "done":
        return {}
    return task.choose(row.model_type, row.settings["model"], prepared.found["board"])


def _progress(found: Mapping[str, Any]) -> Row:
    progress, curve = found["progress"], found["curve"]
    seconds, tokens = progress["seconds"], progress["tokens"]
    speed = tokens / max(seconds, 1e-9)
    made = {"train_seconds": seconds, "train_tokens": tokens, "tokens_per_second_train": speed, "curve": curve}
    return made | {"so_far": curve[-1]["value"] if curve else None}


def _finished(
    found: Row, trained: list[Result], measured: list[Result], metrics: list[Metric], validation: Metric
) -> tuple[Row, dict[str, Any] | None, Blocks]:
    """Metrics are the mean over seeds; extras are those of the first seed."""
    first = measured[0].found
    blocks = Blocks.of_seeds([Blocks.from_json(result.found["blocks"]) for result in measured])
    mean = {
        name: float(np.mean([result.found["metrics"][name] for result in measured]))
        for name, value in first["metrics"].items()
        if isinstance(value, float)
    }
    extras = dict(first.get("row", {}))
    private = extras.pop("private", {})
    memory = max(r.found.get("peak_bytes", 0) for r in trained) + trained[0].found.get("weight_bytes", 0)
    found.pop("so_far", None)
    made = {
        **found, **first["metrics"], **mean, "status": "done", "interval": interval(blocks, metrics[0]),
        "intervals": {metric.name: interval(blocks, metric) for metric in metrics if blocks.has(metric)},
        "peak_memory_bytes": memory, "gain_of_doubling": gain_of_doubling(found["curve"], validation.higher_is_better),
        **{k: first[k] for k in ("state_bytes_fixed", "state_bytes_per_token")}, **extras,
    }  # fmt: skip
    return made, private, blocks
