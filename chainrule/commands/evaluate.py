"""``evaluate``: all metrics of a run on held-out data."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chainrule.core.digits import in_full
from chainrule.options import Result, argument, key, option, register_command
from chainrule.tasks.groups import Records, UsesRun

MIN_BLOCKS = 10
"""Blocks of the bootstrap below which no interval is given."""
SHOWN = 24
"""Labels that are printed for people; ``--json`` has all."""


class EvaluateResult(Result):
    more = "the metrics of the run's task"

    task: str = key("the run's task", always=True)
    model: str = key("the run's model type", always=True)
    intervals: dict[str, list[float]] | None = key("95 % interval of each metric, by a bootstrap over blocks")
    labels: list[dict[str, Any]] | None = key("label, n, precision, recall and f1 of each label (or tag)")
    reliability: list[dict[str, Any]] | None = key("confidence, accuracy and n of each bin of confidence")
    notes: list[str] | None = key("everything that was repaired or left out")


@register_command("evaluate", EvaluateResult)
class Evaluate(UsesRun, Records):
    """compute all metrics of a run on held-out data"""

    data: Any = argument("held-out data of the kind that the run was trained on")
    predictions: str | None = option("also write the result of every record", metavar="FILE.jsonl")

    def call(self) -> dict[str, Any]:
        from chainrule.core import DataError, UserError
        from chainrule.runs import write_file
        from chainrule.tasks.base import find_task
        from chainrule.tasks.inference import named_in_memory, run_of, stored
        from chainrule.tasks.options import check_used

        with tempfile.TemporaryDirectory() as folder, named_in_memory(folder):
            run = run_of(self)
            task = find_task(run.task)
            check_used(run.task, self)
            o, data = stored(self, self.data, Path(folder))
            if self.predictions and not Path(self.predictions).parent.is_dir():
                raise UserError(f"--predictions {self.predictions}: no such folder; make it first")
            reading = {**run.settings, "unit": run.data["unit"], "on_bad": "stop", "encoding": None, **o.given()}
            part = task.read_split(run, str(data), reading)
            if not len(part):
                raise DataError(f"{data}: nothing to measure: no {task.items} are left")
            evaluation = task.evaluate(run, part)
            if self.predictions:
                lines = [json.dumps(item, ensure_ascii=False) for item in task.predictions(run, part, evaluation)]
                write_file(Path(self.predictions), ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
            notes = list(getattr(part, "notes", None) or [])
            return {
                "task": run.task, "model": run.name, **evaluation.metrics, "notes": notes or None,
                "intervals": intervals(evaluation) or None, **evaluation.tables,
            }  # fmt: skip

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        tables = {name: answer[name] for name in TABLES if answer.get(name)}
        known = answer.get("intervals") or {}
        for name, value in answer.items():
            if name not in ("notes", "intervals", *tables) and value is not None:
                line = next(iter(super().lines({name: value})))
                yield line + (" [{} … {}]".format(*map(in_full, known[name])) if name in known else "")
        for name, table in tables.items():
            yield ""
            yield from TABLES[name](table)

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        return answer.get("notes", [])


def intervals(evaluation: Any) -> dict[str, list[float]]:
    """Return the 95 % interval of each metric; none if there are few items.

    Args:
        evaluation: the ``Evaluation``.
    """
    import numpy as np

    from chainrule.experiment.statistics import block_edges, interval, make_blocks

    ends = evaluation.positions
    ends = np.arange(1, evaluation.records[-1] + 1) if ends is None else ends
    records = evaluation.records[np.diff(evaluation.records, prepend=0) > 0]
    edges = block_edges(ends, ends[records - 1], evaluation.declared[0].min_block)
    if len(edges) < MIN_BLOCKS:
        return {}
    blocks = make_blocks(evaluation.items, ends, edges, points=evaluation.points)
    return {m.name: list(interval(blocks, m)) for m in evaluation.declared if m.of and blocks.has(m)}


def _labels(rows: list[dict[str, Any]]) -> Iterable[str]:
    """The lines of a table of labels."""
    width = max(len(row["label"]) for row in rows[:SHOWN])
    yield f"{'label':<{width}} {'n':>9} {'precision':>9} {'recall':>9} {'f1':>9}"
    for row in rows[:SHOWN]:
        shares = ("-" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall", "f1"))
        yield f"{row['label']:<{width}} {row['n']:>9,} " + " ".join(f"{share:>9}" for share in shares)
    if len(rows) > SHOWN:
        yield f"and {len(rows) - SHOWN} more labels: --json has all"


def _reliability(rows: list[dict[str, Any]]) -> Iterable[str]:
    """The lines of a reliability table."""
    yield f"{'confidence':>10} {'accuracy':>9} {'n':>9}"
    for row in rows:
        yield f"{row['confidence']:>10.3f} {row['accuracy']:>9.3f} {row['n']:>9,}"


TABLES = {"labels": _labels, "reliability": _reliability}
"""The functions that print tables of an evaluation, by name."""
