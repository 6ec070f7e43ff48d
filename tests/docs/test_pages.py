"""The pages under docs: their commands and examples run in order as they stand, with short budgets and small models."""

from __future__ import annotations

import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainrule.cli import main
from tests.docs.test_readme import ROOT, text_of

PAGES = sorted(
    p.name for p in (ROOT / "docs").glob("*.md") if re.search(r"^```(bash|python)$", p.read_text("utf-8"), re.M)
)
SHORT = {"--budget": "0.01epochs", "--max-tokens": "9"}
"""What replaces the values of these flags."""


def steps(page: str) -> Iterator[tuple[str, str]]:
    """("bash", line) or ("python", block), in the order of the page."""
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text_of(f"docs/{page}"), re.M | re.S):
        if language == "python":
            yield language, block
        else:
            yield from ((language, line) for line in block.splitlines() if re.search(r"\b(chainrule|echo) ", line))


def shortened(words: list[str]) -> list[str]:
    """The same command with a short budget, a small model and one thread."""
    found = [SHORT.get(before, word) for before, word in zip(["", *words], words)]
    if words[:2] == ["data", "make"]:
        return [*found, "--size", "100"] if len(words) > 2 and "--size" not in words else found
    small = ["--set", "size=tiny"] if words[0] in ("compare", "train") else []
    return [*found, *small, *([] if words[0] in ("data", "laws", "import", "export") else ["--threads", "1"])]


def run(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a line of a shell: echo, chainrule, pipes between them, and ``> file`` at the end."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|>")
    lexer.whitespace_split, words = True, []
    words += lexer
    text, command = "", []
    for word in [*words, "|"]:
        if word not in ("|", ">"):
            command.append(word)
            continue
        if command[:1] == ["echo"]:
            text = " ".join(command[1:]) + "\n"
        elif command[:1] == ["chainrule"]:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8"))
            status = main(shortened(command[1:]))
            text, errors = capsys.readouterr()
            assert status == 0, f"{line}: {errors.splitlines()[-1:]}"
        else:
            Path(command[0]).write_text(text, "utf-8")
        command = []


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_and_examples_of_a_page_run_in_order(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names: dict[str, object] = {"frame": None}
    for language, step in steps(page):
        if language == "bash":
            run(step, monkeypatch, capsys)
        else:
            exec(compile(step, page, "exec"), names)
