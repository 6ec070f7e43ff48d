"""board.json as a pure function of a plan and its result files, without data, models or torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.experiment.contention import unmeasured
from chainrule.experiment.curves import Curve, doubling, frontier
from chainrule.experiment.eligibility import refusals, steps_of
from chainrule.experiment.horizon import TIMES, Outlook, outlook
from chainrule.experiment.jobs import Result, Results
from chainrule.experiment.mix_facts import add_mixture
from chainrule.experiment.plan import MIX, Plan, PlannedRow
from chainrule.experiment.statistics import Blocks, interval, rank
from chainrule.experiment.verdict import Evidence, make_verdict
from chainrule.report.messages import LANGUAGES, Catalogue
from chainrule.report.sentences import Sentence, in_languages, spoken
from chainrule.tasks.board import BoardTask, board_of, contended, section_of
from chainrule.training.budget import Budget

FORMAT = 1
Row = dict[str, Any]


def build_board(plan: Plan, results: Results, *, running: bool = False) -> dict[str, Any]:
    """Return the content of ``board.json``.

    Args:
        plan: the experiment.
        results: its result files; jobs without one have not begun.
        running: whether a process works on the jobs that are left.
    """
    task = board_of(plan.task)
    facts = results.found(plan.jobs["prepare"])
    metrics = [Metric.from_json(saved) for saved in facts.get("metrics", [])]
    made = [
        _make_row(row, plan, results, facts, metrics, task)
        for row in plan.rows
        if not results.found(plan.jobs[row.cells[0].train]).get("skipped")
    ]
    rows = {found["model"]: found for found, _, _ in made}
    left = not facts or any(row["status"] in ("waiting", "running") for row in rows.values())
    board: dict[str, Any] = {
        "format": FORMAT, "title": plan.title, "task": plan.task, "created": plan.created, "command": plan.command,
        "status": ("running" if running else "interrupted") if left else "finished",
        "budget": budget_in_words(plan.settings["budget"], plan.folds), "references": {},
        "metrics": [metric.to_json() for metric in metrics], "rows": list(rows.values()), "key": plan.key,
        "folds": plan.folds,
    }  # fmt: skip
    if not facts:
        text = in_languages({lang: Catalogue(lang).message("verdict_nothing") for lang in LANGUAGES})
        verdict = {**text, "best": None, "tie": [], "confidence": "so far", "useful_context": None, "at_horizon": None}
        return {**board, "verdict": verdict, "warnings": []}
    validation = Metric.from_json(facts["validation"])
    board |= {
        "metric": metrics[0].name, "learnt": facts["learnt"], "data": facts["card"],
        "machine": facts["machine"], "validation": validation.to_json(),
        **{k: v for k, v in facts["board"].items() if k != "private"},
        **task.entries(facts["board"], {found["model"]: private for found, private, _ in made if private}),
    }  # fmt: skip
    blocks = {found["model"]: several for found, _, several in made if several is not None}
    board |= _judge(board, rows, blocks, task, left, plan)
    if unmeasured(plan, results, board):
        board["status"] = "running" if running else "interrupted"
    return board


def budget_in_words(text: str, folds: int = 0) -> dict[str, str]:
    """Return the budget in words, one entry per language.

    Args:
        text: the budget of a row.
        folds: folds that share it with the run on the ordinary split.

    >>> budget_in_words("3epochs")
    {'text': '3 epochs for each model', 'text_ko': '모델마다 3에포크'}
    """
    budget = Budget.parse(text)
    amount = int(budget.amount) if budget.amount == int(budget.amount) else budget.amount
    told = {lang: Catalogue(lang).message(f"budget_{budget.kind}", amount=amount) for lang in LANGUAGES}
    shared = {lang: Catalogue(lang).message("budget_folds", budget=told[lang], folds=folds) for lang in LANGUAGES}
    return in_languages(shared if folds else told)


def _judge(
    board: Mapping[str, Any],
    rows: Mapping[str, Row],
    blocks: Mapping[str, Blocks],
    task: BoardTask,
    left: bool,
    plan: Plan,
) -> dict[str, Any]:
    """Verdict and warnings; to each finished row is added whether it is ranked, and its gap to the best one."""
    metrics = [Metric.from_json(saved) for saved in board["metrics"]]
    main, validation = metrics[0], Metric.from_json(board["validation"])
    say = {lang: section_of(board["task"]).catalogue(lang).counting(board["data"].get("counted")) for lang in LANGUAGES}
    single = {name: found for name, found in blocks.items() if name != MIX}
    done = {name: rows[name] for name in rows if name in single}
    curves = {name: Curve.of(row, validation, _train_tokens(board)) for name, row in done.items()}
    best, known = frontier(done.values(), validation), board["references"]
    least = {f"least_{name}": known[name] for name in task.least if name in known}
    refused = refusals(done, main, least, curves, best)
    for name, row in done.items():
        row |= {"eligible": name not in refused, "steps": steps_of(row), "doubling": doubling(curves[name], best)}
        if name in refused:
            row["not_ranked"] = [spoken([why], say) for why in refused[name]]
    ranked = [name for name in done if name not in refused]
    ranking = rank(single, main, ranked or None)
    for name, (value, low, high) in (ranking.gaps if ranking else {}).items():
        rows[name]["gap"] = {"value": value, "low": low, "high": high}
    ahead = None if left else _outlook(plan, curves, single, (main, validation), best)
    verdict = make_verdict(Evidence(done, single, main, left, refused, ahead, _test_share(board), plan.folds), say)
    if verdict["best"]:
        more = spoken(task.remark(board, rows[verdict["best"]], metrics), say)
        verdict |= {key: f"{verdict[key]} {text}".rstrip() for key, text in more.items()}
    verdict = verdict if left else add_mixture(verdict, rows, blocks, main, say)
    warned = [*task.warnings(board, list(done.values()), metrics), *contended(list(done.values()))]
    warnings = [warning.to_json(say) for warning in warned]
    return {"verdict": verdict, "warnings": warnings}


def _outlook(
    plan: Plan,
    curves: Mapping[str, Curve | None],
    blocks: Mapping[str, Blocks],
    metrics: tuple[Metric, Metric],
    best: float,
) -> Outlook:
    budget = Budget.parse(plan.settings["budget"])
    horizon = Budget.parse(plan.horizon, "--horizon") if plan.horizon else Budget(TIMES * budget.amount, budget.kind)
    times = horizon.amount / plan.run_budget.amount
    return outlook(curves, blocks, metrics, times, str(horizon), _horizon_in_words(horizon), best)


def _horizon_in_words(horizon: Budget) -> Sentence:
    amount, kind = horizon.amount, horizon.kind
    for unit, seconds in (("hours", 3600), ("minutes", 60)):
        if kind == "seconds" and amount >= 2 * seconds and amount % seconds == 0:
            amount, kind = amount / seconds, unit
    return Sentence(f"horizon_{kind}", {"amount": int(amount) if amount == int(amount) else amount})


def _train_tokens(board: Mapping[str, Any]) -> float | None:
    """Items of one pass over the training split, by the data card; other tokenizers may make another number."""
    train = board["data"].get("parts", {}).get("train", {})
    return train.get("tokens") or train.get("records")


def _test_share(board: Mapping[str, Any]) -> float | None:
    """Share of all data that is tested."""
    if board["folds"]:
        return 1.0
    for unit in ("bytes", "tokens", "records"):
        sizes = {name: part.get(unit) for name, part in board["data"].get("parts", {}).items()}
        if sizes.get("test") and all(sizes.values()):
            return sizes["test"] / sum(sizes.values())
    return None


# --- rows -------------------------------------------------------------------------------------------------------------


def _make_row(
    row: PlannedRow, plan: Plan, results: Results, facts: Mapping[str, Any], metrics: list[Metric], task: BoardTask
) -> tuple[Row, dict[str, Any] | None, Blocks | None]:
    """A row, its findings for the board as a whole, and its blocks; the latter two where it is done."""
    trained = [result for cell in row.cells if (result := results.get(plan.jobs[cell.train]))]
    measured = [results.get(plan.jobs[cell.measure]) for cell in row.cells]
    done = [result for result in measured if result and result.status == "done"]
    first = trained[0].found if trained else {}
    chosen = first["chosen"] if "chosen" in first else choose(row, plan, results, task)
    found: Row = {"model": row.name, "label": first.get("label") or task.label(row.model_type, row.label, chosen)}
    found["status"] = "waiting"
    for result in trained:
        kept = {k: result.found[k] for k in ("params", "config", "train", "tokenizer") if k in result.found}
        found |= {"status": "running", **kept}
    found |= _progress(first) if "curve" in first else {}
    tested = _tested(row, measured)
    if metrics:
        found["seeds"] = [{"seed": seed, "value": _figure(several, metrics[0])} for seed, several in tested.items()]
    if failed := results.failed(plan.jobs_of(row)):
        return {**found, "status": "failed", "error": failed.error}, None, None
    finished = [result for result in (*trained, *done) if result.status == "done"]
    if not facts or len(finished) < 2 * len(row.cells):
        return found, None, None
    more = results.found(plan.jobs[row.memory]) if row.memory else {}
    over_folds = (
        task.join_folds([one.found.get("row", {}) for one in next(iter(tested.values()))]) if plan.folds else {}
    )
    return _finished(found, trained, done[0].found, [*tested.values()], metrics, {**more.get("row", {}), **over_folds})


def _tested(row: PlannedRow, measured: list[Result | None]) -> dict[int, list[Result]]:
    """The results that figures are made from, by seed, of seeds that are finished: of the folds where there are any."""
    found: dict[int, list[Result]] = {}
    for seed in {cell.seed: None for cell in row.cells}:
        mine = [(cell, result) for cell, result in zip(row.cells, measured) if cell.seed == seed]
        parts = [result for cell, result in mine if cell.fold] or [result for _, result in mine]
        done = [result for result in parts if result and result.status == "done"]
        if len(done) == len(parts):
            found[seed] = done
    return found


def _blocks(several: list[Result]) -> Blocks:
    return Blocks.of_folds([Blocks.from_json(result.found["blocks"]) for result in several])


def _figure(several: list[Result], metric: Metric) -> float:
    """A figure of one seed: of all folds together where its sums are known, else the mean over the folds."""
    if len(several) > 1 and (blocks := _blocks(several)).has(metric):
        return blocks.figure(metric)
    return float(np.mean([result.found["metrics"][metric.name] for result in several]))


def choose(row: PlannedRow, plan: Plan, results: Results, task: BoardTask, fold: int = 0) -> dict[str, Any]:
    """Return the model settings of a row that follow from its prepare job; none before that is done.

    Args:
        row: the row.
        plan: the experiment.
        results: its result files.
        task: the board of the task, which chooses.
        fold: the fold whose training part it chooses by; 0: that of the ordinary split.
    """
    facts = results.found(plan.jobs[row.prepare])
    facts = facts["folds"][fold - 1] if facts and fold else facts
    return task.choose(row.model_type, row.settings["model"], facts["board"]) if facts else {}


def _progress(found: Mapping[str, Any]) -> Row:
    progress, curve = found["progress"], found["curve"]
    seconds, tokens = progress["seconds"], progress["tokens"]
    speed = tokens / max(seconds, 1e-9)
    made = {"train_seconds": seconds, "train_tokens": tokens, "tokens_per_second_train": speed, "curve": curve}
    made |= {"steps": progress["step"], **{k: progress[k] for k in ("too_few_steps", "contended") if progress.get(k)}}
    return made | {"so_far": curve[-1]["value"] if curve else None}


def _finished(
    found: Row,
    trained: list[Result],
    first: Mapping[str, Any],
    tested: list[list[Result]],
    metrics: list[Metric],
    more: Mapping[str, Any],
) -> tuple[Row, dict[str, Any] | None, Blocks]:
    """Metrics are the mean over seeds (and folds: ``tested`` holds the results of each seed); extras are of ``first``,
    the run on the ordinary split with the first seed, and so are the findings of the memory job (``more``).
    """
    blocks = Blocks.of_seeds([_blocks(several) for several in tested])
    mean = {
        name: float(np.mean([result.found["metrics"][name] for several in tested for result in several]))
        for name, value in first["metrics"].items()
        if isinstance(value, float)
    }
    known = [metric for metric in metrics if metric.name in mean]
    mean |= {metric.name: float(np.mean([_figure(several, metric) for several in tested])) for metric in known}
    extras = {**first.get("row", {}), **more}
    private = {**first.get("row", {}).get("private", {}), **extras.pop("private", {})}
    memory = max(r.found.get("peak_bytes", 0) for r in trained) + trained[0].found.get("weight_bytes", 0)
    found.pop("so_far", None)
    made = {
        **found, **first["metrics"], **mean, "status": "done", "interval": interval(blocks, metrics[0]),
        "intervals": {metric.name: interval(blocks, metric) for metric in metrics if blocks.has(metric)},
        "peak_memory_bytes": memory,
        **{k: first[k] for k in ("state_bytes_fixed", "state_bytes_per_token")}, **extras,
    }  # fmt: skip
    return made, private, blocks
