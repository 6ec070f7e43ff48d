"""Work on the jobs of an experiment in one process: prepare jobs, and the training and measuring of one cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import Autoregressive, ChainruleError, UserError, model_type, model_types
from chainrule.data.folds import Fold
from chainrule.experiment.board import choose
from chainrule.experiment.folding import folds_note, join_facts
from chainrule.experiment.jobs import Job, Result, Results
from chainrule.experiment.plan import Cell, Plan, PlannedRow
from chainrule.experiment.rows import RowSpec, row_settings
from chainrule.experiment.statistics import block_edges, make_blocks
from chainrule.inference.costs import MemoryWatch, state_bytes
from chainrule.runs import RunFolder
from chainrule.runs.run import Run
from chainrule.tasks.base import find_task
from chainrule.tasks.board import BoardData, board_of, held_out
from chainrule.tasks.progress import WAITING, Meter, display, say
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.tasks.setup import describe, is_pretrainable, load, machine, make_trainer, prepare, read_data, trained
from chainrule.tasks.train import resumed
from chainrule.training.loop import Trainer

SLICES = 6
"""Turns in which a row spends its budget, so that rows fill in together."""
TURN = 10.0
"""Seconds of a turn where the budget is not in seconds."""


DATA = "data"
"""Label of what is done before the rows, in the display of progress."""
Read = Callable[..., Any]
"""Returns the dataset of this process, which is read once, by the shared settings; every row encodes it for itself.
Called with a `Fold`, it returns the dataset split as that fold.
"""


def reading(settings: RunConfig) -> Read:
    """Return a function that reads DATA, split, before any tokenizer, when it is first called."""
    return cache(lambda *fold: read_data(settings.replace(split=fold[0]) if fold else settings))


def resolve_first(read: Read, settings: RunConfig, specs: list[RowSpec]) -> ResolvedRun:
    """Return the first row that can be prepared, resolved with the shared settings of the run.

    Args:
        read: returns the dataset.
        settings: shared settings.
        specs: the rows.

    Raises:
        UserError: no row can be prepared; the error of the first.
    """
    known = {k for spec in specs for k in model_type(spec.model_type, settings.task).config.model_fields}
    errors: list[UserError] = []
    for spec in specs:
        shared = RowSpec(spec.name, spec.model_type, {k: v for k, v in spec.own.items() if isinstance(v, dict)})
        try:
            return prepare(_adoptable(row_settings(settings, shared, known)), read())
        except UserError as error:
            errors.append(error)
    raise errors[0]


def resolve_folds(read: Read, settings: RunConfig, specs: list[RowSpec], folds: int) -> list[ResolvedRun]:
    """Return the same for each fold of cross-validation.

    Args:
        read: returns the dataset of a fold.
        settings: shared settings.
        specs: the rows.
        folds: the number of folds.
    """
    every = [Fold(k + 1, folds) for k in range(folds)]
    return [resolve_first(partial(read, fold), settings.replace(split=fold), specs) for fold in every]


def check_pretrained(settings: RunConfig, specs: list[RowSpec]) -> None:
    """Refuse ``--from`` where no row can start from another run.

    Args:
        settings: shared settings.
        specs: the rows.

    Raises:
        UserError: no row can.
    """
    if settings.pretrained and not any(is_pretrainable(model_type(s.model_type, settings.task)) for s in specs):
        able = [found.name for found in model_types(settings.task) if is_pretrainable(found)]
        told = f"add {' or '.join(able)} to --models" if able else f"no model of --task {settings.task} can"
        raise UserError(f"--from {settings.pretrained}: no row can start from another run; {told}")


def _adoptable(settings: RunConfig) -> RunConfig:
    """The settings, without ``pretrained`` where the model type cannot start from another run."""
    able = is_pretrainable(model_type(settings.model_type, settings.task))
    return settings if able else settings.replace(pretrained=None)


# --- prepare ----------------------------------------------------------------------------------------------------------


def prepare_board(
    plan: Plan, results: Results, settings: RunConfig, ready: ResolvedRun, folds: Sequence[ResolvedRun] = ()
) -> None:
    """Run the job ``prepare``: data card, metrics, block edges, references and other facts of the task's board.

    Args:
        plan: the experiment.
        results: its result files.
        settings: shared settings.
        ready: a row resolved with them.
        folds: the same for each fold.
    """
    task, board = find_task(plan.task), board_of(plan.task)
    counted, card = ready.data.counted, ready.data.card()
    metrics = task.metrics(counted)
    edges = [block_edges(*board.block_layout(one.data), metrics[0].min_block).tolist() for one in (ready, *folds)]
    line = display().line(DATA)
    with line.working("references"):
        facts = board.prepare(BoardData(settings, ready, card, metrics))
        more = [board.prepare(BoardData(one.settings, one, one.data.card(), metrics)) for one in folds]
    if folds:
        card["notes"].append(folds_note(len(folds)))
        facts |= join_facts(more, [board.tested(one) for one in folds])
    found = {
        "settings": {"pretrained": settings.pretrained}, "card": card, "counted": counted, "learnt": task.items,
        "metrics": [metric.to_json() for metric in metrics], "validation": task.validation(counted).to_json(),
        "edges": edges[0],
        "folds": [{"edges": ends, "board": found} for ends, found in zip(edges[1:], more, strict=True)],
        "machine": {**machine(), "device": ready.compute.device, "threads": ready.compute.threads},
        "board": facts,
    }  # fmt: skip
    results.put(plan.jobs["prepare"], Result("done", found))
    if facts.get("ladder"):
        rungs = ", ".join(f"n={rung['n']} {rung['value']:.3f}" for rung in facts["ladder"])
        display().tell(f"ladder: {rungs} {metrics[0].label} (validation)")


def prepare_row(plan: Plan, row: PlannedRow, results: Results, read: Read) -> None:
    """Run the prepare job of a row with its own tokenizer."""
    every, board = [Fold(k + 1, plan.folds) for k in range(plan.folds)], board_of(plan.task)
    with display().line(row.label).working("encoding"):
        settings = settings_of(plan, row, results)
        facts = board.prepare_row(prepare(settings, read()))
        folds = [board.prepare_row(prepare(settings.replace(split=fold), read(fold))) for fold in every]
    found = {"board": facts, "folds": [{"board": one} for one in folds]}
    results.put(plan.jobs[row.prepare], Result("done", found))


def settings_of(plan: Plan, row: PlannedRow, results: Results, fold: int = 0) -> RunConfig:
    """Return the settings of a row's runs, with the findings of the prepare jobs.

    Args:
        plan: the experiment.
        row: the row.
        results: its result files.
        fold: the fold that is tested; 0: the ordinary split.
    """
    settings = RunConfig.make({**row.settings, **results.found(plan.jobs["prepare"]).get("settings", {})})
    chosen = choose(row, plan, results, board_of(plan.task), fold)
    split = Fold(fold, plan.folds) if fold else settings.split
    return _adoptable(settings.replace(model={**settings.model, **chosen}, split=split))


# --- train and measure ------------------------------------------------------------------------------------------------


class CellWork:
    """One cell in this process: its training, then its measuring; findings go into its result files.

    Args:
        plan: the experiment.
        row: the row.
        cell: the cell.
        results: result files.
        read: returns the dataset.
        out: the folder of the experiment.
    """

    def __init__(self, plan: Plan, row: PlannedRow, cell: Cell, results: Results, read: Read, out: Path):
        self.plan, self.row, self.cell, self.results, self.read = plan, row, cell, results, read
        self.folder = out / cell.folder
        self.train_job, self.measure_job = plan.jobs[cell.train], plan.jobs[cell.measure]
        self.trainer: Trainer | None = None
        self.ready: ResolvedRun | None = None
        one_seed = len({other.seed for other in row.cells}) == 1
        label = row.label if one_seed else f"{row.label}, seed {cell.seed}"
        self.fold = Fold(cell.fold, plan.folds) if cell.fold else None
        self.name = f"{label}, {self.fold}" if self.fold else label
        self.line = display().line(label)  # which folds share

    @property
    def trained(self) -> bool:
        """Is training done?"""
        return self.results.done(self.train_job)

    @property
    def finished(self) -> bool:
        """Is nothing left to do for this cell?"""
        return (self.trained and self.results.done(self.measure_job)) or self.failed

    @property
    def failed(self) -> bool:
        """Did one of its jobs fail?"""
        return self.results.failed([self.train_job, self.measure_job]) is not None

    @property
    def _peak(self) -> float:
        """The peak of memory that an earlier turn, or an earlier process, has recorded."""
        found = self.results.get(self.train_job) or self.results.smaller(self.train_job)
        return found.found.get("peak_bytes", 0) if found else 0

    def _resolve(self) -> ResolvedRun:
        """Settings and data of this cell, resolved once; refused where its figures would not be comparable."""
        if self.ready is None:
            settings = settings_of(self.plan, self.row, self.results, self.cell.fold).replace(seed=self.cell.seed)
            with self.line.working("encoding"):
                ready = prepare(settings, self.read(self.fold) if self.fold else self.read())
            counted = self._facts()["counted"]
            if ready.data.counted != counted:
                raise UserError(
                    f"{self.row.name}: gives figures per {ready.data.counted}, the other rows per {counted}"
                )
            self.ready = ready
        return self.ready

    def _facts(self) -> dict[str, Any]:
        return self.results.found(self.plan.jobs["prepare"])

    def begin(self) -> None:
        """Build the model, or resume training; a run folder of other settings is replaced."""
        if self.trained:
            return
        ready, run = self._resolve(), RunFolder(self.folder)
        stale = self.results.stale(self.train_job)
        told = {"tell": Meter(self.line, ready, ready.data.counted), "warn": self._warn}
        self.trainer = make_trainer(ready, run, **told)
        RunFolder.create(self.folder, overwrite=stale, resume=not stale)
        for report in [] if stale else self.trainer.resume():
            say(f"{self.name}: damaged checkpoint ignored: {report}")
        if went_on := resumed(self.trainer):
            say(f"{self.name}: {went_on}")
        describe(run, ready)
        timed = ready.budget.kind == "seconds" and ready.recipe.update != "counting"
        self.line.update(phase=WAITING, left=ready.budget.amount if timed else None)
        self._note(0)

    def _warn(self, text: str) -> None:
        """Tell a warning of training; folds, whose runs are as long as that on the ordinary split, repeat none."""
        if self.fold is None:
            runs = f"; {self.plan.folds + 1} runs share --budget" if self.plan.folds and "--budget" in text else ""
            say(f"{self.name}: {text}{runs}")

    def advance(self, stop: Callable[[], bool]) -> None:
        """Train for one turn and save; at the end of the budget write the final run.

        Args:
            stop: whether to stop early.
        """
        assert self.trainer is not None
        if not self.trainer.progress.done:
            budget = self.trainer.plan.budget
            turn = budget.amount / SLICES if budget.kind == "seconds" else TURN
            with MemoryWatch() as watch:
                self.trainer.advance(turn, stop)
            self.trainer.save()
            self._note(watch.extra)
        if self.trainer.progress.done:
            self._finish()

    def _finish(self) -> None:
        """Write the final weights and the decoding settings chosen on validation, and release the trainer."""
        assert self.trainer is not None and self.ready is not None
        with self.line.working("choosing how to decode" if find_task(self.plan.task).tuning else "saving"):
            run = trained(self.trainer, self.ready)
        weights = sum(x.numel() * x.element_size() for x in run.model.state_dict().values())
        self._note(0, done=True, params=run.model.parameters_count, weight_bytes=weights)
        self.trainer = None

    def _note(self, peak: int, *, done: bool = False, **more: Any) -> None:
        """Write the result of training so far."""
        assert self.trainer is not None and self.ready is not None
        ready, p = self.ready, self.trainer.progress
        progress = {k: v for k, v in asdict(p).items() if k != "curve"}
        found = {
            "params": self.trainer.model.parameters_count, "tokenizer": ready.settings.tokenizer, "progress": progress,
            "curve": p.curve,
            "config": {k: v for k, v in ready.config.model_dump().items() if k not in ("vocab_size", "num_labels")},
            "train": ready.recipe.model_dump(include=None if ready.recipe.update == "gradient" else {"update"}),
            "chosen": choose(self.row, self.plan, self.results, board_of(self.plan.task), self.cell.fold),
            "peak_bytes": max(self._peak, peak), **more,
        }  # fmt: skip
        self.results.put(self.train_job, Result("done" if done else "running", found))

    def measure(self) -> None:
        """Evaluate on the test part, once: metrics, block sums, and the entries of the task's board."""
        ready, facts = self._resolve(), self._facts()
        task, board = find_task(self.plan.task), board_of(self.plan.task)
        with self.line.working("testing"):
            run = self._load(ready)
            evaluation = task.evaluate(run, held_out(ready.data))
        positions = evaluation.positions
        if positions is None:
            positions = np.arange(1, len(next(iter(evaluation.items.values()))) + 1)
        edges = facts["folds"][self.cell.fold - 1]["edges"] if self.fold else facts["edges"]
        blocks = make_blocks(evaluation.items, positions, np.array(edges), points=evaluation.points)
        found: dict[str, Any] = {"metrics": evaluation.metrics, "blocks": blocks.to_json()}
        if self.fold and self.cell.seed == self.row.cells[0].seed:
            found["row"] = board.fold_row(run, evaluation, ready)
        if self.cell == self.row.cells[0]:
            fixed, growing = None, None
            if isinstance(run.model, Autoregressive):
                fixed, growing = state_bytes(run.model, run.compute, board.initial_state)
            found |= {"state_bytes_fixed": fixed, "state_bytes_per_token": growing}
            with self.line.working("examples"):
                found["row"] = board.row(run, evaluation, ready, facts["board"])
        self.results.put(self.measure_job, Result("done", found))
        main = evaluation.declared[0]
        figure = f"{main.said(evaluation.metrics[main.name])} (test)"
        display().tell(f"{self.name}: {figure}")
        self.line.update(phase="done", note=figure)
        self.ready = None

    def measure_memory(self, job: Job) -> None:
        """Measure what only rows in contention are measured for, such as the memory curve."""
        ready, board = self._resolve(), board_of(self.plan.task)
        with self.line.working("memory"):
            found = board.memory(self._load(ready), ready)
        self.results.put(job, Result("done", {"row": found}))
        self.line.update(phase="done")

    def _load(self, ready: ResolvedRun) -> Run:
        s = ready.settings
        return load(self.folder, device=s.device, precision=s.precision, threads=s.threads)

    def fail(self, error: Exception, job: Job | None = None) -> None:
        """Record a failure of this cell.

        Args:
            error: its cause; other than a ChainruleError, it may be the system's, and the job is tried again.
            job: the job that failed; None: training, or measuring where that is over.
        """
        known = isinstance(error, ChainruleError)
        first = str(error).splitlines()[0] if str(error) else "no message"
        why = str(error) if known else f"{type(error).__name__}: {first}"
        job = job or (self.measure_job if self.trained else self.train_job)
        earlier = self.results.get(job)
        self.results.put(job, Result("failed", earlier.found if earlier else {}, why, retry=not known))
        say(f"{self.name}: failed: {why}")
        self.line.update(phase="failed")
        self.trainer = self.ready = None
