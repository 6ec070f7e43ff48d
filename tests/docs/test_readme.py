"""What the documents say is true: commands parse, folders and links exist, languages agree, the API is complete."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import chainrule
from chainrule.cli.parser import parse
from chainrule.commands import COMMANDS
from chainrule.core import load_file, model_types

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.ko.md")
DOCUMENTS = (
    *READMES,
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "THIRD_PARTY.md",
    "dev/LOG.md",
    "dev/README.md",
    "docs/api.md",
    "docs/data.md",
    "docs/hmm.md",
    "docs/labels.md",
    "docs/fill.md",
    "docs/images.md",
    "docs/ngram.md",
    "docs/report.md",
    "docs/series.md",
    "docs/translate.md",
)


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
            if words[:1] == ["chainrule"]:
                found.append(words[1:])
    return found


def option(words: list[str], name: str) -> Iterator[str]:
    """The values given to a flag, comma-separated lists taken apart and settings after a colon left out."""
    for flag, value in zip(words, words[1:]):
        if flag == name:
            yield from (entry.partition(":")[0] for entry in value.split(","))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_a_document_shows_is_understood_by_the_parser(document: str) -> None:
    for words in commands(document):
        options, _ = parse(words)
        assert options.command in COMMANDS, words


@pytest.mark.parametrize("document", READMES)
def test_every_model_type_that_a_readme_trains_exists(document: str) -> None:
    tasks = ("generate", "series", "translate", "fill", "tag", "classify", "classify-images", "codes", "draw")
    known = {f.name for task in tasks for f in model_types(task)}
    named = {n for words in commands(document) for flag in ("--model", "--models", "laws") for n in option(words, flag)}
    assert named
    for name in named:
        assert load_file(ROOT / name) if name.endswith(".py") else name in known, name


def test_the_readme_shows_every_command() -> None:
    shown = {parse(words)[0].command for words in commands("README.md")}
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


def tree(document: str) -> list[str]:
    """The folders of the tree, in order: each line of the block without a language is a path and what is there."""
    (block,) = [b for b in blocks(document, "") if "chainrule/" in b]
    return [line.split()[0] for line in block.splitlines()]


@pytest.mark.parametrize("document", READMES)
def test_every_folder_of_the_tree_exists(document: str) -> None:
    missing = [folder for folder in tree(document) if not (ROOT / folder).is_dir()]
    assert not missing


@pytest.mark.parametrize("document", READMES)
def test_every_folder_of_the_package_stands_in_the_tree(document: str) -> None:
    packages = {f"chainrule/{p.parent.name}/" for p in (ROOT / "chainrule").glob("*/__init__.py")}
    assert packages <= set(tree(document))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file_of_the_repository_or_to_a_public_site(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        if target.startswith("https://"):
            assert not re.match(r"https://(localhost|[\d.:\[])", target), target
        else:
            assert "://" not in target and not target.startswith("/"), target
            assert ((ROOT / document).parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_document_names_a_place_on_somebodys_machine(document: str) -> None:
    """No absolute path, whatever it is wrapped in; ``~/.cache`` and relative paths are fine."""
    found = re.findall(
        r"(?<![\w.~*\]/>-])/(?:home|root|tmp|work|usr|Users|mnt|opt|var)\b\S*|localhost|127\.0\.0\.1", text_of(document)
    )
    assert not found


def call(name: str) -> str:
    """``generate(run, prompt=(), *, n=None)``."""
    shown, parameters = [], inspect.signature(getattr(chainrule, name)).parameters.values()
    for k, p in enumerate(parameters):
        if p.kind is p.KEYWORD_ONLY and all(q.kind is not p.KEYWORD_ONLY for q in list(parameters)[:k]):
            shown.append("*")
        default = f'"{p.default}"' if isinstance(p.default, str) else repr(p.default)
        shown.append(p.name if p.default is p.empty else f"{p.name}={default}")
    return f"{name}({', '.join(shown)})"


@pytest.mark.parametrize("name", [n for n in chainrule.__all__ if n not in ("__version__", "Run")])
def test_the_api_page_gives_every_call_with_all_its_parameters_and_defaults(name: str) -> None:
    assert f"\n| `{call(name)}` |" in text_of("docs/api.md")


def test_the_api_page_names_every_method_of_a_run() -> None:
    (shown,) = [block for block in text_of("docs/api.md").split("\n\n") if block.startswith("**load.**")]
    methods = [name for name, kind in vars(chainrule.Run).items() if callable(kind) and not name.startswith("_")]
    assert len(methods) >= 10
    assert all(f"`{name}`" in shown for name in methods)


def test_the_example_of_the_api_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    verse = ["The cat sat on the mat.", "A dog ran to the sea!", "Où est la mer?", "ROMEO: who is there?"]
    Path("corpus.txt").write_text("\n".join(verse[(7 * i) % 11 % 4] for i in range(211)), encoding="utf-8")
    (example,) = [b for b in blocks("docs/api.md", "python") if "chainrule.train(" in b]
    names: dict[str, object] = {}
    exec(compile(example, "docs/api.md", "exec"), names)
    assert os.path.exists("runs/ngram/model.safetensors")
    assert names["run"].name == "ngram"  # type: ignore[attr-defined]
