"""Run a comparison: the same data, split and budget for every model; then the board and the report.

The report is written after every slice of training, so it is valid at any time. An interruption saves, and the same
command continues. A finished job never runs again.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.core.errors import UserError
from chainrule.core.files import FolderLock, is_temporary, write_file
from chainrule.experiment.jobs import Results, to_json
from chainrule.experiment.plan import FILE, Plan, Source, make_plan, read_plan, request_of, shared_key
from chainrule.experiment.publish import Publisher, publish
from chainrule.experiment.rows import RowSpec, parse_models
from chainrule.report.messages import Catalogue
from chainrule.training.budget import Budget

if TYPE_CHECKING:
    from chainrule.experiment.cells import Read
    from chainrule.tasks.settings import RunConfig

OWN_DATA = "data"
"""Folder in OUT that holds data from memory."""


@dataclass(frozen=True)
class Request:
    """The request of a comparison.

    Args:
        settings: shared settings of all rows; ``model_type`` is not used.
        models: rows as ``--models`` takes them, as one text or a list; None: those of the task.
        out: the folder of the experiment. One that holds the same experiment is continued.
        seeds: runs of each row, with seeds one apart.
        lang: language of the report, ``en`` or ``ko``.
        workers: cells that are trained at once, each in a process of its own; 0: in turns in this process.
        overwrite: replace an experiment of other data or settings.
        plugin: a file of your own model types that is loaded already; worker processes load it too.
        memory_curves: rows whose memory curve and cost by length are measured: those in ``contention``, or ``all``.
        horizon: length of training that the verdict's second answer is about; nothing is trained for it.
        folds: number of folds of cross-validation, or ``none``; None: folds where the test part is small and the
            budget suffices.
    """

    settings: RunConfig
    models: str | Sequence[str] | None
    out: Path
    seeds: int = 1
    lang: str = "en"
    workers: int = 0
    overwrite: bool = False
    plugin: str | None = None
    memory_curves: str = "contention"
    horizon: str | None = None
    folds: str | int | None = None

    @property
    def hash(self) -> str | None:
        """Hash of files and settings: an equal request has the same results."""
        more = (self.memory_curves, None if self.folds is None else str(self.folds))
        return request_of(self.settings, self.models, self.seeds, self.out, self.plugin, *more)


def run(request: Request) -> dict[str, Any]:
    """Compare models on the same data, split and budget.

    Args:
        request: the models, and what they share.

    Returns:
        The board: the content of ``board.json``.

    Raises:
        UserError: settings, models or data that cannot be used, or a folder that holds something else.
        Interrupted: stopped by a signal; everything is saved.
    """
    out, results = request.out, Results(request.out)
    if request.seeds < 1:
        raise UserError(f"--seeds {request.seeds}: at least 1")
    if request.workers < 0:
        raise UserError(f"--workers {request.workers}: at least 0 (in turns in one process)")
    Catalogue(request.lang)
    check_horizon(request.horizon, request.settings.budget)
    refuse_strangers(out)
    found = read_plan(out)  # a plan.json of another program is not overwritten either
    old = None if request.overwrite else found
    if old and old.request is not None and _all_final(old, results) and old.request == request.hash:
        plan = replace(old, horizon=request.horizon)
        if plan != old:
            write_file(out / FILE, to_json(plan.to_json()).encode())
        board = publish(plan, results, out, request.lang, running=False)
        if board["status"] == "finished":
            return board
    from chainrule.tasks.progress import showing

    with FolderLock(out) as lock, showing(every=10, workers=max(1, request.workers)):
        return _work(request, old, results, lock)


def check_horizon(horizon: str | None, budget: str) -> None:
    """Refuse a horizon that is shorter than the budget, or of another kind.

    Args:
        horizon: as given; None: ten times the budget.
        budget: the budget of each row.

    Raises:
        UserError: it cannot be used.
    """
    if horizon is None:
        return
    later, now = Budget.parse(horizon, "--horizon"), Budget.parse(budget)
    if later.kind != now.kind or later.amount < now.amount:
        raise UserError(
            f"--horizon {horizon}: expected {now.kind}, as --budget {budget}, and no less, such as "
            f"--horizon {Budget(10 * now.amount, now.kind)}"
        )


def _all_final(plan: Plan, results: Results) -> bool:
    """Is no job left to run, apart from memory jobs that have no result yet?"""
    prepared = results.final(plan.jobs["prepare"]) and not any(
        found.retry for job in plan.jobs.values() if job.kind == "memory" and (found := results.get(job))
    )
    return prepared and all(results.settled(plan.jobs_of(row)) for row in plan.rows)


def refuse_strangers(out: Path) -> None:
    """Refuse a folder that exists, is not empty and holds no experiment.

    Args:
        out: the folder.

    Raises:
        UserError: it holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: a file where a folder is to be made; choose another --out")
    if not out.is_dir() or (out / FILE).exists():
        return
    left = [path for path in out.iterdir() if path.name != OWN_DATA and not is_temporary(path)]
    if any(path.name == "board.json" for path in left):
        raise UserError(f"{out / 'board.json'}: not a board of chainrule (no {FILE} beside it); choose another --out")
    if left:
        raise UserError(f"{out}: not empty and holds no comparison; choose another --out")


def _work(request: Request, old: Plan | None, results: Results, lock: FolderLock) -> dict[str, Any]:
    """Run the jobs that are not final, and publish on the way."""
    from chainrule.experiment.cells import DATA, check_pretrained, prepare_board, reading, resolve_first, resolve_folds
    from chainrule.experiment.folding import choose_folds
    from chainrule.tasks.base import find_task
    from chainrule.tasks.board import board_of
    from chainrule.tasks.progress import display
    from chainrule.tasks.train import Interrupted, Stop

    settings, out = request.settings, request.out
    task, read = find_task(settings.task), reading(settings)
    specs = parse_models(request.models or task.default_models, settings.task)
    check_pretrained(settings, specs)
    with display().line(DATA).working("reading data"):
        folds = _folds(request, old, read)
        plan = _plan(request, specs, read(), old, folds or 0)
    ready, of_folds = None, []
    if request.overwrite or not results.final(plan.jobs["prepare"]):
        settings = task.prepare(settings, out, request.overwrite)
        with display().line(DATA).working("encoding"):
            # an error in the command is reported before anything is written
            ready = resolve_first(read, settings, specs)
            if folds is None:
                board, metric = board_of(task.name), task.metrics(ready.data.counted)[0]
                plan = _plan(request, specs, read(), old, choose_folds(ready, board, metric, read))
            of_folds = resolve_folds(read, settings, specs, plan.folds)
        check_budget(settings.budget, () if ready.processor.spec in (None, "none") else ("tokens",))
    out.mkdir(parents=True, exist_ok=True)
    lock.take()
    if request.overwrite:
        _clear(out, plan, results)
    write_file(out / FILE, to_json(plan.to_json()).encode())
    _carry_over(plan, results)
    with Stop().listening() as stop:
        publish(plan, results, out, request.lang, running=True)
        if ready is not None:
            prepare_board(plan, results, settings, ready, of_folds)
        _execute(request, plan, results, read, stop)
        board = publish(plan, results, out, request.lang, running=False)
        if board["status"] == "interrupted":
            raise Interrupted(
                f"stopped; the report so far is {out / 'report.html'}: the same command continues", stop.number
            )
    return board


def _folds(request: Request, old: Plan | None, read: Read) -> int | None:
    """The number of folds that was asked for, or that the experiment has; None if it is to be chosen."""
    from chainrule.experiment.folding import check_folds, parse_folds
    from chainrule.tasks.base import find_task
    from chainrule.tasks.board import board_of

    settings, asked = request.settings, parse_folds(request.folds)
    given = settings.split != find_task(settings.task).default_split
    if asked:
        check_folds(asked, settings, board_of(settings.task), given, read)
    if asked is not None:
        return asked
    return old.folds if old else 0 if given else None


def _plan(request: Request, specs: Sequence[RowSpec], dataset: Any, old: Plan | None, folds: int) -> Plan:
    """The plan of a request; refused where the folder holds that of another experiment."""
    source = Source.of(request.settings, dataset)
    if old and old.key != shared_key(request.settings, source, folds):
        raise UserError(
            f"{request.out}: holds a comparison of other data or settings; choose another --out, "
            "or --overwrite replaces it"
        )
    budget = Budget.parse(request.settings.budget)
    if old and (refused := budget.refusal(Budget.parse(old.settings["budget"]))):
        raise UserError(f"{request.out}: {refused}, or choose another --out")
    created = old.created if old else time.strftime("%Y-%m-%d %H:%M")
    return make_plan(
        request.settings, specs, source, seeds=request.seeds, request=request.hash, created=created,
        command=_command(), plugin=request.plugin, memory_curves=request.memory_curves, horizon=request.horizon,
        folds=folds,
    )  # fmt: skip


def check_budget(budget: str, refused: Sequence[str] = ("steps",)) -> None:
    """Refuse a budget that is not the same for all rows of a comparison.

    Args:
        budget: as it was given.
        refused: kinds that differ between rows: steps always, tokens where rows may have their own tokenizers.

    Raises:
        UserError: it is of such a kind.
    """
    kind = Budget.parse(budget).kind
    if kind in refused:
        why = "a step is a batch of another size" if kind == "steps" else "a token is a text of another length"
        raise UserError(
            f"--budget {budget}: compare gives every model the same, and {why} in every row; "
            "give 60s, 3epochs or 2e6bytes"
        )


def _carry_over(plan: Plan, results: Results) -> None:
    """Take over the results of models that have counted all data: a larger budget changes nothing about them."""
    from chainrule.tasks.train import say

    for row in plan.rows:
        for cell in row.cells:
            trained = results.smaller(plan.jobs[cell.train])
            if trained is None or trained.status != "done" or not row.counting or trained.found["progress"]["cut"]:
                continue
            for name in (cell.train, cell.measure):
                if found := results.smaller(plan.jobs[name]):
                    results.put(plan.jobs[name], found)
            if not cell.fold:
                say(f"{row.label}: all data are counted already; a larger budget changes nothing")


def _execute(request: Request, plan: Plan, results: Results, read: Read, stop: Callable[[], bool]) -> None:
    """Run the jobs of the rows by the chosen executor."""
    from chainrule.experiment.execute import in_turns, in_workers, measure_memory, prepare_rows, retry_failed

    show = Publisher(plan, results, request.out, request.lang)
    retry_failed(plan, results)
    prepare_rows(plan, results, read, request.out)
    show()
    if request.workers:
        in_workers(plan, results, request.out, stop, show, request.workers)
    else:
        in_turns(plan, results, read, request.out, stop, show)
    measure_memory(plan, results, read, request.out, stop, show)


def _command() -> str | None:
    return "chainrule " + shlex.join(sys.argv[1:]) if Path(sys.argv[0]).stem == "chainrule" else None


def _clear(out: Path, plan: Plan, results: Results) -> None:
    """Remove the results and run folders of an experiment that is replaced; its plan stays until the new one exists."""
    from chainrule.runs import RunFolder

    results.clear()
    for row in plan.rows:
        for cell in row.cells:
            if (out / cell.folder).exists():
                RunFolder.create(out / cell.folder, overwrite=True)
