"""Evaluation of a run on held-out data, for every task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chainrule.core import UserError
from chainrule.runs import write_file
from chainrule.runs.run import Run
from chainrule.tasks.base import find_task


def evaluate(run: Run, data: Path | str, *, predictions: Path | str | None = None, **reading: Any) -> dict[str, Any]:
    """Return all metrics of the run's task on held-out data.

    Args:
        run: a run of any task.
        data: the path of the data.
        predictions: a file to which every record's own result is written, a line of JSON each.
        reading: ``unit``, ``columns``, ``group`` and so on, if they are not the run's own; ``on_bad``.

    Raises:
        UserError: the folder of ``predictions`` does not exist.
    """
    if predictions and not Path(predictions).parent.is_dir():
        raise UserError(f"--predictions {predictions}: no such folder; make it first")
    told = {**run.settings, "unit": run.data["unit"], "on_bad": "stop", **reading}
    return metrics(run, find_task(run.task).read_split(run, data, told), predictions=predictions)


def metrics(run: Run, part: Any, *, predictions: Path | str | None = None) -> dict[str, Any]:
    """Return the same for a split that was read already."""
    task = find_task(run.task)
    evaluation = task.evaluate(run, part)
    if predictions:
        lines = [json.dumps(item, ensure_ascii=False) for item in task.predictions(run, part, evaluation)]
        write_file(Path(predictions), ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    notes = list(getattr(part, "notes", None) or [])
    return {"task": run.task, "model": run.name, **evaluation.metrics, "notes": notes or None}
