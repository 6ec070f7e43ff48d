"""The package where it was not made: another platform, an environment of its own, a type checker."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import chainrule
from benchmarks import wheel

ROOT = Path(__file__).resolve().parents[2]
POSIX_MODULES = {"fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog", "posix", "readline", "curses"}
"""Modules that Windows does not have."""
LINUX_ONLY = {
    "chown", "copy_file_range", "fork", "forkpty", "geteuid", "getloadavg", "getpgid", "getuid", "killpg",
    "memfd_create", "mkfifo", "posix_fadvise", "posix_fallocate", "pread", "pwrite", "sched_getaffinity",
    "sched_setaffinity", "sendfile", "setsid", "statvfs", "sysconf", "uname", "wait3", "wait4",
}  # fmt: skip
"""Attributes of ``os`` that Windows (or macOS too) does not have."""
HIDE = f"""
import os, signal, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {sorted(POSIX_MODULES)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
for name in {sorted(POSIX_MODULES - {"posix"})}:
    sys.modules.pop(name, None)
for name in {sorted(LINUX_ONLY)}:
    vars(os).pop(name, None)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGALRM", "alarm", "setitimer", "pthread_sigmask"):
    vars(signal).pop(name, None)
"""


def run(code: str, tmp_path: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_works_without_what_only_posix_has(tmp_path: Path) -> None:
    code = (
        HIDE
        + "from chainrule.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit as e:\n    assert not e.code\n"
    )
    assert "compare" in run(code, tmp_path)


def test_every_module_can_be_imported_without_what_only_posix_has(tmp_path: Path) -> None:
    """Libraries that are imported first see the whole platform, as they would be built for theirs."""
    libraries = (
        "import torch.distributed, numba, numpy, pydantic, PIL.Image, tokenizers, sacrebleu, rich.console, narwhals\n"
    )
    modules = """
import importlib, pkgutil, chainrule
for found in pkgutil.walk_packages(chainrule.__path__, "chainrule."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print(sum(name.startswith("chainrule") for name in sys.modules))
"""
    assert int(run(libraries + HIDE + modules, tmp_path)) > 100


def unguarded(source: str) -> list[str]:
    """Imports of POSIX modules outside ``try``, and uses of attributes of ``os`` without asking whether they exist."""
    found: list[str] = []

    def visit(node: ast.AST, guarded: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom) and not guarded:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found.extend(name for name in names if name in POSIX_MODULES)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os" and not guarded:
            found.extend([f"os.{node.attr}"] if node.attr in LINUX_ONLY else [])
        asks = isinstance(node, ast.Try) or (
            isinstance(node, ast.If | ast.IfExp)
            and any(word in ast.unparse(node.test) for word in ("hasattr(os", "os.name"))
        )
        for child in ast.iter_child_nodes(node):
            visit(child, guarded or asks)

    visit(ast.parse(source), False)
    return found


def test_nothing_that_only_posix_has_is_used_without_a_guard() -> None:
    sources = {path: unguarded(path.read_text(encoding="utf-8")) for path in (ROOT / "chainrule").rglob("*.py")}
    assert {str(path.relative_to(ROOT)): found for path, found in sources.items() if found} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import resource", ["resource"]),
        ("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None", []),
        ("import os\nos.sched_getaffinity(0)", ["os.sched_getaffinity"]),
        ("import os\nn = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1", []),
        ("import os\nos.path.join('a', 'b')", []),
    ],
)
def test_the_scan_for_posix_bites(source: str, found: list[str]) -> None:
    assert unguarded(source) == found


def test_a_link_to_a_folder_becomes_a_copy_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chainrule.core.files import link_folder

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    link_folder(tmp_path / "best", "a")
    link_folder(tmp_path / "best", "b")
    assert (tmp_path / "best").is_symlink()
    assert (tmp_path / "best" / "file").read_text() == "b"
    (tmp_path / "best").unlink()

    def refused(self: Path, target: str) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refused)
    link_folder(tmp_path / "best", "a")
    link_folder(tmp_path / "best", "b")
    assert not (tmp_path / "best").is_symlink()
    assert (tmp_path / "best" / "file").read_text() == "b"


def test_the_package_is_typed_and_states_the_pythons_that_it_was_tested_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert (Path(chainrule.__path__[0]) / "py.typed").is_file()
    assert "<" in project["project"]["requires-python"]
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["chainrule"]


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "package-data"
    ]
    packages = [path.parent for path in (ROOT / "chainrule").rglob("__init__.py")]
    found = {
        path
        for package in packages
        for pattern in [*patterns.get(".".join(package.relative_to(ROOT).parts), []), *patterns["*"]]
        for path in package.glob(pattern)
    }
    files = {path for path in (ROOT / "chainrule").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {str(path.relative_to(ROOT)) for path in files - found if path.suffix != ".py"} == set()


@pytest.mark.slow
def test_the_wheel_compares_and_reports_in_a_clean_environment(tmp_path: Path) -> None:
    found = wheel.check(tmp_path)
    assert found["package"].startswith(str(tmp_path))  # not the checkout
    assert found["rows"] == ["ngram", "gru", "mix"]
    needed = {
        "py.typed",
        "data/plays/test.txt.gz",
        "report/templates/page.html",
        "explanation/page/viewer.js",
        "serve/tabs/app.js",
        "tasks/series/section.html",
    }
    assert {f"chainrule/{name}" for name in needed} <= set(found["files"])
    assert not any(name.startswith(("tests", "benchmarks")) or "__pycache__" in name for name in found["files"])
    assert all(size > 20_000 for size in found["bytes"].values())
