"""The documents are true: commands parse, folders and links exist, languages agree, the reference is complete."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chainrule
from chainrule.cli.parser import parse
from chainrule.commands import COMMANDS
from chainrule.core import load_file, model_types
from chainrule.core.task_registry import packages
from chainrule.options import options_of

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.ko.md")
DOCUMENTS = [
    file.relative_to(ROOT).as_posix()
    for file in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "dev").rglob("*.md")])
]


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", text_of(document), re.M | re.S)
    return [block for name, block in found if name == language]


def commands(document: str) -> list[list[str]]:
    """The words after ``chainrule`` of every command: in shell blocks, and in code spans that begin with it."""
    lines = [line for block in blocks(document, "bash") for line in block.splitlines()]
    lines += re.findall(rf"`(chainrule (?:{'|'.join(COMMANDS)}) [^`]+)`", text_of(document))
    found = []
    for line in lines:
        for part in line.split("|"):
            words = shlex.split(part, comments=True)
            if words[:1] == ["chainrule"] and "--help" not in words:
                found.append(words[1:])
    return found


GUIDES = [document for document in DOCUMENTS if not document.startswith("docs/evidence/")]
"""Documents whose commands are those of today; pages of evidence keep those of the commit that was measured."""


def own_commands(document: str) -> list[list[str]]:
    """Those of the package; the command of a plugin runs where a page shows it (tests/docs/test_pages.py)."""
    return [words for words in commands(document) if not ("--plugin" in words and words[0] not in COMMANDS)]


def option(words: list[str], name: str) -> Iterator[str]:
    """The values given to a flag, comma-separated lists taken apart and settings after a colon left out."""
    for flag, value in zip(words, words[1:]):
        if flag == name:
            yield from (entry.partition(":")[0] for entry in value.split(","))


@pytest.mark.parametrize("document", GUIDES)
def test_every_command_that_a_document_shows_is_understood_by_the_parser(document: str) -> None:
    for words in own_commands(document):
        options, _ = parse(words)
        assert options.command in COMMANDS, words


@pytest.mark.parametrize("document", READMES)
def test_every_model_type_that_a_readme_trains_exists(document: str) -> None:
    known = {f.name for task in packages() for f in model_types(task)}
    shown = [words for words in commands(document) if words[0] != "laws" or "--plugin" not in words]
    named = {n for words in shown for flag in ("--model", "--models", "laws") for n in option(words, flag)}
    assert named
    for name in named:
        assert load_file(ROOT / name) if name.endswith(".py") else name in known, name


def test_the_readme_shows_every_command() -> None:
    shown = {parse(words)[0].command for words in own_commands("README.md")}
    assert shown == set(COMMANDS)


def test_both_languages_show_the_same_commands_in_the_same_order() -> None:
    assert commands("README.md") == commands("README.ko.md") != []


def test_both_languages_have_the_same_headings_by_level() -> None:
    english, korean = (
        re.findall(r"^(#+) \S", re.sub(r"^```.*?^```", "", text_of(d), flags=re.M | re.S), re.M) for d in READMES
    )
    assert english == korean
    assert len(english) > 5


def figures(document: str) -> list[list[str]]:
    """The numbers with a decimal point of every row of the tables, in order."""
    return [re.findall(r"\d+\.\d+", line) for line in text_of(document).splitlines() if line.startswith("| ")]


def test_both_languages_show_the_same_tables_with_the_same_figures() -> None:
    assert figures("README.md") == figures("README.ko.md")
    assert len(figures("README.md")) > 9


def test_the_map_for_developers_names_every_package() -> None:
    (map_of_code,) = [block for block in blocks("dev/README.md", "") if "core ──" in block]
    found = {file.parent.name for file in (ROOT / "chainrule").glob("*/__init__.py")}
    assert found and not {name for name in found if not re.search(rf"\b{name}\b", map_of_code)}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file_of_the_repository_or_to_a_public_site(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        if target.startswith("https://"):
            assert not re.match(r"https://(localhost|[\d.:\[])", target), target
        else:
            assert "://" not in target and not target.startswith("/"), target
            assert ((ROOT / document).parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("document", [page for page in DOCUMENTS if page != "docs/production.md"])
def test_no_document_names_a_place_on_somebodys_machine(document: str) -> None:
    """No absolute path, whatever it is wrapped in; ``~/.cache`` and relative paths are fine, and so is the address
    that ``chainrule serve`` has by default, 127.0.0.1. The page on production is about places of services."""
    found = re.findall(
        r"(?<![\w.~*\]/>-])/(?:home|root|tmp|work|usr|Users|mnt|opt|var)\b\S*|localhost",
        text_of(document),
    )
    assert not found


# --- the reference ----------------------------------------------------------------------------------------------------


def referenced() -> dict[str, str]:
    """Public names that the reference shows, with the module or class that shows them."""
    shown = {}
    directive = r"^\.\. auto(module|class|function|data):: (\S+)"
    for kind, target in re.findall(directive, text_of("docs/reference.md"), re.M):
        if kind == "module":
            module = importlib.import_module(target)
            own = [name for name, found in vars(module).items() if getattr(found, "__module__", None) == target]
            shown |= {name: target for name in getattr(module, "__all__", own) if not name.startswith("_")}
        else:
            module, _, name = target.rpartition(".")
            assert hasattr(importlib.import_module(module), name), target
            shown[name] = target
    return shown


@pytest.mark.parametrize("package", ["chainrule", "chainrule.core", "chainrule.nn", "chainrule.data", "chainrule.laws"])
def test_the_reference_shows_every_public_name(package: str) -> None:
    names = {name for name in importlib.import_module(package).__all__ if not name.startswith("__")}
    assert len(names) > 8
    assert not names - set(referenced())


def test_every_command_is_a_documented_function_and_a_method_of_a_run_where_it_takes_one() -> None:
    assert len(COMMANDS) > 10
    for command in COMMANDS.values():
        function = getattr(chainrule, command.function)
        assert set(inspect.signature(function).parameters) == {o.name for o in options_of(command)}
        assert "Args:" in function.__doc__ and "Returns:" in function.__doc__
        if "run" in inspect.signature(function).parameters:
            assert callable(getattr(chainrule.Run, command.function))


@pytest.mark.slow
def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    """Skipped where Sphinx is not installed; ``make docs`` installs it."""
    pytest.importorskip("sphinx")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Add a task" in (tmp_path / "add-a-task.html").read_text("utf-8")


def test_nothing_says_that_an_index_has_the_package() -> None:
    """Nothing is released: ``pip install chainrule`` would fetch nothing, or a package of somebody else."""
    files = [ROOT / name for name in DOCUMENTS] + [*(ROOT / "deploy").iterdir(), ROOT / "Dockerfile"]
    files += (ROOT / "chainrule").rglob("*.py")
    assert len(files) > 100
    for file in files:
        assert not re.search(r"pip install (-\S+ \S+ )*['\"]?chainrule\b", file.read_text()), file
