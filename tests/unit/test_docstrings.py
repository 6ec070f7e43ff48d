"""Docstrings open with what the thing is or does, public functions document their arguments, and examples run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import chainrule

ROOT = Path(chainrule.__path__[0])
RIDDLES = ("What", "How", "Whether", "Which", "Who", "That", "Where")
"""Words that no docstring opens with: a reader must not have to guess the noun."""
PUBLIC = (
    "",
    "core",
    "nn",
    "data",
    "inference",
    "training",
    "laws",
    "tasks",
    "runs",
    "interop",
    "counting",
    "experiment",
)
"""Packages whose ``__all__`` is the Python API; ``chainrule`` itself is the first."""
EXAMPLES = 40
"""Docstrings with examples, at least."""
SECTIONS = ("Args", "Returns", "Yields", "Raises")


# --- opening ----------------------------------------------------------------------------------------------------------


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring: of modules, classes, functions, and of attributes (a string behind a field)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, inspect.cleandoc(node.value.value)


def riddles(source: str) -> list[str]:
    opening = re.compile(rf"(?:{'|'.join(RIDDLES)})\b")
    return [f"{line}: {text.splitlines()[0]}" for line, text in docstrings(source) if opening.match(text)]


def test_every_docstring_opens_with_what_the_thing_is_or_does() -> None:
    found = {path: riddles(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}
    refuse([f"{path.relative_to(ROOT.parent)}:{line}" for path, lines in found.items() for line in lines])


def refuse(offenders: list[str]) -> None:
    assert not offenders, "\n".join(["", *offenders])


def test_a_riddle_is_found_wherever_it_stands() -> None:
    source = (
        '"""What a run is."""\nx = 1\n"""How many."""\ndef f():\n    """Whether it is so."""\n    """Whatever."""\n'
    )
    assert [line.partition(":")[0] for line in riddles(source)] == ["1", "3", "5"]


# --- arguments --------------------------------------------------------------------------------------------------------


def public() -> Iterator[tuple[str, Any]]:
    """Every name of the Python API with its object, once."""
    seen: set[int] = set()
    for package in PUBLIC:
        module = importlib.import_module(f"chainrule.{package}".rstrip("."))
        for name in getattr(module, "__all__", ()):
            found = getattr(module, name)
            if getattr(found, "__module__", "").startswith("chainrule") and id(found) not in seen:
                seen.add(id(found))
                yield f"{found.__module__}.{name}", found


def undocumented(function: Callable[..., Any], doc: str) -> list[str]:
    """Parameters, result and errors that the docstring of a function does not tell of."""
    signature = inspect.signature(function)
    names = [name for name in signature.parameters if name not in ("self", "cls")]
    told = section(doc, "Args")
    missing = [f"Args: {name}" for name in names if not re.search(rf"\b{re.escape(name)}\b", told)]
    returns = str(signature.return_annotation)
    if returns not in ("None", str(inspect.Signature.empty)) and not (
        section(doc, "Returns") or section(doc, "Yields") or re.match(r"(?:Return|Yield|Decorator)\b", doc)
    ):
        missing.append("Returns")
    raised = raises(function)
    return missing + [f"Raises: {name}" for name in sorted(raised) if name not in section(doc, "Raises")]


def section(doc: str, name: str) -> str:
    """The text of a section of a docstring; empty where there is none."""
    match = re.search(rf"^{name}:\n((?:[ \t]+\S.*\n?|\n)*)", inspect.cleandoc(doc), re.M)
    return match[1] if match else ""


def raises(function: Callable[..., Any]) -> set[str]:
    """Names of the exceptions that the body of a function itself raises."""
    try:
        tree = ast.parse(inspect.cleandoc("if 1:\n" + inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError):
        return set()
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {ast.unparse(call.func).rpartition(".")[2] for call in calls} & ERRORS


ERRORS = {"UserError", "ConfigError", "DataError", "CheckpointCorrupt", "MachineError", "NotRewindable"}
"""Errors that a caller may want to handle; others say that the caller is mistaken."""


def lacking(name: str, found: Any) -> list[str]:
    """The gaps in the documentation of one public name."""
    doc = inspect.cleandoc(getattr(found, "__doc__", None) or "")
    if inspect.isclass(found):
        own = vars(found).get("__init__")
        if (
            own is None
            or is_dataclass(found)
            or issubclass(found, BaseException)
            or getattr(found, "_is_protocol", False)
        ):
            return [] if doc else ["docstring"]
        return undocumented(own, doc + "\n\n" + inspect.cleandoc(own.__doc__ or "")) if doc else ["docstring"]
    if not inspect.isfunction(found):
        return []
    return undocumented(found, doc) if doc else ["docstring"]


def test_every_public_function_documents_its_arguments_result_and_errors() -> None:
    gaps = {name: lacking(name, found) for name, found in public()}
    assert len(gaps) > 80
    refuse([f"{name}: {', '.join(missing)}" for name, missing in sorted(gaps.items()) if missing])


def test_a_gap_in_the_documentation_is_found() -> None:
    def f(x: int, y: int) -> int:
        """Add.

        Args:
            x: a number.
        """
        if y:
            raise chainrule.core.UserError("no")
        return x + y

    def g(x: int) -> int:
        """Return the number."""
        return x

    import chainrule.core

    assert undocumented(f, f.__doc__ or "") == ["Args: y", "Returns"]
    assert undocumented(g, g.__doc__ or "") == ["Args: x"]


# --- examples ---------------------------------------------------------------------------------------------------------


def modules() -> list[str]:
    found = [info.name for info in pkgutil.walk_packages(chainrule.__path__, "chainrule.")]
    return ["chainrule", *(name for name in found if not name.endswith("__main__"))]


def examples(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


def with_examples() -> list[str]:
    """Names of the modules whose source shows an example."""
    return [name for name in modules() if ">>> " in source_of(name)]


def source_of(name: str) -> str:
    path = ROOT.joinpath(*name.split(".")[1:])
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", with_examples())
def test_examples_of_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    told: list[str] = []
    for test in examples(importlib.import_module(name)):
        runner.run(test, out=told.append)
    assert runner.failures == 0, "".join(told)
    assert not list(tmp_path.iterdir()), "an example left files behind"


def test_there_are_enough_examples() -> None:
    found = {name: len(examples(importlib.import_module(name))) for name in modules()}
    counts = ", ".join(f"{name} {many}" for name, many in found.items() if many)
    assert sum(found.values()) >= EXAMPLES, counts
