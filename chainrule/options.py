"""Commands as data: each is a frozen dataclass of its options, from which flags, help and Python keywords follow.

A command's class also holds what it does (``call``) and what it prints for people (``lines``). An option that is not
given is None, False or an empty tuple; its help says what that means.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib import import_module
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from chainrule.core.digits import in_full
from chainrule.core.errors import nearest
from chainrule.core.plugin import run_plugin

GROUPS = (None, "data", "machine")
"""Groups of options in the help of a command, in order."""
SECTIONS = ("compare and train", "use a run", "data, tests and other formats")
"""Sections of ``chainrule --help``, in order."""
COMMANDS: dict[str, type[Options]] = {}
"""Every command that is registered, by name; ``chainrule.commands`` registers those of the package."""
OptionsT = TypeVar("OptionsT", bound="type[Options]")


def argument(help: str, *, nargs: str | None = None, **about: Any) -> Any:
    """Declare an option that is given by its place, on the command line and in Python.

    Args:
        help: one line for ``--help``.
        nargs: ``?`` if it may be left out, ``*`` and ``+`` if there may be several.
        about: ``metavar``; ``first=True`` if it comes before all others; ``stdin=True`` if the command line reads
            standard input when it is left out.
    """
    optional = {"?": None, "*": ()}.get(nargs or "", MISSING)
    return field(
        default=MISSING if about.get("stdin") else optional,
        metadata={"help": help, "place": True, "nargs": nargs, **about},
    )


def option(help: str, default: Any = None, **about: Any) -> Any:
    """Declare an option that is given by its name.

    Args:
        help: one line for ``--help``.
        default: None, False, () or ``MISSING`` if it must be given.
        about: ``metavar``; ``choices``; ``flag`` if it is not the name of the field; ``group`` of the help;
            ``place=True`` if Python takes it by its place too; ``required=True`` if only the command line demands it.
    """
    return field(default=default, metadata={"help": help, "named": True, **about})


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class Options:
    """Base class of commands, and of options that several commands share: its subclasses are frozen dataclasses.

    The first line of a command's docstring is its help.
    """

    command: ClassVar[str]
    function: ClassVar[str]
    """Name of the Python function: the command's name, or another where that is taken."""
    section: ClassVar[str]
    result: ClassVar[type[Result]]
    by_line: ClassVar[str | None] = None
    """The option that holds lines which are answered one by one, if there is one: ``--json-lines`` prints ``rows``."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    def call(self) -> dict[str, Any]:
        """Do what the command does and return the values of its result. Heavy imports belong in here."""
        raise NotImplementedError

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        """Return the lines that the command prints for people.

        By default, these are all entries of the answer, and those of a mapping one by one.
        """
        for name, value in answer.items():
            for key, part in value.items() if isinstance(value, dict) else [(name, value)]:
                yield f"{key:<14} {in_full(part) if isinstance(part, float) else part}"

    def page(self, answer: dict[str, Any]) -> str | None:
        """Return the answer as HTML for a notebook; None: a table of its entries is shown."""
        return None

    def rows(self, answer: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Return an object for each line of the input, in order: what ``--json-lines`` prints."""
        raise NotImplementedError

    def completed(self) -> Options:
        """Return the options with what only the command line adds, such as a default file."""
        return self

    def hints(self) -> Iterable[str]:
        """Return lines for standard error that are printed before an error of the command."""
        return ()

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        """Return notes for standard error, printed beside the answer."""
        return self.totals(answer)

    def totals(self, answer: dict[str, Any]) -> Iterable[str]:
        """Return the notes on all lines together; those on one line are told by its entry in ``rows``."""
        return ()

    def failure(self, answer: dict[str, Any]) -> str | None:
        """Return the error of a command that has an answer and failed all the same, or None."""
        return None

    def given(self) -> dict[str, Any]:
        """Return the options that were given, by field."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if is_given(value)}


def register_command(
    name: str, result: type[Result], *, section: str = SECTIONS[1], function: str | None = None
) -> Callable[[OptionsT], OptionsT]:
    """Return a class decorator that makes a subclass of ``Options`` a command: of the command line and of Python.

    Args:
        name: the command's name, one word or two.
        result: the dataclass of its answer.
        section: where ``chainrule --help`` lists it, one of ``SECTIONS``.
        function: the name of the Python function, if it is not ``name``.

    Examples:
        >>> class Doubled(Result):
        ...     value: int = key("twice the number", always=True)
        >>> @register_command("double", Doubled)
        ... class Double(Options):
        ...     number: int = argument("any number")
        ...     def call(self):
        ...         return {"value": 2 * self.number}
        >>> answer_of(COMMANDS.pop("double")(number=21))
        {'value': 42}
    """

    def decorate(kind: OptionsT) -> OptionsT:
        kind.command, kind.function, kind.section, kind.result = name, function or name, section, result
        COMMANDS[name] = kind
        return kind

    return decorate


def find_command(function: str) -> type[Options]:
    """Return the command whose Python function has this name, registered or of the package.

    Args:
        function: the name.
    """
    import_module("chainrule.commands")  # registers those of the package
    return next(command for command in COMMANDS.values() if command.function == function)


def is_given(value: Any) -> bool:
    """Return whether an option was given: it is not None, False or an empty tuple."""
    return value is not None and value is not False and not (isinstance(value, tuple) and not value)


@dataclass(frozen=True)
class Option:
    """One option of a command, as command line and Python see it."""

    name: str
    kind: type
    """The type that the command line converts a word to: int, float, bool or str."""
    many: bool
    annotation: str
    default: Any
    help: str
    about: dict[str, Any]

    @property
    def flag(self) -> str | None:
        """``--top-k``, or ``-n`` for one letter; None if the command line takes it by its place."""
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
    """Return the options of a command in the order of its help: its own first, then those that it shares."""
    hints, found = get_type_hints(command), {f.name: f for f in fields(command)}
    names = [name for kind in command.__mro__ for name in inspect.get_annotations(kind) if name in found]
    about = {name: found[name].metadata for name in names}
    names.sort(key=lambda name: (not about[name].get("first"), GROUPS.index(about[name].get("group"))))  # stable
    return tuple(_option(found[name], hints[name]) for name in dict.fromkeys(names))


def _option(of: Any, hint: Any) -> Option:
    kinds = [kind for kind in (get_args(hint) if isinstance(hint, UnionType) else (hint,)) if kind is not type(None)]
    many = any(get_origin(kind) is tuple for kind in kinds)
    simple = next((kind for kind in kinds if kind in (bool, int, float)), str)
    annotation = of.type if isinstance(of.type, str) else getattr(of.type, "__name__", str(of.type))
    return Option(of.name, simple, many, annotation, of.default, of.metadata["help"], dict(of.metadata))


# --- Python -----------------------------------------------------------------------------------------------------------


def signature(command: type[Options], leave_out: Sequence[str] = ()) -> inspect.Signature:
    """Return the signature of a command as a Python function: positional options first, keywords after them."""
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
    """Return the values of a call of a command's function, by field.

    Raises:
        TypeError: they do not fit the signature; one line.
    """
    for name in keywords:
        if name not in given.parameters:
            plural = f"did you mean {name}s? " if f"{name}s" in given.parameters else ""
            told = refusal(command, name, known=list(given.parameters))
            raise TypeError(told.replace("; ", f"; {plural}", 1) if plural else told)
    placed = [p.name for p in given.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(args) > len(placed):
        named = next((f"; all else by name, such as {p}=…" for p in given.parameters if p not in placed), "")
        takes = f"takes {len(placed)} positional argument{'s' * (len(placed) != 1)} ({', '.join(placed)})"
        raise TypeError(f"{command.function} {takes}, not {len(args)}{named}")
    try:
        return dict(given.bind(*args, **keywords).arguments)
    except TypeError as error:
        raise TypeError(f"{command.function}: {error}; call {command.function}({', '.join(placed)}, …)") from None


def make(command: type[Options], values: dict[str, Any]) -> Any:
    """Return the options of a command, made of values by field.

    Raises:
        TypeError: a value has another type or is not among the choices; one line.

    Examples:
        >>> from chainrule.commands import COMMANDS
        >>> make(COMMANDS["score"], {"run": "r", "input": "x.txt", "unit": "line"})
        Traceback (most recent call last):
        TypeError: --unit line: did you mean 'lines'?
    """
    known = {o.name: o for o in options_of(command)}
    made = {}
    for name, value in values.items():
        o = known[name]
        if (o.many or o.about.get("many")) and isinstance(value, str):
            value = (value,)
        elif o.many and isinstance(value, Iterable) and not isinstance(value, bytes | Mapping):
            value = tuple(value)
        elif o.about.get("joined") and isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        value = _checked(o, value)
        choices = o.about.get("choices")
        if choices and is_given(value) and value not in choices:
            raise TypeError(f"{o.flag or o.name} {value}: {nearest(str(value), choices)}")
        made[name] = value
    return command(**made)


def _checked(o: Option, value: Any) -> Any:
    """Return ``value`` if it has the type that the option declares, else raise TypeError with one line."""
    if o.annotation == "Any" or value is None:
        if value is None and not o.many and o.annotation in ("str", "int", "float", "bool"):
            raise TypeError(f"{o.name}=None: it must be given")
        return value
    kind, told = TYPES[o.kind]
    if o.many:
        if not isinstance(value, list | tuple) or not all(isinstance(part, kind) for part in value):
            raise TypeError(f"{o.name}={_short(value)}: expected {told}, or a list of them")
        return tuple(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and o.kind is not bool):
        only = value[0] if isinstance(value, list | tuple) and len(value) == 1 else None
        example = only if isinstance(only, kind) else o.about.get("example")
        hint = "" if example is None else f"; for example {o.name}={example!r}"
        raise TypeError(f"{o.name}={_short(value)}: expected {told}, not {type(value).__name__}{hint}")
    return value


def _short(value: Any) -> str:
    """Return a value as one line of at most 80 characters."""
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


TYPES: dict[type, tuple[Any, str]] = {
    int: (Integral, "a whole number"), float: (Real, "a number"), bool: (bool, "True or False"),
    str: (str | PathLike, "a string"),
}  # fmt: skip


# --- what is refused --------------------------------------------------------------------------------------------------


def refusal(command: type[Options], given: str, *, known: Sequence[str] | None = None) -> str:
    """Return one line on an option that a command does not have: the commands that have it, or the nearest option.

    Args:
        command: the one that was called.
        given: the option as it was written: a flag, or the name of a keyword.
        known: the names that the command has, if these are not all its flags.
    """
    spell: Callable[[Option], str | None] = (lambda o: o.flag) if given.startswith("-") else (lambda o: o.name)
    mine = known or [name for o in options_of(command) if (name := spell(o))]
    others = [c for c in COMMANDS.values() if c is not command]
    having = [c.command for c in others if given in (spell(o) for o in options_of(c))]
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


def flags(command: type[Options], names: Iterable[str]) -> Iterator[str]:
    """Return the flags of fields, as the command line has them."""
    known = {o.name: o.flag or o.name for o in options_of(command)}
    return (known[name] for name in names)


# --- results ----------------------------------------------------------------------------------------------------------


def key(help: str, *, always: bool = False, python: bool = False) -> Any:
    """Declare an entry of a result.

    Args:
        help: one line on what it holds.
        always: it is never missing.
        python: an array, which ``--json`` does not print.
    """
    return field(default=MISSING if always else None, metadata={"help": help, "python": python})


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Result:
    """Base class of what a command answers: the object that ``--json`` prints and that the Python function returns."""

    more: ClassVar[str] = ""
    """Other entries that it may have, in words: the metrics of the run's task, for example."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def checked(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Return ``values`` in the declared order, without entries that are None.

        Raises:
            TypeError: an entry is missing or unknown (an error of the command).
        """
        declared = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
        missing = [name for name, f in declared.items() if f.default is MISSING and name not in values]
        unknown = [] if cls.more else [name for name in values if name not in declared]
        if missing or unknown:
            raise TypeError(f"{cls.__name__}: missing {missing}, unknown {unknown}")
        ordered = {name: values[name] for name in declared if name in values} | values
        return {name: value for name, value in ordered.items() if value is not None or name not in declared}

    @classmethod
    def for_json(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Return an answer without its arrays."""
        arrays = {f.name for f in fields(cls) if f.metadata["python"]}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if name not in arrays}


def answer_of(given: Options) -> dict[str, Any]:
    """Run a command and return its answer: the object that ``--json`` prints, arrays included."""
    if plugin := getattr(given, "plugin", None):
        run_plugin(Path(plugin))
    return given.result.checked(given.call())
