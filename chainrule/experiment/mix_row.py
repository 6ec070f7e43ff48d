"""The row ``mix`` of a board: made of the rows that help most on validation, once all others are finished."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.experiment.cells import CellWork
from chainrule.experiment.jobs import Result
from chainrule.experiment.mixing import Fitted, Named, fit_mixture, helpful, write_mixture
from chainrule.experiment.plan import PlannedRow
from chainrule.runs import RunFolder
from chainrule.tasks.base import find_task
from chainrule.tasks.board import board_of
from chainrule.tasks.settings import ResolvedRun
from chainrule.tasks.setup import load
from chainrule.tasks.train import say


class MixWork(CellWork):
    """A mixture in this process. Its job ``mix`` stands where other cells have their training.

    With several seeds, the rows are chosen with the first one; the mixture of each seed is made of their runs with it.
    """

    def begin(self) -> None:
        """Do nothing: a mixture begins when all other rows are finished."""

    def advance(self, stop: Callable[[], bool]) -> None:
        """Make the mixture if all other rows are finished or have failed.

        Args:
            stop: not asked: it takes seconds.
        """
        plan, results = self.plan, self.results
        waited = [plan.jobs_of(row) for row in plan.rows if row.name != self.row.name]
        if not all(results.settled(jobs) or results.failed(jobs) for jobs in waited):
            return
        runs = self._runs()
        if len(runs) < 2:
            for job in (self.train_job, self.measure_job):
                results.put(job, Result("done", {"skipped": True}))
            return
        first = runs[0].run
        part = find_task(plan.task).encode(self.read(), first.processor).parts["valid"]
        fitted = fit_mixture(runs, part)
        write_mixture(RunFolder.create(self.folder, overwrite=self.folder.exists()), runs, fitted)
        results.put(self.train_job, Result("done", self._found(runs, fitted)))
        shown = ", ".join(f"{one.name} {weight:.2f}" for one, weight in zip(runs, fitted.weights))
        say(f"{self.row.label}: {shown}")

    @property
    def _index(self) -> int:
        """The position of this cell's seed among the row's seeds."""
        return self.row.cells.index(self.cell)

    def _runs(self) -> list[Named]:
        """The runs that the mixture is made of; fewer than two if nothing can be mixed."""
        rows = [row for row in self.plan.rows if row.name != self.row.name and self._finished(row)]
        if self._index:
            first = self.results.found(self.plan.jobs[self.row.cells[0].train])
            rows = [row for row in rows if row.name in first.get("config", {}).get("parts", [])]
            return [self._run(row) for row in rows]
        runs, task, dataset = [self._run(row) for row in rows], find_task(self.plan.task), self.read()
        processors = {one.run.processor.sha256: one.run.processor for one in runs}
        encoded = {key: task.encode(dataset, processor).parts for key, processor in processors.items()}
        return helpful(runs, {key: parts["valid"] for key, parts in encoded.items() if "valid" in parts})

    def _finished(self, row: PlannedRow) -> bool:
        return all(self.results.done(job) for job in self.plan.jobs_of(row))

    def _run(self, row: PlannedRow) -> Named:
        s, folder = self.plan.settings, self.folder.parents[1] / row.cells[self._index].folder
        machine = {name: s[name] for name in ("device", "precision", "threads")}
        return Named(row.name, load(folder, **machine))

    def _rows(self, runs: list[Named]) -> list[PlannedRow]:
        return [row for one in runs for row in self.plan.rows if row.name == one.name]

    def _resolve(self) -> ResolvedRun:
        """Settings and data of the first part, which all parts share."""
        if self.ready is None:
            names = self.results.found(self.train_job)["config"]["parts"]
            row = next(row for row in self.plan.rows if row.name == names[0])
            out = self.folder.parents[1]
            part = CellWork(self.plan, row, row.cells[self._index], self.results, self.read, out)
            part.line = self.line  # that of the part is done
            self.ready = part._resolve()
        return self.ready

    def _found(self, runs: list[Named], fitted: Fitted) -> dict[str, Any]:
        """The result of the job ``mix``; training costs what that of the parts cost together."""
        rows, board = self._rows(runs), board_of(self.plan.task)
        trained = [self.results.found(self.plan.jobs[row.cells[self._index].train]) for row in rows]
        spent = {k: sum(t["progress"][k] for t in trained) for k in ("step", "tokens", "seconds")}
        labels = [board.label(row.model_type, row.label, t["chosen"]) for row, t in zip(rows, trained)]
        return {
            "label": f"{self.row.label} ({' + '.join(labels)})", "chosen": {},
            "params": fitted.model.parameters_count, "tokenizer": trained[0]["tokenizer"], "progress": spent,
            "curve": [], "train": {"update": "mix"}, "peak_bytes": max(t["peak_bytes"] for t in trained),
            "config": {"parts": [one.name for one in runs], "weights": fitted.weights},
            "weight_bytes": sum(x.numel() * x.element_size() for x in fitted.model.state_dict().values()),
        }  # fmt: skip
