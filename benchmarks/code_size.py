"""Size of the package: lines of code without docstrings, comments and blank lines; lengths of functions and files.

python benchmarks/code_size.py [FOLDER]
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

SILENT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip
Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold code. A string that stands alone is documentation."""
    spoken: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            spoken.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            spoken -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return spoken


def functions(source: str) -> Iterator[Function]:
    """Yield all functions and methods of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_kernel(function: Function) -> bool:
    """Return True for a function that numba compiles."""
    return any(word in ast.unparse(d) for d in function.decorator_list for word in ("jit", "compiled"))


def lines_of(function: Function, code: set[int]) -> set[int]:
    """Return the numbers of the code lines of a function, from its first decorator on."""
    first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
    return code & set(range(first, (function.end_lineno or first) + 1))


def measure(package: Path) -> dict[str, int]:
    """Return figures on the size of a package.

    Args:
        package: its folder.

    Returns:
        ``code`` lines without kernels, ``kernels``, ``functions``, and of functions the ``median`` and ``p95`` length.
    """
    total, kernels, lengths = 0, 0, []
    for path in sorted(package.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        code = code_lines(source)
        total += len(code)
        for function in functions(source):
            mine = lines_of(function, code)
            kernels += len(mine) if is_kernel(function) else 0
            lengths.append(len(mine))
    lengths.sort()
    found = {"code": total - kernels, "kernels": kernels, "functions": len(lengths)}
    return {**found, "median": lengths[len(lengths) // 2], "p95": lengths[int(0.95 * len(lengths))]}


def longest(package: Path, suffixes: tuple[str, ...]) -> tuple[int, str]:
    """Return the length of the longest file with one of these suffixes, and its path in the package."""
    files = [p for p in package.rglob("*") if p.suffix in suffixes]
    return max((len(p.read_text(encoding="utf-8").splitlines()), str(p.relative_to(package))) for p in files)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "chainrule"
    print(measure(folder), longest(folder, (".py",)), longest(folder, (".js", ".html", ".css")))
