"""``evaluate``: all metrics of a run on held-out data."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chainrule.options import Result, argument, key, option, register_command
from chainrule.tasks.groups import Records, UsesRun


class EvaluateResult(Result):
    more = "the metrics of the run's task"

    task: str = key("the run's task", always=True)
    model: str = key("the run's model type", always=True)
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
            return {"task": run.task, "model": run.name, **evaluation.metrics, "notes": notes or None}

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        return super().lines({name: value for name, value in answer.items() if name != "notes" and value is not None})

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        return answer.get("notes", [])
