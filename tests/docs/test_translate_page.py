"""The page on translating: its commands and its example run in order as they stand, but for the length of their
budgets.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from chainrule.cli import main
from tests.docs.test_readme import blocks, commands

PAGE = "docs/translate.md"


def test_the_commands_and_the_example_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sources.txt").write_text("3 1 4 1 5\n2 7\n")
    shown = commands(PAGE)
    assert [words[0] for words in shown] == ["data", "data", "train", "evaluate", *["translate"] * 3, "compare"]
    printed = []
    for words in shown:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"3 1 4 1 5\n")))
        short = ["4steps" if before == "--budget" else word for before, word in zip(["", *words], words)]
        quick = ["--set", "size=tiny", "--threads", "1"] if words[0] in ("compare", "train") else []
        assert main([*short, *quick]) == 0, words
        printed.append([line for line in capsys.readouterr().out.splitlines() if line])
    one, listed, phrased = printed[4:7]
    assert len(one) == 1 and len(listed) == 2 * 3
    assert all("7 7" in line and "0" not in line.split() for line in phrased) and len(phrased) == 2
    (example,) = blocks(PAGE, "python")
    exec(compile(example, PAGE, "exec"), {})
    assert 0 < float(capsys.readouterr().out) <= 1
    assert Path("made.jsonl").exists() and Path("board/report.html").exists()
