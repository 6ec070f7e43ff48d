"""Options of commands as data: a frozen dataclass for each command, from which flags, help and Python keywords follow.

An option that is not given is None, False or an empty tuple: what it then means is decided where it is used, and its
help says it.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from numbers import Integral, Real
from os import PathLike
from types import UnionType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

GROUPS = (None, "data", "machine")
"""Groups of the help, in order."""


def argument(help: str, *, nargs: str | None = None, **about: Any) -> Any:
    """A value that is given by its place, on the command line and in Python.

    Args:
        help: one line for ``--help``.
        nargs: ``?`` where it may be left out, ``*`` and ``+`` where there may be several.
        about: ``metavar``; ``first=True`` for what comes before all others; ``stdin=True`` where the command line reads
            standard input when it is left out.
    """
    optional = {"?": None, "*": ()}.get(nargs or "", MISSING)
    return field(
        default=MISSING if about.get("stdin") else optional,
        metadata={"help": help, "place": True, "nargs": nargs, **about},
    )


def option(help: str, default: Any = None, **about: Any) -> Any:
    """A value that is given by its name.

    Args:
        help: one line for ``--help``.
        default: None, False, () or ``MISSING``, where it must be given.
        about: ``metavar``; ``choices``; ``flag`` where it is not the name of the field; ``group`` of the help;
            ``place=True`` where Python takes it by its place too; ``required=True`` where only the command line
            demands it.
    """
    return field(default=default, metadata={"help": help, "named": True, **about})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of the options of a command. The first line of its docstring is its help."""

    command: ClassVar[str]
    function: ClassVar[str]
    """Name of the Python function: the command's, where that is a name in Python."""
    result: ClassVar[type[Result]]
    declared: ClassVar[list[type[Options]]] = []
    """Every command, in the order in which they were declared."""

    def __init_subclass__(cls) -> None:
        if "command" in cls.__dict__:
            Options.declared.append(cls)
            if "function" not in cls.__dict__:
                cls.function = cls.command

    def given(self) -> dict[str, Any]:
        """The options that were given, by field."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if is_given(value)}


def is_given(value: Any) -> bool:
    return value is not None and value is not False and not (isinstance(value, tuple) and not value)


@dataclass(frozen=True)
class Option:
    """One option of a command, as command line and Python see it."""

    name: str
    kind: type
    """int, float, bool or str: what the command line makes of a word."""
    many: bool
    annotation: str
    default: Any
    help: str
    about: dict[str, Any]

    @property
    def flag(self) -> str | None:
        """``--top-k``, or ``-n`` for one letter; None where the command line takes it by its place."""
        if not self.about.get("named"):
            return None
        return self.about.get("flag") or (
            f"-{self.name}" if len(self.name) == 1 else f"--{self.name.replace('_', '-')}"
        )

    @property
    def required(self) -> bool:
        return self.default is MISSING


@cache
def options_of(command: type[Options]) -> tuple[Option, ...]:
    """The options of a command in the order of its help: its own first, then those that it shares."""
    hints, found = get_type_hints(command), {f.name: f for f in fields(command)}
    names = [name for kind in command.__mro__ for name in inspect.get_annotations(kind) if name in found]
    about = {name: found[name].metadata for name in names}
    names.sort(key=lambda name: (not about[name].get("first"), GROUPS.index(about[name].get("group"))))  # stable
    return tuple(_option(found[name], hints[name]) for name in dict.fromkeys(names))


def _option(of: Any, hint: Any) -> Option:
    kinds = [kind for kind in (get_args(hint) if isinstance(hint, UnionType) else (hint,)) if kind is not type(None)]
    many = any(get_origin(kind) is tuple for kind in kinds)
    simple = next((kind for kind in kinds if kind in (bool, int, float)), str)
    return Option(of.name, simple, many, of.type, of.default, of.metadata["help"], dict(of.metadata))


# --- Python -----------------------------------------------------------------------------------------------------------


def signature(command: type[Options], leave_out: Sequence[str] = ()) -> inspect.Signature:
    """The signature of a command as a Python function: what has a place first, keywords after it."""
    shown = [o for o in options_of(command) if o.name not in leave_out]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [
        inspect.Parameter(
            o.name, kind, annotation=o.annotation, default=inspect.Parameter.empty if o.required else o.default
        )
        for kind, placed in zip(kinds, (True, False))
        for o in shown
        if bool(o.about.get("place")) is placed
    ]
    return inspect.Signature(parameters, return_annotation="dict[str, Any]")


def bind(
    command: type[Options], given: inspect.Signature, args: Sequence[Any], keywords: dict[str, Any]
) -> dict[str, Any]:
    """The values of a call of a command's function, by field. Raises TypeError, one line, where they do not fit."""
    for name in keywords:
        if name not in given.parameters:
            raise TypeError(refusal(command, name, known=list(given.parameters)))
    try:
        return dict(given.bind(*args, **keywords).arguments)
    except TypeError as error:
        raise TypeError(f"{command.function}: {error}; it takes {', '.join(given.parameters)}") from None


def make(command: type[Options], values: dict[str, Any]) -> Any:
    """The options of a command. Raises TypeError, one line, for a value of another type or not among the choices."""
    known = {o.name: o for o in options_of(command)}
    made = {}
    for name, value in values.items():
        o = known[name]
        if (o.many or o.about.get("many")) and isinstance(value, str):
            value = (value,)
        elif o.about.get("joined") and isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        value = _checked(o, value)
        choices = o.about.get("choices")
        if choices and is_given(value) and value not in choices:
            raise TypeError(f"{o.flag or o.name} {value}: {near(str(value), choices)}")
        made[name] = value
    return command(**made)


def _checked(o: Option, value: Any) -> Any:
    """``value``, if it is of the type that the option declares. Raises TypeError, one line, where it is not."""
    if o.annotation == "Any" or value is None:
        if value is None and not o.many and o.annotation in ("str", "int", "float", "bool"):
            raise TypeError(f"{o.name}=None: it must be given")
        return value
    kind, told = TYPES[o.kind]
    if o.many:
        if not isinstance(value, list | tuple) or not all(isinstance(part, kind) for part in value):
            raise TypeError(f"{o.name}={value!r}: expected {told}, or a list of them")
        return tuple(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and o.kind is not bool):
        raise TypeError(f"{o.name}={value!r}: expected {told}, not {type(value).__name__}")
    return value


TYPES: dict[type, tuple[Any, str]] = {
    int: (Integral, "a whole number"), float: (Real, "a number"), bool: (bool, "True or False"),
    str: (str | PathLike, "a string"),
}  # fmt: skip


# --- what is refused --------------------------------------------------------------------------------------------------


def refusal(command: type[Options], given: str, *, known: Sequence[str] | None = None) -> str:
    """One line on an option that a command does not have: which commands have it, or the option that is nearest.

    Args:
        command: the one that was called.
        given: the option as it was written: a flag, or the name of a keyword.
        known: the names that the command has, where these are not all its flags.
    """
    spell: Callable[[Option], str | None] = (lambda o: o.flag) if given.startswith("-") else (lambda o: o.name)
    mine = known or [name for o in options_of(command) if (name := spell(o))]
    having = [c.command for c in Options.declared if c is not command and given in (spell(o) for o in options_of(c))]
    title = command.command if given.startswith("-") else command.function
    if having:
        shown = ", ".join(having[:4]) + (f" and {len(having) - 4} more" if len(having) > 4 else "")
        return f"{title} has no option {given}; {shown} {'has' if len(having) == 1 else 'have'} it"
    bare = {name.strip("-"): name for name in mine}
    begun = [name for name in bare if name.startswith(given.strip("-"))]
    if close := begun or difflib.get_close_matches(given.strip("-"), bare, n=1, cutoff=0.6):
        return f"{title} has no option {given}: did you mean {bare[close[0]]}?"
    setting = given.strip("-").replace("-", "_")
    told = f"; settings of training and model are given as --set train.{setting}=…" if "--set" in mine else ""
    return f"{title} has no option {given}; it has {', '.join(mine)}{told}"


def near(name: str, allowed: Iterable[str]) -> str:
    """A hint such as ``did you mean 'skip'?``, or the list of what is allowed."""
    names = list(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"allowed: {', '.join(names)}"


def flags(command: type[Options], names: Iterable[str]) -> Iterator[str]:
    """The flags of fields, as the command line has them."""
    known = {o.name: o.flag or o.name for o in options_of(command)}
    return (known[name] for name in names)


# --- results ----------------------------------------------------------------------------------------------------------


def key(help: str, *, always: bool = False, python: bool = False) -> Any:
    """An entry of a result. ``always``: it is never missing. ``python``: an array, which ``--json`` does not print."""
    return field(default=MISSING if always else None, metadata={"help": help, "python": python})


@dataclass(frozen=True, kw_only=True)
class Result:
    """Base of what a command answers: the object that ``--json`` prints and that the Python function returns."""

    more: ClassVar[str] = ""
    """What else may stand in it: metrics of the run's task, say."""


def answer(kind: type[Result], values: dict[str, Any]) -> dict[str, Any]:
    """``values``, checked to be what the command says that it answers; keys in the declared order, None left out.

    Raises:
        TypeError: a key is missing or unknown (an error of the package).
    """
    declared = {f.name: f for f in fields(kind)}
    missing = [name for name, f in declared.items() if f.default is MISSING and name not in values]
    unknown = [] if kind.more else [name for name in values if name not in declared]
    if missing or unknown:
        raise TypeError(f"{kind.__name__}: missing {missing}, unknown {unknown}")
    ordered = {name: values[name] for name in declared if name in values}
    return {name: value for name, value in {**ordered, **values}.items() if value is not None or name not in declared}


def for_json(kind: type[Result], values: dict[str, Any]) -> dict[str, Any]:
    """An answer without its arrays."""
    arrays = {f.name for f in fields(kind) if f.metadata["python"]}
    return {name: value for name, value in values.items() if name not in arrays}
