"""``evaluate``: all metrics of a run on held-out data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chainrule.options import Result, argument, key, option, register_command
from chainrule.tasks.groups import MACHINE, Records, UsesRun


class EvaluateResult(Result):
    more = "the metrics of the run's task"

    task: str = key("the run's task", always=True)
    model: str = key("the run's model type", always=True)
    notes: list[str] | None = key("everything that was repaired or left out")


@register_command("evaluate", EvaluateResult)
class Evaluate(UsesRun, Records):
    """all metrics of a run on a held-out file"""

    data: Any = argument("held-out data of the kind that the run was trained on")
    predictions: str | None = option("also write every record's own result", metavar="FILE.jsonl")

    def call(self) -> dict[str, Any]:
        from chainrule.tasks.evaluate import evaluate
        from chainrule.tasks.inference import run_of, stored
        from chainrule.tasks.options import check_used

        with tempfile.TemporaryDirectory() as folder:
            run = run_of(self)
            check_used(run.task, self)
            o, data = stored(self, self.data, Path(folder))
            used = {name: value for name, value in o.given().items() if name not in ("run", "data", *MACHINE)}
            return evaluate(run, str(data), **used)

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        return super().lines({name: value for name, value in answer.items() if name != "notes"})

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        return answer.get("notes", [])
