"""Every command as a Python function with its options as keywords, and ``Run``, which has them as methods.

Each function returns the object that the command prints with ``--json``, as a ``dict`` that also holds arrays.
"""

from __future__ import annotations

import html
import inspect
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from chainrule import options
from chainrule.commands import COMMANDS
from chainrule.core import UserError
from chainrule.core.plugin import run_plugin
from chainrule.data.memory import check_path
from chainrule.options import Options
from chainrule.runs.run import Run as RunData
from chainrule.tasks import inference, setup
from chainrule.tasks.groups import UsesRun


class Run(RunData):
    """A trained model with everything that is needed to use it; each command that takes a run is a method."""

    def _repr_html_(self) -> str:
        """Return a card, for notebooks."""
        rows = {
            "model": self.name,
            "task": self.task,
            "parameters": f"{sum(p.numel() for p in self.model.parameters()):,}",
            "data": self.settings.get("data"),
            "tokenizer": self.processor.spec,
            "computed on": str(self.compute),
        }
        cells = "".join(f"<tr><th>{k}</th><td>{html.escape(str(v))}</td></tr>" for k, v in rows.items() if v)
        return f"<table>{cells}</table>"


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    plugin: str | None = None,
) -> Run:
    """Load a run folder, every file verified against its SHA-256. No code of the folder is run.

    Args:
        path: the folder of a run; ``board/best`` for the winner of a comparison.
        device: auto, cpu or cuda.
        precision: auto, fp32 or bf16.
        threads: processor threads; None: all.
        plugin: a file, or a folder with ``__init__.py``, that registers the model type or the task, if it is your own.

    Returns:
        The run.

    Raises:
        UserError: no run, a damaged one, or one of an unknown model type or task.
    """
    use_plugin(plugin)
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"load: {path!r} is no path; give the folder of a run, such as 'board/best'")
    found = setup.load(Path(path), device=device, precision=precision, threads=threads)
    return Run(**{f.name: getattr(found, f.name) for f in fields(found)})


def use_plugin(path: str | None) -> None:
    """Load a plugin; its commands become functions of this module and methods of ``Run``.

    Args:
        path: a Python file, or a folder with ``__init__.py``; None: nothing is loaded.

    Raises:
        UserError: the plugin cannot be loaded, or registers nothing.
    """
    if path:
        run_plugin(Path(path))
    _expose()


def _function(command: type[Options], leave_out: tuple[str, ...] = ()) -> Callable[..., dict[str, Any]]:
    """Return the Python function of a command; a method of a run if ``run`` is left out."""
    shown = options.signature(command, leave_out)

    def function(*args: Any, **keywords: Any) -> dict[str, Any]:
        run = {"run": args[0]} if "run" in leave_out else {}
        try:
            given = options.make(command, {**run, **options.bind(command, shown, args[len(run) :], keywords)})
        except TypeError as error:
            raise UserError(str(error)) from None
        if isinstance(getattr(given, "data", None), str):
            check_path(given.data)
        return options.answer_of(given)

    me = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)] if "run" in leave_out else []
    function.__module__, function.__name__ = __name__, command.function
    function.__qualname__ = f"Run.{command.function}" if me else command.function
    function.__doc__ = _documentation(command, leave_out)
    function.__signature__ = shown.replace(parameters=[*me, *shown.parameters.values()])  # type: ignore[attr-defined]
    return function


def _documentation(command: type[Options], leave_out: tuple[str, ...]) -> str:
    summary = str(command.__doc__)
    told = [f"    {o.name}: {o.help}" for o in options.options_of(command) if o.name not in leave_out]
    answers = [f"    {f.name}: {f.metadata['help']}" for f in fields(command.result)]  # type: ignore[arg-type]
    more = [f"    and {command.result.more}"] if command.result.more else []
    return "\n".join([summary[0].upper() + summary[1:] + ".", "", "Args:", *told, "", "Returns:", *answers, *more])


def _expose() -> None:
    """Make every command a function of this module, and a method of ``Run`` if it takes a run."""
    for command in COMMANDS.values():
        if getattr(globals().get(command.function), "command", None) is command:
            continue
        globals()[command.function] = function = _function(command)
        function.command = command  # type: ignore[attr-defined]
        if issubclass(command, UsesRun):
            setattr(Run, command.function, _function(command, ("run", *inference.MACHINE)))


_expose()
