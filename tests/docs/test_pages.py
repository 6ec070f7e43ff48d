"""The pages under docs: their commands and examples run in order as they stand, with short budgets and small models."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from chainrule.cli import main
from tests.docs.test_readme import DOCUMENTS, ROOT, text_of

if TYPE_CHECKING:
    from tests.docs.served import Server

ENGLISH = [page for page in DOCUMENTS if page.startswith("docs/") and not page.endswith(".ko.md")]
"""The commands of Korean pages are those of the English ones (test_korean.py)."""
PAGES = [page for page in ENGLISH if re.search(r"^```(bash|python)$", text_of(page), re.M)]
APART = [page for page in PAGES if ".py" in text_of(page) and "--plugin" in text_of(page)]
"""Pages that register models, tasks or commands: these stay in the process that runs the page."""
BUDGET = "0.01epochs"
"""Replaces the budget of the page."""
LONGER = {"symbols.jsonl": "40steps"}
"""Data on which a model must learn that sequences are long."""
SIZES = {"markov": "2000", "reverse": "400", "copy": "400"}
"""Records, or symbols, of data that are made; 100 of any other kind."""
Printed = list[tuple[str, str]]
"""Each command line or example, and the text that it printed."""


def steps(page: str) -> Iterator[tuple[str, str]]:
    """("bash", line) or ("python", block), in the order of the page."""
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text_of(page), re.M | re.S):
        if language == "python":
            yield language, block
        else:
            yield from ((language, line) for line in block.splitlines() if re.search(r"^(chainrule|echo|curl) ", line))


def shortened(words: list[str]) -> list[str]:
    """The same command with a short budget, a small model and one thread."""
    found = [BUDGET if before == "--budget" else word for before, word in zip(["", *words], words)]
    if words[:2] == ["data", "make"]:
        return [*found, "--size", SIZES.get(words[2], "100")] if words[2:] else found
    if words[0] in ("compare", "train"):
        found += ["--set", "size=tiny", "--budget", LONGER.get(words[1], BUDGET)]
    return found if words[0] in ("data", "laws", "import", "export", "report") else [*found, "--threads", "1"]


def shell(line: str, server: Server | None = None) -> str:
    """Run a line of a shell: echo, chainrule, curl, pipes between them, and ``> file`` at the end. Return what it
    printed."""
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
        elif command[:1] == ["curl"] and server:
            text = server.curl(command[1:])
        elif command[:2] == ["chainrule", "serve"] and server:
            server.serve(command[1:])
        elif command[:1] == ["chainrule"]:
            text = chainrule(shortened(command[1:]), text)
        else:
            Path(command[0]).write_text(text, "utf-8")
        command = []
    return text


def chainrule(words: list[str], given: str) -> str:
    """Return what a command prints, given the text of its standard input."""
    out, err = io.StringIO(), io.StringIO()
    stdin = io.TextIOWrapper(io.BytesIO(given.encode()), "utf-8")
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "stdin", stdin):
        status = main(words)
    assert status == 0, f"chainrule {shlex.join(words)}: {err.getvalue().splitlines()[-1:]}"
    return out.getvalue()


def run_page(page: str) -> Printed:
    """Run a page in the current folder."""
    printed, names, server = [], {}, server_of(page)
    for language, step in steps(page):
        if language == "bash":
            printed.append((step, shell(step, server)))
            continue
        with redirect_stdout(io.StringIO()) as out:
            exec(compile(step, page, "exec"), names)
        printed.append((step, out.getvalue()))
    if server:
        server.close()
    return printed


def server_of(page: str) -> Server | None:
    """A server, where the page starts one."""
    if "chainrule serve" not in "".join(line for _, line in steps(page)):
        return None
    from tests.docs.served import Server

    return Server()


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_and_examples_of_a_page_run_in_order(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "chainrule serve" in "".join(line for _, line in steps(page)):
        pytest.importorskip("fastapi")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    if page in APART:
        script = f"from tests.docs.test_pages import run_page; run_page({page!r})"
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr[-2000:]
    else:
        CHECKS.get(page, lambda printed: None)(run_page(page))


def lines_of(printed: Printed, command: str) -> list[str]:
    """The lines that the command with these words printed."""
    (text,) = [text for step, text in printed if command in step]
    return text.splitlines()


def check_ngram(printed: Printed) -> None:
    likely, unlikely = (float(x) for x in printed[-1][1].strip("[]\n").split())
    assert unlikely < likely < 0


def check_translate(printed: Printed) -> None:
    assert len(lines_of(printed, '"3 1 4 1 5" | chainrule translate')) == 1
    assert len([line for line in lines_of(printed, "--n-best 3") if line]) == 3
    (phrased,) = lines_of(printed, "--must")
    assert "7 7" in phrased and "0" not in phrased.split()
    assert 0 < float(printed[-1][1]) <= 1
    assert Path("made.jsonl").exists() and Path("board/report.html").exists()


def check_reference(printed: Printed) -> None:
    assert Path("runs/ngram/model.safetensors").exists()
    assert "on validation" in printed[0][1] and printed[0][1].count("\n") >= 4


def check_serve(printed: Printed) -> None:
    from chainrule.serve import native

    asked = [(step.split()[1].rpartition("/")[2], json.loads(text)) for step, text in printed if step[:5] == "curl "]
    assert {name for name, _ in asked} == set(native.ROUTES)
    assert asked[0][1]["unknown"] == [0, 1] and len(asked[0][1]["predictions"][0]) == 2
    assert [answer["model"] for _, answer in asked[1:]] == [
        "macbeth", "macbeth", "sunspots", "addresses", "languages", "french", "filler", "macbeth", "macbeth",
    ]  # fmt: skip


CHECKS = {
    "docs/guide-serve.md": check_serve,
    "docs/ngram.md": check_ngram, "docs/guide-translate.md": check_translate, "docs/reference.md": check_reference,
}  # fmt: skip
"""Further tests of what a page printed."""
