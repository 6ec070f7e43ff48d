"""Train one model into a run folder: the command ``train`` and ``chainrule.train``."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from chainrule.core import ChainruleError, UserError
from chainrule.core.config import read_yaml, write_yaml
from chainrule.core.files import FolderLock
from chainrule.data.dataset import Dataset
from chainrule.runs import RunFolder
from chainrule.tasks.base import find_task
from chainrule.tasks.progress import Display, Line, Meter, say, showing
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.tasks.setup import (
    check_settings,
    describe,
    make_trainer,
    plugin_of,
    prepare,
    read_data,
    resolved,
    trained,
)
from chainrule.training.budget import Budget
from chainrule.training.distributed import Distributed, from_environment
from chainrule.training.loop import Trainer

SHAPING = ("model_type", "model", "train", "tokenizer", "unit", "seed")
"""Settings that a run is continued with only if they are equal; a budget may become larger."""


class Interrupted(ChainruleError):
    """Stopped by a signal, after saving. The exit status is 128 + the signal."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_status = 128 + number


class Stop:
    """A request to stop: the first SIGINT or SIGTERM makes it true, the second one ends the process at once."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        return bool(self.number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number
        print("\nstopping after this step; saving (again to stop at once)", file=sys.stderr, flush=True)

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Handle signals within a ``with`` block; in the main thread only, since others cannot install handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        old = {n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def train(
    settings: RunConfig,
    out: Path | str,
    *,
    resume: str = "never",
    overwrite: bool = False,
    dataset: Dataset | None = None,
    distributed: Distributed | None = None,
) -> Trainer:
    """Train to the end of the budget.

    Args:
        settings: everything that the run depends on.
        out: the run folder.
        resume: ``never``; ``auto`` (the newest valid checkpoint, or afresh where there is none); or ``out`` itself.
        overwrite: replace the run that ``out`` holds.
        dataset: the data, already read; None: ``settings.data`` are read.
        distributed: processes that train together; None: those that ``torchrun`` announces, else this one alone.

    Returns:
        The trainer, whose model has the weights that are kept (on rank 0).

    Raises:
        Interrupted: a signal came; the run was saved.
        UserError: a setting, the data or the folder cannot be used.
    """
    if resume not in ("auto", "never"):
        if Path(resume).resolve() != Path(out).resolve():
            raise UserError(
                f"--resume {resume}: a run is continued in its own folder; give --out {resume} --resume auto"
            )
        resume = "auto"
    with nullcontext(distributed) if distributed else from_environment() as ranks:
        start = Start(RunFolder(out), resume == "auto", overwrite, ranks)
        with FolderLock(start.run.path) if ranks.is_main else nullcontext() as lock:
            if ranks.is_main:
                start.run.check(overwrite=overwrite, resume=start.resume)
            settings = settings.infer_task()
            check_settings(settings)
            settings = find_task(settings.task).prepare(settings, start.run.path, overwrite)
            if ranks.device:
                settings = settings.replace(device=ranks.device)
            with showing(kind=None if ranks.is_main else Display) as display:
                line = display.line(settings.model_type)
                with line.working("reading data"):
                    ready = prepare(settings, dataset or read_data(settings))
                return _train(ready, start, lock, line)


@dataclass(frozen=True)
class Start:
    """Circumstances of a run: its folder, whether it is continued or replaced, and the processes that train it."""

    run: RunFolder
    resume: bool
    overwrite: bool
    ranks: Distributed

    def say(self, text: str) -> None:
        """Print a line on standard error, on rank 0."""
        if self.ranks.is_main:
            say(text)


def _train(ready: ResolvedRun, start: Start, lock: FolderLock | None, line: Line) -> Trainer:
    run, ranks = start.run, start.ranks
    meter = Meter(line, ready, ready.data.counted)
    # a model that cannot be built must not cost the old run
    told = {"tell": meter, "warn": lambda text: say(f"{line.label}: {text}")} if ranks.is_main else {}
    trainer = make_trainer(ready, run, distributed=ranks, **told)
    if lock is not None:
        RunFolder.create(run.path, overwrite=start.overwrite, resume=start.resume)
        lock.take()
    ranks.agree(0.0)  # the folder is there
    if start.resume:
        _continue(trainer, ready, start)
    if ranks.is_main:
        describe(run, ready)
    _announce(trainer, ready, start)
    with Stop().listening() as stop:
        trainer.advance(stop=stop)
    if not trainer.progress.done:
        trainer.save()
        raise Interrupted(
            f"stopped at step {trainer.progress.step}; saved: continue with --resume auto --out {run.path}", stop.number
        )
    if ranks.is_main:
        if told := find_task(ready.settings.task).tuning:
            say(told)
        with line.working("choosing how to decode"):
            trained(trainer, ready)
    return trainer


def _announce(trainer: Trainer, ready: ResolvedRun, start: Start) -> None:
    for note in ready.data.all_notes:
        start.say(f"note: {note}")
    size = "counting" if ready.recipe.update == "counting" else f"{trainer.model.parameters_count:,} parameters"
    many = f", {start.ranks.world} processes" if start.ranks.world > 1 else ""
    start.say(f"{ready.model_type.name}: {size}, {ready.compute}{many}, budget {ready.budget}")


def _continue(trainer: Trainer, ready: ResolvedRun, start: Start) -> None:
    """Take up the newest checkpoint, if its run was the same in everything that shapes the weights.

    Raises:
        UserError: data, settings, plugin or tokenizer differ from those of the run.
    """
    run = start.run
    if run.has("processor.json"):  # written last of what describes a run: without it, nothing was trained yet
        _check_same(ready, run)
    for report in trainer.resume():
        start.say(f"damaged, passed over: {report}")
    if told := resumed(trainer):
        start.say(f"{run.path}: {told}")


def resumed(trainer: Trainer) -> str | None:
    """Return what a trainer goes on from after ``resume``, in a sentence; None where nothing was saved.

    Args:
        trainer: after ``resume``.
    """
    p, aside = trainer.progress, trainer.set_aside
    if aside and aside[0] < aside[1]:
        why = "whose learning rate was that of the end of the smaller budget"
        if trainer.schedule.counts:
            why = "which did not read all data"
        elif not aside[0]:
            why = "whose warm-up was shorter, or whose state before the end was not kept"
        dropped = f"{aside[1] - aside[0]} of {aside[1]} steps are set aside, {why}"
        return f"training further from step {aside[0]} with budget {p.budget}; {dropped}"
    if p.done and trainer.schedule.counts:
        return "finished already: all data are counted, and a larger budget changes nothing"
    if p.done:
        return f"finished already, at step {p.step}; a larger --budget trains it further"
    return f"continuing at step {p.step}" if p.step else None


def _check_same(ready: ResolvedRun, run: RunFolder) -> None:
    old, mine = run.read_settings(), read_yaml(write_yaml(resolved(ready)), "these settings")
    differ = [found for key in SHAPING if (found := _difference(key, old.get(key), mine[key]))]
    refused = Budget.parse(mine["budget"]).refusal(Budget.parse(old["budget"]))
    plugin, spec = plugin_of(ready.model_type) or {}, ready.settings.tokenizer
    if run.read_json("data.json")["split_sha256"] != ready.data.dataset.split_sha256:
        told = f"trained on other data or another split than {ready.settings.data}: continue it with the same"
    elif differ:
        told = f"made with {differ[0]}: continue it with the same command"
    elif (run.read_json("config.json").get("plugin") or {}).get("sha256") != plugin.get("sha256"):
        told = f"made with another version of the file of {ready.model_type.name}: continue it with that one"
    elif run.read_json("processor.json") != json.loads(json.dumps(ready.processor.to_json())):
        told = f"made with another content of --tokenizer {spec}: continue it with that one"
    elif refused:
        raise UserError(f"{run.path}: {refused}, or start another --out")
    else:
        return
    raise UserError(f"{run.path}: was {told}, or start another --out")


def _difference(key: str, old: Any, new: Any) -> str | None:
    """The first value that differs, by its full name, such as ``train.lr=0.1, not 0.2``; None where all are equal."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return None if old == new else f"{key}={old}, not {new}"
    found = (_difference(f"{key}.{name}", old.get(name), new.get(name)) for name in {**old, **new})
    return next((one for one in found if one), None)
