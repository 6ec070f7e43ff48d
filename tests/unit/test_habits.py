"""Limits on size: functions, parameters, files. Compiled kernels may have many parameters: they take no objects."""

from __future__ import annotations

import ast
import functools
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES_OF_A_FUNCTION = 60
LINES_OF_A_FILE = 450
PARAMETERS = 8
"""Positional parameters, ``self`` and ``cls`` aside; keyword-only ones are not limited."""
MEDIAN_FUNCTION = 7
P95_FUNCTION = 25
"""Lines of the median function of the package, and of the 95th percentile; without docstring."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return sorted(path for path in found if "__pycache__" not in path.parts)


@functools.cache
def functions(path: Path) -> list[Function]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def is_kernel(function: Function) -> bool:
    return any(word in ast.unparse(d) for d in function.decorator_list for word in ("jit", "compiled"))


def length(function: Function) -> int:
    """Lines from ``def`` to the end, docstring and decorators aside."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        first = function.body[0]
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def parameters(function: Function) -> list[str]:
    positional = [x.arg for x in (*function.args.posonlyargs, *function.args.args)]
    return [name for name in positional if name not in ("self", "cls")]


def where(path: Path, function: Function) -> str:
    return f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"


def too_long(paths: list[Path]) -> list[str]:
    found = [(path, f) for path in paths for f in functions(path) if not is_kernel(f)]
    return [f"{where(path, f)}: {length(f)} lines" for path, f in found if length(f) > LINES_OF_A_FUNCTION]


def too_many_parameters(paths: list[Path]) -> list[str]:
    found = [(path, f) for path in paths for f in functions(path) if not is_kernel(f)]
    return [f"{where(path, f)}: {len(parameters(f))}" for path, f in found if len(parameters(f)) > PARAMETERS]


def too_large(paths: list[Path]) -> list[str]:
    sizes = [(path, len(path.read_text(encoding="utf-8").splitlines())) for path in paths]
    return [f"{path.relative_to(ROOT)}: {size} lines" for path, size in sizes if size > LINES_OF_A_FILE]


def refuse(offenders: list[str]) -> None:
    assert not offenders, "\n".join(["", *offenders])


def test_no_function_is_longer_than_a_screen() -> None:
    refuse(too_long(sources("chainrule", "examples", "benchmarks", "tests")))


def test_no_function_has_more_parameters_than_can_be_remembered() -> None:
    refuse(too_many_parameters(sources("chainrule", "examples", "benchmarks", "tests")))


def test_no_file_is_longer_than_one_topic() -> None:
    paths = sources("chainrule", "examples", "benchmarks")
    pages = sources("chainrule", suffixes=(".js", ".html", ".css"))
    assert len(paths) > 100
    assert len(pages) > 10
    refuse(too_large(paths + pages))


def test_the_functions_of_the_package_are_short() -> None:
    lengths = sorted(length(f) for path in sources("chainrule") for f in functions(path) if not is_kernel(f))
    assert statistics.median(lengths) <= MEDIAN_FUNCTION
    assert lengths[int(0.95 * len(lengths))] <= P95_FUNCTION


@pytest.mark.parametrize(
    ("check", "source", "found"),
    [
        (too_long, "def f():\n" + "    x = 1\n" * 60, 1),
        (too_long, "def f():\n" + "    x = 1\n" * 59, 0),
        (too_long, 'def f():\n    """' + "a\n" * 90 + '"""\n', 0),
        (too_long, "@compiled\ndef f():\n" + "    x = 1\n" * 90, 0),
        (too_many_parameters, "def f(a, b, c, d, e, f, g, h, i): ...", 1),
        (too_many_parameters, "class A:\n    def f(self, a, b, c, d, e, f, g, h, *, i, j): ...", 0),
        (too_many_parameters, "@njit\ndef f(a, b, c, d, e, f, g, h, i): ...", 0),
        (too_large, "\n" * 451, 1),
        (too_large, "\n" * 450, 0),
    ],
)
def test_the_limits_bite(check, source: str, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "example.py"
    path.write_text(source)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert len(check([path])) == found
