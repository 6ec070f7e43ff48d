"""Every command as a Python function with its options as keywords, and ``Run``, which has them as methods.

Each function returns the object that the command prints with ``--json``, as a ``dict`` that also holds arrays.
"""

from __future__ import annotations

import html
import inspect
import os
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from chainrule import options
from chainrule.commands import COMMANDS
from chainrule.core import UserError
from chainrule.core.errors import nearest
from chainrule.core.plugin import run_plugin
from chainrule.data.memory import check_path
from chainrule.options import Options
from chainrule.runs.run import Run as RunData
from chainrule.tasks import inference, setup
from chainrule.tasks.groups import UsesRun

SHOWN = 600
"""Characters up to which an answer is shown whole."""
FOREIGN = {
    "fit": "it is trained already; chainrule.train(data, model, out) trains",
    "train": "it is trained already; chainrule.train(data, model, out) trains",
    "sample": "generate draws samples",
    "predict_proba": "classify returns the probability p of every label",
    "transform": "embed returns vectors of texts",
    "save": "it is a folder already, and its path is run.path",
    "parameters": "its weights are run.model.parameters()",
}
"""Methods of other libraries, and what stands for them here."""


class _Short(reprlib.Repr):
    """Values in a few characters; entries of a dict keep their order."""

    def __init__(self) -> None:
        super().__init__()
        self.maxdict, self.maxlist, self.maxstring, self.maxother = 8, 3, 80, 80

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0:
            return "{…}"
        shown = [f"{self.repr1(name, level - 1)}: {self.repr1(value, level - 1)}" for name, value in x.items()]
        return f"{{{', '.join(shown[: self.maxdict] + ['…'] * (len(shown) > self.maxdict))}}}"


_SHORT = _Short()


class Run(RunData):
    """A trained model with everything that is needed to use it; each command that takes a run is a method."""

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError with the method that may be meant."""
        if name.startswith("_"):
            raise AttributeError(name)
        methods = [command.function for command in COMMANDS.values() if issubclass(command, UsesRun)]
        if meant := FOREIGN.get(name):
            raise AttributeError(f"a run has no {name}: {meant}")
        raise AttributeError(f"a run has no {name}: {nearest(name, methods)}")

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
        return _table({name: str(value) for name, value in rows.items() if value})


class Answer(dict[str, Any]):
    """The answer of a command: a dict that is shown short, and in notebooks as its command has it, or as a table."""

    def __init__(self, entries: Mapping[str, Any], command: Options | None = None):
        super().__init__(entries)
        self._command = command

    def __repr__(self) -> str:
        whole = super().__repr__()
        if len(whole) <= SHOWN:
            return whole
        return f"{{{', '.join(f'{name!r}: {_SHORT.repr(value)}' for name, value in self.items())}}}"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the page of the command, if it has one, else a table of the entries."""
        page = self._command and self._command.page(self)
        return page or _table({name: _SHORT.repr(value) for name, value in self.items()})

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError with what may be meant."""
        if name in self:
            raise AttributeError(f"an answer is a dict: write answer[{name!r}]")
        if "run" in self and hasattr(Run, name):
            raise AttributeError(f"an answer is a dict, not a run: chainrule.load(answer['run']).{name}(…)")
        raise AttributeError(f"an answer is a dict and has no {name}; its entries are {', '.join(self)}")


def _table(rows: dict[str, str]) -> str:
    cells = "".join(f"<tr><th>{k}</th><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
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
        precision: auto, fp32, bf16, int8 or int4.
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
            keywords = _settings_moved(command, shown, args, keywords)
            values = {**run, **options.bind(command, shown, args[len(run) :], keywords)}
            given = options.make(command, _converted(command, values))
        except TypeError as error:
            raise UserError(str(error)) from None
        if isinstance(getattr(given, "data", None), str):
            check_path(given.data)
        own_page = type(given).page is not Options.page
        return Answer(options.answer_of(given), replace(given, run=None) if own_page else None)  # type: ignore[call-arg]

    me = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)] if "run" in leave_out else []
    function.__module__, function.__name__ = __name__, command.function
    function.__qualname__ = f"Run.{command.function}" if me else command.function
    function.__doc__ = _documentation(command, leave_out)
    function.__signature__ = shown.replace(parameters=[*me, *shown.parameters.values()])  # type: ignore[attr-defined]
    return function


def _settings_moved(
    command: type[Options], shown: inspect.Signature, args: tuple[Any, ...], keywords: dict[str, Any]
) -> dict[str, Any]:
    """Return the keywords of a call with those that name settings under ``set``."""
    known = set(shown.parameters)
    if "set" not in known or (set(keywords) <= known and not isinstance(keywords.get("config"), Mapping)):
        return keywords
    from chainrule.tasks.arguments import with_settings

    use_plugin(keywords.get("plugin"))
    by_place = dict(zip(shown.parameters, args))
    return with_settings(
        command, keywords, {**by_place, **keywords}.get("model" if "model" in shown.parameters else "models")
    )


def _converted(command: type[Options], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a call in the form that the command takes them; UserError for one that is missing."""
    from chainrule.tasks.arguments import as_data, as_input

    made = dict(values)
    for o in options.options_of(command):
        if o.name in made and o.about.get("stdin"):
            texts = isinstance(made[o.name], str) and o.about.get("nargs") == "*" and command.function == "fill"
            made[o.name] = [made[o.name]] if texts else as_input(o.name, made[o.name])
        elif o.name in made and o.required and made[o.name] is None:
            raise UserError(f"{o.name}=None: it must be given")
    if "data" in made:
        made["data"] = as_data(made["data"])
    if isinstance(made.get("run"), str) and any(isinstance(value, RunData) for value in made.values()):
        raise UserError(f"{command.function}: the run comes first: {command.function}(run, …)")
    return made


def _documentation(command: type[Options], leave_out: tuple[str, ...]) -> str:
    summary = str(command.__doc__)
    told = [f"    {o.name}: {o.help}" for o in options.options_of(command) if o.name not in leave_out]
    answers = [f"    - {f.name}: {f.metadata['help']}" for f in fields(command.result)]  # type: ignore[arg-type]
    more = [f"    - {command.result.more}"] if command.result.more else []
    returns = ["Returns:", "    A dict with these entries.", "", *answers, *more]
    return "\n".join([summary[0].upper() + summary[1:] + ".", "", "Args:", *told, "", *returns])


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
