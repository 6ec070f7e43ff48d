"""The import graph has no circles. ``make check`` holds it to its layers (import-linter)."""

from __future__ import annotations

import sys

import grimp
import pytest

PACKAGE = "chainrule"


def imports_of(package: str) -> dict[str, set[str]]:
    """Direct imports of every module, those under TYPE_CHECKING and inside functions included."""
    graph = grimp.build_graph(package, cache_dir=None, exclude_type_checking_imports=False)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that reach each other: every module whose imports lead back to it, with those on the way."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = list(imports[start])
        while left:
            module = left.pop()
            if module not in seen:
                seen.add(module)
                left += imports.get(module, ())
        return seen

    behind = {module: reached(module) for module in imports}
    found = {
        frozenset(m for m in behind[module] if module in behind[m]) for module in imports if module in behind[module]
    }
    return [set(circle) for circle in found]


def test_no_module_imports_itself_by_way_of_others() -> None:
    imports = imports_of(PACKAGE)
    assert len(imports) > 100
    assert circles(imports) == []


@pytest.mark.parametrize("guard", ["", "if TYPE_CHECKING:\n    ", "def use():\n    "])
def test_a_circle_of_three_is_found_however_it_is_written(tmp_path, monkeypatch, guard) -> None:
    package = tmp_path / "ring_of_three"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")):
        text = f"from typing import TYPE_CHECKING\n\n{guard}from ring_of_three import {other}\n"
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert circles(imports_of(package.name)) == [{f"ring_of_three.{m}" for m in "abc"}]
    sys.modules.pop(package.name, None)
