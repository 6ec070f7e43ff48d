"""What the inference calls of the tasks share: which task answers a command, with which of its options."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from chainrule import tasks
from chainrule.core import UserError
from chainrule.data.processors import PairProcessor
from chainrule.options import Options, flags
from chainrule.runs.run import Run

Call = Callable[..., dict[str, Any]]


def answer(run: Run, options: Options) -> dict[str, Any]:
    """Call the function of the run's task that is named like the command, with the options that were given.

    Raises:
        UserError: the task has no such command, or an option was given that it does not use.
    """
    able, given = answering(options.function), options.given()
    given.pop("run", None)
    if run.task not in able:
        needed = " or ".join(f"--task {task}" for task in able)
        raise UserError(f"{options.command}: this run's task is {run.task}; a run of {needed} is needed")
    used = parameters(able[run.task])
    if unused := [name for name in given if name not in used]:
        using = [task for task, call in able.items() if unused[0] in parameters(call)]
        shown = list(flags(type(options), unused))
        needed = f"a run of {' or '.join(f'--task {task}' for task in using)} uses it" if using else "no run uses it"
        raise UserError(f"{shown[0]}: this run's task is {run.task}; {needed}: leave out {', '.join(shown)}")
    return able[run.task](run, **given)


def answering(function: str) -> dict[str, Call]:
    """The tasks that answer a command, with the function of each."""
    found = {task: getattr(module, function, None) for task, module in inference_modules().items()}
    return {task: call for task, call in found.items() if call is not None}


def parameters(call: Call) -> list[str]:
    """The options that a task's function uses: its parameters after the run."""
    return list(inspect.signature(call).parameters)[1:]


def inference_modules() -> dict[str, ModuleType]:
    """The module ``inference`` of every task that has one, by the task's name."""
    names = sorted(m.name for m in pkgutil.iter_modules(tasks.__path__) if m.ispkg)
    having = [name for name in names if find_spec(f"{tasks.__name__}.{name}.inference")]
    return {name.replace("_", "-"): importlib.import_module(f"{tasks.__name__}.{name}.inference") for name in having}


def need(run: Run, task: str, call: str, does: str) -> None:
    """Raises UserError where the run is of another task."""
    if run.task != task:
        raise UserError(f"{call}: this run's task is {run.task}; a run of --task {task} {does}")


def text_of(run: Run, ids: Any) -> str:
    return run.processor.tokenizer.decode(ids).decode(errors="replace")


def phrases(run: Run, flag: str, texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The token ids of each text of ``--must`` or ``--forbid``. Raises UserError where one of them is unknown."""
    tokenizer = run.processor.target if isinstance(run.processor, PairProcessor) else run.processor.tokenizer
    found = [tuple(tokenizer.encode(text.encode()).ids.tolist()) for text in texts]
    for text, ids in zip(texts, found):
        if not ids or tokenizer.unknown in ids:
            told = "holds a token that is not in the vocabulary of the run" if ids else "holds no token"
            raise UserError(f"{flag} {text!r}: {told}; leave it out")
    return tuple(found)


def as_numbers(run: Run, batch: Any) -> Any:
    """The batch with numbers for its strings, where the model reads numbers."""
    reader = run.processor.reader
    return reader.read(batch).to(run.compute.device) if reader else batch
